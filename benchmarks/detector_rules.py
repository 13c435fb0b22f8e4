"""What each rule of the face search is worth: all figures with every rule, and with each rule switched off.

    python benchmarks/detector_rules.py
    python benchmarks/detector_rules.py --detector runs/faces-detector/detector --faces 150

A rule that is off is one constant or setting that cannot take effect. Each row sets its own threshold, where one false
positive in 100 validation photographs without a face remains, so that rows compare. Columns of the first table: faces
of 40 px and more and of 20 to 40 px that are found, average precision, landmark error (all; faces of 64 px and more),
portraits of `web-faces` without a face and with several, copies of two portraits in 112 sizes and tilts in which the
face is missed or something beside it is found, faces of 16 px and more found in large pictures put together from nine
validation photographs, and processor time a validation photograph. The second table: damaged `web-faces` in which a
face is found / is found with its eyes where they are, to 45 degrees, by the looks of `PhotoSearch`; validation
photographs without a face in which one is found; and processor time a damaged photograph.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray

import mien
from mien.detect import base, metrics, search
from mien.detect import mien as ours
from mien.detect.mien import MienDetector
from mien.detect.training.photos import Photos, read_photos
from mien.images import read_image
from photo_search import DAMAGE

Picture = NDArray[np.uint8]
Switch = Callable[[MienDetector], None]
_LOW = 0.05  # score from which the curve is drawn
_OFF = 9.0  # what no share or score reaches
TILTS, SIZES_PX = (-30, -20, -10, 0, 10, 20, 30), (64, 100, 160, 320, 512, 900, 2000, 4000)
_GRID, _TILE_PX = 3, 500
# By how much the damage turns a picture, anticlockwise.
_DEGREES = {"turned by 45 degrees": 45, "turned by 90 degrees": 90, "upside down": 180}


def _constant(module: Any, **values: Any) -> Callable[[], Iterator[None]]:
    def switched() -> Iterator[None]:
        before = {name: getattr(module, name) for name in values}
        try:
            for name, value in values.items():
                setattr(module, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(module, name, value)

    return switched


# By rule: constants that change, settings of the detector that change, and whether doubtful boxes are looked at again.
DETECTOR_RULES: dict[str, tuple[Callable[[], Iterator[None]], dict[str, Any], bool]] = {
    "all rules": (_constant(base), {}, True),
    "no second look at doubtful boxes": (_constant(ours, _PORTRAIT=_OFF), {}, False),
    "the second look also where the face fills the picture": (_constant(ours, _FILLS=_OFF), {}, True),
    "small doubtful boxes beside a portrait stay": (_constant(ours, _PORTRAIT=_OFF), {}, True),
    "no small look": (_constant(base), {"small_size": None}, True),
    "no closer look": (_constant(base), {"max_size": 640}, True),
    "a closer look only where nothing was found": (_constant(base, _FEW_PX=0), {}, True),
    "boxes inside others stay": (_constant(base, _INSIDE=_OFF), {}, True),
    "the surest box's place, not the mean": (_constant(base, _BLENDED=_OFF), {}, True),
    "all that overlap have a say in the place": (_constant(base, _NEARLY=0.0), {}, True),
}
SEARCH_RULES: dict[str, Callable[[], Iterator[None]]] = {
    "all looks": _constant(search),
    "no stretched look": _constant(search, _PERCENTILES=(50.0, 50.0)),
    "no look turned by 45 degrees": _constant(search, _TURNS=(90, 270, 180)),
    "no look turned by 90 degrees": _constant(search, _TURNS=(45, 315, 180)),
    "no look upside down": _constant(search, _TURNS=(90, 270, 45, 315)),
    "doubtful faces are not turned": _constant(search, _DOUBTFUL=0.0),
}


def opened(
    path: Path | None, settings: dict[str, Any], threshold: float | None = None, *, twice: bool = True
) -> MienDetector:
    """Return a detector with other settings than its file says; small_size None: no small look."""
    detector = MienDetector(path, threshold, twice=twice)
    values = dict(settings)
    no_small = "small_size" in values and values.pop("small_size") is None
    detector._settings = replace(detector._settings, **values)
    detector._pyramid = detector._settings.pyramid
    if no_small:
        detector._pyramid = replace(detector._pyramid, small_size=10**6)
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--detector", type=Path, help="folder of a detector; unset: the one that ships")
    parser.add_argument("--faces", type=int, default=150, help="photographs to damage, drawn at random")
    parser.add_argument("--tables", default="12", help="1: the detector's rules, 2: the search's")
    parser.add_argument("--only", help="rules whose name has this word; the row with all rules comes always")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photos = read_photos(options.shared / "faces", "val")
    with (options.shared / "web-faces" / "labels.csv").open(newline="", encoding="utf-8") as file:
        portraits = [options.shared / "web-faces" / row["file"] for row in csv.DictReader(file)]
    chosen = [name for name in DETECTOR_RULES if not options.only or options.only in name]
    if "1" in options.tables:
        print(HEAD, flush=True)
        for name in dict.fromkeys(["all rules", *chosen]):
            switch, settings, twice = DETECTOR_RULES[name]
            with contextmanager(switch)():
                print(_row(name, options.detector, settings, photos, portraits, twice=twice), flush=True)
    if "2" in options.tables:
        drawn = np.random.default_rng(0).permutation(len(portraits))[: options.faces]
        _searches(MienDetector(options.detector), [read_image(portraits[i]) for i in drawn], photos)


HEAD = (
    "| rule | 40+ | 20-40 | AP | landmarks | no face, % | several, % | copies: missed, beside | large pictures | ms |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def _row(
    name: str,
    path: Path | None,
    settings: dict[str, Any],
    photos: Photos,
    portraits: list[Path],
    *,
    twice: bool,
) -> str:
    matches = metrics.search(photos, opened(path, settings, _LOW, twice=twice).detect)
    # Rounded up as a training rounds it, so that the row with all rules has the threshold that ships.
    at = math.ceil(1000 * float(np.clip(metrics.threshold_for(matches, 1.0), 0.2, 0.95))) / 1000
    detector = opened(path, settings, at, twice=twice)
    started = time.process_time()
    for place in range(len(photos)):
        detector.detect(photos.read(place))
    each_ms = 1000 * (time.process_time() - started) / len(photos)
    counts = np.array([len(detector.detect(read_image(file))) for file in portraits])
    missed, beside = _copies(detector)
    found, faces = _large(detector, photos)
    return (
        f"| {name} (from {at:.3f}) | {metrics.recall(matches, at, (40, np.inf))[0]:.3f} | "
        f"{metrics.recall(matches, at, (20, 40))[0]:.3f} | {metrics.average_precision(matches):.3f} | "
        f"{metrics.landmark_error(matches, at):.3f}; {metrics.landmark_error(matches, at, 64):.3f} | "
        f"{100 * (counts == 0).mean():.1f} | {100 * (counts > 1).mean():.1f} | {missed}, {beside} | "
        f"{found} of {faces} | {each_ms:.1f} |"
    )


def _copies(detector: MienDetector) -> tuple[int, int]:
    """Count the copies of two portraits in which the face is missed, and boxes beside it."""
    samples = Path(mien.__file__).parent / "samples"
    faces = {
        Path(str(get_sample_data("grace_hopper.jpg", asfileobj=False))): (182.0, 120.0, 170.0, 212.0),
        samples / "eileen-collins.jpg": (178.0, 72.0, 92.0, 122.0),
    }
    missed = beside = 0
    for file, (x, y, width, height) in faces.items():
        picture = read_image(file)
        for size_px, degrees in product(SIZES_PX, TILTS):
            scale = size_px / max(picture.shape[:2])
            middle = (picture.shape[1] / 2, picture.shape[0] / 2)
            matrix = cv2.getRotationMatrix2D(middle, degrees, 1) * scale
            source = picture if scale >= 0.5 else cv2.GaussianBlur(picture, (0, 0), 0.4 / scale)
            size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
            copy = cv2.warpAffine(source, matrix, size, borderMode=cv2.BORDER_REPLICATE)
            place = matrix @ (x + width / 2, y + height / 2, 1)
            found = detector.detect(np.asarray(copy, np.uint8))
            near = sum(
                abs(face.box.x + face.box.width / 2 - place[0]) < 0.2 * height * scale
                and abs(face.box.y + face.box.height / 2 - place[1]) < 0.2 * height * scale
                for face in found
            )
            missed += near == 0
            beside += len(found) - min(near, 1)
    return missed, beside


def _large(detector: MienDetector, photos: Photos) -> tuple[int, int]:
    """Count faces of 16 px and more, and those found, in grids of nine photographs: 1,500 pixels a side."""
    shown = [place for place, row in enumerate(photos.rows) if len(row.boxes)]
    found = total = 0
    for start in range(0, len(shown) - _GRID**2 + 1, _GRID**2):
        grid = np.full((_GRID * _TILE_PX, _GRID * _TILE_PX, 3), 128, np.uint8)
        boxes = []
        for cell, place in enumerate(shown[start : start + _GRID**2]):
            picture, scale = base.resized(photos.read(place), _TILE_PX)
            left, top = cell % _GRID * _TILE_PX, cell // _GRID * _TILE_PX
            grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            boxes.append(photos.rows[place].boxes * scale + (left, top, 0, 0))
        wanted = np.concatenate(boxes).astype(np.float32)
        wanted = wanted[wanted[:, 2:].max(axis=1) >= 16]
        got = np.array([face.box for face in detector.detect(grid)], np.float32).reshape(-1, 4)
        total += len(wanted)
        found += int((base.iou(wanted, got)[0].max(axis=1, initial=0) >= metrics.SAME).sum())
    return found, total


def _found(look: search.PhotoSearch, detector: MienDetector, pictures: list[Picture], degrees: float) -> str:
    """Return the share of pictures with a face, and with one whose eyes' line is turned as the picture is."""
    found = upright = 0
    for picture in pictures:
        for face in look(detector, picture)[:1]:
            found += 1
            beside = (base.tilt_degrees(face.landmarks) + degrees + 180) % 360 - 180
            upright += abs(beside) < 45
    return f"{found / len(pictures):.2f} / {upright / len(pictures):.2f}"


def _searches(detector: MienDetector, faces: list[Picture], photos: Photos) -> None:
    print(f"\n| {len(faces)} faces | {' | '.join(DAMAGE)} | false positives | ms |")
    print("|---" * (len(DAMAGE) + 3) + "|")
    empty = [i for i, row in enumerate(photos.rows) if not len(row.boxes) and not len(row.ignore)]
    rules: dict[str, tuple[Callable[[], Iterator[None]], search.PhotoSearch]] = {
        "first look": (_constant(search), search.PhotoSearch(second_look=False))
    }
    rules |= {name: (switch, search.PhotoSearch()) for name, switch in SEARCH_RULES.items()}
    for name, (switch, look) in rules.items():
        with contextmanager(switch)():
            started = time.process_time()
            cells = [
                _found(look, detector, [damage(face) for face in faces], _DEGREES.get(kind, 0))
                for kind, damage in DAMAGE.items()
            ]
            each_ms = 1000 * (time.process_time() - started) / len(faces) / len(DAMAGE)
            wrong = sum(bool(look(detector, photos.read(place))) for place in empty)
        print(f"| {name} | {' | '.join(cells)} | {wrong} of {len(empty)} | {each_ms:.1f} |", flush=True)


if __name__ == "__main__":
    main()
