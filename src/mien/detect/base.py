"""What a face detector returns, and what a face detector is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError

Box = tuple[float, float, float, float]  # x and y of the upper left corner, width, height, in pixels
Point = tuple[float, float]  # x to the right, y down, in pixels


@dataclass(frozen=True)
class Detection:
    """One face in a picture, in pixels of that picture.

    box: from hairline to chin; it may leave the picture. score: how sure the detector is, 0 to 1; None where
    it cannot say. landmarks: right eye, left eye, nose tip, right and left corner of the mouth, from the
    subject's point of view: a frontal face has its right eye on the left of the picture. None where the
    detector has none.
    """

    box: Box
    score: float | None = None
    landmarks: tuple[Point, Point, Point, Point, Point] | None = None

    def __post_init__(self) -> None:
        if len(self.box) != 4 or not all(map(math.isfinite, self.box)) or min(self.box[2:]) <= 0:
            raise DataError(
                f"a face box must be (x, y, width, height), width and height above 0; got {self.box}"
            )
        if self.score is not None and not 0 <= self.score <= 1:
            raise DataError(f"the score of a face must be from 0 to 1, got {self.score}")
        if self.landmarks is not None and np.shape(self.landmarks) != (5, 2):
            raise DataError(f"landmarks must be five (x, y) points, got shape {np.shape(self.landmarks)}")

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return self.box[2] * self.box[3]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Detector(Protocol):
    """A face detector. Safe to use from several threads."""

    name: str
    metadata: Mapping[str, str]  # what was used, for the record: name, file, sha256, ...

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Return the faces in a picture, the largest first; none is an empty tuple, never an error.

        image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB, of any size.
        """
        ...


def in_order(faces: Sequence[Detection]) -> tuple[Detection, ...]:
    """Return faces with the largest first, and of equally large ones the surest."""
    return tuple(sorted(faces, key=lambda face: (-face.area, -(face.score or 0), face.box)))


def distinct(faces: Sequence[Detection]) -> tuple[Detection, ...]:
    """Drop every box that mostly shares its place with a surer one, such as an eye taken for a face."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda face: -(face.score or 0)):
        if all(_shared(face.box, other.box) < _SAME for other in kept):
            kept.append(face)
    return in_order(kept)


_SAME = 0.6  # share of the smaller box inside the larger one from which both are the same face


def _shared(first: Box, second: Box) -> float:
    """Return the area that two boxes share over the area of the smaller one."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min(first[2] * first[3], second[2] * second[3])
