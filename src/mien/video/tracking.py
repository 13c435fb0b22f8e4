"""Faces that keep their numbers: which is which from one detection to the next, averaging over time, cuts.

Boxes are predicted, assigned and numbered; averaging keeps one odd frame from changing the answer; after a cut
everybody is somebody new.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Box
from mien.errors import ConfigError, DataError
from mien.model.metadata import Head
from mien.predict.results import Face, Probabilities, is_uncertain, rounded
from mien.settings import FROM_0, FROM_1, check_settings, setting
from mien.video.reader import Frame

# Chosen by benchmarks/smoothing.py; its figures stand in docs/explanation/video.md.
HALF_LIFE_S = 0.1
LEAD = 0.1
# Distance-IoU that a box needs with where its track is expected; 0 allows a step of three quarters of a face.
_LEAST_DIOU = 0.0
# In units of the face's own size, so that near and far faces are judged alike.
_BOX_STD = 0.05  # standard deviation of a detector's box: centre and sides
_ACCELERATION = 4.0  # how much a head changes its speed: spectral density of the acceleration, sizes² / s³
_SPEED_STD = 1.5  # standard deviation of the speed of a face that has just appeared, sizes / s
_COAST_S = 0.3  # seconds in which the speed of an unseen face falls to 1/e: heads stop and turn
# In six clips from one studio, at most 0.7 % of the places change by so many levels of 255 from frame to frame, and at
# least 33 % from the end of one clip to the beginning of another. What comes into a shot changes less of it.
_CUT_LEVELS, _CUT_SHARE = 12, 0.2
_CUT_TIMES = 3.0  # mean change between two shots, over that within them: a fast pan changes much all the time
_CUT_PX = (64, 36)


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """When a face counts as one, and when it is gone. Detections are made in keyframes. Raises ConfigError.

    Who was found in the last keyframe was in sight, so keyframes may lie further apart than max_age_s.
    """

    min_hits: int = setting(
        3, "detections in a row in which a face must be found; fewer are false alarms", within=FROM_1
    )
    max_age_s: float = setting(
        1.0, "seconds out of sight after which a face counts as a new one", within=FROM_0
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True, repr=False)
class TrackedFace:
    """A face at one time of a video.

    track: its number, from 1, the same as long as the face is followed. face: the expression, smoothed over time
    unless that is switched off. raw: label to probability as the network gave it for this frame alone, in the same
    order. interpolated: whether the box lies between two keyframes. Raises DataError.
    """

    track: int
    face: Face
    raw: Mapping[str, float] = field(hash=False)
    interpolated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", Probabilities(self.raw))
        if self.track < 1:
            raise DataError(f"the number of a track must be from 1, got {self.track}")
        if list(self.raw) != list(self.face.probabilities):
            raise DataError(f"raw must have the labels {list(self.face.probabilities)}, got {list(self.raw)}")

    def __repr__(self) -> str:
        return f"TrackedFace({self.track}, {self.face!r})"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes; numbers are rounded as those of a `Face`."""
        return {
            "track": self.track,
            **self.face.to_dict(),
            "raw_probabilities": rounded(self.raw),
            "interpolated": self.interpolated,
        }


class Tracker:
    """Gives faces numbers that they keep, and smooths their probabilities over time. One tracker a stream.

    head: the head that the faces come from (`analyzer.head`). half_life_s: see Smoother; None: no smoothing.
    Not safe to use from several threads.
    """

    def __init__(
        self,
        head: Head,
        settings: TrackerSettings | None = None,
        *,
        half_life_s: float | None = HALF_LIFE_S,
    ) -> None:
        self._tracker = BoxTracker(settings)
        self._smoother = TrackSmoother(head, half_life_s)

    def update(self, time_s: float, faces: Sequence[Face]) -> tuple[TrackedFace, ...]:
        """Take in the faces of one frame and return those that are followed, in the same order.

        time_s: seconds on any clock, growing (`time.monotonic()` will do); otherwise DataError. A face is
        returned from its third update in a row on (`TrackerSettings.min_hits`); smoothing starts with the first.
        """
        tracks = self._tracker.update(time_s, [face.box for face in faces])
        smoothed = [
            self._smoother.add(track, time_s, face) for track, face in zip(tracks, faces, strict=True)
        ]
        return tuple(
            TrackedFace(track=track.number, face=smooth, raw=face.probabilities)
            for track, smooth, face in zip(tracks, smoothed, faces, strict=True)
            if track.number is not None
        )


