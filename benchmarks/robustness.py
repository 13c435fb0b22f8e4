"""How accuracy holds when faces are small, dark, blurred, noisy, compressed, covered or turned: two networks, one run.

    python benchmarks/robustness.py mien runs/other/model --labels LABELS.csv --photos PHOTOS
    python benchmarks/robustness.py mien runs/other/model --fer2013 fer2013.csv

LABELS.csv has the columns file and emotion; PHOTOS is the folder that the files are relative to. The largest face of
each photograph is found once, in the undamaged picture, and damaged after it was cut out, so this measures the
networks and not the detector. Each cell is accuracy / balanced accuracy of the network's default answer; the damage is
drawn from the same seed for each network, so all cells of a row see the same faces. Balanced accuracy of so few faces
with fear or disgust moves by .04 with how they are cut, so of photographs one row is the mean over 15 cuts, a little
smaller, larger and beside the box: compare networks by it. What is printed is Markdown, for
`docs/reports/mien/robustness.md`; the network before today's comes out of the history:

    mkdir before && git archive COMMIT src/mien/models/mien | tar -x -C before --strip-components 4
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mien.data import open_dataset
from mien.detect.base import align
from mien.detect.registry import open_detector
from mien.images import read_image
from mien.labels import canonical
from mien.model.classifier import Classifier
from mien.model.folder import model_path

Picture = NDArray[np.uint8]


def _levels(picture: NDArray[np.floating]) -> Picture:
    levels: Picture = np.clip(np.round(picture), 0, 255).astype(np.uint8)
    return levels


def _small(side: int) -> Callable[[Picture, Generator], Picture]:
    def shrink(face: Picture, _rng: Generator) -> Picture:
        if min(face.shape[:2]) <= side:
            return face
        return np.asarray(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), np.uint8)

    return shrink


def _dark(share: float) -> Callable[[Picture, Generator], Picture]:
    return lambda face, _rng: _levels(face * share)


def _flat(share: float) -> Callable[[Picture, Generator], Picture]:
    return lambda face, _rng: _levels((face - 128.0) * share + 128)


def _blurred(share: float) -> Callable[[Picture, Generator], Picture]:
    """share: standard deviation over the side of the face."""
    return lambda face, _rng: np.asarray(cv2.GaussianBlur(face, (0, 0), share * face.shape[0]), np.uint8)


def _noisy(face: Picture, rng: Generator) -> Picture:
    return _levels(face + rng.normal(0, 25, face.shape))


def _compressed(face: Picture, _rng: Generator) -> Picture:
    _, file = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 10])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_UNCHANGED), np.uint8)


def _covered(face: Picture, rng: Generator) -> Picture:
    """A quarter of the face under one rectangle."""
    side, part = face.shape[0], face.shape[0] // 2
    top, left = rng.integers(0, side - part + 1, 2)
    covered = face.copy()
    covered[top : top + part, left : left + part] = rng.integers(0, 256)
    return covered


def _banded(top: float, bottom: float) -> Callable[[Picture, Generator], Picture]:
    """top, bottom: of a band of one level, in sides of the face, as sunglasses and masks cover it."""

    def cover(face: Picture, rng: Generator) -> Picture:
        covered, side = face.copy(), face.shape[0]
        covered[round(top * side) : round(bottom * side)] = rng.integers(0, 256)
        return covered

    return cover


def _turned(degrees: float) -> Callable[[Picture, Generator], Picture]:
    def turn(face: Picture, _rng: Generator) -> Picture:
        middle = (face.shape[0] - 1) / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)
        return np.asarray(
            cv2.warpAffine(face, matrix, face.shape[:2], borderMode=cv2.BORDER_REPLICATE), np.uint8
        )

    return turn


DAMAGES: dict[str, Callable[[Picture, Generator], Picture]] = {
    "as it is": lambda face, _rng: face,
    "24 px": _small(24),
    "32 px": _small(32),
    "48 px": _small(48),
    "96 px": _small(96),
    "200 px": _small(200),
    "light 1/5": _dark(1 / 5),
    "light 1/12": _dark(1 / 12),
    "contrast 1/4": _flat(1 / 4),
    "contrast 1/10": _flat(1 / 10),
    "blur 2 %": _blurred(0.02),
    "blur 4 %": _blurred(0.04),
    "noise 25": _noisy,
    "JPEG 10": _compressed,
    "a quarter covered": _covered,
    "eyes covered": _banded(0.2, 0.5),
    "mouth covered": _banded(0.6, 1),
    "turned 20 degrees": _turned(20),
    "turned 45 degrees": _turned(45),
}


ROOM = 1.2  # side of what the cuts are cut from, over the side of a usual one


def _cut(scale: float, down: float, across: float) -> Callable[[Picture, Generator], Picture]:
    """scale: of the side; down, across: shifts, in sides of the cut. Out of a crop with ROOM around it."""

    def cut(face: Picture, _rng: Generator) -> Picture:
        side = face.shape[0] * scale / ROOM
        top, left = ((face.shape[0] - side) / 2 + shift * side for shift in (down, across))
        return face[round(top) : round(top + side), round(left) : round(left + side)]

    return cut


CUTS = [
    _cut(scale, *shift)
    for scale in (0.92, 1, 1.08)
    for shift in ((0, 0), (0.04, 0), (-0.04, 0), (0, 0.04), (0, -0.04))
]


@dataclass(frozen=True)
class Faces:
    """Crops by margin, because each network has its own, and the labels of all.

    room: whether a larger margin shows more of the picture.
    """

    crops: Callable[[float], list[Picture]]
    labels: list[str]
    room: bool


def main() -> None:
    """Print a row a damage and a column a network; the last row is the mean over the damages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="shipped names or model folders")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--fer2013", type=Path)
    parser.add_argument("--head", help="an answer by name; unset: each network's default")
    options = parser.parse_args()
    if options.fer2013:
        faces = _from_fer2013(options.fer2013)
    elif options.labels and options.photos:
        faces = _from_photographs(options.labels, options.photos)
    else:
        parser.error("give --labels and --photos, or --fer2013")
    networks = {name: Classifier(model_path(name)) for name in options.models}
    print(f"{len(faces.labels):,} faces; accuracy / balanced accuracy\n")
    print(f"| | {' | '.join(Path(name).name for name in networks)} |")
    print("|---" * (1 + len(networks)) + "|")
    damaged = []
    for name, damage in DAMAGES.items():
        cells = _scores(list(networks.values()), faces, damage, options.head)
        _row(name, cells)
        if name != "as it is":
            damaged.append(cells)
        elif faces.room:
            cuts = [_scores(list(networks.values()), faces, cut, options.head, ROOM) for cut in CUTS]
            _row("cut in 15 ways, mean", np.mean(cuts, axis=0))
    _row("mean of the damages", np.mean(damaged, axis=0))


