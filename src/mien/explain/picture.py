"""The picture of an explanation: the photograph with the maps where the faces are, then each face for itself."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.explain.chance import FIFTH, Check
from mien.explain.covering import hottest
from mien.explain.heat import GRAD_CAM, Heat
from mien.explain.tint import (
    Picture,
    beside,
    enlarged,
    framed,
    legend,
    outlined,
    stacked,
    text,
    tinted,
)
from mien.images.letters import drawable
from mien.predict.looks import plane
from mien.predict.results import percent

FACE_PX, PHOTO_PX = 240, 640  # side of one face, longer side of the photograph
GAP, MARGIN = 8, 12
_FLAT = 1e-4  # a map with less in it than this has no hottest part
# From pixels of the network's input to pixels of the photograph: (2, 3), as cv2.warpAffine takes it.
Placement = NDArray[np.float64]


def explained(image: Picture | None, heats: Sequence[Heat], placements: Sequence[Placement]) -> Picture:
    """Draw everything about one picture.

    image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB; None where the picture is the
    face, so that showing it again would say nothing. heats: one or more. placements: where each lies in the image.
    Returns RGB uint8.
    """
    scale = max(heat.scale for heat in heats)
    faces = stacked(
        [_about(heat, number, scale, len(heats)) for number, heat in enumerate(heats, 1)], 2 * GAP
    )
    labels = {heat.label for heat in heats}
    label = heats[0].label if len(labels) == 1 else "the label"
    bar = legend(faces.shape[1], scale, label, shares=heats[0].method == GRAD_CAM)
    side = stacked([faces, bar], GAP)
    if image is None:
        return framed(side, MARGIN)
    return framed(beside([_photograph(image, heats, placements, scale), side], 2 * GAP), MARGIN)


def face_panel(face: NDArray[np.uint8], values: NDArray[np.float32], side: int, scale: float) -> Picture:
    """Return a prepared face with its map, the hottest fifth outlined: (side, side, 3) uint8, RGB."""
    fine = enlarged(values, side)
    panel = tinted(seen(face, side), fine, scale)
    if float(np.ptp(values)) < _FLAT:
        return panel
    return outlined(panel, hottest(fine, np.array([FIFTH]), np.random.default_rng(0))[0])


def seen(face: NDArray[np.uint8], side: int) -> Picture:
    """Return a prepared face, enlarged and grey: (side, side)."""
    grey = face[:, :, 0] if face.shape[2] == 1 else face.mean(axis=2).astype(np.uint8)
    return np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def caption(heat: Heat) -> str:
    """Return the label and its probability, and the network's decision where that is another."""
    said = f"{heat.label} {percent(heat.probability)}"
    return said if heat.label == heat.decision else f"{said} (decision: {heat.decision})"


def in_words(check: Check, label: str, probability: float) -> str:
    """Return what the check says, in a sentence."""
    covered, chance = (percent(max(0.0, probability - fall)) for fall in (check.fall, check.random_fall))
    verdict = "so the map holds" if check.holds else "no clearer than chance, so do not rely on this map"
    return (
        f"with the hottest fifth covered {label} goes from {percent(probability)} to {covered}, with a "
        f"random fifth to {chance}; {verdict}"
    )


def _about(heat: Heat, number: int, scale: float, of: int) -> Picture:
    plain = np.asarray(cv2.cvtColor(seen(heat.face, FACE_PX), cv2.COLOR_GRAY2RGB), np.uint8)
    panels = beside([plain, face_panel(heat.face, heat.values, FACE_PX, scale)], GAP)
    title = f"{number}: {caption(heat)}" if of > 1 else caption(heat)
    words = in_words(heat.check, heat.label, heat.probability)
    parts = [
        text(f"{title}   [{heat.head}, {heat.method}]", panels.shape[1]),
        panels,
        text(words, panels.shape[1]),
    ]
    return stacked(parts, 2)


def _photograph(
    image: Picture, heats: Sequence[Heat], placements: Sequence[Placement], scale: float
) -> Picture:
    image = plane(image)
    shrink = PHOTO_PX / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
    filter_ = cv2.INTER_AREA if shrink < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=filter_), np.uint8)
    to_small = np.array(
        [[shrink, 0, (shrink - 1) / 2], [0, shrink, (shrink - 1) / 2]]
    )  # between pixel centres
    whole, corners = np.zeros(small.shape[:2], np.float32), []
    for heat, placement in zip(heats, placements, strict=True):
        matrix = _after(to_small, placement)
        pasted = cv2.warpAffine(heat.values, matrix, size, flags=cv2.INTER_LINEAR)
        whole = np.where(np.abs(pasted) > np.abs(whole), pasted, whole)
        corners.append(_corners(matrix, heat.values.shape[0]))
    photo = tinted(small, whole, scale)
    for number, square in enumerate(corners, 1):
        _mark(photo, square, str(number) if len(corners) > 1 else "")
    return photo


def _after(second: Placement, first: Placement) -> Placement:
    """Return the placement that does `first`, then `second`."""
    product: Placement = second @ np.vstack([first, [0, 0, 1]])
    return product


def _corners(matrix: Placement, side: int) -> NDArray[np.int32]:
    ends = np.array([[-0.5, -0.5], [side - 0.5, -0.5], [side - 0.5, side - 0.5], [-0.5, side - 0.5]])
    return np.round(ends @ matrix[:, :2].T + matrix[:, 2]).astype(np.int32)


def _mark(photo: Picture, square: NDArray[np.int32], number: str) -> None:
    """Draw the square that the network saw, with its number."""
    left, top = int(square[:, 0].min()) + 4, max(int(square[:, 1].min()), 0) + 18
    for colour, width in (((20, 20, 20), 3), ((255, 255, 255), 1)):
        cv2.polylines(photo, [square], True, colour, width, cv2.LINE_AA)
        cv2.putText(
            photo, drawable(number), (left, top), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, width, cv2.LINE_AA
        )
