"""Every figure of a report, from probabilities and labels; by scikit-learn wherever it has the figure.

How often the answers are right, whether their probabilities mean what they say, and how a votes head does against the
ten raters of FER+ (Barsoum et al. 2016, arXiv:1608.01041).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError, need
from mien.evaluate.significance import Interval, grouped_intervals, intervals
from mien.evaluate.significance import macro_f1 as mean_f1
from mien.labels import FERPLUS, canonical
from mien.model.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    over_folds,
    with_temperature,
)
from mien.model.metadata import Head

_CURVE_POINTS = 201  # kept of each curve; a screen shows no more
BINS = 15
RATERS = 10
_OUTLIER = 2  # a label that fewer raters chose counts as a slip


@dataclass(frozen=True)
class Curve:
    """Points of one line, x and y in [0, 1], and the area that belongs to it."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    area: float


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class against the rest. None where a figure is not defined for lack of pictures or answers."""

    name: str
    support: int  # pictures with this label
    predicted: int  # pictures with this answer
    precision: float | None
    recall: float | None
    f1: float | None
    roc: Curve | None  # x false positive rate, y true positive rate; the area is ROC AUC
    precision_recall: Curve | None  # x recall, y precision; the area is average precision

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "support": self.support,
            "predicted": self.predicted,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "roc_auc": self.roc.area if self.roc else None,
            "average_precision": self.precision_recall.area if self.precision_recall else None,
            "roc": _points(self.roc, "false_positive_rate", "true_positive_rate"),
            "precision_recall": _points(self.precision_recall, "recall", "precision"),
        }


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How good the answers are. Shares lie in [0, 1]; means over classes run over those that have pictures.

    top2: None for two classes, where it says nothing. nll: nats. brier: sum over the classes, in [0, 2].
    confusion: rows are labels, columns answers.
    """

    n: int
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float
    accuracy_interval: Interval
    top2: float | None
    balanced_accuracy: float
    macro_f1: float
    macro_f1_interval: Interval
    weighted_f1: float
    roc_auc: float | None
    average_precision: float | None
    ece: float
    nll: float
    brier: float

    def to_dict(self) -> dict[str, Any]:
        plain = {key: value for key, value in vars(self).items() if key not in ("classes", "confusion")}
        for name in ("accuracy_interval", "macro_f1_interval"):
            plain[name] = plain[name].to_dict()
        confusion = [list(row) for row in self.confusion]
        return {**plain, "confusion": confusion, "classes": [scores.to_dict() for scores in self.classes]}


def score(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    resamples: int = 2000,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
) -> Scores:
    """Score answers. probabilities: (n, classes), rows sum to one. labels: (n,) places in `classes`.

    groups: (n,) from 0 without gaps, equal for pictures of one person or film; the intervals then draw groups.

    Raises DataError for no pictures, shapes that do not fit and numbers that are not finite; MissingExtra
    without scikit-learn.
    """
    _check(probabilities, labels, classes)
    metrics = need("sklearn.metrics", "train", "evaluating")
    answers = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, answers, labels=np.arange(len(classes)))
    per_class = _per_class(metrics, probabilities, labels, classes)
    with_pictures = [found for found in per_class if found.support]
    targets = np.eye(len(classes))[labels]
    if groups is None:
        accuracy_interval, f1_interval = intervals(confusion, resamples, seed)
    else:
        cells = labels * len(classes) + answers
        accuracy_interval, f1_interval = grouped_intervals(cells, len(classes), groups, resamples, seed)
    return Scores(
        n=len(labels),
        classes=per_class,
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        accuracy=float(metrics.accuracy_score(labels, answers)),
        accuracy_interval=accuracy_interval,
        top2=_top2(metrics, probabilities, labels) if len(classes) > 2 else None,
        balanced_accuracy=float(np.mean([found.recall for found in with_pictures])),
        macro_f1=float(mean_f1(confusion)),
        macro_f1_interval=f1_interval,
        weighted_f1=sum((found.f1 or 0) * found.support for found in with_pictures) / len(labels),
        roc_auc=_mean([c.roc.area for c in per_class if c.roc]),
        average_precision=_mean([c.precision_recall.area for c in per_class if c.precision_recall]),
        ece=expected_calibration_error(probabilities, labels, BINS),
        nll=negative_log_likelihood(probabilities, targets),
        brier=float(((probabilities - targets) ** 2).sum(axis=1).mean()),
    )


