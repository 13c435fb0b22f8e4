"""Measuring face detectors on the same photographs, and what each found there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.sheet import sheet_of
from mien.detect import metrics
from mien.detect.metrics import Matches
from mien.detect.mien import METADATA_FILE, MienDetector
from mien.detect.registry import Detector, open_detector
from mien.detect.training.photos import Photos
from mien.errors import ConfigError
from mien.images.canvas import outline

LARGE_PX = 64.0  # longer side of a face from which a pixel's error in a landmark is a small one
_LOW = 0.05  # score from which our own detector shows what it sees, for the curve
_SPEED = {"320x320": (320, 320), "640x480": (480, 640)}  # height, width
_WARM_UP, _RUNS = 2, 9


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
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return {f"ms {name}": _timed(detector, photos, *size) for name, size in _SPEED.items()}
    finally:
        cv2.setNumThreads(threads)


def _timed(detector: Detector, photos: Photos, height: int, width: int) -> float:
    import cv2

    faces = next((i for i, row in enumerate(photos.rows) if len(row.boxes)), 0)
    picture: Any = cv2.resize(photos.read(faces), (width, height), interpolation=cv2.INTER_LINEAR)
    times = []
    for run in range(_WARM_UP + _RUNS):
        start = time.process_time()
        detector.detect(picture)
        if run >= _WARM_UP:
            times.append(time.process_time() - start)
    return 1000 * min(times)


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
