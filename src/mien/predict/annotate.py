"""Drawing what was found onto a picture: a box round each face, its expression, a bar for how sure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Box
from mien.detect.pyramid import squeeze_channel
from mien.errors import OutputError
from mien.files import whole_file
from mien.images.letters import drawable
from mien.predict.results import Face, percent

Picture = NDArray[np.uint8]
_SMALLEST_PX = 320  # longer side below which a picture is enlarged, because letters would not fit
_SURE, _UNSURE = (0, 92, 175), (90, 90, 90)  # RGB; both keep white letters readable, and differ in brightness
_INK, _BAR, _BAR_BACK = (255, 255, 255), (255, 200, 40), (30, 30, 30)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 22  # height of a capital letter at scale 1
_LEAST_PX, _SHARE, _OF_FACE = 9, 1 / 45, 1 / 9  # height of a letter: at least, of the picture, of the face


def annotated(image: Picture, faces: Sequence[Face]) -> Picture:
    """Return a copy of a picture with its faces marked; a small one is enlarged to 320 pixels.

    image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB, at least 1x1.
    Returns (height, width, 3) uint8, RGB. Blue: the network is sure enough; grey and a question mark: uncertain.
    """
    canvas, scale = _canvas(image)
    for face in reversed(faces):  # the largest last: its label lies on top
        box = Box(*(value * scale for value in face.box))
        _draw(canvas, face, box)
    return canvas


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture (RGB uint8) in the format that its name ends in, whole or not at all; else OutputError."""
    try:
        _, encoded = cv2.imencode(path.suffix.lower(), picture[:, :, ::-1])
    except cv2.error as error:
        height, width = picture.shape[:2]
        raise OutputError(
            f"cannot write {path}: OpenCV writes no {width}x{height} picture of that kind; make it smaller"
        ) from error
    with whole_file(path) as temporary:  # not by cv2.imwrite: on Windows it fails on non-ASCII names
        temporary.write_bytes(encoded.tobytes())


def _canvas(image: Picture) -> tuple[Picture, float]:
    image = squeeze_channel(image)
    canvas: Picture = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image.copy()
    scale = max(1.0, _SMALLEST_PX / max(canvas.shape[:2]))
    if scale == 1:
        return canvas, scale
    size = (max(1, round(canvas.shape[1] * scale)), max(1, round(canvas.shape[0] * scale)))
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_CUBIC), np.uint8), scale


def _draw(canvas: Picture, face: Face, box: Box) -> None:
    height, width = canvas.shape[:2]
    colour = _UNSURE if face.uncertain else _SURE
    letter = max(_LEAST_PX, min(max(height, width) * _SHARE, box[3] * _OF_FACE))
    line = max(1, round(letter / 5))
    inset = line // 2  # a box on the border of the picture stays visible
    left, top = max(inset, round(box[0])), max(inset, round(box[1]))
    right, bottom = (
        min(width - 1 - inset, round(box[0] + box[2])),
        min(height - 1 - inset, round(box[1] + box[3])),
    )
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, line)
    label = _label(face, letter, colour, width)
    _paste(canvas, label, left - inset, _label_top(top - inset, bottom + inset, len(label), height))


def _label(face: Face, letter: float, colour: tuple[int, int, int], room: int) -> Picture:
    """Return the label of a face, at most `room` pixels wide: text, and below it the bar."""
    doubt = "?" if face.uncertain else ""
    text = drawable(f"{face.emotion}{doubt} {percent(face.probability)}")
    scale = letter / _FONT_PX
    widest = cv2.getTextSize(text, _FONT, 1.0, 1)[0][0]
    scale = min(scale, 0.9 * room / widest)
    letter, thick = scale * _FONT_PX, max(1, round(scale * 1.6))
    (text_width, _), below = cv2.getTextSize(text, _FONT, scale, thick)
    pad, bar = max(2, round(letter * 0.4)), max(2, round(letter * 0.3))
    label = np.full((round(letter) + below + 2 * pad + bar, text_width + 2 * pad, 3), colour, np.uint8)
    cv2.putText(label, text, (pad, pad + round(letter)), _FONT, scale, _INK, thick, cv2.LINE_AA)
    label[-bar:] = _BAR_BACK
    label[-bar:, : round(label.shape[1] * face.probability)] = _BAR
    return label


def _label_top(top: int, bottom: int, label: int, height: int) -> int:
    """Place a label above its box, else below it, else inside at the bottom, where it covers least."""
    if top >= label:
        return top - label
    return bottom if bottom + label <= height else height - label


def _paste(canvas: Picture, label: Picture, left: int, top: int) -> None:
    """Put a label on the picture, moved inward and cut off where it would leave it."""
    left = max(0, min(left, canvas.shape[1] - label.shape[1]))
    top = max(0, top)
    part = canvas[top : top + label.shape[0], left : left + label.shape[1]]
    part[:] = label[: part.shape[0], : part.shape[1]]
