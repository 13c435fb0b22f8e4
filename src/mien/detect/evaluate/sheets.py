"""Sheets of what a face detector got most wrong: labelled faces that it missed, and what it took for a face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.sheet import sheet_of
from mien.detect.training.judge import Judged
from mien.detect.training.photos import Photos
from mien.images.canvas import outline

Picture = NDArray[np.uint8]
_AROUND = 1.5  # how much of the surroundings is shown on every side, in sides of the box
_SHOWN_PX = 128
_MISSED, _ALARM = (0, 160, 0), (200, 0, 0)  # RGB


@dataclass(frozen=True)
class Wrong:
    """One mistake. rank: larger is worse."""

    photo: int
    box: tuple[float, float, float, float]
    caption: str
    rank: float


def misses(judged: Sequence[Judged], threshold: float, count: int) -> list[Wrong]:
    """Return the largest labelled faces that were not found."""
    found = []
    for index, one in enumerate(judged):
        seen = set(one.matched[one.scores >= threshold].tolist())
        for place, box in enumerate(one.photo.boxes):
            if place not in seen:
                side = float(box[2:].max())
                score = max(
                    (float(s) for s, m in zip(one.scores, one.matched, strict=True) if m == place), default=0
                )
                found.append(Wrong(index, _box(box), f"{one.photo.source}\n{side:.0f} px, {score:.2f}", side))
    return sorted(found, key=lambda wrong: -wrong.rank)[:count]


def alarms(judged: Sequence[Judged], threshold: float, count: int) -> list[Wrong]:
    """Return the surest boxes that are no labelled face, photographs without a face first."""
    found = []
    for index, one in enumerate(judged):
        for face, score, place in zip(one.found, one.scores, one.matched, strict=True):
            if place == -1 and score >= threshold:
                empty = not len(one.photo.boxes)
                caption = f"{one.photo.source}\n{score:.2f}{'' if empty else ', beside faces'}"
                found.append(Wrong(index, face.box, caption, float(score) + empty))
    return sorted(found, key=lambda wrong: -wrong.rank)[:count]


def sheet(photos: Photos, wrongs: Sequence[Wrong], *, missed: bool) -> Picture:
    """Return one picture of all mistakes, each with its surroundings and its box: RGB uint8."""
    colour = _MISSED if missed else _ALARM
    return sheet_of([_shown(photos.read(one.photo), one.box, colour) for one in wrongs],
                    [one.caption for one in wrongs])  # fmt: skip


def _shown(picture: Picture, box: tuple[float, float, float, float], colour: tuple[int, int, int]) -> Picture:
    """Cut out a box and its surroundings, and draw it."""
    x, y, width, height = box
    reach = max(width, height) * (0.5 + _AROUND)
    middle = (x + width / 2, y + height / 2)
    left, top = (max(0, int(at - reach)) for at in middle)
    right = min(picture.shape[1], max(left + 1, int(np.ceil(middle[0] + reach))))
    bottom = min(picture.shape[0], max(top + 1, int(np.ceil(middle[1] + reach))))
    left, top = min(left, picture.shape[1] - 1), min(top, picture.shape[0] - 1)
    part = picture[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = _SHOWN_PX / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    shown = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    outline(shown, ((x - left) * scale, (y - top) * scale, width * scale, height * scale), colour, 1)
    return shown


def _box(values: NDArray[np.float32]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in values)
    return x, y, width, height
