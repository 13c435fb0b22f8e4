"""What is around a face and between it and the eye: background, light, grain."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.drawing.pen import Colour, mix


def background(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (side, side, 3) uint8, RGB: two related colours as a gradient, stripes, lights or a wall."""
    hue, tone = rng.random(), rng.uniform(0.35, 0.95)
    first = _colour(hue, rng.uniform(0.1, 0.5), tone)
    second = _colour(hue + rng.uniform(-0.12, 0.12), rng.uniform(0.1, 0.5), tone * rng.uniform(0.6, 1.0))
    turn = rng.uniform(0, 2 * np.pi)
    canvas = _gradient(side, first, second, turn)
    kind = rng.choice(("plain", "stripes", "lights", "wall"), p=(0.4, 0.2, 0.25, 0.15))
    if kind == "stripes":
        _stripes(canvas, mix(first, second, 0.6), turn, rng)
    elif kind == "lights":
        _lights(canvas, rng)
    elif kind == "wall":
        height = round(side * rng.uniform(0.35, 0.8))
        canvas[height:] = np.round(canvas[height:] * rng.uniform(0.6, 0.85)).astype(np.uint8)
    return canvas


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * level) for level in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


def _ramp(side: int, turn: float) -> NDArray[np.float32]:
    """Return (side, side) from -0.5 to 0.5 or a little beyond, rising in the direction `turn`."""
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    ramp: NDArray[np.float32] = axis[None, :] * np.cos(turn) + axis[:, None] * np.sin(turn)
    return ramp.astype(np.float32)


def _gradient(side: int, first: Colour, second: Colour, turn: float) -> NDArray[np.uint8]:
    share = np.clip(_ramp(side, turn) + 0.5, 0, 1)[:, :, None]
    start = np.array(first, np.float32)
    levels: NDArray[np.float32] = start + (np.array(second, np.float32) - start) * share
    return np.round(levels).astype(np.uint8)


def _stripes(canvas: NDArray[np.uint8], colour: Colour, turn: float, rng: np.random.Generator) -> None:
    places = _ramp(len(canvas), turn) * rng.uniform(4, 11)
    canvas[places % 1 < rng.uniform(0.25, 0.5)] = colour


def _lights(canvas: NDArray[np.uint8], rng: np.random.Generator) -> None:
    side = len(canvas)
    layer = canvas.copy()
    for _ in range(rng.integers(4, 10)):
        x, y = (int(place) for place in rng.uniform(0, side, 2))
        cv2.circle(layer, (x, y), int(side * rng.uniform(0.03, 0.11)), (255, 244, 220), -1)
    cv2.addWeighted(layer, 0.3, canvas, 0.7, 0, dst=canvas)


def develop(drawing: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shrink a drawing to (size, size, 3) by area and put it in a light, in or out of focus, with grain."""
    picture = cv2.resize(drawing, (size, size), interpolation=cv2.INTER_AREA).astype(np.float64)
    light = rng.uniform(0.85, 1.1) * (1 + rng.uniform(0, 0.5) * _ramp(size, rng.uniform(0, 2 * np.pi)))
    cast = 1 + rng.normal(0, 0.035, 3)
    picture *= light[:, :, None] * cast
    if rng.random() < 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), size * rng.uniform(0.004, 0.011))
    picture = (
        picture + rng.normal(0, rng.uniform(0.5, 4), (size, size, 1)) + rng.normal(0, 1.2, picture.shape)
    )
    levels: NDArray[np.float64] = np.clip(np.round(picture), 0, 255)
    return levels.astype(np.uint8)
