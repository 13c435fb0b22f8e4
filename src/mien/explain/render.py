"""Drawing explanations: maps as colours over a grey picture, one photograph with its faces, a sheet of classes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.explain.explain import GRAD_CAM, ClassMaps, SaliencyMap
from mien.explain.occlusion import TOP_SHARE, Faithfulness, top_k_mask
from mien.images.canvas import (
    DARK,
    INK,
    WHITE,
    Picture,
    as_rgb,
    beside,
    draw_text,
    fill,
    framed,
    line_height,
    paper,
    polygon,
    stacked,
    text_block,
    text_width,
)
from mien.terminal import counted, sure

# Orange and blue of Okabe & Ito 2008 (jfly.uni-koeln.de/color): apart for every kind of colour blindness, and the
# orange is lighter, so that they differ in a grey print as well. Strength is opacity: no colour, no saliency.
FOR, AGAINST = (230, 159, 0), (0, 114, 178)  # RGB
_STRONGEST = 0.8  # opacity of the strongest colour; what lies below stays visible
FACE_PX, PHOTO_PX = 240, 640  # side of one face, longer side of the photograph
CELL_PX, EXAMPLES = 132, 6  # of a sheet of classes: side of one face, faces of each class
_GAP, _SHEET_GAP, _MARGIN, _TEXT_PX = 8, 6, 12, 14
_FLAT = 1e-4  # a map with less in it than this has no top
# From pixels of the network's input to pixels of the photograph: (2, 3), as cv2.warpAffine takes it.
Placement = NDArray[np.float64]


def draw_explanation(
    image: Picture | None, maps: Sequence[SaliencyMap], placements: Sequence[Placement]
) -> Picture:
    """Draw everything about one picture.

    image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB; None where the picture is the
    face, so that showing it again would say nothing. maps: one or more. placements: where each lies in the image.
    Returns RGB uint8.
    """
    scale = max(saliency.scale for saliency in maps)
    faces = stacked(
        [_about(saliency, number, scale, len(maps)) for number, saliency in enumerate(maps, 1)], 2 * _GAP
    )
    labels = {saliency.label for saliency in maps}
    label = maps[0].label if len(labels) == 1 else "the label"
    bar = legend(faces.shape[1], scale, label, shares=maps[0].method == GRAD_CAM)
    side = stacked([faces, bar], _GAP)
    if image is None:
        return framed(side, _MARGIN)
    return framed(beside([_photograph(image, maps, placements, scale), side], 2 * _GAP), _MARGIN)


def draw_classes(classes: Sequence[ClassMaps], title: str) -> Picture:
    """Draw the classes below each other, all in one scale, with a legend: RGB uint8."""
    scale = max(saliency.scale for one in classes for saliency in one.maps)
    width = CELL_PX * (EXAMPLES + 1) + _SHEET_GAP * EXAMPLES
    rows = [_row(one, scale, width) for one in classes]
    first = classes[0].maps[0]
    labels = {saliency.label for one in classes for saliency in one.maps}
    label = labels.pop() if len(labels) == 1 else "the class"
    bar = legend(width // 2, scale, label, shares=first.method == GRAD_CAM)
    head = _text(f"{title}   [{first.head}, {first.method}]", width)
    return framed(stacked([head, *rows, bar], 2 * _SHEET_GAP), _MARGIN)


def caption(saliency: SaliencyMap) -> str:
    """Return the label and its probability, and the network's decision where that is another."""
    said = f"{saliency.label} {sure(saliency.probability)}"
    return said if saliency.label == saliency.decision else f"{said} (decision: {saliency.decision})"


def in_words(faithfulness: Faithfulness, label: str, probability: float) -> str:
    """Return what was measured, in a sentence."""
    covered, chance = (
        sure(max(0.0, probability - drop)) for drop in (faithfulness.drop, faithfulness.random_drop)
    )
    verdict = (
        "so the map holds" if faithfulness.holds else "no clearer than chance, so do not rely on this map"
    )
    return (
        f"masking the top 20% of pixels takes {label} from {sure(probability)} to {covered}, a random 20% to "
        f"{chance}; {verdict}"
    )


