"""Looking at a picture at another size: what every face detector does before it searches."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# A strip thinner than this holds no face that anyone could recognise; cv2 would fail on some.
_THINNEST_PX = 8


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


def plane(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture with one channel as (height, width); leave colour as it is."""
    return image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image


def too_thin(image: NDArray[np.uint8]) -> bool:
    """Say whether a picture is empty or too thin to hold a face."""
    return bool(min(image.shape[:2]) < _THINNEST_PX)
