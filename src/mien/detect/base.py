"""What a face detector returns, and what a face detector is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError


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
