"""How good a face detector is on labelled photographs: matching, average precision, recall by size, false positives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Detection, iou
from mien.detect.training.photos import Photo, Photos

SAME = 0.5  # intersection over union from which a found box is the labelled one
_IGNORED = 0.5  # share of a found box inside a box to ignore from which it counts neither for nor against
# Share of the box's width below which the eyes' distance says nothing: in profile both eyes are at one place.
_PROFILE = 0.2
SIZES = ((16.0, 32.0), (32.0, 64.0), (64.0, np.inf), (20.0, 40.0), (40.0, np.inf))  # longer side, pixels
Find = Callable[[NDArray[np.uint8]], Sequence[Detection]]


@dataclass(frozen=True, eq=False)
class Matches:
    """One photograph after a search.

    scores: (k,) of what was found, the surest first; 1 where the detector has none. matched: (k,) place of the labelled
    face that each is, -1: a false positive, -2: neither (a box to ignore). found: (k,) as found. errors: (k,) mean
    distance of the landmarks over the distance of the labelled eyes; NaN where there is none.
    """

    photo: Photo
    scores: NDArray[np.float64]
    matched: NDArray[np.int64]
    found: tuple[Detection, ...]
    errors: NDArray[np.float64]


def search(photos: Photos, find: Find, progress: Callable[[int], None] | None = None) -> list[Matches]:
    """Search every photograph and compare."""
    matches = []
    for index, photo in enumerate(photos.rows):
        matches.append(compare(photo, find(photos.read(index))))
        if progress:
            progress(index + 1)
    return matches


def compare(photo: Photo, faces: Sequence[Detection]) -> Matches:
    """Match found faces, the surest first, each to the labelled face that it overlaps most and that is still free."""
    found = tuple(sorted(faces, key=lambda face: -_score(face)))
    boxes = np.array([face.box for face in found], np.float32).reshape(-1, 4)
    shared, _ = iou(boxes, photo.boxes)
    doubtful = _share_inside(boxes, photo.ignore)
    matched, free = np.full(len(found), -1), np.ones(len(photo.boxes), bool)
    for row in range(len(found)):
        candidates = np.where(free, shared[row], 0)
        if len(candidates) and candidates.max() >= SAME:
            matched[row] = int(candidates.argmax())
            free[matched[row]] = False
        elif doubtful[row] >= _IGNORED:
            matched[row] = -2
    errors = [_error(face, photo, int(place)) for face, place in zip(found, matched, strict=True)]
    return Matches(
        photo, np.array([_score(face) for face in found]), matched, found, np.array(errors, np.float64)
    )


def _score(face: Detection) -> float:
    return 1.0 if face.score is None else face.score


def _share_inside(boxes: NDArray[np.float32], ignore: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest share of each box that lies inside one box to ignore, or their IoU if that is larger."""
    if not len(ignore) or not len(boxes):
        return np.zeros(len(boxes), np.float32)
    low = np.maximum(boxes[:, None, :2], ignore[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (ignore[:, :2] + ignore[:, 2:])[None])
    inside = np.clip(high - low, 0, None).prod(axis=2) / boxes[:, 2:].prod(axis=1)[:, None]
    share: NDArray[np.float32] = np.maximum(inside, iou(boxes, ignore)[0]).max(axis=1)
    return share


def _error(face: Detection, photo: Photo, place: int) -> float:
    if place < 0 or face.landmarks is None:
        return float("nan")
    true = photo.landmarks[place]
    distance = float(np.linalg.norm(true[0] - true[1]))
    gaps = np.linalg.norm(np.asarray(face.landmarks) - true, axis=1)
    return float(gaps.mean() / distance) if distance >= _PROFILE * photo.boxes[place, 2] else float("nan")


def average_precision(matches: Sequence[Matches]) -> float:
    """Return the area under precision over recall at IoU 0.5, every point counted (PASCAL VOC 2010 and later)."""
    scores = np.concatenate([one.scores for one in matches] or [np.empty(0)])
    matched = np.concatenate([one.matched for one in matches] or [np.empty(0, np.int64)])
    total = sum(len(one.photo.boxes) for one in matches)
    counted = matched != -2
    order = np.argsort(-scores[counted], kind="stable")
    right = matched[counted][order] >= 0
    if not total or not len(right):
        return 0.0
    recall = np.cumsum(right) / total
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def threshold_for(matches: Sequence[Matches], per_100: float) -> float:
    """Return the lowest score above which there are at most so many false positives in 100 photographs without a face.

    0.0 where there are never more; infinity where even the surest are too many (a detector without scores).
    """
    empty = [one for one in matches if not len(one.photo.boxes)]
    wrong = np.sort(np.concatenate([one.scores[one.matched == -1] for one in empty] or [np.empty(0)]))[::-1]
    allowed = int(per_100 * len(empty) / 100 + 1e-9)
    if len(wrong) <= allowed:
        return 0.0
    # Just above the first false positive that is one too many; equal scores go together.
    return float(np.nextafter(wrong[allowed], np.inf)) if wrong[allowed] < 1 else float("inf")


def recall(matches: Sequence[Matches], threshold: float, size: tuple[float, float]) -> tuple[float, int]:
    """Return the share of faces of this size (longer side, pixels) that are found from a score on, and their number."""
    found = total = 0
    for one in matches:
        longer = one.photo.boxes[:, 2:].max(axis=1, initial=0)
        wanted = np.flatnonzero((longer >= size[0]) & (longer < size[1]))
        total += len(wanted)
        found += int(np.isin(wanted, one.matched[one.scores >= threshold]).sum())
    return (found / total if total else float("nan")), total


def false_positives_per_100(matches: Sequence[Matches], threshold: float) -> tuple[float, int]:
    """Return the false positives in 100 photographs without a face, and the number of those photographs."""
    empty = [one for one in matches if not len(one.photo.boxes)]
    count = sum(int(((one.matched == -1) & (one.scores >= threshold)).sum()) for one in empty)
    return (100 * count / len(empty) if empty else float("nan")), len(empty)


def landmark_error(matches: Sequence[Matches], threshold: float, smallest_px: float = 0.0) -> float:
    """Return the mean error of the landmarks of found faces from a size on, as a share of the eyes' distance."""
    errors = [
        error
        for one in matches
        for score, place, error in zip(one.scores, one.matched, one.errors, strict=True)
        if place >= 0 and score >= threshold and one.photo.boxes[place, 2:].max() >= smallest_px
    ]
    known = np.array(errors, np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")
