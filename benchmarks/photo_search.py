"""What the second look at a photograph brings: faces found and named right on damaged copies, and false positives.

    python benchmarks/photo_search.py --faces 150

Faces: drawn from `web-faces`, each with the expression that a person chose. False positives: all validation photographs
without a face. The first look is the detector alone.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import mien
from mien.detect.search import PhotoSearch
from mien.detect.training.photos import read_photos
from mien.images import read_image
from mien.labels import canonical

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
LOOKS = {"first look": PhotoSearch(second_look=False), "all looks": PhotoSearch()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--faces", type=int, default=150, help="photographs with a face, drawn at random")
    options = parser.parse_args()
    _faces(options.shared / "web-faces", options.faces)
    _false_positives(options.shared / "faces")


def _faces(folder: Path, count: int) -> None:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = np.random.default_rng(0).permutation(len(rows))[:count]
    analyzer = mien.load()
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


def _false_positives(folder: Path) -> None:
    photos = read_photos(folder, "val")
    empty = [i for i, row in enumerate(photos.rows) if not len(row.boxes) and not len(row.ignore)]
    detector = mien.load().detector
    for look, search in LOOKS.items():
        wrong = sum(bool(search(detector, photos.read(place))) for place in empty)
        print(f"{look}: a face in {wrong} of {len(empty)} photographs without one")


if __name__ == "__main__":
    main()
