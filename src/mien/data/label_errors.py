"""Labels that are most likely wrong: every row ranked by how little two opinions agree with its label.

**Learnt from the labels themselves**: a logistic regression on the features of a trained network (the numbers that its
last layer answers from), fitted out of fold, so that no row is judged by what was learnt from it or from a copy of it
(`mien.model.linear_head`). It works for classes that the network has never heard of.

**The network's own**, where it knows the classes and was not trained on the row.

The opinions' geometric mean, its confidence softened, ranks the rows by the normalised margin: the probability of the
given label less the largest of the others. How many are likely wrong comes from confident learning (Northcutt, Jiang
and Chuang 2021, 'Confident Learning: Estimating Uncertainty in Dataset Labels', JAIR 70, arXiv:1911.00068). Margin and
number are cleanlab's.

`find_label_errors` does it for a data set, `rank_labels` for arrays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from mien.data.crops import with_margin
from mien.data.dataset import Dataset, Progress, Split
from mien.data.decisions import CHANGE, DROP, KEEP, Decision, Decisions, about_label, digests_of, relabelled
from mien.data.near_copies import components, near_copies_if_quick, no_copies
from mien.data.pictures import fingerprints_of, joined
from mien.data.readers.csv_text import rows_of
from mien.data.summary import sheet_of
from mien.errors import DataError, need
from mien.files import csv_writer, spreadsheet_safe, whole_file
from mien.images.canvas import write_picture
from mien.labels import matching_place
from mien.model.calibration import softmax
from mien.model.classifier import Classifier
from mien.model.linear_head import fit_linear_head
from mien.model.metadata import Metadata
from mien.model.preprocess import to_model_inputs
from mien.terminal import counted

COLUMNS = ("split", "name", "label", "suggestion", "margin", "learnt", "network", "decision")
_BATCH = 64  # pictures at a time through the network
# The opinions' temperature. At 1 those that are sure of everything drown the rest; on planted errors (see the
# benchmark) 3 to 6 are alike.
_SOFTNESS = 4.0


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


@dataclass(frozen=True, eq=False)
class Ranking:
    """All rows, the least believable label first.

    order: (n,) int64. margins: (n,) float64, of the rows as they were given, -1 to 1. learnt: (n, classes) float32, the
    opinion learnt out of fold. suggestions: (n,) int64, the likeliest class besides the label. likely: about how many
    labels are wrong.
    """

    order: NDArray[np.int64]
    margins: NDArray[np.float64]
    learnt: NDArray[np.float32]
    suggestions: NDArray[np.int64]
    likely: int


def rank_labels(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    own: NDArray[np.float32] | None = None,
    asked: NDArray[np.bool_] | None = None,
) -> Ranking:
    """Rank labels by how little is said for them.

    features: (n, d). labels: (n,) from 0. groups: (n,), equal for rows that must not judge each other. own:
    (n, classes), the network's own opinion; asked: (n,), for which rows it counts, by default for all. Raises
    MissingExtra without the training extra, DataError where a class has fewer than two rows.
    """
    return ranked(out_of_fold(features, labels, groups), labels, own, asked)


def ranked(
    learnt: NDArray[np.float32],
    labels: NDArray[np.int64],
    own: NDArray[np.float32] | None = None,
    asked: NDArray[np.bool_] | None = None,
) -> Ranking:
    """Do what `rank_labels` does where the opinion learnt out of fold is there already: learnt, (n, classes)."""
    logs = np.log(np.maximum(learnt, 1e-4))
    if own is not None:
        counts = np.ones(len(labels), bool) if asked is None else asked
        logs[counts] = (logs[counts] + np.log(np.maximum(own[counts], 1e-4))) / 2
    opinions = softmax(logs)
    margins = normalised_margin(softmax(logs / _SOFTNESS), labels)
    others = opinions.copy()
    others[np.arange(len(labels)), labels] = -1.0
    order: NDArray[np.int64] = np.argsort(margins, kind="stable")
    best: NDArray[np.int64] = others.argmax(axis=1)
    return Ranking(order, margins, learnt, best, estimated_errors(opinions, labels))


def find_label_errors(
    dataset: Dataset,
    model: Path,
    progress: Progress | None = None,
    decided: Decisions | None = None,
    learnt: Collection[bytes] = (),
) -> LabelErrors:
    """Rank the labels of all splits together. model: a model folder; its classes need not be the data's.

    decided: labels that somebody decided to keep are left out of the list, and counted in a note. learnt: fingerprints
    of the pictures that the network was trained on, where they are known; else the data's own fingerprint tells.
    Raises MissingExtra without the training extra, DataError where a class has fewer than two pictures, ModelError
    where the folder gives no features.
    """
    classifier = Classifier(model)
    dataset = with_margin(dataset, classifier.metadata.preprocess.margin)
    names = list(dataset.splits)
    parts = list(dataset.splits.values())
    labels = np.concatenate([part.labels for part in parts])
    where = [(name, row) for name, part in zip(names, parts, strict=True) for row in range(len(part))]
    features, outputs = seen_by(classifier, parts, progress)
    fitted = np.concatenate(
        [
            np.array([key in learnt for key in fingerprints_of(part.pictures).keys], bool)
            | was_fitted(classifier.metadata, dataset, name)
            for name, part in dataset.splits.items()
        ]
    )
    own = in_classes(classifier.metadata, outputs, dataset.classes)
    ranking = rank_labels(features, labels, _groups(parts), own, ~fitted)
    notes = []
    if fitted.any():
        notes.append(
            f"{classifier.metadata.name} was trained on {int(fitted.sum()):,} of these pictures and may know their "
            "labels by heart: there only the opinion learnt out of fold counts, and it is weaker, because the features "
            "know them, too"
        )
    if own is None:
        notes.append(
            f"{classifier.metadata.name} does not know all classes: only the opinion learnt from the labels counts"
        )
    doubts = []
    kept = _decided(dataset, decided)
    if kept:
        notes.append(f"not listed: {counted(len(kept), 'label')} that somebody decided to keep")
    for place in ranking.order.tolist():
        name, row = where[place]
        if (name, row) in kept:
            continue
        doubts.append(
            Doubt(
                split=name,
                name=dataset.splits[name].names[row],
                row=row,
                label=dataset.classes[labels[place]],
                suggestion=dataset.classes[int(ranking.suggestions[place])],
                margin=round(float(ranking.margins[place]), 4),
                learnt=_said(ranking.learnt[place], dataset.classes),
                network=_said(own[place], dataset.classes) if own is not None and not fitted[place] else None,
            )
        )
    return LabelErrors(tuple(doubts), ranking.likely, tuple(notes))


def _decided(dataset: Dataset, decided: Decisions | None) -> set[tuple[str, int]]:
    """Return the pictures whose label somebody decided to keep."""
    if not decided:
        return set()
    found = set()
    for name, split in dataset.splits.items():
        for row, digest in enumerate(digests_of(split)):
            decision = decided.on_label(digest, dataset.classes[int(split.labels[row])])
            if decision and decision.action == KEEP:
                found.add((name, row))
    return found


def _said(probabilities: NDArray[np.floating[Any]], classes: Sequence[str]) -> tuple[str, float]:
    best = int(probabilities.argmax())
    return classes[best], round(float(probabilities[best]), 4)


# The two opinions


def seen_by(
    classifier: Classifier, parts: Sequence[Split], progress: Progress | None = None
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Return features, (n, d), and all answers by name, (n, labels), of splits behind each other.

    Each is the mean over the face and its mirror image, which raises the average precision by about .01.
    """
    total, done = sum(map(len, parts)), 0
    features, answers = [], []
    how = classifier.metadata.preprocess
    for part in parts:
        pictures = part.pictures
        for start in range(0, len(part), _BATCH):
            rows = range(start, min(start + _BATCH, len(part)))
            inputs = to_model_inputs([pictures.read(row) for row in rows], how)
            plain = classifier.features_and_probabilities(inputs)
            mirrored = classifier.features_and_probabilities(inputs[:, :, ::-1])
            features.append((plain[0] + mirrored[0]) / 2)
            answers.append({name: (said + mirrored[1][name]) / 2 for name, said in plain[1].items()})
            done += len(rows)
            if progress:
                progress(done, total)
    heads = classifier.metadata.answers
    return np.concatenate(features), {
        head.name: np.concatenate([one[head.name] for one in answers]) for head in heads
    }


