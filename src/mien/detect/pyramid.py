"""What the detectors share: at which sizes a picture is searched, and one box a face out of all that is found there.

The image pyramid is for detectors that know faces of a limited range of sizes; non-maximum suppression (NMS) merges
what several sizes, or several cells of a network, say about one face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Detection, largest_first

# A strip thinner than this holds no face that anyone could recognise; cv2 would fail on some.
_THINNEST_PX = 8
_FEW_PX = 32  # a face smaller than this in the usual look makes a closer look worth its time

Rows = NDArray[np.float32]  # (n, columns): x, y, width, height first, the score last
_MOST = 2000  # candidates of one look, the surest first: bounds the time of a picture that fires everywhere
# Intersection over union, and share of the surest one's score, from which a candidate has a say in where the face is.
_BLENDED, _NEARLY = 0.5, 0.7
# Share of the smaller box inside the larger one from which both are the same face: a look at another scale may see half
# a face as one. At 0.75 a portrait of 4,000 pixels kept such a half; average precision was the same to .001.
_INSIDE = 0.65
_CONTAINED = 0.6  # the same for detectors with a suppression of their own


@dataclass(frozen=True)
class ImagePyramid:
    """Longer sides in pixels at which a picture is searched.

    detect: the usual one; a picture smaller than `least` is enlarged to that. small: a second, cheap look, for faces
    that fill the picture. largest: a picture larger than `detect` is looked at once more, up to this size, where
    nothing or only tiny faces were found; equal to `detect`: never.
    """

    small: int
    least: int
    detect: int
    largest: int

    def shrink(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
        """Return the picture at `largest` if it is larger, and that scale: far cheaper than shrinking each time."""
        return resized(image, self.largest) if max(image.shape[:2]) > self.largest else (image, 1.0)

    def search(
        self,
        image: NDArray[np.uint8],
        look: Callable[[NDArray[np.uint8], int], Rows],
        likely: Callable[[Rows], Rows] = lambda rows: rows,
    ) -> Rows:
        """Return what `look` finds at all sizes together, in pixels of `image`; the same face may come twice.

        image: as `shrink` returns it. look: called with the picture and a longer side. likely: leaves those rows that
        are probably faces, which decide on the closer look.
        """
        longest = max(image.shape[:2])
        usual = min(max(longest, self.least), self.detect)
        found = look(image, usual)
        if usual > self.small:
            found = np.concatenate([found, look(image, self.small)])
        if longest > usual and _wants_closer_look(likely(found), usual / longest):
            found = np.concatenate([found, look(image, longest)])
        return found


def _wants_closer_look(found: Rows, scale: float) -> bool:
    """Say whether nothing was found, or something so small that more of its kind may have been missed."""
    return len(found) == 0 or bool((found[:, 2:4].max(axis=1) * scale).min() < _FEW_PX)


def resized(image: NDArray[np.uint8], longest_px: int) -> tuple[NDArray[np.uint8], float]:
    """Return the picture with its longer side at `longest_px`, and that scale (new over old).

    image: (height, width) or (height, width, channels) uint8. Shrinks by area averaging, enlarges bilinearly.
    """
    height, width = image.shape[:2]
    scale = longest_px / max(height, width)
    if scale == 1:
        return image, 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=filter_), scale


def too_thin(image: NDArray[np.uint8]) -> bool:
    """Say whether a picture is empty or too thin to hold a face."""
    return bool(min(image.shape[:2]) < _THINNEST_PX)


def weighted_nms(found: Rows, threshold: float) -> Rows:
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


def iou(first: Rows, second: Rows) -> tuple[Rows, Rows]:
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