def class_in_words(one: ClassMaps) -> str:
    """Return a line about a class: what masking does, and how many maps hold."""
    seen = one.mean("probability")
    covered, chance = (max(0.0, seen - one.mean(name)) for name in ("drop", "random_drop"))
    return (
        f"{one.name}: {len(one.maps)} of {counted(one.available, 'face')}; {one.maps[0].label} {sure(seen)}, "
        f"top 20% of pixels masked {sure(covered)}, a random 20% masked {sure(chance)}; "
        f"{one.holding} of {counted(len(one.maps), 'map holds', 'maps hold')}"
    )


def overlaid(picture: Picture, values: NDArray[np.float32], scale: float) -> Picture:
    """Lay a map over a picture.

    picture: (height, width) or (height, width, 3) uint8, RGB; its colours become grey, so that all colour is saliency.
    values: (height, width); scale: the value (above 0) that gets the full colour. Returns RGB uint8.
    """
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    strength = _STRONGEST * np.clip(np.abs(values) / scale, 0, 1)[:, :, None]
    colours = np.where((values > 0)[:, :, None], np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    mixed = grey[:, :, None] * (1 - strength) + colours * strength
    return np.round(mixed).astype(np.uint8)


def legend(width: int, scale: float, label: str, *, shares: bool) -> Picture:
    """Return the colour bar with its words: (height, width, 3) uint8, RGB.

    scale: value of the full colour. shares: whether the values are shares of the largest value (Grad-CAM), which has
    no side against the label, rather than differences of the probability.
    """
    lowest = 0.0 if shares else -scale
    ramp = np.linspace(lowest, scale, width - 2, dtype=np.float32)[None].repeat(_TEXT_PX, axis=0)
    bar = overlaid(np.full(ramp.shape, 128, np.uint8), ramp, scale)
    bar = np.asarray(cv2.copyMakeBorder(bar, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=INK), np.uint8)
    if shares:
        words = ("0", "share of the largest value", "1")
    else:
        words = (f"-{scale:.2f} against {label}", "0", f"+{scale:.2f} for {label}")
    return stacked([bar, _spread(words, width)], 2)


def _spread(words: tuple[str, str, str], width: int) -> Picture:
    """Write three words at the left, in the middle and at the right."""
    sheet = paper(line_height(_TEXT_PX), width)
    for word, share in zip(words, (0.0, 0.5, 1.0), strict=True):
        left = share * (width - text_width(word, _TEXT_PX))
        draw_text(sheet, word, (left, line_height(_TEXT_PX) / 2), _TEXT_PX, INK)
    return sheet


def face_panel(face: NDArray[np.uint8], values: NDArray[np.float32], side: int, scale: float) -> Picture:
    """Return a prepared face with its map, its top 20 % of pixels outlined: (side, side, 3) uint8, RGB."""
    fine = np.asarray(cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
    panel = overlaid(_seen(face, side), fine, scale)
    if float(np.ptp(values)) < _FLAT:
        return panel
    return _outlined(panel, top_k_mask(fine, np.array([TOP_SHARE]), np.random.default_rng(0))[0])


def _seen(face: NDArray[np.uint8], side: int) -> Picture:
    """Return a prepared face, enlarged and grey: (side, side)."""
    grey = face[:, :, 0] if face.shape[2] == 1 else face.mean(axis=2).astype(np.uint8)
    return np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def _outlined(picture: Picture, part: NDArray[np.bool_]) -> Picture:
    """Draw a white line with a dark edge round a part of a picture (RGB); part: (height, width)."""
    lines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    drawn = picture.copy()
    for colour, width in ((DARK, 3), (WHITE, 1)):
        cv2.drawContours(drawn, lines, -1, colour, width, cv2.LINE_AA)
    return drawn


def _about(saliency: SaliencyMap, number: int, scale: float, of: int) -> Picture:
    plain = np.asarray(cv2.cvtColor(_seen(saliency.face, FACE_PX), cv2.COLOR_GRAY2RGB), np.uint8)
    panels = beside([plain, face_panel(saliency.face, saliency.values, FACE_PX, scale)], _GAP)
    title = f"{number}: {caption(saliency)}" if of > 1 else caption(saliency)
    words = in_words(saliency.faithfulness, saliency.label, saliency.probability)
    parts = [
        _text(f"{title}   [{saliency.head}, {saliency.method}]", panels.shape[1]),
        panels,
        _text(words, panels.shape[1]),
    ]
    return stacked(parts, 2)


def _photograph(
    image: Picture, maps: Sequence[SaliencyMap], placements: Sequence[Placement], scale: float
) -> Picture:
    image = as_rgb(image)
    shrink = PHOTO_PX / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
    filter_ = cv2.INTER_AREA if shrink < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(image, size, interpolation=filter_), np.uint8)
    # Between pixel centres.
    to_small = np.array([[shrink, 0, (shrink - 1) / 2], [0, shrink, (shrink - 1) / 2]])
    whole, corners = np.zeros(small.shape[:2], np.float32), []
    for saliency, placement in zip(maps, placements, strict=True):
        matrix = _after(to_small, placement)
        pasted = cv2.warpAffine(saliency.values, matrix, size, flags=cv2.INTER_LINEAR)
        whole = np.where(np.abs(pasted) > np.abs(whole), pasted, whole)
        corners.append(_corners(matrix, saliency.values.shape[0]))
    photo = overlaid(small, whole, scale)
    for number, square in enumerate(corners, 1):
        _mark(photo, square, str(number) if len(corners) > 1 else "")
    return photo


def _after(second: Placement, first: Placement) -> Placement:
    """Return the placement that does `first`, then `second`."""
    product: Placement = second @ np.vstack([first, [0, 0, 1]])
    return product


def _corners(matrix: Placement, side: int) -> NDArray[np.float64]:
    ends = np.array([[-0.5, -0.5], [side - 0.5, -0.5], [side - 0.5, side - 0.5], [-0.5, side - 0.5]])
    return np.asarray(ends @ matrix[:, :2].T + matrix[:, 2], np.float64)


def _mark(photo: Picture, square: NDArray[np.float64], number: str) -> None:
    """Draw the square that the network saw, with its number."""
    for colour, width in ((DARK, 3), (WHITE, 1)):
        polygon(photo, square, colour, width)
    if number:
        left, top = max(square[:, 0].min(), 0.0), max(square[:, 1].min(), 0.0)
        fill(photo, (left, top, text_width(number, _TEXT_PX) + _TEXT_PX, 1.5 * _TEXT_PX), DARK, 4)
        draw_text(photo, number, (left + _TEXT_PX / 2, top + 0.75 * _TEXT_PX), _TEXT_PX, WHITE)


def _row(one: ClassMaps, scale: float, width: int) -> Picture:
    mean = _cell("mean", face_panel(one.face, one.values, CELL_PX, scale))
    examples = [_example(saliency, scale) for saliency in one.maps[:EXAMPLES]]
    return stacked([_text(class_in_words(one), width), beside([mean, *examples], _SHEET_GAP)], 2)


def _example(saliency: SaliencyMap, scale: float) -> Picture:
    said = f"{saliency.label} {sure(saliency.probability)}"
    words = said if saliency.faithfulness.holds else f"{said} (chance)"
    return _cell(words, face_panel(saliency.face, saliency.values, CELL_PX, scale))


def _cell(words: str, panel: Picture) -> Picture:
    return stacked([_text(words, CELL_PX), panel], 0)


def _text(words: str, width: int) -> Picture:
    return text_block(words, width, _TEXT_PX)
