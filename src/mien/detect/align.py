"""Cutting a face out of a picture: the one way, for training and for prediction."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Box, Detection
from mien.detect.pyramid import squeeze_channel, stretch_levels
from mien.errors import ConfigError

_ROOM_TO_TURN = 2**0.5  # side of a square that holds another square turned by any angle


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
