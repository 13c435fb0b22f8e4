"""Which crop suits a network best: margin round the face box, levelled or not, resize filter, and which answer.

For a network whose answers are a mixture, also which mixture: share of the votes, and how much of the class prior
is taken out.

    python benchmarks/choosing_crops.py mien LABELS.csv PHOTOS --detector-file face_detection_yunet_2026may.onnx

LABELS.csv has the columns file and emotion; PHOTOS is the folder that the files are relative to. The largest face of
each photograph is found once, then cut in every way. Each cell is accuracy / balanced accuracy (mean recall of the
classes) over the photographs whose label the answer knows; all cells see the same faces, so they can be compared.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Detection, align, crop
from mien.detect.registry import open_detector
from mien.images import read_image
from mien.labels import canonical
from mien.model.classifier import Classifier
from mien.model.folder import model_path
from mien.model.metadata import Head
from mien.model.preprocess import Preprocess, to_model_input

MARGINS = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1)
CUTS: dict[str, Callable[..., NDArray[np.uint8]]] = {"as is": crop, "level": align}
SHARES = (0.4, 0.5, 0.6, 0.65, 0.7)  # of the votes in the mixture
ADJUSTMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
FILTERS = {"area": None, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "Lanczos": cv2.INTER_LANCZOS4}


def main() -> None:
    options = _options()
    classifier = Classifier(model_path(options.model), options.precision)
    faces = list(_faces(options))
    truth = [canonical(emotion) for _, _, emotion in faces]
    print(f"{len(faces)} faces; accuracy / balanced accuracy")
    names = [answer.name for answer in classifier.metadata.answers]
    _table("margin", names, _margins(classifier, faces, truth))
    _table("filter", names, _filters(classifier, faces, truth))
    if classifier.metadata.blend:
        _table(
            "votes' share",
            [f"adjustment {one:g}" for one in ADJUSTMENTS],
            _mixtures(classifier, faces, truth),
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("labels", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--detector-file", type=Path)
    parser.add_argument("--precision", default="auto")
    return parser.parse_args()


Labelled = tuple[NDArray[np.uint8], Detection, str]
Row = tuple[str, list[str]]


def _faces(options: argparse.Namespace) -> Iterator[Labelled]:
    detector = open_detector("auto", options.detector_file)
    with options.labels.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            image = read_image(options.photos / row["file"])
            if found := detector.detect(image):
                yield image, found[0], row["emotion"]


def _margins(classifier: Classifier, faces: list[Labelled], truth: list[str]) -> Iterator[Row]:
    how = classifier.metadata.preprocess
    for name, cutter in CUTS.items():
        for margin in MARGINS:
            inputs = [
                to_model_input(cutter(image, face, margin), how) for image, face, _ in _boxed(faces, cutter)
            ]
            yield f"{name}, {margin:g}", _cells(classifier, np.stack(inputs), truth)


def _boxed(
    faces: list[Labelled], cutter: Callable[..., NDArray[np.uint8]]
) -> Iterator[tuple[NDArray[np.uint8], object, str]]:
    """Give `crop` the box that it takes, and the others the face."""
    return ((image, face.box if cutter is crop else face, emotion) for image, face, emotion in faces)


def _filters(classifier: Classifier, faces: list[Labelled], truth: list[str]) -> Iterator[Row]:
    how = classifier.metadata.preprocess
    for name, flag in FILTERS.items():
        inputs = [_scaled(align(image, face, how.margin), how, flag) for image, face, _ in faces]
        yield f"{name}, {how.margin:g}", _cells(classifier, np.stack(inputs), truth)


def _mixtures(classifier: Classifier, faces: list[Labelled], truth: list[str]) -> Iterator[Row]:
    metadata, blend = classifier.metadata, classifier.metadata.blend
    assert blend is not None
    answers = classifier.predict([align(image, face, metadata.preprocess.margin) for image, face, _ in faces])
    counts = metadata.training["data"]["counts"]["train"]
    prior = {label: counts[label] / sum(counts.values()) for label in blend.labels}
    first, votes = (head.name for head in metadata.heads)
    for share in SHARES:
        mixed = replace(blend, shares={first: 1 - share, votes: share}, prior=prior)
        kinds = [replace(mixed, adjustment=one) for one in ADJUSTMENTS]
        yield f"{share:g}", [_cell(one, one.of(answers, metadata.heads), truth) for one in kinds]


def _scaled(face: NDArray[np.uint8], how: Preprocess, flag: int | None) -> NDArray[np.uint8]:
    side = how.resize or how.size
    return to_model_input(face if flag is None else cv2.resize(face, (side, side), interpolation=flag), how)


def _cells(classifier: Classifier, inputs: NDArray[np.uint8], truth: list[str]) -> list[str]:
    answers = classifier.probabilities(inputs)
    return [_cell(answer, answers[answer.name], truth) for answer in classifier.metadata.answers]


def _cell(answer: Head, shares: NDArray[np.float32], truth: list[str]) -> str:
    """Compare over the classes that the photographs have and the answer knows; it must choose among these."""
    labels = [canonical(label) for label in answer.labels]
    shown = [place for place, label in enumerate(labels) if truth.count(label) >= 10]
    known = np.array([label in {labels[place] for place in shown} for label in truth])
    places = np.array([labels.index(label) if label in labels else -1 for label in truth])[known]
    chosen = np.array(shown)[shares[known][:, shown].argmax(axis=1)]
    right = chosen == places
    balanced = np.mean([right[places == place].mean() for place in shown])
    return f"{right.mean():.3f} / {balanced:.3f}"


def _table(title: str, columns: list[str], rows: Iterator[Row]) -> None:
    print("\n" + f"{title:24}" + "".join(f"{column:18}" for column in columns))
    for name, cells in rows:
        print(f"{name:24}" + "".join(f"{cell:18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
