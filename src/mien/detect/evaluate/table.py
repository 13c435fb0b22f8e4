"""One table of several face detectors: for the terminal, for a page, as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mien.detect.evaluate.measure import LARGE_PX, Measured, words
from mien.detect.training.judge import SIZES, alarms_per_100, recall


def rows_of(measured: Sequence[Measured], per_100: float) -> list[tuple[str, list[str]]]:
    """Return the table's rows: what it is, and one cell a detector."""
    first = measured[0].judged
    rows = [("average precision, IoU 0.5", _cells(measured, "ap", ".3f"))]
    for size in SIZES:
        _, total = recall(first, 0.0, size)
        name = f"recall, {words(size)} ({total})"
        rows.append((f"{name}, as shipped", _cells(measured, f"recall {words(size)}", ".3f")))
        rows.append(
            (f"{name}, at {per_100:g} false alarms", _cells(measured, f"recall {words(size)} equal", ".3f"))
        )
    _, empty = alarms_per_100(first, 0.0)
    rows.append(
        (f"false alarms in 100 photographs without a face ({empty})", _cells(measured, "alarms", ".1f"))
    )
    rows.append(("landmark error, share of the eyes' distance", _cells(measured, "landmarks", ".3f")))
    rows.append((f"the same, faces of {LARGE_PX:.0f}+ px", _cells(measured, "landmarks large", ".3f")))
    rows.append(("threshold, as shipped", _cells(measured, "threshold", ".3f")))
    rows.append((f"threshold, at {per_100:g} false alarms", _cells(measured, "threshold equal", ".3f")))
    for size_name in ("320x320", "640x480"):
        rows.append((f"processor ms, {size_name}", _cells(measured, f"ms {size_name}", ".1f")))
    return rows


def _cells(measured: Sequence[Measured], figure: str, form: str) -> list[str]:
    values = [one.figures[figure] for one in measured]
    return [format(value, form) if math.isfinite(value) else "-" for value in values]


def text_of(measured: Sequence[Measured], per_100: float) -> str:
    """Return the table for a terminal."""
    rows = [("", [one.named.name for one in measured]), *rows_of(measured, per_100)]
    first = max(len(name) for name, _ in rows)
    widths = [max(len(cells[column]) for _, cells in rows) for column in range(len(measured))]
    lines = [
        "  ".join(
            [name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))]
        )
        for name, cells in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown_of(measured: Sequence[Measured], per_100: float) -> str:
    """Return the table for a page."""
    head = ["", *(one.named.name for one in measured)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join([name, *cells])} |" for name, cells in rows_of(measured, per_100)]
    return "\n".join(lines)


def values_of(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return everything as plain values; None for what was not to be measured."""
    return [
        {
            "detector": one.named.name,
            "metadata": dict(one.named.detector.metadata),
            "photographs": len(one.judged),
            **{name: value if math.isfinite(value) else None for name, value in one.figures.items()},
        }
        for one in measured
    ]