def _check(probabilities: NDArray[np.floating], labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    if len(labels) == 0:
        raise DataError("there are no pictures to score; name another split with --split")
    if probabilities.shape != (len(labels), len(classes)):
        raise DataError(
            f"probabilities must be of shape {(len(labels), len(classes))}, one row a picture and one column "
            f"a class, got {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        row = int(np.flatnonzero(~np.isfinite(probabilities).all(axis=1))[0])
        raise DataError(f"the model's answer to picture number {row} is not finite; train or export it again")


def _top2(metrics: Any, probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    places = np.arange(probabilities.shape[1])
    return float(metrics.top_k_accuracy_score(labels, probabilities, k=2, labels=places))


def _per_class(
    metrics: Any,
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
) -> tuple[ClassScores, ...]:
    answers = probabilities.argmax(axis=1)
    predicted = np.bincount(answers, minlength=len(classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, answers, labels=np.arange(len(classes)), zero_division=0
    )
    scores = []
    for place, name in enumerate(classes):
        there, answered = bool(support[place]), bool(predicted[place])
        roc, curve = _curves(metrics, probabilities[:, place], labels == place)
        scores.append(
            ClassScores(
                name=name,
                support=int(support[place]),
                predicted=int(predicted[place]),
                precision=float(precision[place]) if answered else None,
                recall=float(recall[place]) if there else None,
                f1=float(f1[place]) if there else None,
                roc=roc,
                precision_recall=curve,
            )
        )
    return tuple(scores)


def _curves(
    metrics: Any, probability: NDArray[np.floating], is_class: NDArray[np.bool_]
) -> tuple[Curve | None, Curve | None]:
    """Return the ROC curve (needs pictures of the class and others) and the precision-recall curve."""
    if not is_class.any():
        return None, None
    precision, recall, _ = metrics.precision_recall_curve(is_class, probability)
    area = float(metrics.average_precision_score(is_class, probability))
    curve = _thinned(recall[::-1], precision[::-1], area)
    if is_class.all():
        return None, curve
    false_rate, true_rate, _ = metrics.roc_curve(is_class, probability)
    return _thinned(false_rate, true_rate, float(metrics.auc(false_rate, true_rate))), curve


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64], area: float) -> Curve:
    """Keep points at even distances along the line, both ends among them."""
    if len(x) > _CURVE_POINTS:
        along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        places = np.searchsorted(along, np.linspace(0, along[-1], _CURVE_POINTS))
        chosen = np.unique(np.minimum(places, len(x) - 1))
        x, y = x[chosen], y[chosen]
    return Curve(tuple(x.tolist()), tuple(y.tolist()), area)


def _points(curve: Curve | None, x: str, y: str) -> dict[str, list[float]] | None:
    return {x: list(curve.x), y: list(curve.y)} if curve else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration before and after a temperature. fitted: in words, on which pictures it was fitted."""

    fitted: str
    temperature: float
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Bin:
    """One bar of the reliability diagram: answers whose confidence lies in [low, high)."""

    low: float
    high: float
    count: int
    confidence: float  # mean over the bin; its middle where it is empty
    accuracy: float | None  # None where it is empty

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def reliability(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[Bin, ...]:
    """Return the bins over which `expected_calibration_error` is the mean gap, empty ones included."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        inside = places == place
        low, high, count = place / BINS, (place + 1) / BINS, int(inside.sum())
        sure = float(confidence[inside].mean()) if count else (low + high) / 2
        bins.append(Bin(low, high, count, sure, float(right[inside].mean()) if count else None))
    return tuple(bins)


@dataclass(frozen=True)
class Selective:
    """What is gained by answering only where the model is sure (Geifman and El-Yaniv 2017, arXiv:1705.08500).

    coverage, risk: points of the risk-coverage curve: share of the pictures that are answered, the surest first, and
    share of those answers that are wrong. aurc: area under it, the mean risk over all coverages. threshold: the model's
    own, below which it says 'uncertain'; answered: share of the pictures above it; accuracy: of those; below: of the
    others. accuracy and below are None where there are none.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    aurc: float
    threshold: float
    answered: float
    accuracy: float | None
    below: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "coverage": list(self.coverage), "risk": list(self.risk)}


def selective(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], threshold: float
) -> Selective:
    """Return how risk falls where less is answered. threshold: confidence below which an answer is 'uncertain'."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    # Equally sure answers are in the order of the data, which often is that of the labels: each counts as their mean.
    _, tied = np.unique(-confidence[order], return_inverse=True)
    wrong = np.bincount(tied, weights=~right[order]) / np.bincount(tied)
    risk = np.cumsum(wrong[tied]) / count
    shown = np.unique(np.linspace(0, len(order) - 1, min(len(order), _CURVE_POINTS)).astype(int))
    sure = confidence >= threshold
    return Selective(
        coverage=tuple((count[shown] / len(order)).tolist()),
        risk=tuple(risk[shown].tolist()),
        aurc=float(risk.mean()),
        threshold=threshold,
        answered=float(sure.mean()),
        accuracy=float(right[sure].mean()) if sure.any() else None,
        below=float(right[~sure].mean()) if not sure.all() else None,
    )


@dataclass(frozen=True)
class QualityGroup:
    """Faces that are alike in one respect. confidence: its mean; ece: expected calibration error within the group."""

    name: str
    n: int
    accuracy: float
    confidence: float
    ece: float

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def by_quality(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    measures: Mapping[str, NDArray[np.floating]],
) -> tuple[QualityGroup, ...]:
    """Return calibration within the lowest and the highest quarter by each measure: (n,) values by what low ones are.

    measures: such as {"smallest / largest": …}; a measure in which the pictures do not differ is left out.
    """
    found = []
    for name, values in measures.items():
        low, high = np.quantile(values, (0.25, 0.75))
        if not low < high:
            continue
        words = name.split(" / ")
        for word, rows in zip(words, (values <= low, values >= high), strict=True):
            answers, wanted = probabilities[rows], labels[rows]
            found.append(
                QualityGroup(
                    word,
                    int(rows.sum()),
                    float((answers.argmax(axis=1) == wanted).mean()),
                    float(answers.max(axis=1).mean()),
                    expected_calibration_error(answers, wanted, BINS),
                )
            )
    return tuple(found)


def five_fold_temperature(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], *, seed: int
) -> Calibration | None:
    """Judge a temperature on pictures it was not fitted on: five times, four fifths fit it for the other fifth.

    The temperature that is returned is fitted on all of them. None for fewer than two pictures.
    """
    n = len(labels)
    if n < 2:
        return None
    targets = np.eye(probabilities.shape[1])[labels]
    after = np.empty(probabilities.shape)
    for rest, fold in over_folds(n, seed):
        after[fold] = with_temperature(
            probabilities[fold], fit_temperature(probabilities[rest], targets[rest])
        )
    fitted = "on four fifths of these same pictures, judged on the other fifth, five times"
    return _compared(fitted, fit_temperature(probabilities, targets), probabilities, after, labels)


def transferred_temperature(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    validation: tuple[NDArray[np.floating], NDArray[np.int64]],
) -> Calibration:
    """Fit a temperature on the validation split and judge it on this one.

    validation: (probabilities, labels) of the validation split.
    """
    fit_on, fit_labels = validation
    temperature = fit_temperature(fit_on, np.eye(fit_on.shape[1])[fit_labels])
    after = with_temperature(probabilities, temperature)
    return _compared("on the validation split", temperature, probabilities, after, labels)


def _compared(
    fitted: str,
    temperature: float,
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    labels: NDArray[np.int64],
) -> Calibration:
    targets = np.eye(before.shape[1])[labels]
    return Calibration(
        fitted=fitted,
        temperature=temperature,
        ece_before=expected_calibration_error(before, labels, BINS),
        ece_after=expected_calibration_error(after, labels, BINS),
        nll_before=negative_log_likelihood(before, targets),
        nll_after=negative_log_likelihood(after, targets),
    )


@dataclass(frozen=True, kw_only=True)
class VotesScores:
    """Accuracy under three protocols, with how many faces each keeps, and the cross-entropy in nats.

    clear: faces on which more than five of the ten raters chose one label, single votes counted. Published figures
    do not always say whether 'majority' is this or the authors' own protocol; this one keeps fewer, clearer faces.
    """

    head: str
    majority_accuracy: float | None
    majority_n: int
    plurality_accuracy: float | None
    plurality_n: int
    clear_accuracy: float | None
    clear_n: int
    cross_entropy: float
    cross_entropy_n: int

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def votes_head(heads: tuple[Head, ...]) -> Head | None:
    """Return the head that answers with the eight classes of FER+, in any order; None where there is none."""
    wanted = {canonical(name) for name in FERPLUS}
    return next((head for head in heads if {canonical(label) for label in head.labels} == wanted), None)


def winners(votes: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return each face's winning class and whether the majority and the plurality protocol keep the face.

    votes: (n, 8) counts. As in the authors' own code, a label chosen by a single rater is dropped first.
    Plurality keeps a face whose most chosen label is one of the eight; majority also asks that it has over
    half of the votes that are left. 'Unknown' and 'no face' are not in the array: what is missing from ten
    raters is taken as one such label. On PublicTest this keeps 3,199 and 3,553 faces, exactly as with all
    ten columns; on Training 11 and 8 of 28,709 faces differ.
    """
    other = np.maximum(RATERS - votes.sum(axis=1, keepdims=True), 0)
    counted = np.concatenate([votes, other], axis=1)
    counted = np.where(counted < _OUTLIER, 0, counted)
    winner, best, total = counted.argmax(axis=1), counted.max(axis=1), counted.sum(axis=1)
    plurality = (best > 0) & (winner < votes.shape[1])
    return winner, plurality & (best > total / 2), plurality


def score_votes(head: Head, outputs: NDArray[np.float32], votes: NDArray[np.float32]) -> VotesScores:
    """Score a votes head. outputs: (n, 8) in the head's own order. votes: (n, 8) counts in the order FERPLUS.

    The cross-entropy is to the shares of the raters who chose one of the eight labels; faces without any are
    left out of it.
    """
    order = [canonical(label) for label in head.labels]
    answers = outputs[:, [order.index(canonical(name)) for name in FERPLUS]]
    winner, majority, plurality = winners(votes)
    right = answers.argmax(axis=1) == winner
    clear = votes.max(axis=1, initial=0) > RATERS / 2  # then it is also the winner of the other protocols
    total = votes.sum(axis=1)
    rated = total > 0
    shares = votes[rated] / total[rated, None]
    return VotesScores(
        head=head.name,
        majority_accuracy=_mean_of(right[majority]),
        majority_n=int(majority.sum()),
        plurality_accuracy=_mean_of(right[plurality]),
        plurality_n=int(plurality.sum()),
        clear_accuracy=_mean_of(right[clear]),
        clear_n=int(clear.sum()),
        cross_entropy=negative_log_likelihood(answers[rated], shares) if rated.any() else 0.0,
        cross_entropy_n=int(rated.sum()),
    )


def _mean_of(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None
