"""The sheet of an explained data set: a row a class, its mean map over its mean face, then examples."""

from __future__ import annotations

from collections.abc import Sequence

from mien.explain.class_heat import ClassHeat
from mien.explain.heat import GRAD_CAM, Heat
from mien.explain.picture import face_panel
from mien.explain.tint import Picture, beside, framed, legend, stacked, text

CELL_PX, EXAMPLES = 132, 6
_GAP, _MARGIN = 6, 12


def heat_sheet(classes: Sequence[ClassHeat], title: str) -> Picture:
    """Draw the classes below each other, all in one scale, with a legend: RGB uint8."""
    scale = max(heat.scale for one in classes for heat in one.heats)
    width = CELL_PX * (EXAMPLES + 1) + _GAP * EXAMPLES
    rows = [_row(one, scale, width) for one in classes]
    first = classes[0].heats[0]
    labels = {heat.label for one in classes for heat in one.heats}
    label = labels.pop() if len(labels) == 1 else "the class"
    bar = legend(width // 2, scale, label, shares=first.method == GRAD_CAM)
    head = text(f"{title}   [{first.head}, {first.method}]", width)
    return framed(stacked([head, *rows, bar], 2 * _GAP), _MARGIN)


def in_words(one: ClassHeat) -> str:
    """Return a line about a class: what covering does, and how many maps hold."""
    seen = 100 * one.mean("probability")
    covered, chance = (seen - 100 * one.mean(name) for name in ("fall", "random_fall"))
    return (
        f"{one.name}: {len(one.heats)} of {one.available} faces; {one.heats[0].label} {seen:.0f} %, "
        f"with the hottest fifth covered {covered:.0f} %, with a random fifth {chance:.0f} %; "
        f"{one.holding} of {len(one.heats)} maps hold"
    )


def _row(one: ClassHeat, scale: float, width: int) -> Picture:
    mean = _cell("mean", face_panel(one.face, one.values, CELL_PX, scale))
    examples = [_example(heat, scale) for heat in one.heats[:EXAMPLES]]
    return stacked([text(in_words(one), width), beside([mean, *examples], _GAP)], 2)


def _example(heat: Heat, scale: float) -> Picture:
    said = f"{heat.label} {100 * heat.probability:.0f} %"
    words = said if heat.check.holds else f"{said} (chance)"
    return _cell(words, face_panel(heat.face, heat.values, CELL_PX, scale))


def _cell(words: str, panel: Picture) -> Picture:
    return stacked([text(words, CELL_PX), panel], 0)
