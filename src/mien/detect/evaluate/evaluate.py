"""`mien evaluate-detector`: several detectors on the same photographs, as a table, sheets of mistakes and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.detect.evaluate.measure import (
    LARGE_PX,
    Measured,
    false_positives,
    measure,
    misses,
    opened,
    sheet,
    words,
)
from mien.detect.metrics import SIZES, false_positives_per_100, recall
from mien.detect.training.photos import Photos, read_photos
from mien.errors import ConfigError, OutputError
from mien.files import whole_folder
from mien.images.canvas import write_picture
from mien.settings import setting, to_mapping


@dataclass(frozen=True, kw_only=True)
class DetectorEvaluation:
    """What `mien evaluate-detector` does. Checked when it is made; raises ConfigError with one line."""

    detectors: tuple[str, ...] = setting(
        ("mien",), "face detectors: mien, yunet, haar, a folder of mien train-detector, or a YuNet file"
    )
    split: str = setting("val", "photographs to look at", choices=("train", "val"))
    false_positives: float = setting(
        2.0, "false positives in 100 photographs without a face at which recall is compared"
    )
    limit: int | None = setting(None, "look at this many photographs, drawn with the seed; unset: all")
    seed: int = setting(0, "seed of that draw")
    worst: int = setting(48, "pictures on each sheet of misses and false positives; 0: no sheets")

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ConfigError("detectors must name at least one face detector, such as mien or a file")
        if len(set(self.detectors)) != len(self.detectors):
            raise ConfigError(f"detectors must name each face detector once, got {', '.join(self.detectors)}")
        if self.false_positives < 0:
            raise ConfigError(f"false_positives must not be negative, got {self.false_positives}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be at least 1, got {self.limit}")
        for name in ("seed", "worst"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")


PAGE_FILE, VALUES_FILE = "detectors.md", "detectors.json"
Progress = Callable[[str, int, int], None]  # detector, photographs done, of how many


@dataclass(frozen=True, eq=False)
class DetectorReport:
    """What was measured, and the photographs that it was measured on."""

    photos: Photos
    measured: list[Measured]


def evaluate_detectors(
    data: Path, config: DetectorEvaluation, out: Path | None = None, progress: Progress | None = None
) -> DetectorReport:
    """Measure every detector on the same photographs.

    out: folder for detectors.md, detectors.json and the sheets; None: nothing is written. Raises DataError for data
    that cannot be used, ConfigError or ModelError for a detector that is not there, OutputError where `out` is
    something else.
    """
    named = [opened(name) for name in config.detectors]  # all of them before the long work
    if out is not None:
        _check_place(out)
    photos = read_photos(data, config.split)
    if config.limit is not None and config.limit < len(photos):
        drawn = np.random.default_rng(config.seed).permutation(len(photos))[: config.limit]
        photos = photos.take(np.sort(drawn))
    measured = []
    for one in named:
        show = None if progress is None else lambda done, name=one.name: progress(name, done, len(photos))
        measured.append(measure(one, photos, config.false_positives, show))
    report = DetectorReport(photos, measured)
    if out is not None:
        _write(report, config, data, out)
    return report


def _write(report: DetectorReport, config: DetectorEvaluation, data: Path, out: Path) -> None:
    with whole_folder(out) as temporary:
        values = {
            "data": str(data),
            "settings": to_mapping(config),
            "fingerprint": report.photos.fingerprint(),
            "detectors": values_of(report.measured),
        }
        (temporary / VALUES_FILE).write_text(json.dumps(values, indent=2), encoding="utf-8")
        names = [_write_sheets(one, place, report.photos, config, temporary)
                 for place, one in enumerate(report.measured, 1)]  # fmt: skip
        page = [
            "# Face detectors",
            f"{len(report.photos)} photographs of {data.name} ({config.split}). The labels are another detector's "
            "(YuNet): its own figures say how far it agrees with itself.",
            markdown_of(report.measured, config.false_positives),
            *(f"![{name}]({name})" for found in names for name in found),
        ]
        (temporary / PAGE_FILE).write_text("\n\n".join(page) + "\n", encoding="utf-8")


def _write_sheets(
    one: Measured, place: int, photos: Photos, config: DetectorEvaluation, folder: Path
) -> list[str]:
    """Write the sheets of one detector; returns their names."""
    written = []
    for kind, choose in (("missed", misses), ("false-positives", false_positives)):
        wrongs = choose(one.matches, one.named.threshold, config.worst)
        if wrongs:
            name = f"{place}-{one.named.name.replace('/', '-')}-{kind}.png"
            write_picture(folder / name, sheet(photos, wrongs, missed=kind == "missed"))
            written.append(name)
    return written


def _check_place(out: Path) -> None:
    """Raise OutputError for a folder of something else, which replacing it would lose."""
    if out.exists() and not (out / VALUES_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            f"{out} is there and holds no report of mien evaluate-detector; name another place with --out"
        )


def rows_of(measured: Sequence[Measured], per_100: float) -> list[tuple[str, list[str]]]:
    """Return the table's rows: what it is, and one cell a detector."""
    first = measured[0].matches
    rows = [("average precision, IoU 0.5", _cells(measured, "ap", ".3f"))]
    for size in SIZES:
        _, total = recall(first, 0.0, size)
        name = f"recall, {words(size)} ({total})"
        rows.append((f"{name}, as shipped", _cells(measured, f"recall {words(size)}", ".3f")))
        rows.append(
            (
                f"{name}, at {per_100:g} false positives",
                _cells(measured, f"recall {words(size)} equal", ".3f"),
            )
        )
    _, empty = false_positives_per_100(first, 0.0)
    rows.append(
        (
            f"false positives in 100 photographs without a face ({empty})",
            _cells(measured, "false positives", ".1f"),
        )
    )
    rows.append(("landmark error, share of the eyes' distance", _cells(measured, "landmarks", ".3f")))
    rows.append((f"the same, faces of {LARGE_PX:.0f}+ px", _cells(measured, "landmarks large", ".3f")))
    rows.append(("threshold, as shipped", _cells(measured, "threshold", ".3f")))
    rows.append((f"threshold, at {per_100:g} false positives", _cells(measured, "threshold equal", ".3f")))
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
            "photographs": len(one.matches),
            **{name: value if math.isfinite(value) else None for name, value in one.figures.items()},
        }
        for one in measured
    ]
