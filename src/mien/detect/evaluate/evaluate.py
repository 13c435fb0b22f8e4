"""`mien evaluate-detector`: photographs with face boxes and face detectors in, one table and sheets out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.detect.evaluate import sheets
from mien.detect.evaluate.config import DetectorEvaluation
from mien.detect.evaluate.measure import Measured, measure, opened
from mien.detect.evaluate.table import markdown_of, values_of
from mien.detect.training.photos import Photos, read_photos
from mien.errors import OutputError
from mien.files import whole_folder
from mien.images.canvas import write_picture
from mien.settings import to_mapping

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
        measured.append(measure(one, photos, config.false_alarms, show))
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
            markdown_of(report.measured, config.false_alarms),
            *(f"![{name}]({name})" for found in names for name in found),
        ]
        (temporary / PAGE_FILE).write_text("\n\n".join(page) + "\n", encoding="utf-8")


def _write_sheets(
    one: Measured, place: int, photos: Photos, config: DetectorEvaluation, folder: Path
) -> list[str]:
    """Write the sheets of one detector; returns their names."""
    written = []
    for kind, choose in (("missed", sheets.misses), ("alarms", sheets.alarms)):
        wrongs = choose(one.judged, one.named.threshold, config.worst)
        if wrongs:
            name = f"{place}-{one.named.name.replace('/', '-')}-{kind}.png"
            write_picture(folder / name, sheets.sheet(photos, wrongs, missed=kind == "missed"))
            written.append(name)
    return written


def _check_place(out: Path) -> None:
    """Raise OutputError for a folder of something else, which replacing it would lose."""
    if out.exists() and not (out / VALUES_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            f"{out} is there and holds no report of mien evaluate-detector; name another place with --out"
        )
