"""How many planted label errors lead the list of `mien data DATA --label-errors`: average precision.

    python benchmarks/label_errors.py ../shared/data/fer2013/fer2013.csv.xz

Faces of FER-2013's PublicTest that are no copies of Training faces and whose label seven of ten raters share.
5 % of the labels are made wrong, evenly and by the confusions that raters have. `new classes`: the same faces with
classes renamed, so that the network does not know them. Means and ranges over several draws of the wrong labels.
Seconds are processor time of one ranking; on a busy machine set OMP_NUM_THREADS=1, or waiting threads are counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from mien.data import open_dataset
from mien.data.dataset import Dataset, Split
from mien.data.duplicates import copies_of_training, groups_of_copies, near_copies_of_training
from mien.data.label_errors import in_classes, rank_labels, seen_by
from mien.labels import FERPLUS
from mien.model.classifier import Classifier
from mien.model.folder import model_path
from mien.terminal import columns


def clean_part(dataset: Dataset, name: str, agreement: float) -> Split:
    """Return the faces of a split whose label most raters share and that are no copies of training faces."""
    split = dataset.split(name)
    votes = split.votes
    if votes is None:
        raise SystemExit("this needs FER+ votes (fer2013new.csv) beside the csv")
    own = np.array([FERPLUS.index(label) for label in dataset.classes])[split.labels]
    share = votes[np.arange(len(split)), own] / np.maximum(votes.sum(axis=1), 1)
    near = near_copies_of_training(dataset, name)
    fresh = ~copies_of_training(dataset, name) & ~(near if near is not None else False)
    return split.take(np.flatnonzero((share >= agreement) & fresh))


def wrong_labels(
    split: Split, confusion: NDArray[np.float64], share: float, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return labels of which `share` were drawn anew by the rows of `confusion`, and which: (n,) each."""
    labels = split.labels.copy()
    rows = random.permutation(len(labels))[: round(share * len(labels))]
    for row in rows.tolist():
        chances = confusion[labels[row]].copy()
        chances[labels[row]] = 0
        labels[row] = random.choice(len(chances), p=chances / chances.sum())
    return labels, labels != split.labels


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="mien")
    parser.add_argument("--share", type=float, default=0.05, help="of labels made wrong")
    parser.add_argument("--draws", type=int, default=8, help="of wrong labels")
    parser.add_argument("--agreement", type=float, default=0.7, help="of raters with the label")
    options = parser.parse_args()
    whole = open_dataset(options.data)
    split = clean_part(whole, "validation", options.agreement)
    columns_of = [FERPLUS.index(label) for label in whole.classes]
    votes = whole.split("validation").votes
    assert votes is not None
    labels = whole.split("validation").labels
    confusion = (
        np.stack([votes[labels == label][:, columns_of].sum(axis=0) for label in range(len(columns_of))])
        + 1.0
    )
    start = time.process_time()
    classifier = Classifier(model_path(options.model))
    features, answers = seen_by(classifier, [split])
    known = in_classes(classifier.metadata, answers, whole.classes)
    groups = groups_of_copies(split.pictures)
    print(
        f"{len(split)} faces; {1000 * (time.process_time() - start) / len(split):.1f} ms a face before ranking"
    )
    rows = [("errors", "planted", "average precision", "range", "likely, says mien", "s")]
    for own in (known, None):
        for kind, chances in (("evenly", np.ones_like(confusion)), ("by confusion", confusion)):
            precisions, likely, start = [], [], time.process_time()
            for draw in range(options.draws):
                spoilt, wrong = wrong_labels(split, chances, options.share, np.random.default_rng(draw))
                found = rank_labels(features, spoilt, groups, own)
                precisions.append(average_precision_score(wrong, -found.margins))
                likely.append(found.likely)
            rows.append(
                (
                    f"{kind}{', new classes' if own is None else ''}", str(int(wrong.sum())),
                    f"{np.mean(precisions):.3f}", f"{min(precisions):.3f} to {max(precisions):.3f}",
                    f"{min(likely)} to {max(likely)}", f"{(time.process_time() - start) / options.draws:.1f}",
                )
            )  # fmt: skip
    print(columns(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
