"""What a second view is worth, and costs: none, the mirror image where the network is unsure, that of each face.

    python benchmarks/two_views.py mien mien-large --fer2013 fer2013.csv
    python benchmarks/two_views.py mien mien-large --labels LABELS.csv --photos PHOTOS

Of FER-2013 the validation faces (PublicTest), by the network's first head; of photographs (LABELS.csv with the columns
file and emotion, PHOTOS the folder that the files are relative to) the largest face of each, by the default answer.
All ways see the same prepared faces. 'seen twice' is the share of faces of which the mirror image was asked about as
well; 'time' is processor time of the networks over all faces, in shares of one view's.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mien
from mien.data import open_dataset
from mien.images import read_image
from mien.labels import canonical
from mien.model.calibration import expected_calibration_error, negative_log_likelihood
from mien.model.preprocess import to_model_inputs
from mien.model.views import ADAPTIVE, FLIP, SINGLE, SURE
from mien.predict.analyzer import Analyzer

_BATCH = 256


def main() -> None:
    """Print a table a network: a row a way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="shipped names, runs or model folders")
    parser.add_argument("--fer2013", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--photos", type=Path)
    options = parser.parse_args()
    for model in options.models:
        first = mien.load(model, tta=SINGLE)
        head = first.metadata.heads[0].name if options.fer2013 else first.head.name
        ways = {way: mien.load(model, head=head, tta=way) for way in (SINGLE, ADAPTIVE, FLIP)}
        if options.fer2013:
            inputs, truth = _fer2013(options.fer2013, first)
        elif options.labels and options.photos:
            inputs, truth = _photographs(options.labels, options.photos, first)
        else:
            parser.error("give --fer2013, or --labels and --photos")
        print(f"\n{model}, answer {head}, {len(truth):,} faces\n")
        print(
            "| views | accuracy | balanced | ECE | NLL | seen twice | time |\n|---|---|---|---|---|---|---|"
        )
        for way, row in zip(ways, _rows(ways, inputs, truth), strict=True):
            print(f"| {way} | {row} |", flush=True)


def _rows(ways: dict[str, Analyzer], inputs: NDArray[np.uint8], truth: list[str]) -> list[str]:
    labels = ways[SINGLE].head.labels
    places = np.array([labels.index(name) for name in truth])
    answers, took = {}, {}
    for way, analyzer in ways.items():
        begun = time.process_time()
        answers[way] = np.concatenate(
            [analyzer.probabilities(inputs[at : at + _BATCH]) for at in range(0, len(inputs), _BATCH)]
        )
        took[way] = time.process_time() - begun
    twice = {SINGLE: 0.0, ADAPTIVE: float((answers[SINGLE].max(axis=1) < SURE).mean()), FLIP: 1.0}
    rows = []
    for way, shares in answers.items():
        right = shares.argmax(axis=1) == places
        balanced = np.mean([right[places == place].mean() for place in np.unique(places)])
        error = expected_calibration_error(shares, places)
        loss = negative_log_likelihood(shares, np.eye(len(labels))[places])
        rows.append(
            f"{right.mean():.4f} | {balanced:.3f} | {error:.3f} | {loss:.3f} | {twice[way]:.2f} | "
            f"{took[way] / took[SINGLE]:.2f}"
        )
    return rows


def _fer2013(path: Path, analyzer: Analyzer) -> tuple[NDArray[np.uint8], list[str]]:
    dataset = open_dataset(path)
    split = dataset.split("validation")
    crops = [split.pictures.read(place) for place in range(len(split))]
    return to_model_inputs(crops, analyzer.metadata.preprocess), [
        dataset.classes[one] for one in split.labels
    ]


def _photographs(labels: Path, photos: Path, analyzer: Analyzer) -> tuple[NDArray[np.uint8], list[str]]:
    crops, truth = [], []
    with labels.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            image = read_image(photos / row["file"])
            name = canonical(row["emotion"])
            if name in analyzer.head.labels and (found := analyzer.detect(image)):
                crops.append(analyzer.cut(image, found[0]))
                truth.append(name)
    return to_model_inputs(crops, analyzer.metadata.preprocess), truth


if __name__ == "__main__":
    main()
