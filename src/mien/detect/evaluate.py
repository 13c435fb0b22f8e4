"""How good face detectors are: several on the same photographs, one table, sheets of what went wrong.

In: detectors by name, and labelled photographs as `training.photos` reads them. Out: a `DetectorReport`, in a folder as
table, JSON and sheets. Begin with `evaluate_detectors`; `mien.detect.metrics` has the figures.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.summary import sheet_of
from mien.detect import metrics
from mien.detect.base import Detector
from mien.detect.metrics import SIZES, Matches, false_positives_per_100, recall
from mien.detect.mien import METADATA_FILE, MienDetector
from mien.detect.registry import open_detector
from mien.detect.training.photos import Photos, read_photos
from mien.errors import ConfigError
from mien.files import check_replaceable, check_writable, whole_folder, without_folders
from mien.images.canvas import outline, write_picture
from mien.settings import FROM_0, FROM_1, SEED, check_settings, setting, to_mapping
from mien.terminal import columns, counted

LARGE_PX = 64.0  # longer side of a face from which a pixel's error in a landmark is a small one
_LOW = 0.05  # score from which our own detector shows what it sees, for the curve
_SPEED = {"320x320": (320, 320), "640x480": (480, 640)}  # height, width
_WARM_UP, _RUNS = 2, 9
PAGE_FILE, VALUES_FILE = "detectors.md", "detectors.json"
Progress = Callable[[str, int, int], None]  # detector, photographs done, of how many
Picture = NDArray[np.uint8]
_AROUND = 1.5  # how much of the surroundings is shown on every side, in sides of the box
_SHOWN_PX = 128
_MISSED, _FALSE_POSITIVE = (0, 160, 0), (200, 0, 0)  # RGB


@dataclass(frozen=True, kw_only=True)
class DetectorEvaluation:
    """What `mien evaluate-detector` does. Checked when it is made; raises ConfigError with one line."""

    detectors: tuple[str, ...] = setting(
        ("mien",), "face detectors: mien, yunet, haar, a folder of mien train-detector, or a YuNet file"
    )
    split: str = setting("val", "photographs to look at", choices=("train", "val"))
    false_positives: float = setting(
        2.0, "false positives in 100 photographs without a face at which recall is compared", within=FROM_0
    )
    limit: int | None = setting(
        None, "look at this many photographs, drawn with the seed; unset: all", within=FROM_1
    )
    seed: int = setting(0, "seed of that draw", within=SEED)
    worst: int = setting(
        48, "pictures on each sheet of misses and false positives; 0: no sheets", within=FROM_0
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.detectors:
            raise ConfigError("detectors must name at least one face detector, such as mien or a file")
        if len(set(self.detectors)) != len(self.detectors):
            raise ConfigError(f"detectors must name each face detector once, got {', '.join(self.detectors)}")


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
        check_replaceable(out, "a report of mien evaluate-detector", VALUES_FILE)
        check_writable(out.parent)
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
            "data": without_folders(data),
            "settings": without_folders(to_mapping(config)),
            "fingerprint": report.photos.fingerprint(),
            "detectors": values_of(report.measured),
        }
        (temporary / VALUES_FILE).write_text(json.dumps(values, indent=2), encoding="utf-8")
        names = [_write_sheets(one, place, report.photos, config, temporary)
                 for place, one in enumerate(report.measured, 1)]  # fmt: skip
        page = [
            "# Face detectors",
            f"{counted(len(report.photos), 'photograph')} of {data.name} ({config.split}). The labels are "
            "another detector's (YuNet): its own figures say how far it agrees with itself.",
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
    for size_name in _SPEED:
        rows.append((f"processor ms, {size_name}", _cells(measured, f"ms {size_name}", ".1f")))
    return rows


def _cells(measured: Sequence[Measured], figure: str, form: str) -> list[str]:
    values = [one.figures[figure] for one in measured]
    return [format(value, form) if math.isfinite(value) else "-" for value in values]


def text_of(measured: Sequence[Measured], per_100: float) -> str:
    """Return the table for a terminal."""
    rows = [("", [one.named.name for one in measured]), *rows_of(measured, per_100)]
    return columns([[name, *cells] for name, cells in rows])


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


@dataclass(frozen=True, eq=False)
class Named:
    """A face detector under test. threshold: the one that ships; `curve` shows scores below it where it can."""

    name: str  # what the table calls it
    detector: Detector
    curve: Detector
    threshold: float


@dataclass(frozen=True, eq=False)
class Measured:
    """figures: by name, see `figures_of`; NaN where there is nothing to measure. matches: one a photograph."""

    named: Named
    matches: list[Matches]
    figures: dict[str, float]


def opened(name: str) -> Named:
    """Open a face detector by name or path; ConfigError when it is neither. Its label is short: the end of the path."""
    path = Path(name)
    label = "/".join(path.parts[-2:]) if path.is_dir() else path.stem
    if name != "mien" and not path.exists():
        detector = _by_name(name)
        return Named(name, detector, detector, 0.0)
    if name == "mien" or path.is_dir() or path.with_name(METADATA_FILE).is_file():
        place = None if name == "mien" else path
        detector = MienDetector(place)
        return Named(
            label, detector, MienDetector(place, threshold=_LOW), float(detector.metadata["threshold"])
        )
    detector = open_detector("yunet", path)
    return Named(label, detector, detector, 0.0)


def _by_name(name: str) -> Detector:
    if name in ("auto", "whole"):
        raise ConfigError(f"{name!r} is no face detector to measure; name mien, yunet, haar, or a file")
    try:
        return open_detector(name)
    except ConfigError as error:
        raise ConfigError(
            f"there is no face detector and no file {name!r}; name mien, yunet, haar, a folder of mien "
            "train-detector, or a YuNet file"
        ) from error


def measure(
    named: Named, photos: Photos, per_100: float, progress: Callable[[int], None] | None = None
) -> Measured:
    """Search all photographs, and time the detector as it ships."""
    matches = metrics.search(photos, named.curve.detect, progress)
    return Measured(
        named, matches, {**figures_of(matches, named.threshold, per_100), **_speed(named.detector, photos)}
    )


def figures_of(matches: Sequence[Matches], threshold: float, per_100: float) -> dict[str, float]:
    """Return the figures of the table.

    ap: average precision at IoU 0.5; a detector that keeps back what it is less sure of cannot earn all of it. recall,
    false positives, landmarks: at the threshold that ships. equal: recall where the threshold gives `per_100` false
    positives in 100 photographs without a face; NaN for a detector without scores that gives more.
    """
    equal = metrics.threshold_for(matches, per_100)
    figures = {"ap": metrics.average_precision(matches)}
    for size in metrics.SIZES:
        figures[f"recall {words(size)}"] = metrics.recall(matches, threshold, size)[0]
        at = metrics.recall(matches, equal, size)[0] if np.isfinite(equal) else float("nan")
        figures[f"recall {words(size)} equal"] = at
    figures["false positives"] = metrics.false_positives_per_100(matches, threshold)[0]
    figures["threshold"] = threshold
    figures["threshold equal"] = equal
    figures["landmarks"] = metrics.landmark_error(matches, threshold)
    figures["landmarks large"] = metrics.landmark_error(matches, threshold, LARGE_PX)
    return figures


def words(size: tuple[float, float]) -> str:
    """Return a range of sizes in words: 16-32 px, or 64+ px."""
    return f"{size[0]:.0f}+ px" if np.isinf(size[1]) else f"{size[0]:.0f}-{size[1]:.0f} px"


def _speed(detector: Detector, photos: Photos) -> dict[str, float]:
    """Return the processor time of one picture in milliseconds, at two sizes: the smallest of a few runs."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return {f"ms {name}": _timed(detector, photos, *size) for name, size in _SPEED.items()}
    finally:
        cv2.setNumThreads(threads)