def out_of_fold(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the probabilities of a logistic regression that never saw the row or its group: (n, classes)."""
    classes = int(labels.max()) + 1
    if classes < 2 or (np.bincount(labels, minlength=classes) < 2).any():
        raise DataError("looking for wrong labels takes at least two classes with two pictures each")
    fitted = fit_linear_head(features, np.eye(classes)[labels], groups)
    if not fitted.folds.any():
        raise DataError("too few pictures, or groups, to judge each by the others; add pictures")
    return fitted.out_of_fold


def in_classes(
    metadata: Metadata, outputs: Mapping[str, NDArray[np.float32]], classes: Sequence[str]
) -> NDArray[np.float32] | None:
    """Return the network's default answer, (n, classes) in the data's order; None where two classes share a label.

    Or where one has none.
    """
    head = metadata.head()
    found = [matching_place(name, head.labels) for name in classes]
    places = [place for place in found if place is not None]
    if len(set(places)) < len(found):
        return None
    chosen = outputs[head.name][:, places]
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
    named = [group for part in parts for group in (part.groups or [""] * len(part))]
    near = near_copies_if_quick(prints) or no_copies()
    return components(len(prints), near.pairs, prints.keys, named)


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

    Change a decision to the name of a class to relabel the picture, to `keep` not to be asked again, or empty it.
    """
    writer = csv_writer(file)
    writer.writerow(COLUMNS)
    for place, doubt in enumerate(found.doubts):
        cells = {
            **vars(doubt),
            "learnt": _worded(doubt.learnt),
            "network": _worded(doubt.network),
            "decision": DROP if place < found.likely else "",
        }
        writer.writerow([spreadsheet_safe(cells[name]) for name in COLUMNS])


def write_sheet(path: Path, dataset: Dataset, found: LabelErrors, *, most: int = 64, mark: str = "") -> None:
    """Write a picture of the first rows of the list, each with its label and the suggestion. mark: of its file."""
    first = found.doubts[:most]
    pictures = [dataset.splits[doubt.split].pictures.read(doubt.row) for doubt in first]
    captions = [f"is {doubt.label}\nor {doubt.suggestion}?" for doubt in first]
    write_picture(path, sheet_of(pictures, captions), mark)


def _worded(said: tuple[str, float] | None) -> str:
    return f"{said[0]} {said[1]:.2f}" if said else ""


def apply_list(dataset: Dataset, path: Path) -> tuple[Dataset, str]:
    """Return the data set after a list's decisions, and a line for the user; errors as `decisions_in`."""
    decisions = _in_list(dataset, path)
    splits, dropped, moved = {}, 0, 0
    for name, split in dataset.splits.items():
        chosen = [decisions.get((name, one), "") for one in split.names]
        labels = split.labels.copy()
        for place, decision in enumerate(chosen):
            if decision in dataset.classes:
                labels[place] = dataset.classes.index(decision)
        changed = np.flatnonzero(labels != split.labels).tolist()
        moved += len(changed)
        dropped += chosen.count(DROP)
        kept = np.flatnonzero([decision != DROP for decision in chosen])
        splits[name] = relabelled(split, labels, changed, len(dataset.classes)).take(kept)
    line = f"{path.name}: {counted(dropped, 'picture')} left out, {moved} given another label"
    return replace(dataset, splits=splits, notes=(*dataset.notes, line)), line


def decisions_in(dataset: Dataset, path: Path) -> list[Decision]:
    """Return what a list decides, to be remembered (`mien.data.decisions.remember`).

    Pictures are found by split and name. Raises DataError for a list without the columns, a class that does not exist,
    or a list of other data.
    """
    decisions, found = _in_list(dataset, path), []
    for name, split in dataset.splits.items():
        for row, one in enumerate(split.names):
            word = decisions.get((name, one), "")
            if word in (KEEP, DROP):
                found.append(about_label(dataset, name, row, word))
            elif word:
                found.append(about_label(dataset, name, row, CHANGE, to=word))
    return found


def _in_list(dataset: Dataset, path: Path) -> dict[tuple[str, str], str]:
    """Return the decision on each picture, (split, name), that the list decides."""
    rows = rows_of(path)
    header = [cell.strip() for cell in next(rows, [])]
    if lacking := [name for name in ("split", "name", "decision") if name not in header]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}; write the list with: mien data DATA --label-errors"
        )
    column = {name: header.index(name) for name in ("split", "name", "decision")}
    found: dict[tuple[str, str], str] = {}
    for row in rows:
        if len(row) > max(column.values()) and (decision := row[column["decision"]].strip()):
            found[row[column["split"]], row[column["name"]]] = decision
    if unknown := sorted(set(found.values()) - {DROP, KEEP, *dataset.classes}):
        raise DataError(
            f"{path} decides {unknown[0]!r}; allowed are {DROP}, {KEEP}, a class ({', '.join(dataset.classes)}) or "
            f"nothing"
        )
    known = {(name, one) for name, split in dataset.splits.items() for one in split.names}
    if missing := [one for one in found if one not in known]:
        part, name = missing[0]
        raise DataError(
            f"{path} is of other data: there is no {name} in {part} here ({counted(len(missing), 'such row')})"
        )
    return found
