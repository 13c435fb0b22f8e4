"""What a training shows on stderr: a moving line with the time left, and one lasting line an epoch."""

from __future__ import annotations

import sys
import time

_EVERY_S = 0.5


class ProgressLine:
    """Draws on a terminal only; a log file gets the lasting lines alone."""

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled
        self._moving = enabled and sys.stderr.isatty()
        self._drawn = 0.0

    def step(self, head: str, done: float, left_s: float | None, loss: float) -> None:
        """Redraw, at most twice a second. done: share of the epoch in [0, 1]. left_s: for the whole training."""
        if not self._moving or time.monotonic() - self._drawn < _EVERY_S:
            return
        self._drawn = time.monotonic()
        bar = "━" * round(done * 24)
        left = "" if left_s is None else f"  {clock(left_s)} left"
        print(f"\r\x1b[K{head}  {bar:╌<24}  loss {loss:.3f}{left}", end="", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Print a lasting line."""
        if self._enabled:
            print(f"{chr(13)}\x1b[K{text}" if self._moving else text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Return 1h 05m, 4m 10s or 12s."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {whole % 60:02}s" if minutes else f"{whole}s"
