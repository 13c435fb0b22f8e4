"""From frames at any times to a video with a steady frame rate, in which everything happens when it did."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Generic, TypeVar

T = TypeVar("T")
_SLOWEST, _FASTEST = 24, 60  # frames a second of what is written


def steady_rate(fps: float) -> Fraction:
    """Return the frame rate to write: the video's own, or a multiple or part of it, from 24 to 60 a second.

    A multiple, because the average of a variable rate hides faster stretches. 29.97 becomes 30000/1001.
    """
    factor = math.ceil(_SLOWEST / fps) if fps < _SLOWEST else 1 / math.ceil(fps / _FASTEST)
    return Fraction(fps * factor).limit_denominator(1001)


class Pacer(Generic[T]):
    """Says how often each frame is to be written, so that the clock of the result is right to half a frame."""

    def __init__(self, rate: Fraction) -> None:
        self._rate = rate
        self._last: T | None = None
        self._written = 0

    def next(self, time_s: float, frame: T) -> tuple[T | None, int]:
        """Take in a frame; return the one before it, and how often that is to be written (0: not at all)."""
        due = max(self._written, math.floor(time_s * self._rate + 0.5))
        before, times = self._last, due - self._written
        self._last, self._written = frame, due
        return (before, times) if before is not None else (None, 0)

    def end(self, end_s: float) -> tuple[T | None, int]:
        """Return the last frame, and how often it is to be written until the video ends: at least once."""
        return self._last, max(1, math.floor(end_s * self._rate + 0.5) - self._written)
