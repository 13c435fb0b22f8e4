"""Making pictures worse, as cameras, screens and the web do: light, colour, blur, noise, JPEG, things in the way."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mien.detect.training.targets import Faces

Picture = NDArray[np.uint8]
# Shares of the pictures that get each.
_LIGHT, _CAST, _GREY, _BLUR, _COARSE, _NOISE, _JPEG = 0.6, 0.3, 0.2, 0.15, 0.1, 0.15, 0.25
_NOISE_PX = 1024
_LEVELS = np.arange(256, dtype=np.float32)


def spoiled(picture: Picture, rng: Generator) -> Picture:
    """Return a picture (RGB uint8) with some of the faults of real ones; no pixel moves."""
    picture = _lit(picture, rng)
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


def _lit(picture: Picture, rng: Generator) -> Picture:
    """Change brightness, contrast, gamma and the balance of colours, by one table of levels a channel."""
    levels: NDArray[np.floating] = np.repeat(_LEVELS[:, None], 3, axis=1)
    if rng.random() < _LIGHT:
        gamma, contrast = rng.uniform(0.6, 1.6), rng.uniform(0.6, 1.35)
        levels = 255 * (levels / 255) ** gamma
        levels = (levels - 128) * contrast + 128 + rng.uniform(-40, 40)
    if rng.random() < _CAST:
        levels = levels * rng.uniform(0.75, 1.25, 3)
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


def covered(picture: Picture, faces: Faces, share: float, rng: Generator) -> None:
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