class BoxTracker:
    """Follows boxes by where they are, as SORT does (Bewley et al. 2016, arXiv:1602.00763).

    Each track predicts its box; the pairing with the largest total Distance-IoU wins; a box without a track starts
    one, a track without a box waits. Appearance plays no part, so two people who change places unseen swap
    numbers. Not safe to use from several threads: one tracker follows one stream.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._tracks: list[Track] = []
        self._confirmed = 0
        self._time_s = -math.inf

    def update(self, time_s: float, boxes: Sequence[Box]) -> tuple[Track, ...]:
        """Return the track of each box, in the order of the boxes.

        time_s: seconds on any clock, finite; DataError if it is not after the one before.
        """
        if not self._time_s < time_s < math.inf:
            raise DataError(f"times must grow: got {time_s} s after {self._time_s} s")
        last_s, self._time_s = self._time_s, time_s
        # Who was there in the last update has not been out of sight since, however long ago that was: nobody looked.
        self._tracks = [
            track
            for track in self._tracks
            if track.seen_s == last_s or time_s - track.seen_s <= self.settings.max_age_s
        ]
        answer: list[Track | None] = [None] * len(boxes)
        for place, track in self._matches(time_s, boxes):
            track.update(boxes[place], time_s)
            answer[place] = track
        # A face that is not confirmed yet must be found in every update.
        self._tracks = [track for track in self._tracks if track.number or track.seen_s == time_s]
        tracks = [track or self._new(box, time_s) for track, box in zip(answer, boxes, strict=True)]
        for track in tracks:
            if track.number is None and track.hits >= self.settings.min_hits:
                self._confirm(track)
        return tuple(tracks)

    def end_shot(self) -> None:
        """Confirm the faces that no update has spoken against, and begin anew: at a cut, and at the end of a video."""
        for track in self._tracks:
            if track.number is None:
                self._confirm(track)
        self._tracks = []

    def _matches(self, time_s: float, boxes: Sequence[Box]) -> list[tuple[int, Track]]:
        if not boxes or not self._tracks:
            return []
        expected = np.array([track.predict(time_s) for track in self._tracks])
        gain = diou(np.array(boxes, np.float64), expected)
        return [(place, self._tracks[row]) for place, row in linear_assignment(gain, _LEAST_DIOU)]

    def _new(self, box: Box, time_s: float) -> Track:
        track = Track(box, time_s)
        self._tracks.append(track)
        return track

    def _confirm(self, track: Track) -> None:
        self._confirmed += 1
        track.number = self._confirmed


class Track:
    """One face over time. number: from 1, in the order in which faces were confirmed; None until then."""

    def __init__(self, box: Box, time_s: float) -> None:
        self.number: int | None = None
        self.hits = 1
        self.seen_s = time_s
        self._filter = KalmanFilter(box, time_s)

    def predict(self, time_s: float) -> Box:
        return self._filter.predict(time_s)

    def update(self, box: Box, time_s: float) -> None:
        self._filter.update(box, time_s)
        self.hits += 1
        self.seen_s = time_s


class KalmanFilter:
    """A Kalman filter over centre x, centre y, width and height, as in SORT (Bewley et al. 2016, arXiv:1602.00763).

    Differences: time is in seconds rather than frames, so any frame rate and variable ones are right; the four
    values are independent and share one 2x2 covariance, because all noise is a share of the face's size; the
    speed dies away (Singer 1970, doi:10.1109/TAES.1970.310128), so that a face that is lost for a second is
    looked for near where it went, not far out of the picture.
    """

    def __init__(self, box: Box, time_s: float) -> None:
        self._place = _measured(box)
        self._speed = np.zeros(4)
        self._covariance = np.diag([_BOX_STD**2, _SPEED_STD**2])
        self._time_s = time_s

    def predict(self, time_s: float) -> Box:
        """Return the box expected at a time, which is not before the last one."""
        x, y, width, height = self._place + self._speed * _travel(time_s - self._time_s)
        width, height = max(width, 1e-3), max(height, 1e-3)
        return Box(float(x - width / 2), float(y - height / 2), float(width), float(height))

    def update(self, box: Box, time_s: float) -> None:
        """Take in where the face was found."""
        gap_s = time_s - self._time_s
        move = np.array([[1.0, _travel(gap_s)], [0.0, math.exp(-gap_s / _COAST_S)]])
        noise = _ACCELERATION * np.array([[gap_s**3 / 3, gap_s**2 / 2], [gap_s**2 / 2, gap_s]])
        spread = move @ self._covariance @ move.T + noise
        gain = spread[:, 0] / (spread[0, 0] + _BOX_STD**2)
        expected = self._place + self._speed * move[0, 1]
        missed = _measured(box) - expected
        self._place = expected + gain[0] * missed
        self._speed = self._speed * move[1, 1] + gain[1] * missed
        self._covariance = spread - np.outer(gain, spread[0])
        self._time_s = time_s


def _travel(gap_s: float) -> float:
    """Return for how many seconds a face keeps its speed, in effect, within a gap."""
    return _COAST_S * -math.expm1(-gap_s / _COAST_S)


def _measured(box: Box) -> NDArray[np.float64]:
    x, y, width, height = box
    return np.array([x + width / 2, y + height / 2, width, height], np.float64)


def diou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Distance-IoU of every pair: (n, 4) and (m, 4) boxes (x, y, width, height) give (n, m).

    Intersection over union, less the squared distance of the centres over the squared diagonal of the smallest
    box round both (Zheng et al. 2020, arXiv:1911.08287): 1 for the same box, towards -1 for boxes far apart.
    Unlike IoU alone it still tells near from far where boxes do not touch.
    """
    a, b = first[:, None, :], second[None, :, :]
    a_end, b_end = a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]
    inner = np.clip(np.minimum(a_end, b_end) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - inner
    outer = ((np.maximum(a_end, b_end) - np.minimum(a[..., :2], b[..., :2])) ** 2).sum(axis=-1)
    apart = (((a[..., :2] + a_end) / 2 - (b[..., :2] + b_end) / 2) ** 2).sum(axis=-1)
    result: NDArray[np.float64] = inner / union - apart / outer
    return result


def linear_assignment(gain: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Return (row, column) pairs, each row and column at most once, with the largest total gain above `least`.

    gain: (n, m), finite. Pairs with a gain of `least` or below stay apart: leaving both alone is worth as much.
    """
    worth = np.maximum(gain - least, 0.0)
    chosen = _assignment(-worth)
    return [(row, column) for row, column in chosen if worth[row, column] > 0]


def _assignment(cost: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Solve the assignment problem (Kuhn 1955, doi:10.1002/nav.3800020109) by shortest augmenting paths.

    After Jonker & Volgenant 1987 (doi:10.1007/BF02278710): O(n²m) for n rows and m columns. One potential a row
    and a column keep every reduced cost at zero or above; each row joins along the cheapest path to a free column.
    """
    if cost.shape[0] > cost.shape[1]:
        return [(row, column) for column, row in _assignment(cost.T)]
    rows, columns = cost.shape
    row_potential, column_potential = np.zeros(rows), np.zeros(columns + 1)
    owner = np.full(columns + 1, -1)  # row of each column; the last column is where a new row starts
    for row in range(rows):
        owner[columns], column = row, columns
        shortest = np.full(columns, np.inf)
        previous = np.full(columns, -1)
        done = np.zeros(columns + 1, bool)
        while owner[column] >= 0:
            done[column] = True
            here = owner[column]
            reduced = cost[here] - row_potential[here] - column_potential[:columns]
            better = ~done[:columns] & (reduced < shortest)
            shortest[better], previous[better] = reduced[better], column
            following = int(np.where(done[:columns], np.inf, shortest).argmin())
            step = shortest[following]
            row_potential[owner[done]] += step
            column_potential[done] -= step
            shortest[~done[:columns]] -= step
            column = following
        while column != columns:  # hand each column of the path to the row before it
            owner[column] = owner[previous[column]]
            column = int(previous[column])
    return [(int(owner[column]), column) for column in range(columns) if owner[column] >= 0]


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
        _check_half_life(half_life_s)
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
    """One Smoother for each track, and the expression that it was last given, for as long as the track lives.

    The name has hysteresis (Schmitt 1938, doi:10.1088/0950-7671/15/1/305): where two expressions are about as likely, a
    name that follows every frame's noise would flicker; so an expression keeps it until another one's probability is
    higher by LEAD. head: the head that the faces come from. half_life_s: see Smoother; None: each frame's likeliest.
    Raises DataError for a face of another head.
    """

    def __init__(self, head: Head, half_life_s: float | None = HALF_LIFE_S) -> None:
        _check_half_life(half_life_s)
        self._head = head
        self._half_life_s = half_life_s
        self._smoothers: WeakKeyDictionary[object, Smoother] = WeakKeyDictionary()
        self._named: WeakKeyDictionary[object, str] = WeakKeyDictionary()

    def add(self, track: object, time_s: float, face: Face) -> Face:
        """Return the face with the probabilities of its track up to this time, and what it is named for them."""
        if tuple(face.probabilities) != self._head.labels:
            raise DataError(
                f"a face has the labels {', '.join(face.probabilities)}, the head of the tracker has "
                f"{', '.join(self._head.labels)}; give it the head of the analyzer that found the face"
            )
        smoother = self._smoothers.setdefault(track, Smoother(self._half_life_s))
        shares = smoother.add(time_s, list(face.probabilities.values()))
        named = self._named.get(track) if self._half_life_s is not None else None
        smooth = _with_probabilities(face, shares, self._head, named)
        self._named[track] = smooth.emotion
        return smooth


def _check_half_life(half_life_s: float | None) -> None:
    if half_life_s is None:
        return
    if not isinstance(half_life_s, numbers.Real) or not 0 < half_life_s < math.inf:
        raise ConfigError(
            f"half_life_s must be above 0 seconds, got {half_life_s!r}; or switch smoothing off"
        )


def _with_probabilities(face: Face, shares: Sequence[float], head: Head, named: str | None) -> Face:
    """Return the face with other probabilities, in the order of the head's labels, and the decision from them.

    named: what it is called until another label is ahead by LEAD; None: whatever is likeliest.
    """
    probabilities = {label: min(share, 1.0) for label, share in zip(head.labels, shares, strict=True)}
    emotion = max(head.labels, key=lambda label: probabilities[label])
    if named is not None and probabilities[emotion] - probabilities[named] < LEAD:
        emotion = named
    return replace(
        face,
        emotion=emotion,
        probability=probabilities[emotion],
        probabilities=probabilities,
        uncertain=is_uncertain(probabilities[emotion], head.threshold, face.reasons),
    )


def with_cuts(frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
    """Yield each frame, and whether it is the first of a new shot; one frame late.

    Content-aware detection, as PySceneDetect's adaptive detector does it: a change must take in a fifth of the picture,
    and be large beside the changes around it. The last two frames before the cut must both differ from the first two
    after it, so that the flash of a camera, which changes one frame alone, is none; and no shift may bring one upon the
    other, so that a jerk of the camera is none either. Slow dissolves are not found.
    """
    return decided_cuts(possible_cuts(frames))


NO_CUT, CUT_IF_NEW, CUT = 0, 1, 2  # CUT_IF_NEW: where the frame before it is the first of a shot


def possible_cuts(frames: Iterable[Frame]) -> Iterator[tuple[Frame, int]]:
    """Yield each frame with NO_CUT, CUT_IF_NEW or CUT, which the two frames before it and the next one decide.

    So a part of a video can be judged by itself. What is before a cut is no part of the shot: where the frame before
    is the first of one, it alone is compared.
    """
    before: list[NDArray[np.float32]] = []  # the last two frames, small
    waiting: tuple[Frame, NDArray[np.float32]] | None = None
    for frame in frames:
        small = _small(frame)
        if waiting is not None:
            yield waiting[0], _cut(before, [waiting[1], small])
            before = [*before[-1:], waiting[1]]
        waiting = (frame, small)
    if waiting is not None:
        yield waiting[0], _cut(before, [waiting[1]])


def decided_cuts(frames: Iterable[tuple[Frame, int]]) -> Iterator[tuple[Frame, bool]]:
    """Say of each frame of a whole video, in order, whether it is the first of a new shot; the very first is not."""
    is_new = True
    for place, (frame, found) in enumerate(frames):
        cut = place > 0 and (found == CUT or (found == CUT_IF_NEW and is_new))
        yield frame, cut
        is_new = cut or place == 0


def _cut(before: list[NDArray[np.float32]], after: list[NDArray[np.float32]]) -> int:
    if not before or not _is_cut(before[-1:], after):  # then with more frames before it neither
        return NO_CUT
    return CUT if _is_cut(before, after) else CUT_IF_NEW


def _is_cut(before: list[NDArray[np.float32]], after: list[NDArray[np.float32]]) -> bool:
    pairs = [(one, other) for one in before for other in after]
    if any(_changed(one, other) < _CUT_SHARE for one, other in pairs):
        return False
    within = max(float(np.abs(shot[0] - shot[-1]).mean()) for shot in (before, after))
    if any(float(np.abs(one - other).mean()) < _CUT_TIMES * within for one, other in pairs):
        return False
    return all(_changed(_moved(one, other), other) >= _CUT_SHARE for one, other in pairs)


def _changed(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the share of the places, of those that both have (NaN: none), whose level differs."""
    change = np.abs(one - other).max(axis=2)
    seen = ~np.isnan(change)
    return float((change > _CUT_LEVELS).sum() / seen.sum())


def _moved(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shift a small picture to where it fits another best; what comes in from outside is NaN.

    Its middle is sought in the other, so it moves by a quarter of the picture at most; a parabola through the least
    squared difference and its neighbours gives parts of a pixel.
    """
    width, height = _CUT_PX
    across, down = width // 4, height // 4
    costs = cv2.matchTemplate(other, one[down : height - down, across : width - across], cv2.TM_SQDIFF)
    row, column = np.unravel_index(costs.argmin(), costs.shape)
    right = column + _lowest(costs[row], int(column)) - across
    below = row + _lowest(costs[:, column], int(row)) - down
    matrix = np.array([[1, 0, right], [0, 1, below]], np.float64)
    return np.asarray(cv2.warpAffine(one, matrix, _CUT_PX, borderValue=(math.nan,) * 3), np.float32)


def _lowest(costs: NDArray[np.float32], least: int) -> float:
    """Return how far beside the least of some costs a parabola through it and its neighbours is lowest."""
    if not 0 < least < len(costs) - 1:
        return 0.0
    left, middle, right = costs[least - 1 : least + 2].tolist()
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend > 0 else 0.0


def _small(frame: Frame) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(frame.image, _CUT_PX, interpolation=cv2.INTER_AREA), np.float32)
