"""Labels that are most likely wrong: every row ranked by how little two opinions agree with its label.

**Learnt from the labels themselves**: a logistic regression on the features of a trained network (the numbers that its
last layer answers from), fitted out of fold, so that no row is judged by what was learnt from it or from a copy of it.
It works for classes that the network has never heard of.

**The network's own**, where it knows the classes and was not trained on the row.

Rows are ranked by the normalised margin, the probability of the given label less the largest of the others, averaged
over the opinions; how many are likely wrong comes from confident learning (Northcutt, Jiang and Chuang 2021, 'Confident
Learning: Estimating Uncertainty in Dataset Labels', JAIR 70, arXiv:1911.00068). Both are cleanlab's.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from mien.data.crops import with_margin
from mien.data.dataset import Dataset, Progress, Split
from mien.data.index import fingerprints_of, joined
from mien.data.near_copies import components, near_copies_if_quick
from mien.data.readers.csv_text import rows_of
from mien.data.summary import sheet_of
from mien.errors import DataError, ModelError, need
from mien.files import spreadsheet_safe, whole_file
from mien.images.canvas import write_picture
from mien.labels import canonical
from mien.model.classifier import Classifier, open_session
from mien.model.metadata import Metadata
from mien.model.preprocess import to_model_inputs

FOLDS = 5
DROP, KEEP = "drop", ""  # decisions in the list, besides the name of a class
COLUMNS = ("split", "name", "label", "suggestion", "margin", "learnt", "network", "decision")
_BATCH = 64  # pictures at a time through the network


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One row of the list. margin: -1 (surely wrong) to 1. learnt, network: what either opinion says it is, with the
    probability that it gives to that; network is None where that opinion is not asked.
    """

    split: str
    name: str
    row: int
    label: str
    suggestion: str
    margin: float
    learnt: tuple[str, float]
    network: tuple[str, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "learnt": list(self.learnt), "network": self.network and list(self.network)}


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """All rows of a data set, the least believable label first. likely: how many of them are probably wrong.

    notes: one line each, for the user.
    """

    doubts: tuple[Doubt, ...]
    likely: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "likely": self.likely,
            "notes": list(self.notes),
            "rows": [one.to_dict() for one in self.doubts],
        }


def find_label_errors(dataset: Dataset, model: Path, progress: Progress | None = None) -> LabelErrors:
    """Rank the labels of all splits together. model: a model folder; its classes need not be the data's.

    Raises MissingExtra without the training extra, DataError where a class has fewer than two pictures.
    """
    names = list(dataset.splits)
    parts = list(dataset.splits.values())
    labels = np.concatenate([part.labels for part in parts])
    where = [(name, row) for name, part in zip(names, parts, strict=True) for row in range(len(part))]
    network = FeatureNetwork(model)
    parts = list(with_margin(dataset, network.metadata.preprocess.margin).splits.values())
    features, outputs = network.run(parts, progress)
    learnt = out_of_fold(features, labels, _groups(parts))
    fitted = np.concatenate(
        [
            np.full(len(part), was_fitted(network.metadata, dataset, name))
            for name, part in dataset.splits.items()
        ]
    )
    own = in_classes(network.metadata, outputs, dataset.classes)
    notes = []
    if fitted.any():
        notes.append(
            f"{model.name} was trained on {int(fitted.sum()):,} of these pictures and may know their labels by heart: "
            f"there only the opinion learnt out of fold counts, and it is weaker, because the features know them, too"
        )
    if own is None:
        notes.append(
            f"{model.name} does not know all classes: only the opinion learnt from the labels counts"
        )
    asked = np.zeros(len(labels), bool) if own is None else ~fitted
    opinions = learnt.copy()
    margins = normalised_margin(learnt, labels)
    if own is not None:
        opinions[asked] = (learnt[asked] + own[asked]) / 2
        margins[asked] = (margins[asked] + normalised_margin(own[asked], labels[asked])) / 2
    likely = estimated_errors(opinions, labels)
    doubts = []
    for place in np.argsort(margins, kind="stable").tolist():
        name, row = where[place]
        others = opinions[place].copy()
        others[labels[place]] = -1.0
        doubts.append(
            Doubt(
                split=name,
                name=dataset.splits[name].names[row],
                row=row,
                label=dataset.classes[labels[place]],
                suggestion=dataset.classes[int(others.argmax())],
                margin=round(float(margins[place]), 4),
                learnt=_said(learnt[place], dataset.classes),
                network=_said(own[place], dataset.classes) if own is not None and asked[place] else None,
            )
        )
    return LabelErrors(tuple(doubts), likely, tuple(notes))


