"""Varying crops: geometry, with boxes and landmarks, then light, noise, blur, compression and occlusion."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mien.detect.training.photos import Faces

Matrix = NDArray[np.float64]
_MIRRORED = [1, 0, 2, 4, 3]  # right and left change places: eyes, corners of the mouth
_LEAST_SEEN = 0.5  # share of its box in the picture from which a cut-off face is still one to find
_TRACE = 0.02  # share below which nothing of it is to be seen


@dataclass(frozen=True)
class AffineTransform:
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


def transform_faces(faces: Faces, matrix: Matrix, transform: AffineTransform) -> Faces:
    """Return faces where an affine map brings them.

    A head is about an ellipse in its box: turned, it is bounded by the box of the turned ellipse, which is tighter than
    that of the turned box. Boxes to ignore are bounded whole.
    """
    points = faces.landmarks[:, _MIRRORED] if transform.mirrored else faces.landmarks
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


def clip_boxes(faces: Faces, width: int, height: int, smallest: float) -> Faces:
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


Picture = NDArray[np.uint8]
# Shares of the pictures that get each.
_LIGHT, _CAST, _GREY, _BLUR, _COARSE, _NOISE, _JPEG = 0.6, 0.3, 0.2, 0.15, 0.1, 0.15, 0.25
_FAINT = (1 / 12, 0.6)  # what is left of the levels of a picture that is made dark or pale
_NOISE_PX = 1024
_LEVELS = np.arange(256, dtype=np.float32)


def photometric_augment(picture: Picture, rng: Generator, faint: float = 0.0) -> Picture:
    """Return a picture (RGB uint8) with some of the faults of real ones; no pixel moves.

    faint: share of the pictures that are made dark or pale.
    """
    picture = _lit(picture, rng, faint)
    if rng.random() < _GREY:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < _COARSE:
        picture = _coarse(picture, rng.uniform(0.4, 0.8))
    if rng.random() < _BLUR:
        picture = _blurred(picture, rng)
    if rng.random() < _NOISE:
        picture = _noisy(picture, rng)
    if rng.random() < _JPEG:
        picture = _saved_as_jpeg(picture, int(rng.integers(25, 90)))
    return np.asarray(picture, np.uint8)


def _lit(picture: Picture, rng: Generator, faint: float) -> Picture:
    """Change brightness, contrast, gamma and the balance of colours, by one table of levels a channel."""
    levels: NDArray[np.floating] = np.repeat(_LEVELS[:, None], 3, axis=1)
    if rng.random() < _LIGHT:
        gamma, contrast = rng.uniform(0.6, 1.6), rng.uniform(0.6, 1.35)
        levels = 255 * (levels / 255) ** gamma
        levels = (levels - 128) * contrast + 128 + rng.uniform(-40, 40)
    if rng.random() < _CAST:
        levels = levels * rng.uniform(0.75, 1.25, 3)
    if faint and rng.random() < faint:  # dark, or pale round some level
        middle = 0.0 if rng.random() < 0.5 else rng.uniform(60, 200)
        levels = (levels - middle) * np.exp(rng.uniform(*np.log(_FAINT))) + middle
    table = np.clip(levels, 0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(picture, table), np.uint8)


@functools.cache
def _noise() -> NDArray[np.float32]:
    """Noise of deviation 1 to cut pieces from: drawing it for every picture would cost more than all the rest."""
    return np.random.default_rng(0).standard_normal((_NOISE_PX, _NOISE_PX, 3), np.float32)


def _noisy(picture: Picture, rng: Generator) -> Picture:
    height, width = picture.shape[:2]
    if max(height, width) > _NOISE_PX:
        return picture
    top, left = rng.integers(0, _NOISE_PX - height + 1), rng.integers(0, _NOISE_PX - width + 1)
    piece = _noise()[top : top + height, left : left + width] * np.float32(rng.uniform(3, 14))
    return np.clip(picture + piece, 0, 255).astype(np.uint8)


def _coarse(picture: Picture, scale: float) -> Picture:
    height, width = picture.shape[:2]
    small = cv2.resize(
        picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _blurred(picture: Picture, rng: Generator) -> Picture:
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.6)), np.uint8)
    length = int(rng.integers(3, 8))  # of a movement, pixels
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), rng.uniform(0, 180), 1)
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    kernel = cv2.warpAffine(line, turn, (length, length))
    return np.asarray(cv2.filter2D(picture, -1, kernel / max(float(kernel.sum()), 1e-6)), np.uint8)


def _saved_as_jpeg(picture: Picture, quality: int) -> Picture:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def random_occlusion(picture: Picture, faces: Faces, share: float, rng: Generator) -> None:
    """Put something before a share of the faces, in place: a plain patch, noise, or another piece of the picture.

    It covers 15-45 % of the box, from one side.
    """
    height, width = picture.shape[:2]
    for box in faces.boxes:
        if rng.random() >= share:
            continue
        part = rng.uniform(0.15, 0.45)
        x, y, w, h = (float(value) for value in box)
        side = int(rng.integers(4))  # left, right, top, bottom
        if side < 2:
            x, w = (x if side == 0 else x + w * (1 - part)), w * part
        else:
            y, h = (y if side == 2 else y + h * (1 - part)), h * part
        left, top = max(0, round(x)), max(0, round(y))
        right, bottom = min(width, round(x + w)), min(height, round(y + h))
        if right > left and bottom > top:
            picture[top:bottom, left:right] = _patch(picture, bottom - top, right - left, rng)


def _patch(picture: Picture, height: int, width: int, rng: Generator) -> Picture:
    kind = int(rng.integers(3))
    if kind == 0:
        return np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), (height, width, 3))
    if kind == 1:
        return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    top = int(rng.integers(0, picture.shape[0] - height + 1))
    left = int(rng.integers(0, picture.shape[1] - width + 1))
    return picture[top : top + height, left : left + width].copy()
