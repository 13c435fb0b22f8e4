"""At which sizes a picture is searched: the one policy of the detectors that know faces of a limited range of sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# A strip thinner than this holds no face that anyone could recognise; cv2 would fail on some.
_THINNEST_PX = 8
_FEW_PX = 32  # a face smaller than this in the usual look makes a closer look worth its time

Rows = NDArray[np.float32]  # (n, columns): x, y, width, height first, the score last


@dataclass(frozen=True)
class ImagePyramid:
    """Longer sides in pixels at which a picture is searched.

    detect: the usual one; a picture smaller than `least` is enlarged to that. small: a second, cheap look, for faces
    that fill the picture. largest: a picture larger than `detect` is looked at once more, up to this size, where
    nothing or only tiny faces were found; equal to `detect`: never.
    """

    small: int
    least: int
    detect: int
    largest: int

    def shrink(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
        """Return the picture at `largest` if it is larger, and that scale: far cheaper than shrinking each time."""
        return resized(image, self.largest) if max(image.shape[:2]) > self.largest else (image, 1.0)

    def search(
        self,
        image: NDArray[np.uint8],
        look: Callable[[NDArray[np.uint8], int], Rows],
        likely: Callable[[Rows], Rows] = lambda rows: rows,
    ) -> Rows:
        """Return what `look` finds at all sizes together, in pixels of `image`; the same face may come twice.

        image: as `shrink` returns it. look: called with the picture and a longer side. likely: leaves those rows that
        are probably faces, which decide on the closer look.
        """
        longest = max(image.shape[:2])
        usual = min(max(longest, self.least), self.detect)
        found = look(image, usual)
        if usual > self.small:
            found = np.concatenate([found, look(image, self.small)])
        if longest > usual and _wants_closer_look(likely(found), usual / longest):
            found = np.concatenate([found, look(image, longest)])
        return found


def _wants_closer_look(found: Rows, scale: float) -> bool:
    """Say whether nothing was found, or something so small that more of its kind may have been missed."""
    return len(found) == 0 or bool((found[:, 2:4].max(axis=1) * scale).min() < _FEW_PX)


def resized(image: NDArray[np.uint8], longest_px: int) -> tuple[NDArray[np.uint8], float]:
    """Return the picture with its longer side at `longest_px`, and that scale (new over old).

    image: (height, width) or (height, width, channels) uint8. Shrinks by area averaging, enlarges bilinearly.
    """
    height, width = image.shape[:2]
    scale = longest_px / max(height, width)
    if scale == 1:
        return image, 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=filter_), scale


def squeeze_channel(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture with one channel as (height, width); leave colour as it is."""
    return image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image


def too_thin(image: NDArray[np.uint8]) -> bool:
    """Say whether a picture is empty or too thin to hold a face."""
    return bool(min(image.shape[:2]) < _THINNEST_PX)


def stretch_levels(image: NDArray[np.uint8], levels: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return a picture in which these levels, dark and light, lie at 0 and 255; None: the picture as it is."""
    if levels is None:
        return image
    low, high = levels
    table = np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)
