"""A bar on stderr for work on many things of one kind: how many, how fast, how long still."""

from __future__ import annotations

import sys
import time

from mien.terminal import clock

_EVERY_S = 0.2
_CLEAR = "\r\x1b[K"


class ProgressBar:
    """Draws on a terminal only. shown: False where results on the same terminal show the progress already."""

    def __init__(self, what: str, of: int, *, shown: bool = True) -> None:
        self._what, self._of = what, of
        self._shown = shown and of > 1 and sys.stderr is not None and sys.stderr.isatty()
        self._begun = self._drawn = time.monotonic()

    def show(self, done: int) -> None:
        """Redraw, at most five times a second."""
        now = time.monotonic()
        if not self._shown or now - self._drawn < _EVERY_S:
            return
        self._drawn = now
        each_s = (now - self._begun) / done
        bar = "━" * round(24 * done / self._of)
        pace = f"{1 / each_s:,.0f}/s" if each_s < 0.1 else f"{1 / each_s:,.1f}/s"
        left = clock(each_s * (self._of - done))
        text = f"{self._what}  {bar:╌<24}  {done:,} of {self._of:,}  {pace}  {left} left"
        print(f"{_CLEAR}{text}", end="", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Print a lasting line above the bar, or where no bar is."""
        print(f"{_CLEAR if self._shown else ''}{text}", file=sys.stderr)

    def end(self) -> None:
        """Take the bar away."""
        if self._shown:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
