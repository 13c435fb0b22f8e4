"""Varying training pictures: NumPy and OpenCV on the host, the same on every backend.

Geometric augmentation inside a Keras model costs 0.2-1.0 ms a picture on a CPU and switches compilation off under
JAX; one `cv2.warpAffine` a picture costs about 0.02 ms.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mien.train.config import TrainConfig

# Of the pictures that each of gamma, side light, low contrast, sharpening and compression changes.
_SHARE = 0.3
_WIDE_SHARE = 1 / 7  # of the pictures that are turned by up to `wide_rotation`
_BORDERED_PX = 96  # side from which pictures get their border before they are warped
_BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "nearest": cv2.BORDER_REPLICATE, "zero": cv2.BORDER_CONSTANT}


class Part:
    """Some rows of a batch, on one of several hosts: chance is drawn for the whole batch, and spent on these alone.

    So the hosts together see what one host would see. count: rows of the whole batch. rows: (m,) those that are here.
    """

    def __init__(self, count: int, rows: NDArray[np.intp]) -> None:
        self.count, self.rows = count, rows
        self._places = {row: place for place, row in enumerate(rows.tolist())}

    def here(self, row: np.intp) -> int | None:
        """Return where a row of the batch lies here; None where it does not."""
        return self._places.get(int(row))


def augment(
    inputs: NDArray[np.uint8],
    rng: Generator,
    config: TrainConfig,
    size: int | None = None,
    part: Part | None = None,
) -> NDArray[np.uint8 | np.float32]:
    """Return varied copies of a batch.

    inputs: (n, side, side, channels) uint8. size: pixels a side of what comes out, cut from the centre at the same
    scale; unset: side. part: which rows of a batch the inputs are; unset: all. Returns (n, size, size, channels),
    levels in [0, 255]: float32, or uint8 where the config keeps whole levels (making four times the bytes would cost a
    third of what the warp does). The same generator state gives the same result.
    """
    size = size or inputs.shape[1]
    part = part or Part(len(inputs), np.arange(len(inputs)))
    varied = _warp(inputs, rng, config, size, part) if config.augment else centre(inputs, size)
    if config.augment and config.blur:
        _soften(varied, rng, config.blur, part)
    if config.whole_levels:
        return varied
    pictures = varied.astype(np.float32)
    if config.augment:
        pictures = _tone(pictures, rng, config, part)
        if config.erasing:
            _erase(pictures, rng, config.erasing, part)
    return pictures


def centre(inputs: NDArray[Any], size: int) -> NDArray[Any]:
    """Cut the centre out of pictures, (n, side, side, channels); returns (n, size, size, channels), a view."""
    cut = (inputs.shape[1] - size) // 2
    return inputs[:, cut : cut + size, cut : cut + size]


def _warp(
    inputs: NDArray[np.uint8], rng: Generator, config: TrainConfig, size: int, part: Part
) -> NDArray[np.uint8]:
    """Flip, rotate, scale, shear and shift in one interpolation, so that detail is lost only once."""
    count, side = part.count, inputs.shape[1]
    flip = np.less(rng.random(count), 0.5 if config.flip else 0.0)
    if not (config.rotation or config.wide_rotation or config.shift or config.zoom or config.shear):
        inputs = centre(inputs, size)
        flip = flip[part.rows]
        return np.where(flip.reshape(-1, 1, 1, 1), inputs[:, :, ::-1], inputs)
    most = np.full(count, config.rotation)
    if config.wide_rotation:
        most[rng.random(count) < _WIDE_SHARE] = config.wide_rotation
    angle = np.deg2rad(rng.uniform(-most, most))
    scale = 1 / rng.uniform(1 - config.zoom, 1 + config.zoom, count)
    shear = rng.uniform(-config.shear, config.shear, count)
    shift = rng.uniform(-config.shift, config.shift, (count, 2)) * side
    # The matrix takes a place in the new picture to its place in the old one, about the centre.
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.empty((count, 2, 3))
    matrix[:, 0, 0], matrix[:, 0, 1] = cos, cos * shear - sin
    matrix[:, 1, 0], matrix[:, 1, 1] = sin, sin * shear + cos
    matrix[flip, :, 0] *= -1
    matrix[:, :, 2] = (side - 1) / 2 - matrix[:, :, :2].sum(axis=2) * (size - 1) / 2 + shift
    matrix = matrix[part.rows]
    border = _BORDERS[config.fill]
    out = np.empty((len(inputs), size, size, inputs.shape[3]), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    around = _reach(matrix, size, side) if side >= _BORDERED_PX else np.zeros(len(inputs), int)
    matrix[:, :, 2] += around[:, None]
    for row in range(len(inputs)):  # straight into its place: a copy would cost a fifth more
        picture, beyond = inputs[row], int(around[row])
        if beyond:
            picture = cv2.copyMakeBorder(picture, beyond, beyond, beyond, beyond, border)
        cv2.warpAffine(picture, matrix[row], (size, size), out[row], flags, border)
    return out


def _reach(matrix: NDArray[np.float64], size: int, side: int) -> NDArray[np.int64]:
    """Return by how many pixels each warp, (n, 2, 3), reaches beyond its picture; no more than it has pixels.

    Warping a picture with that much of its border already around it gives the same levels in little more than half the
    time, because OpenCV treats places outside one by one; small pictures are done before that pays.
    """
    corners = np.array([[0, size - 1, 0, size - 1], [0, 0, size - 1, size - 1], [1, 1, 1, 1]])
    places = matrix @ corners
    beyond = np.maximum(-places, places - (side - 1)).max(axis=(1, 2))
    reach: NDArray[np.int64] = np.clip(np.ceil(beyond).astype(np.int64) + 2, 0, side - 1)
    return reach


def _soften(pictures: NDArray[np.uint8], rng: Generator, share: float, part: Part) -> None:
    """Shrink and enlarge some pictures in place: faces in photographs are often smaller than the input."""
    side = pictures.shape[1]
    for row in np.flatnonzero(rng.random(part.count) < share):
        small = max(8, round(side * rng.uniform(0.35, 0.9)))
        if (here := part.here(row)) is None:
            continue
        shrunk = cv2.resize(pictures[here], (small, small), interpolation=cv2.INTER_AREA)
        enlarged = cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR)
        pictures[here] = enlarged.reshape(pictures.shape[1:])


def _tone(
    pictures: NDArray[np.float32], rng: Generator, config: TrainConfig, part: Part
) -> NDArray[np.float32]:
    """Change levels as light, lens, sensor and file do, in that order; clip to [0, 255]."""
    count = part.count
    if config.gamma:
        _gamma(pictures, rng, config.gamma, part)
    if config.contrast or config.brightness:
        gain = rng.uniform(1 - config.contrast, 1 + config.contrast, (count, 1, 1, 1)).astype(np.float32)
        lift = rng.uniform(-config.brightness, config.brightness, (count, 1, 1, 1)).astype(np.float32)
        mean = pictures.mean(axis=(1, 2, 3), keepdims=True)
        pictures = (pictures - mean) * gain[part.rows] + mean + lift[part.rows]
    if config.side_light:
        _side_light(pictures, rng, config.side_light, part)
    np.clip(pictures, 0, 255, out=pictures)
    if config.sharpen:
        _sharpen(pictures, rng, config.sharpen, part)
    if config.low_contrast:
        for row in np.flatnonzero(rng.random(part.count) < _SHARE):
            left = rng.uniform(config.low_contrast, 0.5)
            if (here := part.here(row)) is not None:
                pictures[here] = np.round(pictures[here] * left) / left
    if config.noise:
        deviation = rng.uniform(0, config.noise, count).astype(np.float32)
        # A number for each pixel of pictures elsewhere would take long.
        seeds = rng.integers(2**63, size=count)
        for here, row in enumerate(part.rows):
            noise = np.random.default_rng(seeds[row]).standard_normal(pictures.shape[1:], np.float32)
            pictures[here] += deviation[row] * noise
    np.clip(pictures, 0, 255, out=pictures)
    if config.jpeg_quality:
        _compress(pictures, rng, config.jpeg_quality, part)
    return pictures


def _gamma(pictures: NDArray[np.float32], rng: Generator, most: float, part: Part) -> None:
    for row in np.flatnonzero(rng.random(part.count) < _SHARE):
        power = np.exp(rng.uniform(-most, most))
        if (here := part.here(row)) is not None:
            pictures[here] = 255 * (pictures[here] / 255) ** power


def _side_light(pictures: NDArray[np.float32], rng: Generator, most: float, part: Part) -> None:
    """Let the light fall off evenly across some pictures, in any direction."""
    across = np.linspace(-1, 1, pictures.shape[1], dtype=np.float32)
    for row in np.flatnonzero(rng.random(part.count) < _SHARE):
        angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, most)
        if (here := part.here(row)) is None:
            continue
        light = across[None, :] * np.cos(angle) + across[:, None] * np.sin(angle)
        pictures[here] *= (1 + strength * light)[:, :, None]


def _sharpen(pictures: NDArray[np.float32], rng: Generator, most: float, part: Part) -> None:
    """Sharpen some pictures by an unsharp mask, and blur as many others, with a deviation of 0.3 to 1.6 pixels."""
    kind = rng.random(part.count)
    for row in np.flatnonzero(kind < 2 * _SHARE):
        sigma = rng.uniform(0.3, 1.6)
        strength = rng.uniform(0, most) if kind[row] < _SHARE else -1.0  # -1: nothing but the blur
        if (here := part.here(row)) is None:
            continue
        soft = cv2.GaussianBlur(pictures[here], (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
        soft = soft.reshape(pictures.shape[1:])
        pictures[here] = soft if strength < 0 else pictures[here] + strength * (pictures[here] - soft)


def _compress(pictures: NDArray[np.float32], rng: Generator, lowest: int, part: Part) -> None:
    for row in np.flatnonzero(rng.random(part.count) < _SHARE):
        quality = int(rng.integers(lowest, 91))
        if (here := part.here(row)) is None:
            continue
        _, file = cv2.imencode(".jpg", pictures[here].astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
        flag = cv2.IMREAD_GRAYSCALE if pictures.shape[3] == 1 else cv2.IMREAD_COLOR
        pictures[here] = np.asarray(cv2.imdecode(file, flag)).reshape(pictures.shape[1:])


def _erase(pictures: NDArray[np.float32], rng: Generator, share: float, part: Part) -> None:
    """Overwrite a rectangle of 2-20 % of the area with one random level (Zhong et al. 2017, arXiv:1708.04896)."""
    side = pictures.shape[1]
    for row in np.flatnonzero(rng.random(part.count) < share):
        area, ratio = rng.uniform(0.02, 0.2), np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
        height = max(1, min(side, round(side * np.sqrt(area * ratio))))
        width = max(1, min(side, round(side * np.sqrt(area / ratio))))
        top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        level = rng.uniform(0, 255)
        if (here := part.here(row)) is not None:
            pictures[here, top : top + height, left : left + width] = level
