"""Drawing what was found onto a picture: a frame round each face and its expression, as the page draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mien.images.canvas import (
    DARK,
    INK,
    PAPER,
    WHITE,
    Colour,
    Picture,
    Rect,
    as_rgb,
    draw_text,
    fill,
    ink_on,
    label_colours,
    outline,
    paper,
    text_width,
    track_colour,
)
from mien.terminal import sure

if TYPE_CHECKING:
    from mien.predict.results import Face

# Longer side below which a picture, and a frame of a video, is enlarged, because letters would not fit.
_SMALLEST_PX, _SMALLEST_FRAME_PX = 480, 320
_PER_UNIT_PX = 900  # longer side at which a line is 3 and a letter 14 pixels high, as on the page
_LETTER, _LINE, _HALO, _ROUND = 14.0, 3.0, 5.0, 10.0  # in units
_OF_FACE, _NUMBER_OF_FACE = 0.3, 0.17  # type of a label, and of a number alone, at most, beside its face
_LEAST_PX = 11.0  # type of a label
_SIZES = (1.0, 0.85, 0.7, 0.55)  # of type, as shares of the largest, that are tried one after the other
_FRAME_SIZE = 0.85  # the same in every frame of a video, so that it does not jump
_CHIN = 1 / 6  # share of a face that its own label may cover where there is no room beside it
# Numbers alone: smallest type, smallest face, and the longer side up to which a crowd is enlarged to have such faces.
_LEAST_NUMBER_PX, _LEAST_FACE_PX, _LARGEST_PX = 8.0, 72.0, 3000
_KEY_SHARE = 0.6  # of the picture's longer side that the key under it may take


@dataclass(frozen=True)
class _Mark:
    """A face to be drawn. rect: its box on the canvas. text: what to call it; number: as people see it, or empty."""

    rect: Rect
    text: str
    number: str
    colour: Colour
    chip: Colour
    uncertain: bool


@dataclass(frozen=True)
class _Label:
    """Where a label lies. rect: of the whole; letter: size of its type; text: empty where the number is alone."""

    mark: _Mark
    rect: Rect
    letter: float
    text: str


def annotated(image: Picture, faces: Sequence[Face]) -> Picture:
    """Return a copy of a picture with its faces marked; a small one is enlarged to 480 pixels.

    image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB.
    Returns (height, width, 3) uint8, RGB. A frame has the colour of its expression, a broken one is uncertain; several
    faces are numbered as in the table. A label covers no other face. Where there is no room for all of them, as in a
    crowd, faces carry numbers alone, and a key is added below the picture, which is enlarged for it if that helps.
    """
    numbers = [str(number) for number in range(1, len(faces) + 1)] if len(faces) > 1 else [""] * len(faces)
    canvas, scale = _enlarged(as_rgb(image), _SMALLEST_PX)
    marks = _marks(faces, numbers, [DARK] * len(faces), scale)
    labels = _labels(marks, canvas)
    if all(labels):
        _draw(canvas, marks, [label for label in labels if label])
        return canvas
    smallest = min(max(face.box[2:]) for face in faces) * scale
    canvas, more = _enlarged(canvas, min(_LARGEST_PX, max(canvas.shape[:2]) * _LEAST_FACE_PX / smallest))
    marks = _marks(faces, numbers, [DARK] * len(faces), scale * more)
    _draw(canvas, marks, _numbered(marks, [mark.rect for mark in marks], canvas))
    return np.vstack([canvas, _key(marks, canvas)])


def annotated_frame(image: Picture, faces: Sequence[Face], tracks: Sequence[int]) -> Picture:
    """Like annotated, for a frame of a video: faces carry the numbers that they keep, and there is never a key.

    tracks: the number of each face. A face without room for a label has its number alone.
    """
    canvas, scale = _enlarged(as_rgb(image), _SMALLEST_FRAME_PX)
    marks = _marks(faces, [str(track) for track in tracks], [track_colour(track) for track in tracks], scale)
    placed = _placed(marks, canvas, _FRAME_SIZE, chin=True)
    labels = [label for label in placed if label]
    taken = [mark.rect for mark in marks] + [label.rect for label in labels]
    alone = [mark for mark, label in zip(marks, placed, strict=True) if not label]
    _draw(canvas, marks, labels + _numbered(alone, taken, canvas))
    return canvas


def said(face: Face) -> str:
    """Return what a face is called in a picture: its expression, a question mark when uncertain, and how sure."""
    doubt = "?" if face.uncertain else ""
    return f"{face.emotion[:1].upper()}{face.emotion[1:]}{doubt} {sure(face.probability)}"


def _enlarged(image: Picture, longest_px: float) -> tuple[Picture, float]:
    scale = longest_px / max(1, *image.shape[:2])
    if not image.size or scale <= 1:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8), scale


def _marks(
    faces: Sequence[Face], numbers: Sequence[str], chips: Sequence[Colour], scale: float
) -> list[_Mark]:
    marks = []
    for face, number, chip in zip(faces, numbers, chips, strict=True):
        labels = list(face.probabilities)
        x, y, width, height = (scale * value for value in face.box)
        colour = label_colours(labels)[labels.index(face.emotion)]
        marks.append(_Mark((x, y, width, height), said(face), number, colour, chip, face.uncertain))
    return marks


def _unit(canvas: Picture) -> float:
    return max(1.0, float(max(canvas.shape[:2])) / _PER_UNIT_PX)


def _labels(marks: Sequence[_Mark], canvas: Picture) -> list[_Label | None]:
    """Place all labels in type of one size, as large as lets every face have its own; None where there is no room.

    At every size a place beside the face is better than one on its chin, which hides a part of what is to be seen.
    """
    labels: list[_Label | None] = []
    for chin in (False, True):
        for share in _SIZES:
            labels = _placed(marks, canvas, share, chin=chin, every=True)
            if all(labels):
                return labels
    return labels


def _placed(
    marks: Sequence[_Mark], canvas: Picture, share: float, *, chin: bool, every: bool = False
) -> list[_Label | None]:
    """Find a place for each label, the largest face first, that covers no other face and no other label.

    share: of the largest type. chin: whether a label may lie on its own face's chin. every: give up at the first face
    that there is no room for.
    """
    labels: list[_Label | None] = []
    taken: list[Rect] = []
    usual = _OF_FACE * float(np.median([mark.rect[3] for mark in marks])) if marks else 0.0
    for mark in marks:
        largest = max(_LEAST_PX, min(_LETTER * _unit(canvas), usual, 1.5 * _OF_FACE * mark.rect[3]))
        letter = max(_LEAST_PX, share * largest)
        others = [other.rect for other in marks if other is not mark]
        label = next(_places(mark, others + taken, canvas, letter, chin=chin), None)
        labels.append(label)
        if label:
            taken.append(label.rect)
        elif every:
            break
    return labels


def _places(
    mark: _Mark, taken: Sequence[Rect], canvas: Picture, letter: float, *, chin: bool
) -> Iterator[_Label]:
    wide, high = _size(mark, mark.text, letter)
    for rect in _around(mark.rect, wide, high, 4 * _unit(canvas)):
        if _inside(rect, canvas) and not any(_overlap(rect, other) for other in [*taken, mark.rect]):
            yield _Label(mark, rect, letter, mark.text)
    rect = _on_lower_border(mark.rect, wide, high, canvas)
    if chin and high <= _CHIN * mark.rect[3] and not any(_overlap(rect, other) for other in taken):
        yield _Label(mark, rect, letter, mark.text)
    if not taken:  # a single face always has its label, however it lies
        letter = min(letter, 0.9 * letter * canvas.shape[1] / wide)
        rect = _on_lower_border(mark.rect, *_size(mark, mark.text, letter), canvas)
        yield _Label(mark, rect, letter, mark.text)


def _on_lower_border(rect: Rect, wide: float, high: float, canvas: Picture) -> Rect:
    """Return the place at a face's chin, inside the picture, where a label covers least of the face itself."""
    left = min(max(rect[0] + (rect[2] - wide) / 2, 0.0), max(0.0, canvas.shape[1] - wide))
    return left, max(0.0, min(rect[1] + rect[3], canvas.shape[0]) - high), wide, high


