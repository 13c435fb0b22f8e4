"""A comparison as a table: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

from mien.evaluate.compare import Comparison, Row
from mien.evaluate.formatting import NONE, bytes_in_words, count_in_words, decimal, percent, seconds_in_words
from mien.evaluate.markdown import table

HEADER = (
    "model",
    "accuracy",
    "95 %",
    "macro-F1",
    "ECE",
    "parameters",
    "MACs",
    "size",
    "ms a face",
    "training",
)


def cells(row: Row) -> list[str]:
    """Return one line of the table, in the order of HEADER."""
    scores, cost = row.report.scores, row.cost
    interval = scores.accuracy_interval
    return [
        row.name,
        percent(scores.accuracy),
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f}",
        decimal(scores.macro_f1),
        decimal(scores.ece),
        count_in_words(cost.parameters),
        count_in_words(cost.macs),
        bytes_in_words(cost.size_bytes),
        NONE if cost.ms_a_face is None else f"{cost.ms_a_face:.2f}",
        seconds_in_words(cost.training_s),
    ]


def to_text(comparison: Comparison) -> str:
    """Return aligned columns for a terminal."""
    lines = [list(HEADER), *(cells(row) for row in comparison.rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def to_markdown(comparison: Comparison) -> str:
    """Return the whole comparison, its picture by relative name."""
    data, made = comparison.data, comparison.made
    parts = [
        f"# {len(comparison.rows)} models on {data.name}, {data.part}",
        f"{data.pictures}, {comparison.views['words']}. {comparison.headline()}.",
        table(HEADER, [cells(row) for row in comparison.rows]),
        "![](comparison.png)",
        "\n".join(f"- {note}" for note in comparison.notes),
        f"`{made['command']}`, {made['date']}, {made['machine']}. Milliseconds: processor time of one core, "
        "ONNX Runtime, one face at a time.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one row a model with unrounded figures; an unknown one is empty."""
    rows = []
    for row in comparison.rows:
        values = row.to_dict()
        interval = values.pop("accuracy_interval")
        rows.append({**values, "accuracy_low": interval["low"], "accuracy_high": interval["high"]})
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
