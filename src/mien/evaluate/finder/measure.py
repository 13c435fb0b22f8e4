"""Measuring face finders on the same photographs, and what each found there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import ConfigError
from mien.predict.detect import Detector, detector
from mien.predict.finder import MienDetector
from mien.predict.finder_facts import FACTS_FILE
from mien.train.finder import judge
from mien.train.finder.judge import Judged
from mien.train.finder.photos import Photos

LARGE_PX = 64.0  # longer side of a face from which a pixel's error in a landmark is a small one
_LOW = 0.05  # score from which our own finder shows what it sees, for the curve
_SPEED = {"320x320": (320, 320), "640x480": (480, 640)}  # height, width
_WARM_UP, _RUNS = 2, 9


@dataclass(frozen=True, eq=False)
class Named:
    """A face finder under test. threshold: the one that ships; `curve` shows scores below it where it can."""

    name: str  # what the table calls it
    finder: Detector
    curve: Detector
    threshold: float


@dataclass(frozen=True, eq=False)
class Measured:
    """figures: by name, see `figures_of`; NaN where there is nothing to measure. judged: one a photograph."""

    named: Named
    judged: list[Judged]
    figures: dict[str, float]


def opened(name: str) -> Named:
    """Open a face finder by name or path; ConfigError when it is neither. Its label is short: the end of the path."""
    path = Path(name)
    label = "/".join(path.parts[-2:]) if path.is_dir() else path.stem
    if name != "mien" and not path.exists():
        finder = _by_name(name)
        return Named(name, finder, finder, 0.0)
    if name == "mien" or path.is_dir() or path.with_name(FACTS_FILE).is_file():
        place = None if name == "mien" else path
        finder = MienDetector(place)
        return Named(label, finder, MienDetector(place, threshold=_LOW), float(finder.facts["threshold"]))
    finder = detector("yunet", path)
    return Named(label, finder, finder, 0.0)


def _by_name(name: str) -> Detector:
    if name in ("auto", "whole"):
        raise ConfigError(f"{name!r} is no face finder to measure; name mien, yunet, haar, or a file")
    try:
        return detector(name)
    except ConfigError as error:
        raise ConfigError(
            f"there is no face finder and no file {name!r}; name mien, yunet, haar, a folder of mien train-finder, or "
            "a YuNet file"
        ) from error


def measure(
    named: Named, photos: Photos, per_100: float, progress: Callable[[int], None] | None = None
) -> Measured:
    """Search all photographs, and time the finder as it ships."""
    judged = judge.search(photos, named.curve.find, progress)
    return Measured(
        named, judged, {**figures_of(judged, named.threshold, per_100), **_speed(named.finder, photos)}
    )


def figures_of(judged: Sequence[Judged], threshold: float, per_100: float) -> dict[str, float]:
    """Return the figures of the table.

    ap: average precision at IoU 0.5; a finder that keeps back what it is less sure of cannot earn all of it. recall,
    alarms, landmarks: at the threshold that ships. equal: recall where the threshold gives `per_100` false alarms in
    100 photographs without a face; NaN for a finder without scores that gives more.
    """
    equal = judge.threshold_for(judged, per_100)
    figures = {"ap": judge.average_precision(judged)}
    for size in judge.SIZES:
        figures[f"recall {words(size)}"] = judge.recall(judged, threshold, size)[0]
        at = judge.recall(judged, equal, size)[0] if np.isfinite(equal) else float("nan")
        figures[f"recall {words(size)} equal"] = at
    figures["alarms"] = judge.alarms_per_100(judged, threshold)[0]
    figures["threshold"] = threshold
    figures["threshold equal"] = equal
    figures["landmarks"] = judge.landmark_error(judged, threshold)
    figures["landmarks large"] = judge.landmark_error(judged, threshold, LARGE_PX)
    return figures


def words(size: tuple[float, float]) -> str:
    """Return a range of sizes in words: 16-32 px, or 64+ px."""
    return f"{size[0]:.0f}+ px" if np.isinf(size[1]) else f"{size[0]:.0f}-{size[1]:.0f} px"


def _speed(finder: Detector, photos: Photos) -> dict[str, float]:
    """Return the processor time of one picture in milliseconds, at two sizes: the smallest of a few runs."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return {f"ms {name}": _timed(finder, photos, *size) for name, size in _SPEED.items()}
    finally:
        cv2.setNumThreads(threads)


def _timed(finder: Detector, photos: Photos, height: int, width: int) -> float:
    import cv2

    faces = next((i for i, row in enumerate(photos.rows) if len(row.boxes)), 0)
    picture: Any = cv2.resize(photos.read(faces), (width, height), interpolation=cv2.INTER_LINEAR)
    times = []
    for run in range(_WARM_UP + _RUNS):
        start = time.process_time()
        finder.find(picture)
        if run >= _WARM_UP:
            times.append(time.process_time() - start)
    return 1000 * min(times)
