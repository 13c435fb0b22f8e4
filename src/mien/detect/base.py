"""What a face detector returns, what a face detector is, and how a face is cut out of its picture.

Cutting has this one way, for training and for prediction: `crop`, or `align`, which turns the eyes level first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, DataError

_ROOM_TO_TURN = 2**0.5  # side of a square that holds another square turned by any angle


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
    face to be seen, so that its crop is stretched alike; None: none. Raises DataError on numbers that no face can have.
    """

    box: Box
    score: float | None = None
    landmarks: Landmarks | None = None
    whole: bool = False
    levels: tuple[float, float] | None = None

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


def checked(box: Sequence[float], score: float | None, points: Any) -> tuple[Box, Landmarks | None]:
    """Return a face's box and landmarks by name; DataError for values that cannot be right."""
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        raise DataError(
            f"a face box must be (x, y, width, height), width and height above 0; got {tuple(box)}"
        )
    if score is not None and not 0 <= score <= 1:
        raise DataError(f"the score of a face must be from 0 to 1, got {score}")
    landmarks = points if points is None or isinstance(points, Landmarks) else Landmarks.of(points)
    return box if isinstance(box, Box) else Box(*box), landmarks


class Detector(Protocol):
    """A face detector. Safe to use from several threads."""

    name: str
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
    return Detection(Box(x + left, y + top, width, height), face.score, landmarks, face.whole, face.levels)


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

    Where the picture is the face already it is returned as it is, as training takes it. What levelling is worth on
    photographs: docs/design.md.
    """
    if face.whole:
        return image
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
    turn = np.asarray(cv2.getRotationMatrix2D((middle, middle), _tilt(face), 1.0), np.float64)
    turn[:, 2] += (side - 1) / 2 - middle
    return turn


def _tilt(face: Detection) -> float:
    """Return by how many degrees the line of the eyes falls to the right of the picture; 0 without landmarks."""
    if face.landmarks is None:
        return 0.0
    (right_x, right_y), (left_x, left_y) = face.landmarks[:2]
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
