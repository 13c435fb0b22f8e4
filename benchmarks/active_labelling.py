"""How many labels the order of `mien label` saves: a simulated labeller answers in three orders.

    python benchmarks/active_labelling.py ../shared/data/web-faces/labels.csv ../shared/data/fer2013/fer2013.csv.xz

A third of the faces is kept for testing, the rest waits for labels; near copies stay on one side. The network that
gives the features was trained on FER-2013's Training faces, so of FER-2013 only those PublicTest faces take part that
are no copies of Training faces. The same learner (`mien.label.active.fit`) is fitted in all three orders:

random: the order in which most people label. uncertainty: the smallest margin between the two likeliest classes, after
20 random faces. mien: `mien.label.active.order`.

Accuracy is that of the learner's guesses on the test faces, mean over the seeds (each another third). `all less a
point` says after how many labels the mean curve first reaches the accuracy that all labels give, less one point. `of
random` is that as a share of what random order needs, with the range of 90 % of 1,000 draws of the seeds: where a curve
is flat, few seeds say little. `too
sure by`: in the order of mien, the accuracy that the learner expects of the unlabelled faces, less what it has.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import open_dataset
from mien.data.crops import crop_faces
from mien.data.dataset import Split
from mien.data.duplicates import copies_of_training, groups_of_copies, near_copies_of_training
from mien.detect.registry import open_detector
from mien.label.active import Learner, fit, order
from mien.model.classifier import Classifier
from mien.model.folder import model_path
from mien.model.preprocess import to_model_inputs
from mien.terminal import columns

Integers = NDArray[np.int64]
STEPS = (20, 30, 40, 50, 70, 100, 140, 200, 270, 350, 450, 600, 800, 1000, 1300)
ORDERS = ("random", "uncertainty", "mien")
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Faces:
    """features: (n, d). labels, groups: (n,)."""

    name: str
    classes: tuple[str, ...]
    features: NDArray[np.float32]
    labels: Integers
    groups: Integers


def faces_of(path: Path, model: str) -> Faces:
    """Read a data set and run the network over it: of photographs over their largest faces."""
    classifier = Classifier(model_path(model))
    dataset = open_dataset(path, carve_validation=False)
    if "validation" in dataset.splits:
        split = dataset.split("validation")
        near = near_copies_of_training(dataset, "validation")
        copied = copies_of_training(dataset, "validation") | (near if near is not None else False)
        split = split.take(np.flatnonzero(~copied))
    else:
        margin = classifier.metadata.preprocess.margin
        split = crop_faces(dataset, open_detector("mien"), margin)[0].split("train")
    groups = groups_of_copies(split.pictures)
    counts = np.bincount(split.labels, minlength=len(dataset.classes))
    rows = np.flatnonzero(counts[split.labels] >= 10)  # a class of three cannot be learnt and tested
    kept, labels = np.unique(split.labels[rows], return_inverse=True)
    features = features_of(split, classifier)
    classes = tuple(dataset.classes[one] for one in kept)
    return Faces(path.parent.name, classes, features[rows], labels.astype(np.int64), groups[rows])


def features_of(split: Split, classifier: Classifier) -> NDArray[np.float32]:
    found = []
    for start in range(0, len(split), _BATCH):
        pictures = [split.pictures.read(row) for row in range(start, min(start + _BATCH, len(split)))]
        found.append(classifier.features(to_model_inputs(pictures, classifier.metadata.preprocess)))
    return np.concatenate(found)


def halves(faces: Faces, seed: int) -> tuple[Integers, Integers]:
    """Return rows for labelling and rows for testing, about a third; groups stay on one side."""
    kinds = np.unique(faces.groups, return_inverse=True)[1].ravel()
    drawn = np.random.default_rng(seed).random(int(kinds.max()) + 1)[kinds]
    test = drawn < 1 / 3
    return np.flatnonzero(~test), np.flatnonzero(test)


def following(name: str, learner: Learner, random: np.random.Generator) -> Integers:
    """Return the unlabelled faces in the order in which they would be labelled."""
    rows = learner.unlabelled
    if name == "mien":
        return order(learner)
    if name == "random" or learner.head is None:
        return random.permutation(rows)
    best = np.sort(learner.probabilities[rows], axis=1)
    return np.asarray(rows[np.argsort(best[:, -1] - best[:, -2], kind="stable")], np.int64)


def curve(faces: Faces, name: str, seed: int, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """Return, at every step, the accuracy on the test faces, and by how much the learner expected too much.

    The latter of the faces that are still unlabelled; they get easier, as the hard ones are labelled first.
    """
    pool, test = halves(faces, seed)
    random = np.random.default_rng(seed)
    labels = np.full(len(pool), -1, np.int64)
    truth, kinds = faces.labels[pool], len(faces.classes)
    found, excess = [], []
    learner = fit(faces.features[pool], labels, faces.groups[pool], classes=kinds)
    for step in steps:
        more = following(name, learner, random)[: step - int((labels >= 0).sum())]
        labels[more] = truth[more]
        learner = fit(faces.features[pool], labels, faces.groups[pool], classes=kinds)
        assert learner.head is not None
        guesses = learner.head.probabilities(faces.features[test]).argmax(axis=1)
        found.append(float((guesses == faces.labels[test]).mean()))
        rest = learner.unlabelled
        right = float((learner.guesses[rest] == truth[rest]).mean()) if len(rest) else 1.0
        excess.append((learner.expected_accuracy or 1.0) - right)
    return found, excess


def reached(steps: Sequence[int], values: Sequence[float], target: float) -> float | None:
    """Return after how many labels the curve first reaches the target, between two steps by a straight line."""
    for place, value in enumerate(values):
        if value >= target:
            if not place:
                return float(steps[0])
            before = values[place - 1]
            share = (target - before) / (value - before)
            return steps[place - 1] + share * (steps[place] - steps[place - 1])
    return None


def share(
    runs: Sequence[tuple[list[float], list[float]]],
    random: Sequence[tuple[list[float], list[float]]],
    steps: Sequence[int],
    target: float,
) -> str:
    """Return the labels that an order needs over those of random order, and the range of 90 % of draws of the seeds."""
    mine, theirs = (np.array([run[0] for run in one]) for one in (runs, random))

    def over(rows: Integers) -> float:
        needs = [
            reached(steps, one[rows].mean(axis=0).tolist(), target) or steps[-1] for one in (mine, theirs)
        ]
        return needs[0] / needs[1]

    every = np.arange(len(mine))
    draws = np.random.default_rng(0).choice(every, (1000, len(every)))
    low, high = np.quantile([over(rows) for rows in draws], (0.05, 0.95))
    return f"{over(every):.2f} ({low:.2f}-{high:.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", default="mien")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the curves")
    options = parser.parse_args()
    drawn = []
    for path in options.data:
        faces = faces_of(path, options.model)
        start = time.process_time()
        smallest = min(len(halves(faces, seed)[0]) for seed in range(options.seeds))
        steps = [step for step in STEPS if step < smallest] + [smallest]
        runs = {name: [curve(faces, name, seed, steps) for seed in range(options.seeds)] for name in ORDERS}
        means = {name: np.mean([run[0] for run in found], axis=0) for name, found in runs.items()}
        whole = float(np.mean([values[-1] for values in means.values()]))
        rows: list[tuple[str, ...]] = [("labels", *ORDERS, "too sure by")]
        excess = np.mean([run[1] for run in runs["mien"]], axis=0)
        for place, step in enumerate(steps):
            rows.append(
                (str(step), *(f"{means[name][place]:.3f}" for name in ORDERS), f"{excess[place]:+.3f}")
            )
        needs = {name: reached(steps, means[name].tolist(), whole - 0.01) for name in ORDERS}
        rows.append(("all less a point", *(f"{needs[name] or np.nan:.0f} labels" for name in ORDERS), ""))
        shares = [share(runs[name], runs["random"], steps, whole - 0.01) for name in ORDERS]
        rows.append(("of random", *shares, ""))
        print(f"{faces.name}: {len(faces.labels)} faces, {len(faces.classes)} classes, {options.seeds} seeds; all "
              f"labels {whole:.3f}; {time.process_time() - start:.0f} s")  # fmt: skip
        print(columns(rows), flush=True)
        drawn.append((faces.name, steps, means, whole))
    if options.chart:
        draw(options.chart, drawn)
    return 0


def draw(
    path: Path, drawn: Sequence[tuple[str, Sequence[int], dict[str, NDArray[np.float64]], float]]
) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(drawn), figsize=(5 * len(drawn), 3.6), layout="constrained")
    for axis, (name, steps, means, whole) in zip(np.atleast_1d(axes), drawn, strict=True):
        for kind, colour in zip(ORDERS, ("#888888", "#d08020", "#1d6fd0"), strict=True):
            axis.plot(steps, 100 * means[kind], label=kind, color=colour)
        axis.axhline(
            100 * whole - 1, color="black", linewidth=0.8, linestyle=":", label="all labels less a point"
        )
        axis.set(title=name, xlabel="labels", ylabel="accuracy, %", xscale="log")
        axis.set_xticks([20, 50, 100, 200, 500, 1000], ["20", "50", "100", "200", "500", "1,000"])
        axis.grid(alpha=0.3)
    np.atleast_1d(axes)[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
