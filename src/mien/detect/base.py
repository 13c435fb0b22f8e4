"""What a face detector returns, what a face detector is, and what all of them share.

Cutting a face out of its picture has one way, for training and for prediction: `crop`, or `align`, which turns the eyes
level first. The image pyramid is for detectors that know faces of a limited range of sizes; non-maximum suppression
(NMS) merges what several sizes, or several cells of a network, say about one face.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, DataError
from mien.settings import at_least

_ROOM_TO_TURN = 2**0.5  # side of a square that holds another square turned by any angle
# A strip thinner than this holds no face that anyone could recognise; cv2 would fail on some.
_THINNEST_PX = 8
SEARCHED_PX = at_least(64)  # longer side at which a picture or a frame is searched
_FEW_PX = 32  # a face smaller than this in the usual look makes a closer look worth its time
Rows = NDArray[np.float32]  # (n, columns): x, y, width, height first, the score last
_MOST = 2000  # candidates of one look, the surest first: bounds the time of a picture that fires everywhere
# Intersection over union, and share of the surest one's score, from which a candidate has a say in where the face is.
_BLENDED, _NEARLY = 0.5, 0.7
# Share of the smaller box inside the larger one from which both are the same face: a look at another scale may see half
# a face as one, and a chin with its collar is nobody else. From .5 to .6 every figure is the same, to .002.
_INSIDE = 0.5


class Box(NamedTuple):
    """A box in pixels: x and y of its upper left corner, width, height. It may leave the picture.

    >>> Box(10, 20, 30, 40).xyxy
    (10, 20, 40, 60)
    """

    x: float
    y: float
    width: float
    height: float

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """x and y of the upper left and of the lower right corner."""
        return self.x, self.y, self.x + self.width, self.y + self.height

    @property
    def area(self) -> float:
        """In square pixels."""
        return self.width * self.height


class Point(NamedTuple):
    """x to the right, y down, in pixels."""

    x: float
    y: float


class Landmarks(NamedTuple):
    """Five points of a face, named from the subject's side: a frontal face has its right eye on the picture's left."""

    right_eye: Point
    left_eye: Point
    nose: Point
    right_mouth: Point
    left_mouth: Point

    @classmethod
    def of(cls, points: Any) -> Landmarks:
        """Build from five (x, y) pairs or a (5, 2) array, in the order of the fields."""
        if np.shape(points) != (5, 2):
            raise DataError(f"landmarks must be five (x, y) points, got shape {np.shape(points)}")
        return cls(*(Point(float(x), float(y)) for x, y in points))


@dataclass(frozen=True)
class Detection:
    """One face in a picture, in pixels of that picture.

    box: from hairline to chin; four numbers become a `Box`. score: how sure the detector is, 0 to 1; None where it
    cannot say. landmarks: five points become `Landmarks`; None where the detector has none. whole: the picture is the
    face, so that nothing is cut out of it. levels: which levels of the picture were stretched over 0 to 255 for the
    face to be seen, so that its crop is stretched alike; None: none. quarter_turns: anticlockwise, that bring a picture
    which is the face upright. Raises DataError on numbers that no face can have.
    """

    box: Box
    score: float | None = None
    landmarks: Landmarks | None = None
    whole: bool = False
    levels: tuple[float, float] | None = None
    quarter_turns: int = 0

    def __post_init__(self) -> None:
        box, landmarks = checked(self.box, self.score, self.landmarks)
        object.__setattr__(self, "box", box)
        object.__setattr__(self, "landmarks", landmarks)

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return self.box.area

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> list[Any]:
        """Return all of it as JSON takes it, to the last digit; `from_json` makes the same of it."""
        box, points, levels = (
            found and np.asarray(found, float).tolist() for found in (self.box, self.landmarks, self.levels)
        )
        score = None if self.score is None else float(self.score)
        return [box, score, points, self.whole, levels, self.quarter_turns]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Detection:
        """Make it of what `to_json` returned."""
        box, score, points, whole, levels, *turns = values  # logs of mien faces had no turns once
        return cls(box, score, points, whole, None if levels is None else (levels[0], levels[1]), *turns)


def detection_of_row(row: NDArray[np.float32], scale: float) -> Detection:
    """Return the face that a row says, (15,): box, five landmarks, score, in a picture that was scaled so."""
    values = [float(value) for value in row[:14] / scale]
    points = Landmarks.of(list(zip(values[4::2], values[5::2], strict=True)))
    return Detection(Box(*values[:4]), min(max(float(row[14]), 0.0), 1.0), points)


def checked(box: Sequence[float], score: float | None, points: Any) -> tuple[Box, Landmarks | None]:
    """Return a face's box and landmarks by name; DataError for values that cannot be right."""
    try:
        possible = len(box) == 4 and all(map(math.isfinite, box)) and min(box[2:]) > 0
    except TypeError:  # no numbers
        possible = False
    if not possible:
        raise DataError(f"a face box must be (x, y, width, height), width and height above 0; got {box!r}")
    if score is not None and not (isinstance(score, Real) and 0 <= score <= 1):
        raise DataError(f"the score of a face must be from 0 to 1, got {score!r}")
    landmarks = points if points is None or isinstance(points, Landmarks) else Landmarks.of(points)
    if landmarks is not None and not np.isfinite(landmarks).all():
        raise DataError(f"the landmarks of a face must be places, got {landmarks}")
    return box if isinstance(box, Box) else Box(*box), landmarks


