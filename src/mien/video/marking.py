"""Drawing the faces of a frame: as on a photograph, and the number that each face keeps."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.images.canvas import track_colour
from mien.predict.annotate import annotated
from mien.video.results import TrackedFace

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 22  # height of a digit at scale 1
_LEAST_PX, _SHARE, _OF_FACE = 9, 1 / 45, 1 / 9  # height of a digit: at least, of the frame, of the face
_WHITE = (255, 255, 255)


def marked(image: NDArray[np.uint8], faces: Sequence[TrackedFace]) -> NDArray[np.uint8]:
    """Return a copy of a frame with its faces marked and numbered; one below 320 pixels is enlarged.

    image: (height, width, 3) uint8, RGB. Returns (height, width, 3) uint8, RGB.
    """
    canvas = annotated(image, [tracked.face for tracked in faces])
    scale = canvas.shape[0] / image.shape[0]
    for tracked in reversed(faces):  # as the boxes: the largest on top
        _number(canvas, tracked, scale)
    return canvas


def _number(canvas: NDArray[np.uint8], tracked: TrackedFace, scale: float) -> None:
    """Put the track's number on a chip into the lower left corner of its box, inside the frame."""
    x, y, _, height = (scale * value for value in tracked.face.box)
    letter = max(_LEAST_PX, min(max(canvas.shape[:2]) * _SHARE, height * _OF_FACE))
    text, size, thick = str(tracked.track), letter / _FONT_PX, max(1, round(letter / 14))
    wide = cv2.getTextSize(text, _FONT, size, thick)[0][0]
    pad = max(2, round(letter * 0.35))
    left = round(min(max(x, 0), max(0, canvas.shape[1] - wide - 2 * pad)))
    low = round(min(max(y + height, letter + 2 * pad), canvas.shape[0]))
    corner = (left, round(low - letter - 2 * pad))
    cv2.rectangle(canvas, corner, (left + wide + 2 * pad, low), track_colour(tracked.track), cv2.FILLED)
    cv2.putText(canvas, text, (left + pad, low - pad), _FONT, size, _WHITE, thick, cv2.LINE_AA)
