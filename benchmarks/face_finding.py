"""What the face finders find and miss on labelled photographs, and what they take for faces.

    python benchmarks/face_finding.py ../shared/data --yunet ../shared/models/yunet/face_detection_yunet_2026may.onnx

web-faces: portraits, one person each. faces (its `val` rows): photographs with boxes drawn by YuNet itself at several
sizes, so YuNet's own recall there says little; Haar's says how far it is behind. Photographs without people: false
alarms.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.predict.detect import Detector, FoundFace, detector

SAME = 0.4  # intersection over union from which a found box is the labelled one
SIZES = ((20, 40), (40, 10_000))  # longer side of the labelled box, pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with web-faces/ and faces/")
    parser.add_argument("--yunet", type=Path, help="YuNet's file; without it only haar is measured")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    finders: list[Detector] = [detector("haar")]
    if options.yunet:
        finders.append(detector("yunet", options.yunet))
    portraits = [_read(path) for path in sorted((options.data / "web-faces" / "images").glob("*.jpg"))]
    photos = list(_validation(options.data / "faces"))
    for finder in finders:
        print(f"{finder.name}: {_portraits(finder, portraits)}")
        print(f"{finder.name}: {_photographs(finder, photos)}")


def _read(path: Path) -> NDArray[np.uint8]:
    return _decoded(path.read_bytes())


def _decoded(data: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("not a picture")
    return np.ascontiguousarray(picture[:, :, ::-1], np.uint8)


def _validation(folder: Path) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    for name in sorted({row["tar"] for row in rows}):
        with tarfile.open(folder / name) as archive:
            for row in rows:
                if (row["tar"], row["split"]) == (name, "val") and (file := archive.extractfile(row["file"])):
                    yield row, _decoded(file.read())


def _portraits(finder: Detector, pictures: Sequence[NDArray[np.uint8]]) -> str:
    start = time.process_time()
    counts = np.array([len(finder.find(picture)) for picture in pictures])
    each = (time.process_time() - start) / len(pictures)
    return (
        f"web-faces, {len(pictures)} portraits: no face in {100 * (counts == 0).mean():.1f} %, "
        f"several in {100 * (counts > 1).mean():.1f} %; {1000 * each:.0f} ms of one core a picture"
    )


def _photographs(finder: Detector, photos: Sequence[tuple[dict[str, Any], NDArray[np.uint8]]]) -> str:
    labelled = dict.fromkeys(SIZES, 0)
    found = dict.fromkeys(SIZES, 0)
    empty = alarms = 0
    for row, picture in photos:
        faces = finder.find(picture)
        if row["part"] == "noface":
            empty, alarms = empty + 1, alarms + len(faces)
        for label in row["faces"]:
            for low, high in SIZES:
                if low <= max(label["box"][2:]) < high:
                    labelled[low, high] += 1
                    found[low, high] += _is_found(label["box"], faces)
    shares = ", ".join(
        f"{100 * found[size] / labelled[size]:.1f} % of {labelled[size]} faces of {size[0]} px and more"
        for size in reversed(SIZES)
    )
    return (
        f"faces (val): found {shares}; {100 * alarms / empty:.1f} false alarms in 100 of {empty} photographs"
    )


def _is_found(box: Sequence[float], faces: Sequence[FoundFace]) -> bool:
    return any(_overlap(box, face.box) >= SAME for face in faces)


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


if __name__ == "__main__":
    main()
