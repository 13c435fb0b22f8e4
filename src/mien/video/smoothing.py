"""A face's probabilities averaged over time, so that one odd frame does not change the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

from mien.errors import ConfigError
from mien.model.heads import Head
from mien.predict.results import Face
from mien.video.settings import HALF_LIFE_S


class Smoother:
    """Exponential smoothing in time of one face's probabilities.

    The answer is the weighted mean of everything seen so far; a frame's weight halves with every `half_life_s` that
    has passed since. So it does not depend on the frame rate, and gaps count as the time that they are. The sum of
    weights is kept beside the sum (Wright 1986, doi:10.1287/mnsc.32.4.499), so the first frame is not
    counted as if it had lasted for ever.

    Probabilities are averaged, not their logarithms: the mean of calibrated probabilities stays a calibrated statement
    about the stretch of time (a linear opinion pool, Stone 1961, doi:10.1214/aoms/1177704873), whereas with
    logarithms one frame that gives a class next to nothing would veto it for seconds.
    half_life_s: None switches it off. Raises ConfigError unless it is above 0.
    """

    def __init__(self, half_life_s: float | None) -> None:
        _check(half_life_s)
        self._half_life_s = half_life_s
        self._sums: list[float] = []
        self._weight = 0.0
        self._time_s = 0.0

    def add(self, time_s: float, shares: Sequence[float]) -> list[float]:
        """Take in the probabilities of one frame and return the smoothed ones; times must not go back."""
        if self._half_life_s is None:
            return list(shares)
        kept = 0.5 ** ((time_s - self._time_s) / self._half_life_s) if self._sums else 0.0
        before = self._sums or [0.0] * len(shares)
        self._sums = [kept * old + new for old, new in zip(before, shares, strict=True)]
        self._weight = kept * self._weight + 1.0
        self._time_s = time_s
        return [total / self._weight for total in self._sums]


class TrackSmoother:
    """One Smoother for each track, for as long as the track lives.

    head: the head that the faces come from. half_life_s: see Smoother.
    """

    def __init__(self, head: Head, half_life_s: float | None = HALF_LIFE_S) -> None:
        _check(half_life_s)
        self._head = head
        self._half_life_s = half_life_s
        self._smoothers: WeakKeyDictionary[object, Smoother] = WeakKeyDictionary()

    def add(self, track: object, time_s: float, face: Face) -> Face:
        """Return the face with the probabilities of its track up to this time."""
        smoother = self._smoothers.setdefault(track, Smoother(self._half_life_s))
        return with_probabilities(face, smoother.add(time_s, list(face.probabilities.values())), self._head)


def _check(half_life_s: float | None) -> None:
    if half_life_s is not None and not (math.isfinite(half_life_s) and half_life_s > 0):
        raise ConfigError(f"half_life_s must be above 0 seconds, got {half_life_s}; or switch smoothing off")


def with_probabilities(face: Face, shares: Sequence[float], head: Head) -> Face:
    """Return the face with other probabilities, in the order of the head's labels, and the decision from them."""
    probabilities = {label: min(share, 1.0) for label, share in zip(head.labels, shares, strict=True)}
    emotion = max(head.labels, key=lambda label: probabilities[label])
    return replace(
        face,
        emotion=emotion,
        probability=probabilities[emotion],
        probabilities=probabilities,
        uncertain=probabilities[emotion] < head.threshold,
    )
