"""What a command shows while it works, one moving line on stderr, lasting lines above it, tables; and how it is ended.

The only progress display, clock and table printer of mien. A moving line is drawn on a terminal only; a log file gets
the lasting lines alone. SIGTERM, of `timeout`, a service manager or a container, unwinds a command as Ctrl-C does.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

_leaves_threads = threading.Event()
EVERY_S = 0.2  # between two drawings of the moving line
_CLEAR = "\r\x1b[K"
_WIDTH = 24  # of the bar, in letters
_NARROWEST = 6  # where it is left out

OnProgress = Callable[[int, int], None]  # things done, things in all
OnStage = Callable[[str, int, int], None]  # what is being done, things done, things in all


class ProgressBar:
    """A bar with how much is done, how fast, and the time left.

    what, of: what is counted and how many there are; `show` may change both. shown: False where results on the same
    terminal show the progress already. quiet: neither bar nor lasting lines.
    """

    def __init__(self, what: str = "", of: int = 0, *, shown: bool = True, quiet: bool = False) -> None:
        self._what, self._of, self._quiet = what, of, quiet
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._moving = shown and not quiet and of != 1 and terminal
        self._begun = self._drawn = time.monotonic()

    def show(self, done: int) -> None:
        """Redraw with the pace so far. done: of the `of` things."""
        self.stage(self._what, done, self._of)

    def stage(self, what: str, done: int, of: int) -> None:
        """The same where one command does several things one after the other (see `OnStage`)."""
        if what != self._what or of != self._of:
            self._what, self._of, self._begun = what, of, time.monotonic()
        if not done or not of:
            return
        each_s = (time.monotonic() - self._begun) / done
        pace = f"{1 / each_s:,.0f}/s" if 0 < each_s < 0.1 else f"{1 / max(each_s, 1e-9):,.1f}/s"
        self.step(what, done / of, f"{done:,} of {of:,}  {pace}", each_s * (of - done))

    def step(self, what: str, share: float, detail: str, left_s: float | None) -> None:
        """Redraw, at most five times a second. share: done, in [0, 1]. left_s: seconds that all of it still takes."""
        now = time.monotonic()
        if not self._moving or now - self._drawn < EVERY_S:
            return
        self._drawn = now
        left = "" if left_s is None else f"  {clock(left_s)} left"
        text = fitted(what, share, f"{detail}{left}", _room())
        print(f"{_CLEAR}{text}", end="", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """Print a lasting line above the bar, or where no bar is."""
        if not self._quiet:
            print(f"{_CLEAR if self._moving else ''}{text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the bar away."""
        if self._moving:
            print(_CLEAR, end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a lasting line on stderr, in the place of a moving line whose work has ended before its time."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    # One write, as a second Ctrl-C may end the process between the line and its end.
    print(f"{_CLEAR if terminal else ''}{text}\n", end="", file=sys.stderr, flush=True)


def fitted(what: str, share: float, detail: str, room: int) -> str:
    """Return the moving line in at most `room` columns: the bar gives way first, then the end of the line.

    A line that is broken by the terminal is not taken away by the next one.

    >>> fitted("pictures", 0.5, "1 of 2", 24)
    'pictures  ━━━╌╌╌  1 of 2'
    >>> fitted("pictures", 0.5, "1 of 2", 20), fitted("pictures", 0.5, "1 of 2", 12)
    ('pictures  1 of 2', 'pictures  1…')
    """
    width = min(_WIDTH, room - _columns(what) - _columns(detail) - 4)
    bar = f"{'━' * round(width * share):╌<{width}}  " if width >= _NARROWEST else ""
    text = f"{what}  {bar}{detail}"
    if _columns(text) <= room:
        return text
    while text and _columns(text) >= room:
        text = text[:-1]
    return f"{text}…"


def _columns(text: str) -> int:
    """Return how many columns a text takes on a terminal: letters of East Asia take two, accents none."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def _room() -> int:
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        width = 0
    return (width or 80) - 3  # so that ^C has room behind it


def clock(seconds: float) -> str:
    """Return a duration for people.

    >>> clock(12.4), clock(250), clock(3900)
    ('12s', '4m 10s', '1h 05m')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {whole % 60:02}s" if minutes else f"{whole}s"


def columns(rows: Sequence[Sequence[str]], *, right: bool = True) -> str:
    """Return rows as aligned columns, two blanks apart; the first row may be the heading.

    right: whether all columns but the first stand to the right, as numbers do.

    >>> print(columns([["class", "faces"], ["happy", "12"], ["sad", "3"]]))
    class  faces
    happy     12
    sad        3
    >>> print(columns([["開心", "12"], ["sad", "3"]]))
    開心  12
    sad    3
    """
    widths = [max(_columns(row[place]) for row in rows) for place in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - _columns(cell))
            cells.append(blanks + cell if right and place else cell + blanks)
        return "  ".join(cells).rstrip()

    return "\n".join(map(line, rows))


def percent(share: float) -> str:
    """Write a share of what was counted, 0.934, as `93%`. Nearly all never reads as all, nor a trace as nothing.

    >>> percent(0.999), percent(1), percent(0.001), percent(0)
    ('>99%', '100%', '<1%', '0%')
    """
    return f"{share:.0%}" if share in (0, 1) else sure(share)


def sure(probability: float) -> str:
    """Write a probability, 0.934, as `93%`; none reads as certain or as impossible, though float32 may round it so.

    It is rounded as the page does it, which knows four decimals of it, so that table, picture and page agree.

    >>> sure(0.934), sure(1), sure(0)
    ('93%', '>99%', '<1%')
    """
    known = round(probability, 4)
    if known >= 0.995:
        return ">99%"
    return "<1%" if known < 0.005 else f"{math.floor(100 * known + 0.5)}%"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number of things in words. many: what is said of several, where an s does not make it of `one`.

    >>> counted(1, "epoch"), counted(1200, "picture"), counted(2, "class has", "classes have")
    ('1 epoch', '1,200 pictures', '2 classes have')
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def first_names(names: Sequence[str], most: int) -> str:
    """Return the first names, and how many more there are.

    >>> first_names(["calm", "bored"], 2), first_names(["calm", "bored", "amused"], 2)
    ('calm, bored', 'calm, bored and 1 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class _Terminated(KeyboardInterrupt):
    """SIGTERM came. Whoever keeps results or removes temporary files at Ctrl-C does so for it as well."""


@contextmanager
def terminated_as_by_ctrl_c() -> Iterator[list[KeyboardInterrupt]]:
    """Let SIGTERM raise a KeyboardInterrupt inside the block; outside the main thread nothing changes.

    A second one ends the process at once, see `end_at_the_second_ctrl_c`. Yields a list of what was raised: a library
    written in Rust or C may make an error of its own of it.
    """
    came: list[KeyboardInterrupt] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def terminate(*_: object) -> NoReturn:
        if came:
            os._exit(stopped_code(came[-1]))
        came.append(_Terminated())
        raise came[-1]

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def end_at_the_second_ctrl_c() -> None:
    """Let the first Ctrl-C raise KeyboardInterrupt, as ever, and the next end the process at once.

    Raised while the first one waits for threads, a second KeyboardInterrupt would let Python take them for ended, and
    C++ would abort what still runs in them. Nothing is lost by it that a kill would not lose. Where Ctrl-C is ignored,
    as by what a shell starts in the background, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def interrupt(*_: object) -> NoReturn:
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def leave_threads_behind() -> None:
    """Let the process end with its exit code although a thread works on, whose work nobody needs.

    Python would let go of it in the middle of a library written in C++, which aborts then.
    """
    _leaves_threads.set()


def end_now(code: int) -> None:
    """End the process at once after `leave_threads_behind`; do nothing otherwise."""
    if _leaves_threads.is_set():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


@contextmanager
def put_off() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block, which must be short: what it writes is written whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])


def stopped_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code that shells expect: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)