def _numbered(marks: Sequence[_Mark], taken: Sequence[Rect], canvas: Picture) -> list[_Label]:
    """Place numbers alone: beside the face where nothing is taken, else on its own upper left corner."""
    labels: list[_Label] = []
    unit = _unit(canvas)
    for mark in marks:
        x, y, _, height = mark.rect
        letter = max(_LEAST_NUMBER_PX, min(_LETTER * unit, _NUMBER_OF_FACE * height))
        wide, high = _size(mark, "", letter)
        others = [*taken, *(label.rect for label in labels)]
        free = (
            rect
            for rect in _around(mark.rect, wide, high, 1.0)
            if _inside(rect, canvas) and not any(_overlap(rect, other) for other in others)
        )
        corner = (
            min(max(x, 0.0), max(0.0, canvas.shape[1] - wide)),
            min(max(y, 0.0), max(0.0, canvas.shape[0] - high)),
            wide,
            high,
        )
        labels.append(_Label(mark, next(free, corner), letter, ""))
    return labels


def _around(rect: Rect, wide: float, high: float, gap: float) -> Iterator[Rect]:
    """Yield places beside a box, the best first: above, below, then at its sides."""
    x, y, width, height = rect
    across = (x, x + width - wide, x + (width - wide) / 2)
    for top in (y - gap - high, y + height + gap):
        for left in across:
            yield (left, top, wide, high)
    for left in (x + width + gap, x - gap - wide):
        for top in (y, y + height - high):
            yield (left, top, wide, high)