def _said(probabilities: NDArray[np.floating[Any]], classes: Sequence[str]) -> tuple[str, float]:
    best = int(probabilities.argmax())
    return classes[best], round(float(probabilities[best]), 4)


# The two opinions


class FeatureNetwork:
    """A model folder whose network also tells the features that its last layer answers from.

    These are found in the graph, whatever the layers are called: what goes into the last multiplication by a matrix of
    weights before the first output.
    """

    def __init__(self, path: Path) -> None:
        classifier = Classifier(path)  # checks the folder
        self.metadata = classifier.metadata
        onnx = need("onnx", "train", "looking for wrong labels")
        proto = onnx.load(classifier.file)
        self._features = _features_of(proto.graph, path)
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(self._features))
        self._session = open_session(proto.SerializeToString(), path)
        self._input = self._session.get_inputs()[0].name

    def run(
        self, parts: Sequence[Split], progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Return the features, (n, d), and all answers by name, (n, labels), of splits behind each other."""
        heads = [head.name for head in self.metadata.heads]
        total, found = sum(map(len, parts)), []
        for part in parts:
            for start in range(0, len(part), _BATCH):
                rows = range(start, min(start + _BATCH, len(part)))
                inputs = to_model_inputs([part.pictures.read(row) for row in rows], self.metadata.preprocess)
                fed = {self._input: np.ascontiguousarray(inputs, np.float32)}
                found.append(self._session.run([self._features, *heads], fed))
                if progress:
                    progress(sum(len(batch[0]) for batch in found), total)
        features, *answers = (np.concatenate(columns) for columns in zip(*found, strict=True))
        outputs = dict(zip(heads, answers, strict=True))
        if blend := self.metadata.blend:
            outputs[blend.name] = blend.of(outputs, self.metadata.heads)
        return features.reshape(total, -1), outputs


def _features_of(graph: Any, path: Path) -> str:
    """Return the name of the tensor that the last dense layer before the first output takes."""
    weights = {tensor.name for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    waiting, seen = [graph.output[0].name], set()
    while waiting:
        node = producers.get(waiting.pop(0))
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in ("Gemm", "MatMul") and set(node.input) & weights:
            return str(next(name for name in node.input if name not in weights))
        waiting += list(node.input)
    raise ModelError(
        f"{path} has no dense layer, so mien does not know what its features are; use another network"
    )


def out_of_fold(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the probabilities of a logistic regression that never saw the row or its group: (n, classes).

    Groups are dealt to five folds at random, always alike. A class that is missing from a fold's training rows gets
    the probability 0 there.
    """
    linear = need("sklearn.linear_model", "train", "looking for wrong labels")
    classes = int(labels.max()) + 1
    few = [label for label in range(classes) if (labels == label).sum() < 2]
    if few or classes < 2:
        raise DataError("looking for wrong labels takes at least two classes with two pictures each")
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    kinds = np.unique(groups, return_inverse=True)[1].reshape(-1)
    fold = (np.random.default_rng(0).permutation(int(kinds.max()) + 1) % FOLDS)[kinds]
    found = np.zeros((len(labels), classes), np.float32)
    for held in range(FOLDS):
        inside, outside = fold != held, fold == held
        present = np.unique(labels[inside])
        if not outside.any():
            continue
        if len(present) < 2:
            raise DataError("too few pictures, or groups, to judge each by the others; add pictures")
        learner = linear.LogisticRegression(C=0.001, max_iter=200, tol=1e-3)
        learner.fit(scaled[inside], labels[inside])
        found[np.ix_(outside, present)] = learner.predict_proba(scaled[outside])
    return found


def in_classes(
    metadata: Metadata, outputs: Mapping[str, NDArray[np.float32]], classes: Sequence[str]
) -> NDArray[np.float32] | None:
    """Return the network's default answer, (n, classes) in the data's order; None where it lacks a class."""
    head = metadata.head()
    known = [canonical(label) for label in head.labels]
    if any(canonical(name) not in known for name in classes):
        return None
    chosen = outputs[head.name][:, [known.index(canonical(name)) for name in classes]]
    return np.asarray(chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-9), np.float32)


def was_fitted(metadata: Metadata, dataset: Dataset, split: str) -> bool:
    """Say whether the network was trained on this split, by the fingerprint or name of the data it was trained on."""
    about = metadata.training.get("data")
    if split != "train" or not isinstance(about, Mapping):
        return False
    same = about.get("fingerprint") == dataset.fingerprint
    return same or (dataset.name == "fer2013" and about.get("name") == "fer2013")


