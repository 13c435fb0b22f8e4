"""Maps as colours over a grey picture, chosen so that colour-blind people tell them apart, and in print too."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.images.letters import drawable

Picture = NDArray[np.uint8]
# Orange and blue of Okabe & Ito 2008 (jfly.uni-koeln.de/color): apart for every kind of colour blindness, and the
# orange is lighter, so that they differ in a grey print as well. Strength is opacity: no colour, no heat.
FOR, AGAINST = (230, 159, 0), (0, 114, 178)  # RGB
_STRONGEST = 0.8  # opacity of the strongest colour; what lies below stays visible
_PAPER, _INK = 255, (40, 40, 40)
_FONT, _FONT_PX = cv2.FONT_HERSHEY_SIMPLEX, 22  # height of a capital letter at scale 1
LETTER_PX = 10


def tinted(picture: Picture, values: NDArray[np.float32], scale: float) -> Picture:
    """Lay a map over a picture.

    picture: (height, width) or (height, width, 3) uint8, RGB; its colours become grey, so that all colour is heat.
    values: (height, width); scale: the value (above 0) that gets the full colour. Returns RGB uint8.
    """
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    strength = _STRONGEST * np.clip(np.abs(values) / scale, 0, 1)[:, :, None]
    colours = np.where((values > 0)[:, :, None], np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    mixed = grey[:, :, None] * (1 - strength) + colours * strength
    return np.round(mixed).astype(np.uint8)


def outlined(picture: Picture, part: NDArray[np.bool_]) -> Picture:
    """Draw a white line with a dark edge round a part of a picture (RGB); part: (height, width)."""
    lines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    drawn = picture.copy()
    for colour, width in (((20, 20, 20), 3), ((255, 255, 255), 1)):
        cv2.drawContours(drawn, lines, -1, colour, width, cv2.LINE_AA)
    return drawn


def enlarged(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return a map at another size, without steps: (side, side)."""
    return np.asarray(cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def legend(width: int, scale: float, label: str, *, shares: bool) -> Picture:
    """Return the colour bar with its words: (height, width, 3) uint8, RGB.

    scale: value of the full colour. shares: whether the values are shares of the hottest place (Grad-CAM), which has
    no side against the label, rather than differences of the probability.
    """
    lowest = 0.0 if shares else -scale
    ramp = np.linspace(lowest, scale, width - 2, dtype=np.float32)[None].repeat(LETTER_PX + 4, axis=0)
    bar = tinted(np.full(ramp.shape, 128, np.uint8), ramp, scale)
    bar = np.asarray(cv2.copyMakeBorder(bar, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=_INK), np.uint8)
    if shares:
        words = ("0", "share of the hottest place", "1")
    else:
        words = (f"-{scale:.2f} against {label}", "0", f"+{scale:.2f} for {label}")
    return stacked([bar, _spread(words, width)], 2)


def text(words: str, width: int) -> Picture:
    """Return words on paper, as many lines as they need at that width; a single long word is cut off."""
    lines = [""]
    for word in drawable(words).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _length(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    canvas = paper(_line_px() * len(lines), width)
    for number, line in enumerate(lines):
        _write(canvas, line, 0, number)
    return canvas


def paper(height: int, width: int) -> Picture:
    return np.full((height, width, 3), _PAPER, np.uint8)


def stacked(pictures: list[Picture], gap: int) -> Picture:
    """Put pictures (RGB) below each other on paper, `gap` pixels apart."""
    return _joined([np.swapaxes(picture, 0, 1) for picture in pictures], gap).swapaxes(0, 1)


def beside(pictures: list[Picture], gap: int) -> Picture:
    """Put pictures (RGB) beside each other on paper, their upper borders level."""
    return _joined(pictures, gap)


def framed(picture: Picture, margin: int) -> Picture:
    sheet = paper(picture.shape[0] + 2 * margin, picture.shape[1] + 2 * margin)
    sheet[margin:-margin, margin:-margin] = picture
    return sheet


def _joined(pictures: list[Picture], gap: int) -> Picture:
    height = max(picture.shape[0] for picture in pictures)
    sheet = paper(height, sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1))
    left = 0
    for picture in pictures:
        sheet[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return np.ascontiguousarray(sheet)


def _spread(words: tuple[str, str, str], width: int) -> Picture:
    """Write three words at the left, in the middle and at the right."""
    canvas = paper(_line_px(), width)
    left, middle, right = map(drawable, words)
    _write(canvas, left, 0, 0)
    _write(canvas, middle, (width - _length(middle)) // 2, 0)
    _write(canvas, right, width - _length(right), 0)
    return canvas


def _write(canvas: Picture, line: str, left: int, number: int) -> None:
    place = (left, number * _line_px() + LETTER_PX + 3)
    cv2.putText(canvas, line, place, _FONT, LETTER_PX / _FONT_PX, _INK, 1, cv2.LINE_AA)


def _length(line: str) -> int:
    return int(cv2.getTextSize(line, _FONT, LETTER_PX / _FONT_PX, 1)[0][0])


def _line_px() -> int:
    return LETTER_PX + 8