class Detector(Protocol):
    """A face detector. Safe to use from several threads."""

    name: str
    searches: bool  # whether faces are searched, and not each picture taken for one
    metadata: Mapping[str, str]  # what was used, for the record: name, file, sha256, ...

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Return the faces in a picture, the largest first; none is an empty tuple, never an error.

        image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB, of any size.
        """
        ...


def largest_first(faces: Sequence[Detection]) -> tuple[Detection, ...]:
    """Return faces with the largest first, and of equally large ones the surest."""
    return tuple(sorted(faces, key=lambda face: (-face.area, -(face.score or 0), face.box)))


def scaled(face: Detection, scale: float, left: float = 0.0, top: float = 0.0) -> Detection:
    """Return a face where it lies in a picture `scale` times as large, moved by (left, top) pixels afterwards."""
    x, y, width, height = (value * scale for value in face.box)
    landmarks = face.landmarks and Landmarks.of(
        [(x * scale + left, y * scale + top) for x, y in face.landmarks]
    )
    return replace(face, box=Box(x + left, y + top, width, height), landmarks=landmarks)


def crop(image: NDArray[np.uint8], box: Box, margin: float = 1.0) -> NDArray[np.uint8]:
    """Cut out the square around the middle of a box whose side is `margin` times the box's longer side.

    image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB.
    Returns (side, side, 3) uint8, RGB, not resized, at least 1x1. Beyond the picture its border is repeated.
    """
    left, top, side = square(box, margin)
    rows = np.clip(np.arange(top, top + side), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)
    cut: NDArray[np.uint8] = squeeze_channel(image)[rows[:, None], columns[None, :]]
    return cv2.cvtColor(cut, cv2.COLOR_GRAY2RGB) if cut.ndim == 2 else cut


def square(box: Box, margin: float = 1.0) -> tuple[int, int, int]:
    """Return the square that `crop` cuts out: x and y of its upper left corner and its side, in pixels."""
    x, y, width, height = box
    side = _side(box, margin)
    return round(x + (width - side) / 2), round(y + (height - side) / 2), side


def align(image: NDArray[np.uint8], face: Detection, margin: float = 1.0) -> NDArray[np.uint8]:
    """Like crop, with the picture turned so that the eyes are level. Without landmarks: the same as crop.

    Where the picture is the face already it is returned as it is, as training takes it, but upright. What levelling is
    worth on photographs: docs/design.md.
    """
    if face.whole:
        return np.ascontiguousarray(np.rot90(image, face.quarter_turns)) if face.quarter_turns else image
    if face.landmarks is None:
        return stretch_levels(crop(image, face.box, margin), face.levels)
    wide = crop(image, face.box, margin * _ROOM_TO_TURN)
    side = _side(face.box, margin)
    aligned: NDArray[np.uint8] = cv2.warpAffine(
        wide, _turn(face, margin), (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return stretch_levels(aligned, face.levels)


def place_of_aligned(face: Detection, margin: float = 1.0) -> NDArray[np.float64]:
    """Return the matrix from pixels of `align` to pixels of the picture: (2, 3), x first, for pixel centres."""
    if face.whole:
        return np.eye(2, 3)
    turned = face.landmarks is not None
    left, top, _ = square(face.box, margin * _ROOM_TO_TURN if turned else margin)
    back = cv2.invertAffineTransform(_turn(face, margin)) if turned else np.eye(2, 3)
    return np.asarray(back + np.array([[0, 0, left], [0, 0, top]]), np.float64)


def _turn(face: Detection, margin: float) -> NDArray[np.float64]:
    """Return the matrix from the wide crop that `align` turns to what it returns."""
    side, middle = _side(face.box, margin), (_side(face.box, margin * _ROOM_TO_TURN) - 1) / 2
    turn = np.asarray(
        cv2.getRotationMatrix2D((middle, middle), tilt_degrees(face.landmarks), 1.0), np.float64
    )
    turn[:, 2] += (side - 1) / 2 - middle
    return turn


def tilt_degrees(landmarks: Landmarks | None) -> float:
    """Return by how many degrees the line of the eyes falls to the right of the picture; 0 without landmarks."""
    if landmarks is None:
        return 0.0
    (right_x, right_y), (left_x, left_y) = landmarks[:2]
    return math.degrees(math.atan2(left_y - right_y, left_x - right_x))


def _side(box: Box, margin: float) -> int:
    if not (math.isfinite(margin) and margin > 0):
        raise ConfigError(f"margin must be above 0 (1 is the face box itself), got {margin}")
    return max(1, round(margin * max(box[2:])))


def squeeze_channel(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture with one channel as (height, width); leave colour as it is."""
    return image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image


def stretch_levels(image: NDArray[np.uint8], levels: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return a picture in which these levels, dark and light, lie at 0 and 255; None: the picture as it is."""
    if levels is None:
        return image
    low, high = levels
    table = np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)


@dataclass(frozen=True)
class ImagePyramid:
    """Longer sides in pixels at which a picture is searched.

    detect_size: the usual one; a picture smaller than `min_size` is enlarged to that. small_size: a second, cheap look,
    for faces that fill the picture. max_size: a picture larger than `detect_size` is looked at once more, up to this
    size, where nothing or only tiny faces were found; equal to `detect_size`: never.
    """

    small_size: int
    min_size: int
    detect_size: int
    max_size: int

    def shrink(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
        """Return the picture at `max_size` if it is larger, and that scale: far cheaper than shrinking each time."""
        return resized(image, self.max_size) if max(image.shape[:2]) > self.max_size else (image, 1.0)

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
        usual = min(max(longest, self.min_size), self.detect_size)
        found = look(image, usual)
        if usual > self.small_size:
            found = np.concatenate([found, look(image, self.small_size)])
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
        if not kept or smaller[place, kept].max() < _INSIDE:
            kept.append(place)
    return largest_first([ordered[place] for place in kept])
