"""One box a face: intersection over union, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Detection, largest_first

Floats = NDArray[np.float32]
_MOST = 2000  # candidates of one look, the surest first: bounds the time of a picture that fires everywhere
# Intersection over union, and share of the surest one's score, from which a candidate has a say in where the face is.
_BLENDED, _NEARLY = 0.5, 0.7
# Share of the smaller box inside the larger one from which both are the same face: a look at another scale may see half
# a face as one. At 0.75 a portrait of 4,000 pixels kept such a half; average precision was the same to .001.
_INSIDE = 0.65
_CONTAINED = 0.6  # the same for detectors with a suppression of their own


def weighted_nms(found: Floats, threshold: float) -> Floats:
    """Return one row a face, the surest first.

    found: (n, columns), each x, y, width, height, perhaps landmarks, and the score last. threshold: IoU from which two
    boxes are one face. Of boxes that overlap the surest is kept (non-maximum suppression), and its place is the mean
    of those that nearly agree, weighted by score (BlazeFace, Bazarevsky et al. 2019, arXiv:1907.05047, section 3.4),
    which is steadier than one cell's answer.
    """
    columns = found.shape[1]
    found = found[np.argsort(-found[:, -1], kind="stable")[:_MOST]]
    kept = []
    while len(found):
        shared, smaller = iou(found[:1, :4], found[:, :4])
        same = (shared[0] >= threshold) | (smaller[0] >= _INSIDE)
        same[0] = True
        say = (shared[0] >= _BLENDED) & (found[:, -1] >= _NEARLY * found[0, -1])
        agreeing = found[say] if say[0] else found[:1]
        place = np.average(agreeing[:, :-1], axis=0, weights=agreeing[:, -1])
        kept.append(np.append(place, found[0, -1]))
        found = found[~same]
    return np.array(kept, np.float32).reshape(-1, columns)


def iou(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return intersection over union, and intersection over the smaller box, for all pairs: two (n, m) arrays.

    first: (n, 4), second: (m, 4), both x, y, width, height.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    own, other = first[:, 2:].prod(axis=1)[:, None], second[:, 2:].prod(axis=1)[None]
    union = np.maximum(own + other - shared, 1e-9)
    return shared / union, shared / np.maximum(np.minimum(own, other), 1e-9)


def suppress_contained(faces: Sequence[Detection]) -> tuple[Detection, ...]:
    """Drop every box that mostly shares its place with a surer one, such as an eye taken for a face; largest first."""
    ordered = sorted(faces, key=lambda face: -(face.score or 0))
    boxes = np.array([face.box for face in ordered], np.float32).reshape(-1, 4)
    smaller = iou(boxes, boxes)[1]
    kept: list[int] = []
    for place in range(len(ordered)):
        if not kept or smaller[place, kept].max() < _CONTAINED:
            kept.append(place)
    return largest_first([ordered[place] for place in kept])