def _inside(rect: Rect, canvas: Picture) -> bool:
    return (
        rect[0] >= 0
        and rect[1] >= 0
        and rect[0] + rect[2] <= canvas.shape[1]
        and rect[1] + rect[3] <= canvas.shape[0]
    )


def _overlap(one: Rect, other: Rect) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )


def _size(mark: _Mark, text: str, letter: float) -> tuple[float, float]:
    """Return the width and height of a label: its number, its text, or both."""
    width = _number_width(mark, letter, alone=not text)
    if text:
        width += text_width(text, letter) + 1.3 * letter
    return width, round(1.65 * letter if text else 1.4 * letter)


def _number_width(mark: _Mark, letter: float, *, alone: bool) -> float:
    if not mark.number:
        return 0.0
    pad = 0.7 if alone else 1.1
    return max((1.4 if alone else 1.8) * letter, text_width(mark.number, letter) + pad * letter)


def _draw(canvas: Picture, marks: Sequence[_Mark], labels: Sequence[_Label]) -> None:
    for mark in marks[::-1]:  # the largest last, on top
        _frame(canvas, mark)
    for label in labels:
        _label(canvas, label)


def _frame(canvas: Picture, mark: _Mark) -> None:
    x, y, width, height = mark.rect
    unit = min(_unit(canvas), max(width, height) / 45)  # a small face keeps its inside
    line, halo = max(1.0, _LINE * unit), max(2.0, _HALO * unit)
    inset = line / 2  # a frame on the border of the picture stays visible
    left, top = max(inset, x), max(inset, y)
    right = min(canvas.shape[1] - 1 - inset, x + width)
    bottom = min(canvas.shape[0] - 1 - inset, y + height)
    rect = (left, top, max(1.0, right - left), max(1.0, bottom - top))
    radius = min(_ROUND * unit, width / 6)
    outline(canvas, rect, (0, 0, 0), halo, radius=radius, opacity=0.45)  # on any ground, light or dark
    outline(canvas, rect, mark.colour, line, radius=radius, dashed=mark.uncertain)


def _label(canvas: Picture, label: _Label) -> None:
    x, y, width, height = label.rect
    mark, letter = label.mark, label.letter
    middle, radius = y + height / 2, 0.5 * letter
    if not label.text:
        fill(canvas, (x - 1, y - 1, width + 2, height + 2), WHITE, radius + 1)
    fill(canvas, label.rect, mark.colour, radius)
    narrow = _number_width(mark, letter, alone=not label.text)
    if mark.number:
        chip = mark.chip if label.text else mark.colour
        fill(canvas, (x, y, narrow, height), chip, radius)
        left = x + (narrow - text_width(mark.number, letter)) / 2
        draw_text(canvas, mark.number, (left, middle), letter, ink_on(chip))
    if label.text:
        draw_text(canvas, label.text, (x + narrow + 0.65 * letter, middle), letter, ink_on(mark.colour))


def _key(marks: Sequence[_Mark], canvas: Picture) -> Picture:
    """Return the list of all faces as wide as the picture: number, expression and how sure, in columns."""
    width = canvas.shape[1]
    letter = _LETTER * max(1.0, width / _PER_UNIT_PX)
    while True:
        down, step = _columns(marks, width, letter)
        if letter <= _LEAST_PX or down * 1.9 * letter <= _KEY_SHARE * max(canvas.shape[:2]):
            break
        letter = max(_LEAST_PX, 0.9 * letter)
    row = 1.9 * letter
    sheet = paper(round((down + 1) * row), width, PAPER)
    number_width = max(_number_width(mark, letter, alone=True) for mark in marks)
    for place, mark in enumerate(marks):
        left, middle = letter + place // down * step, (place % down + 1) * row
        fill(sheet, (left, middle - 0.7 * letter, number_width, 1.4 * letter), mark.colour, 0.5 * letter)
        inner = left + (number_width - text_width(mark.number, letter)) / 2
        draw_text(sheet, mark.number, (inner, middle), letter, ink_on(mark.colour))
        draw_text(sheet, mark.text, (left + number_width + 0.6 * letter, middle), letter, INK)
    return sheet


def _columns(marks: Sequence[_Mark], width: int, letter: float) -> tuple[int, float]:
    """Return how many rows a key has, and the distance between two columns."""
    entry = max(_size(mark, mark.text, letter)[0] for mark in marks) + 1.5 * letter
    across = max(1, min(len(marks), int((width - letter) / entry)))
    down = -(-len(marks) // across)
    return down, max(entry, (width - letter) / across)
