"""What draws: a pen for shapes given in face coordinates, and what is around a face (background, light, grain)."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]  # RGB, 0-255
Points = NDArray[np.float64]  # (n, 2): x to the right, y down

_SHIFT = 4  # cv2 takes coordinates in sixteenths of a pixel


class Pen:
    """Draws on a picture through an affine map, so that a tilted face is drawn tilted rather than warped.

    canvas: (height, width, 3) uint8, RGB; drawn on in place.
    matrix: (2, 3), face coordinates to pixels. The unit is half the height of a head, the origin its centre.
    """

    def __init__(self, canvas: NDArray[np.uint8], matrix: NDArray[np.float64]) -> None:
        self.canvas = canvas
        self.matrix = matrix
        self.unit_px = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))

    def moved(self, dx: float, dy: float, *, squeeze: float = 1.0) -> Pen:
        """Return a pen whose origin lies at (dx, dy) and whose x axis is `squeeze` times as long."""
        local = np.array([[squeeze, 0, dx], [0, 1, dy], [0, 0, 1]])
        return Pen(self.canvas, self.matrix @ local)

    def fill(
        self,
        points: Points,
        colour: Colour,
        *,
        inside: Points | None = None,
        opacity: float = 1.0,
        blur: float = 0.0,
    ) -> None:
        """Fill a polygon. inside: only within this one. blur: softness of the edge, in face units."""
        if inside is None and opacity == 1 and blur == 0:
            cv2.fillPoly(self.canvas, [self._pixels(points)], colour, cv2.LINE_8, _SHIFT)
            return
        mask = self._soft_mask(points, blur) if blur > 0 else self._mask(points)
        if inside is not None:
            mask = np.minimum(mask, self._mask(inside))
        self._blend(mask, colour, opacity)

    def stroke(self, points: Points, colour: Colour, width: float, *, closed: bool = False) -> None:
        """Draw a line with round ends. width: in face units."""
        thickness = max(1, round(width * self.unit_px))
        cv2.polylines(self.canvas, [self._pixels(points)], closed, colour, thickness, cv2.LINE_8, _SHIFT)

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        mapped = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return np.round(mapped * (1 << _SHIFT)).astype(np.int32)

    def _mask(self, points: Points) -> NDArray[np.uint8]:
        mask = np.zeros(self.canvas.shape[:2], np.uint8)
        cv2.fillPoly(mask, [self._pixels(points)], 255, cv2.LINE_8, _SHIFT)
        return mask

    def _soft_mask(self, points: Points, blur: float) -> NDArray[np.uint8]:
        """Blur at a quarter of the size: wide blurs took most of the time, and nobody sees it."""
        height, width = self.canvas.shape[:2]
        coarse = np.zeros((max(height // 4, 1), max(width // 4, 1)), np.uint8)
        cv2.fillPoly(coarse, [self._pixels(points) // 4], 255, cv2.LINE_8, _SHIFT)
        coarse = cv2.GaussianBlur(coarse, (0, 0), max(blur * self.unit_px / 4, 0.5))
        mask: NDArray[np.uint8] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        return mask

    def _blend(self, mask: NDArray[np.uint8], colour: Colour, opacity: float) -> None:
        x, y, width, height = cv2.boundingRect(mask)
        if width == 0:
            return
        area = np.s_[y : y + height, x : x + width]
        share = (mask[area].astype(np.float32) * (opacity / 255))[:, :, None]
        below = self.canvas[area]
        below[:] = np.round(below + share * (np.array(colour, np.float32) - below)).astype(np.uint8)


def ellipse(x: float, y: float, width: float, height: float, *, power: float = 2.0) -> Points:
    """Return the outline of an ellipse with these half axes; power above 2 makes it squarer (Lamé curve)."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    across, down = np.cos(turn), np.sin(turn)
    return np.stack(
        [
            x + width * np.sign(across) * np.abs(across) ** (2 / power),
            y + height * np.sign(down) * np.abs(down) ** (2 / power),
        ],
        axis=1,
    )


def curve(xs: NDArray[np.float64], ys: NDArray[np.float64] | float) -> Points:
    """Join coordinates to points; ys may be one height for all."""
    return np.stack([xs, np.broadcast_to(ys, xs.shape)], axis=1)


def shade(colour: Colour, factor: float) -> Colour:
    """Return a colour made darker (factor below 1) or lighter (above 1, towards white)."""
    levels = np.array(colour, np.float64)
    mixed = levels * factor if factor <= 1 else 255 - (255 - levels) / factor
    red, green, blue = (round(level) for level in mixed.tolist())
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that is `share` of the way from the first to the second."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


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