def _timed(detector: Detector, photos: Photos, height: int, width: int) -> float:
    faces = next((i for i, row in enumerate(photos.rows) if len(row.boxes)), 0)
    picture: Any = cv2.resize(photos.read(faces), (width, height), interpolation=cv2.INTER_LINEAR)
    times = []
    for run in range(_WARM_UP + _RUNS):
        start = time.process_time()
        detector.detect(picture)
        if run >= _WARM_UP:
            times.append(time.process_time() - start)
    return 1000 * min(times)


@dataclass(frozen=True)
class Wrong:
    """One mistake. rank: larger is worse."""

    photo: int
    box: tuple[float, float, float, float]
    caption: str
    rank: float


def misses(matches: Sequence[Matches], threshold: float, count: int) -> list[Wrong]:
    """Return the largest labelled faces that were not found."""
    found = []
    for index, one in enumerate(matches):
        seen = set(one.matched[one.scores >= threshold].tolist())
        for place, box in enumerate(one.photo.boxes):
            if place not in seen:
                side = float(box[2:].max())
                score = max(
                    (float(s) for s, m in zip(one.scores, one.matched, strict=True) if m == place), default=0
                )
                found.append(Wrong(index, _box(box), f"{one.photo.source}\n{side:.0f} px, {score:.2f}", side))
    return sorted(found, key=lambda wrong: -wrong.rank)[:count]


def false_positives(matches: Sequence[Matches], threshold: float, count: int) -> list[Wrong]:
    """Return the surest boxes that are no labelled face, photographs without a face first."""
    found = []
    for index, one in enumerate(matches):
        for face, score, place in zip(one.found, one.scores, one.matched, strict=True):
            if place == -1 and score >= threshold:
                empty = not len(one.photo.boxes)
                caption = f"{one.photo.source}\n{score:.2f}{'' if empty else ', beside faces'}"
                found.append(Wrong(index, face.box, caption, float(score) + empty))
    return sorted(found, key=lambda wrong: -wrong.rank)[:count]


def sheet(photos: Photos, wrongs: Sequence[Wrong], *, missed: bool) -> Picture:
    """Return one picture of all mistakes, each with its surroundings and its box: RGB uint8."""
    colour = _MISSED if missed else _FALSE_POSITIVE
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
