"""What the second look at a photograph brings: faces found and named right on damaged copies, and false positives.

    python benchmarks/photo_search.py --faces 150
    python benchmarks/photo_search.py --reliability 700

Faces: drawn from `web-faces`, each with the expression that a person chose. False positives: all validation photographs
without a face. The first look is the detector alone.

--reliability: how often an answer is right beside how sure it is, by how large the face is and how sure the detector,
over photographs as they are, covered, shrunk, blurred, noisy, dark and turned: whether 80 % means 80 % there too,
without and with what the network's metadata say of quality.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import mien
from mien.detect.base import Box
from mien.detect.search import PhotoSearch
from mien.detect.training.photos import read_photos
from mien.images import read_image
from mien.labels import canonical
from mien.predict.analyzer import Analyzer
from mien.predict.results import COVERED

Picture = NDArray[np.uint8]


def dimmed(picture: Picture, share: float) -> Picture:
    return (picture.astype(np.float32) * share).astype(np.uint8)


def flattened(picture: Picture, share: float) -> Picture:
    return np.asarray(np.clip(128 + (picture.astype(np.float32) - 128) * share, 0, 255), np.uint8)


def turned(picture: Picture, degrees: float) -> Picture:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(height * sine + width * cosine), int(height * cosine + width * sine))
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return np.asarray(cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


DAMAGE: dict[str, Callable[[Picture], Picture]] = {
    "as it is": lambda picture: picture,
    "a fifth of the light": lambda picture: dimmed(picture, 1 / 5),
    "a twelfth of the light": lambda picture: dimmed(picture, 1 / 12),
    "a quarter of the contrast": lambda picture: flattened(picture, 1 / 4),
    "a tenth of the contrast": lambda picture: flattened(picture, 1 / 10),
    "turned by 45 degrees": lambda picture: turned(picture, 45),
    "turned by 90 degrees": lambda picture: np.ascontiguousarray(np.rot90(picture)),
    "upside down": lambda picture: np.ascontiguousarray(picture[::-1, ::-1]),
}
SIZES, SCORES = (0, 20, 28, 40, 64, 120, 10_000), (0, 0.45, 0.55, 0.65, 0.75, 0.85, 1.01)
LOOKS = {"first look": PhotoSearch(second_look=False), "all looks": PhotoSearch()}


class _Said(NamedTuple):
    """An answer. size: of the box, in pixels. without, sure: its probability, without and with quality.

    covered: whether the network says that something seems to hide a part of the face.
    """

    damage: str
    size: float
    score: float
    without: float
    sure: float
    right: bool
    covered: bool


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument(
        "--model", default="mien", help="a shipped name, or a model folder (default: %(default)s)"
    )
    parser.add_argument("--faces", type=int, default=150, help="photographs with a face, drawn at random")
    parser.add_argument("--reliability", type=int, help="photographs; prints that table and nothing else")
    options = parser.parse_args()
    if options.reliability:
        _reliability(mien.load(options.model), options.shared / "web-faces", options.reliability)
        return
    _faces(mien.load(options.model), options.shared / "web-faces", options.faces)
    _false_positives(options.shared / "faces")


def _faces(analyzer: Analyzer, folder: Path, count: int) -> None:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = np.random.default_rng(0).permutation(len(rows))[:count]
    print(f"{len(drawn)} photographs: share found, named right")
    for name, damage in DAMAGE.items():
        cells = []
        for look, search in LOOKS.items():
            found = right = 0
            for place in drawn:
                picture = damage(read_image(folder / rows[int(place)]["file"]))
                faces = search(analyzer.detector, picture)[:1]
                found += len(faces)
                named = analyzer.classify_faces([picture], [faces])[0]
                right += any(face.emotion == canonical(rows[int(place)]["emotion"]) for face in named)
            cells.append(f"{look} {found / len(drawn):.3f} {right / len(drawn):.3f}")
        print(f"{name:28}{'   '.join(cells)}", flush=True)


def _reliability(analyzer: Analyzer, folder: Path, count: int) -> None:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    rng.shuffle(rows)
    said: list[_Said] = []
    with_quality = analyzer.metadata
    without = replace(with_quality, quality=None)
    for row in rows[:count]:
        label, picture = canonical(row["emotion"]), read_image(folder / row["file"])
        if label not in analyzer.head.labels or not (first := analyzer(picture)):
            continue
        for name, damaged in _damaged(picture, first[0].box, rng).items():
            for found in analyzer.detect(damaged)[:1]:
                sure = []
                for about in (without, with_quality):
                    analyzer.metadata = about
                    face = analyzer.classify_faces([damaged], [[found]])[0][0]
                    sure.append(face.probability)
                size = max(face.box.width, face.box.height)
                right, covered = face.emotion == label, COVERED in face.reasons
                said.append(_Said(name, size, face.score or 0, sure[0], sure[1], right, covered))
    print("faces, right; without and with quality: mean probability, what it is over right, ECE (10 bins),")
    print("share of all that is wrong and said with 90 % or more")
    for name in dict.fromkeys(one.damage for one in said):
        _line(name, [one for one in said if one.damage == name])
    for low, high in pairwise(SIZES):
        _line(f"size from {low} to {high}", [one for one in said if low <= one.size < high])
    for lowest, highest in pairwise(SCORES):
        _line(f"score from {lowest} to {highest}", [one for one in said if lowest <= one.score < highest])
    for covered in (True, False):
        told = "covered?" if covered else "not covered"
        _line(told, [one for one in said if one.covered == covered])
        _line(
            f"{told}, as it is", [one for one in said if one.covered == covered and one.damage == "as it is"]
        )
    _line("all", said)


def _damaged(picture: Picture, box: Box, rng: np.random.Generator) -> dict[str, Picture]:
    """box: of the face."""
    height, width = picture.shape[:2]
    side = max(box.width, box.height)
    copies = {"as it is": picture}
    left, right = (round(max(0, box.x + share * box.width)) for share in (0, 1))
    for name, low, high in (("eyes covered", 0.2, 0.5), ("mouth covered", 0.6, 1)):
        top, bottom = (round(max(0, box.y + share * box.height)) for share in (low, high))
        copies[name] = picture.copy()
        copies[name][top:bottom, left:right] = 128
    for degrees in (30, 60):
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        turn = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        copies[f"turned by {degrees}"] = np.asarray(turn, np.uint8)
    copies["turned by 90"] = np.ascontiguousarray(np.rot90(picture))
    copies["upside down"] = np.ascontiguousarray(picture[::-1, ::-1])
    copies["blur 4 %"] = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.04 * side), np.uint8)
    copies["noise 25"] = np.clip(picture + rng.normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
    copies["a twelfth of the light"] = (picture / 12).astype(np.uint8)
    for px in (16, 24, 32, 48, 96):
        scale = min(1.0, px / side)
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        copies[f"{px} px"] = np.asarray(small, np.uint8)
    return copies


def _line(name: str, said: list[_Said]) -> None:
    if not said:
        return
    right = np.array([one.right for one in said], float)
    cells = []
    for sure in (np.array([one.without for one in said]), np.array([one.sure for one in said])):
        bins = np.minimum((sure * 10).astype(int), 9)
        ece = sum(abs((sure - right)[bins == place].sum()) for place in range(10)) / len(said)
        surely_wrong = ((sure >= 0.9) & (right == 0)).mean()
        cells.append(f"{sure.mean():.3f} {sure.mean() - right.mean():+.3f} {ece:.3f} {surely_wrong:.4f}")
    print(f"{name:24} {len(said):6,}  {right.mean():.3f}   {'   '.join(cells)}", flush=True)


def _false_positives(folder: Path) -> None:
    photos = read_photos(folder, "val")
    empty = [i for i, row in enumerate(photos.rows) if not len(row.boxes) and not len(row.ignore)]
    detector = mien.load().detector
    for look, search in LOOKS.items():
        wrong = sum(bool(search(detector, photos.read(place))) for place in empty)
        print(f"{look}: a face in {wrong} of {len(empty)} photographs without one")


if __name__ == "__main__":
    main()
