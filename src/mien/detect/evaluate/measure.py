"""Measuring face detectors on the same photographs, and what each found there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.detect.mien import METADATA_FILE, MienDetector
from mien.detect.registry import Detector, open_detector
from mien.detect.training import judge
from mien.detect.training.judge import Judged
from mien.detect.training.photos import Photos
from mien.errors import ConfigError

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
    """figures: by name, see `figures_of`; NaN where there is nothing to measure. judged: one a photograph."""

    named: Named
    judged: list[Judged]
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
    judged = judge.search(photos, named.curve.detect, progress)
    return Measured(
        named, judged, {**figures_of(judged, named.threshold, per_100), **_speed(named.detector, photos)}
    )


def figures_of(judged: Sequence[Judged], threshold: float, per_100: float) -> dict[str, float]:
    """Return the figures of the table.

    ap: average precision at IoU 0.5; a detector that keeps back what it is less sure of cannot earn all of it. recall,
    alarms, landmarks: at the threshold that ships. equal: recall where the threshold gives `per_100` false alarms in
    100 photographs without a face; NaN for a detector without scores that gives more.
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