def _groups(parts: Sequence[Split]) -> NDArray[np.int64]:
    """Number what folds must not tear apart: persons and films, pixel copies, near copies where they are known."""
    prints = joined([fingerprints_of(part.pictures) for part in parts])
    pairs: list[tuple[int, int]] = []
    first: dict[object, int] = {}
    named = [group for part in parts for group in (part.groups or [""] * len(part))]
    for row, (key, group) in enumerate(zip(prints.keys, named, strict=True)):
        pairs.append((first.setdefault(key, row), row))
        if group:
            pairs.append((first.setdefault(group, row), row))
    if near := near_copies_if_quick(prints):
        pairs += zip(near.first.tolist(), near.second.tolist(), strict=True)
    return components(len(prints), pairs)


def normalised_margin(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each row's probability of its label less the largest other one: (n,) from -1 to 1.

    cleanlab moves it to 0 to 1; here it is moved back.
    """
    rank = need("cleanlab.rank", "train", "looking for wrong labels")
    found = rank.get_label_quality_scores(labels, probabilities, method="normalized_margin")
    return np.asarray(2 * found - 1, np.float64)


def estimated_errors(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> int:
    """Return about how many labels are wrong, by confident learning."""
    count = need("cleanlab.count", "train", "looking for wrong labels")
    return int(count.num_label_issues(labels, probabilities))


# The list


def write_list(path: Path, found: LabelErrors) -> None:
    """Write the ranked list as CSV; see `write_rows`."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write_rows(file, found)


def write_rows(file: TextIO, found: LabelErrors) -> None:
    """Write the ranked list as CSV, safe in a spreadsheet; `drop` is filled in for the likely errors.

    Change a decision to the name of a class to relabel the picture, or empty it to keep the picture as it is.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, doubt in enumerate(found.doubts):
        cells = {
            **vars(doubt),
            "learnt": _worded(doubt.learnt),
            "network": _worded(doubt.network),
            "decision": DROP if place < found.likely else KEEP,
        }
        writer.writerow([spreadsheet_safe(cells[name]) for name in COLUMNS])


def write_sheet(path: Path, dataset: Dataset, found: LabelErrors, *, most: int = 64) -> None:
    """Write a picture of the first rows of the list, each with its label and the suggestion."""
    first = found.doubts[:most]
    pictures = [dataset.splits[doubt.split].pictures.read(doubt.row) for doubt in first]
    write_picture(path, sheet_of(pictures, [f"is {doubt.label}\nor {doubt.suggestion}?" for doubt in first]))


def _worded(said: tuple[str, float] | None) -> str:
    return f"{said[0]} {said[1]:.2f}" if said else ""


def apply_list(dataset: Dataset, path: Path) -> tuple[Dataset, str]:
    """Return the data set after a list's decisions, and a line for the user.

    Pictures are found by split and name. Raises DataError for a list without the columns, a class that does not exist,
    or a list of other data.
    """
    rows = rows_of(path)
    header = [cell.strip() for cell in next(rows, [])]
    if lacking := [name for name in ("split", "name", "decision") if name not in header]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}; write the list with: mien data DATA --label-errors"
        )
    column = {name: header.index(name) for name in ("split", "name", "decision")}
    decisions: dict[tuple[str, str], str] = {}
    for row in rows:
        if len(row) > max(column.values()) and (decision := row[column["decision"]].strip()):
            decisions[row[column["split"]], _unguarded(row[column["name"]])] = decision
    if unknown := sorted(set(decisions.values()) - {DROP, *dataset.classes}):
        raise DataError(
            f"{path} decides {unknown[0]!r}; allowed are {DROP}, a class ({', '.join(dataset.classes)}) or nothing"
        )
    splits, dropped, relabelled = {}, 0, 0
    for name, split in dataset.splits.items():
        chosen = [decisions.pop((name, one), KEEP) for one in split.names]
        labels = split.labels.copy()
        for place, decision in enumerate(chosen):
            if decision in dataset.classes:
                labels[place] = dataset.classes.index(decision)
        relabelled += int((labels != split.labels).sum())
        dropped += chosen.count(DROP)
        kept = np.flatnonzero([decision != DROP for decision in chosen])
        splits[name] = replace(split, labels=labels).take(kept)
    if decisions:
        part, missing = next(iter(decisions))
        raise DataError(
            f"{path} is of other data: there is no {missing} in {part} here ({len(decisions)} such rows)"
        )
    line = f"{path.name}: {dropped} pictures left out, {relabelled} given another label"
    return replace(dataset, splits=splits, notes=(*dataset.notes, line)), line


def _unguarded(cell: str) -> str:
    """Take away the apostrophe that `spreadsheet_safe` put in front."""
    return cell[1:] if cell.startswith("'") and spreadsheet_safe(cell[1:]) == cell else cell