def _row(name: str, cells: NDArray[np.float64]) -> None:
    print(f"| {name} | {' | '.join(f'{one:.3f} / {two:.3f}' for one, two in cells)} |", flush=True)


def _scores(
    networks: list[Classifier],
    faces: Faces,
    damage: Callable[[Picture, Generator], Picture],
    head: str | None,
    room: float = 1.0,
) -> NDArray[np.float64]:
    """Return accuracy and balanced accuracy of each network, (networks, 2).

    Crops are made once for the networks of one margin, `room` times as large.
    """
    crops: dict[float, list[Picture]] = {}
    scores = []
    for network in networks:
        margin = network.metadata.preprocess.margin
        if margin not in crops:
            rng = np.random.default_rng(0)
            crops[margin] = [damage(crop, rng) for crop in faces.crops(margin * room)]
        answer = network.metadata.head(head)
        said = np.array(answer.labels)[network.predict(crops[margin])[answer.name].argmax(axis=1)]
        truth = np.array(faces.labels)
        kept = np.isin(truth, answer.labels)
        right = (said == truth)[kept]
        recalls = [right[truth[kept] == label].mean() for label in np.unique(truth[kept])]
        scores.append((float(right.mean()), float(np.mean(recalls))))
    return np.array(scores)


def _from_photographs(labels: Path, photos: Path) -> Faces:
    detector = open_detector("auto")
    found, names = [], []
    with labels.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            image = read_image(photos / row["file"])
            if detections := detector.detect(image):
                found.append((image, detections[0]))
                names.append(canonical(row["emotion"]))
    return Faces(lambda margin: [align(image, face, margin) for image, face in found], names, room=True)


def _from_fer2013(path: Path) -> Faces:
    dataset = open_dataset(path)
    split = dataset.split("validation")
    crops = [split.pictures.read(place) for place in range(len(split))]
    return Faces(lambda _margin: crops, [dataset.classes[label] for label in split.labels], room=False)


if __name__ == "__main__":
    main()
