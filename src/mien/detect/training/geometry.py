"""Moving boxes and landmarks along with the pixels: scale, rotation, mirror, shift."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.training.targets import Faces

Matrix = NDArray[np.float64]
_MIRRORED = [1, 0, 2, 4, 3]  # right and left change places: eyes, corners of the mouth
_LEAST_SEEN = 0.5  # share of its box in the picture from which a cut-off face is still one to find
_TRACE = 0.02  # share below which nothing of it is to be seen


@dataclass(frozen=True)
class Move:
    """How a photograph comes into a crop. angle: degrees, clockwise on the screen; mirrored before it is turned."""

    scale: float
    angle: float
    mirrored: bool

    def matrix(self, anchor: NDArray[np.float64], target: NDArray[np.float64]) -> Matrix:
        """Return the (2, 3) affine map of points (not pixel numbers) that brings the anchor to the target."""
        cos, sin = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        turn = self.scale * np.array([[cos, -sin], [sin, cos]])
        if self.mirrored:
            turn = turn @ np.diag([-1.0, 1.0])
        return np.column_stack([turn, target - turn @ anchor])


def warped(
    picture: NDArray[np.uint8], matrix: Matrix, scale: float, background: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Draw a picture onto a background (both RGB uint8) by an affine map of points; returns a new picture.

    scale: of the map. What is shrunk is averaged over areas first, because bilinear sampling alone would skip pixels.
    """
    height, width = picture.shape[:2]
    if scale < 0.7:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        shrunk = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([width / size[0], height / size[1], 1.0])
        return _warp(np.asarray(shrunk, np.uint8), matrix, background)
    return _warp(picture, matrix, background)


def _warp(picture: NDArray[np.uint8], matrix: Matrix, background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # cv2 numbers pixels by their upper left corner, points are counted from there: a pixel's middle is at + 0.5.
    shift = np.column_stack([matrix[:, :2], matrix[:, :2] @ (0.5, 0.5) + matrix[:, 2] - 0.5])
    canvas = background.copy()
    size = (canvas.shape[1], canvas.shape[0])
    border = cv2.BORDER_TRANSPARENT
    drawn = cv2.warpAffine(picture, shift, size, dst=canvas, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(drawn, np.uint8)


def moved(faces: Faces, matrix: Matrix, move: Move) -> Faces:
    """Return faces where an affine map brings them.

    A head is about an ellipse in its box: turned, it is bounded by the box of the turned ellipse, which is tighter than
    that of the turned box. Boxes to ignore are bounded whole.
    """
    points = faces.landmarks[:, _MIRRORED] if move.mirrored else faces.landmarks
    return Faces(
        _turned(faces.boxes, matrix, ellipse=True),
        faces.scores,
        (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32),
        _turned(faces.ignore, matrix, ellipse=False),
    )


def _turned(boxes: NDArray[np.float32], matrix: Matrix, *, ellipse: bool) -> NDArray[np.float32]:
    middle = (boxes[:, :2] + boxes[:, 2:] / 2) @ matrix[:, :2].T + matrix[:, 2]
    half, turn = boxes[:, 2:] / 2, np.abs(matrix[:, :2])
    reach = np.sqrt(half**2 @ (turn**2).T) if ellipse else half @ turn.T
    return np.concatenate([middle - reach, 2 * reach], axis=1).astype(np.float32)


def seen(faces: Faces, width: int, height: int, smallest: float) -> Faces:
    """Return what is left of faces in a picture of this size.

    A face whose centre or half of whose box lies outside, or whose longer side is below `smallest` pixels, becomes a
    box to ignore, cut at the border.
    """
    middle = faces.boxes[:, :2] + faces.boxes[:, 2:] / 2
    inside = ((middle >= 0) & (middle < (width, height))).all(axis=1)
    share = _share_seen(faces.boxes, width, height)
    kept = inside & (share >= _LEAST_SEEN) & (faces.boxes[:, 2:].max(axis=1, initial=0) >= smallest)
    rest = np.concatenate([faces.boxes[~kept & (share > _TRACE)], faces.ignore])
    return Faces(faces.boxes[kept], faces.scores[kept], faces.landmarks[kept], _cut(rest, width, height))


def _share_seen(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    low = np.clip(boxes[:, :2], 0, (width, height))
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, (width, height))
    share: NDArray[np.float32] = (high - low).prod(axis=1) / boxes[:, 2:].prod(axis=1)
    return share


def _cut(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Return boxes cut at the border, without those of which nothing is left."""
    low = np.clip(boxes[:, :2], 0, (width, height))
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, (width, height))
    cut = np.concatenate([low, high - low], axis=1).astype(np.float32)
    return cut[(cut[:, 2:] > 0).all(axis=1)]


def shifted(faces: Faces, x: float, y: float) -> Faces:
    """Return faces moved by (x, y) pixels."""
    by = np.array([x, y], np.float32)
    still = np.zeros(2, np.float32)
    both = np.concatenate([by, still])
    return Faces(faces.boxes + both, faces.scores, faces.landmarks + by, faces.ignore + both)


def joined(parts: list[Faces]) -> Faces:
    """Return the faces of several parts of one crop."""
    return Faces(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
        np.concatenate([part.ignore for part in parts]),
    )
