"""A pen that draws shapes given in face coordinates."""

from __future__ import annotations

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
