"""How a photograph is searched: closer where asked, again where nothing was found, turned where a face is doubtful.

A video is not searched so: there the next frame is the second chance. A picture that is said to be a face is looked at
in both.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import (
    SEARCHED_PX,
    Box,
    Detection,
    Detector,
    Landmarks,
    crop,
    largest_first,
    resized,
    scaled,
    squeeze_channel,
    stretch_levels,
    suppress_contained,
    too_thin,
)
from mien.detect.mien import MienDetector
from mien.settings import FROM_0, SHARE, check_settings, setting

Picture = NDArray[np.uint8]
# Detectors look at no more than this at once; a closer search goes tile by tile, which share this much with the next.
_TILE_PX, _SHARED_PX = 1280, 192
_COARSE = 2.0  # a picture this many times as large is searched coarsely
# Where nothing was found: the levels between these percentiles are stretched over all, then the picture is turned.
_PERCENTILES = (1.0, 99.0)
_PALE = 128  # levels: a picture of more is turned as it is, and its faces are not of low contrast
_STRETCHED_SCORE, _TURNED_SCORE = 0.6, 0.7  # what counts as a face then
_TURNS = (90, 270, 45, 315, 180)  # degrees, anticlockwise
_TURNED_PX = 640  # longer side of the picture in turned looks
# Where the detector is less sure than this, a face is looked at upside down and sideways too; the surest look counts.
_DOUBTFUL = 0.76
# For a picture that is said to be a face, how much surer another look must be, and how sure at least: of 150 faces of
# FER-2013 and 100 cut from photographs 3 and 1 % are turned that should not be, 83 and 85 % of those upside down, 85
# and 86 % of those that lie on their side are.
_WHOLE_BETTER, _WHOLE_TURNED_SCORE = 0.1, 0.5
_AROUND, _AROUND_PX = 2.5, 224  # the square round it in sides of its box; the size at which it is looked at


@dataclass(frozen=True)
class PhotoSearch:
    """How photographs are searched for faces. Raises ConfigError.

    At 1280 pixels, faces below about 1 % of the picture's side are missed. A detector without scores keeps all faces.
    """

    detect_size: int | None = setting(
        None,
        "longer side in pixels at which a picture is searched, tile by tile above 1280; unset: at most 1280",
        within=SEARCHED_PX,
    )
    min_face: float = setting(0.0, "leave out faces whose longer side has fewer pixels", within=FROM_0)
    min_score: float = setting(0.0, "leave out faces of which the detector is less sure", within=SHARE)
    second_look: bool = setting(True, "search again where nothing was found", option=False)

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(self, detector: Detector, image: Picture) -> tuple[Detection, ...]:
        """Return the faces in a picture, the largest first; image: as for `Detector.detect`."""
        found = self._first(detector, image)
        if found and found[0].whole:
            found = (whole_upright(image, found[0]),)
        elif not found and self.second_look:
            found = second_look(detector, image)
        elif self.second_look:
            found = largest_first([_right_way_up(detector, image, face) for face in found])
        return tuple(face for face in found if self.kept(face))

    def coarse(self, detector: Detector, image: Picture) -> bool:
        """Say whether the picture was searched at half its size or less, so that small faces may have been missed."""
        searched = self.detect_size or _TILE_PX
        return detector.searches and max(image.shape[:2]) >= _COARSE * searched

    def _first(self, detector: Detector, image: Picture) -> tuple[Detection, ...]:
        longest = max(image.shape[:2])
        size = min(self.detect_size or _TILE_PX, longest)
        if (
            self.detect_size is None
            or not detector.searches
            or too_thin(image)
            or size == longest <= _TILE_PX
        ):
            return detector.detect(image)
        view, scale = resized(image, size)
        if size <= _TILE_PX:
            return tuple(scaled(face, 1 / scale) for face in detector.detect(view))
        found = list(detector.detect(resized(view, _TILE_PX)[0]))
        found = [scaled(face, size / _TILE_PX) for face in found]
        for left, top in _tiles(view):
            part = np.ascontiguousarray(view[top : top + _TILE_PX, left : left + _TILE_PX])
            found += [scaled(face, 1.0, left, top) for face in detector.detect(part)]
        return tuple(scaled(face, 1 / scale) for face in suppress_contained(found))

    def kept(self, face: Detection) -> bool:
        """Say whether a face is neither too small nor too doubtful."""
        sure = face.score is None or face.whole or face.score >= self.min_score
        return sure and max(face.box.width, face.box.height) >= self.min_face


def second_look(detector: Detector, image: Picture) -> tuple[Detection, ...]:
    """Search a picture in which nothing was found: with its levels stretched, then also turned.

    Dark, pale and turned pictures are found so. Higher scores are asked for, because every look at a picture without
    a face is another chance of a false positive. A detector without scores gets no second look.
    """
    if too_thin(image):
        return ()
    view, scale = resized(image, min(max(image.shape[:2]), _TILE_PX))
    view = squeeze_channel(view)
    low, high = (float(level) for level in np.percentile(view, _PERCENTILES))
    stretched = stretch_levels(view, (low, high) if high - low >= 1 else None)
    found = [
        _right_way_up(detector, stretched, face)
        for face in detector.detect(stretched)
        if (face.score or 0) >= _STRETCHED_SCORE
    ]
    levels = (low, high) if 1 <= high - low < _PALE else None
    if not found:
        view = stretch_levels(view, levels)
        view, more = resized(view, min(max(view.shape[:2]), _TURNED_PX))
        scale *= more
        # All turns, because a face that lies sideways is also seen, less surely, upside down.
        looks = [_turned_look(detector, view, degrees) for degrees in _TURNS]
        best = max(looks, key=lambda look: max((face.score or 0 for face in look), default=0))
        found = [face for face in best if (face.score or 0) >= _TURNED_SCORE]
    return largest_first([replace(scaled(face, 1 / scale), levels=levels) for face in found])


def whole_upright(image: Picture, face: Detection) -> Detection:
    """Return a picture that is said to be a face with how surely it shows one, turned where it shows it surer so.

    Of a photograph and of a frame of a video alike.
    """
    score = face_score(image)
    if score >= _DOUBTFUL:
        return replace(face, score=score)
    turned = {turns: face_score(np.ascontiguousarray(np.rot90(image, turns))) for turns in (1, 2, 3)}
    turns = max(turned, key=lambda one: turned[one])
    if turned[turns] < max(score + _WHOLE_BETTER, _WHOLE_TURNED_SCORE):
        return replace(face, score=score)
    return replace(face, score=turned[turns], quarter_turns=turns)


def face_score(image: Picture) -> float:
    """Return how sure our detector is that a picture, said to be a face, shows one, 0 to 1; 0: it sees none."""
    return 0.0 if too_thin(image) else _shipped().face_score(image)


@functools.cache
def _shipped() -> MienDetector:
    return MienDetector()


def _right_way_up(detector: Detector, image: Picture, face: Detection) -> Detection:
    """Return a doubtful face as it is seen upside down or sideways, where the detector is surer of it then."""
    if face.score is None or face.score >= _DOUBTFUL or face.landmarks is None:
        return face
    around = crop(image, face.box, _AROUND)
    view, scale = resized(around, _AROUND_PX)
    side = max(face.box.width, face.box.height) * scale
    left = face.box.x + (face.box.width - around.shape[1]) / 2
    top = face.box.y + (face.box.height - around.shape[0]) / 2
    best, least = face, face.score
    for degrees in (0, 180, 90, 270):
        for other in _turned_look(detector, view, degrees):
            centre = (other.box.x + other.box.width / 2, other.box.y + other.box.height / 2)
            apart = math.hypot(centre[0] - view.shape[1] / 2, centre[1] - view.shape[0] / 2)
            if apart < side / 3 and (other.score or 0) > least:
                least = other.score or 0
                best = scaled(other, 1 / scale, left, top) if degrees else face
    return best


def _turned_look(detector: Detector, view: Picture, degrees: int) -> tuple[Detection, ...]:
    """Return what is found in a picture turned anticlockwise, in pixels of the picture as it was."""
    if not degrees:
        return detector.detect(view)
    height, width = view.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    size = (round(height * sine + width * cosine), round(height * cosine + width * sine))
    turn[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    shift = turn.copy()
    # OpenCV numbers pixels by their middles, boxes by their corners.
    shift[:, 2] += turn[:, :2] @ (0.5, 0.5) - 0.5
    turned = np.asarray(cv2.warpAffine(view, shift, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    back = cv2.invertAffineTransform(turn)
    return tuple(_mapped(face, back, swap=degrees % 180 == 90) for face in detector.detect(turned))


def _mapped(face: Detection, matrix: NDArray[np.float64], *, swap: bool) -> Detection:
    """Return a face under a rotation (2, 3): centre and landmarks move, the box keeps its sides or swaps them."""
    x, y, width, height = face.box
    centre = matrix @ (x + width / 2, y + height / 2, 1.0)
    if swap:
        width, height = height, width
    points = face.landmarks and Landmarks.of(np.array(face.landmarks) @ matrix[:, :2].T + matrix[:, 2])
    return Detection(
        Box(float(centre[0] - width / 2), float(centre[1] - height / 2), width, height), face.score, points
    )


def _tiles(view: Picture) -> Iterator[tuple[int, int]]:
    """Yield left and top of tiles that cover a picture, each sharing a margin with the next."""
    for top in _steps(view.shape[0]):
        for left in _steps(view.shape[1]):
            yield left, top


def _steps(length: int) -> list[int]:
    count = max(1, math.ceil((length - _SHARED_PX) / (_TILE_PX - _SHARED_PX)))
    return [
        round(step * (length - _TILE_PX) / max(1, count - 1)) if length > _TILE_PX else 0
        for step in range(count)
    ]
