"""Every figure of a report, from probabilities and labels; by scikit-learn wherever it has the figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError, need
from mien.evaluate.calibration import BINS
from mien.evaluate.significance import Interval, intervals
from mien.evaluate.significance import macro_f1 as mean_f1
from mien.model.calibration import expected_calibration_error, negative_log_likelihood

_CURVE_POINTS = 201  # kept of each curve; a screen shows no more


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
) -> Scores:
    """Score answers. probabilities: (n, classes), rows sum to one. labels: (n,) places in `classes`.

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
    accuracy_interval, f1_interval = intervals(confusion, resamples, seed)
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
