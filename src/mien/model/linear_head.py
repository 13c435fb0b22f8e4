"""A linear classifier for other classes on a network's features: multinomial logistic regression, calibrated.

Fitted in a second where training a network takes an hour, and from a few faces of each class. `mien label` guesses with
it; the search for label errors judges every row by a head that never saw it.

The strength of the regularisation is chosen by cross-validation with groups (persons, films, copies) never split over
folds, or the choice would go to a head that knows its faces by heart. One temperature, fitted on the same out-of-fold
answers, makes the probabilities mean something.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError, need
from mien.model.calibration import calibrated, fit_temperature, softmax

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

FOLDS = 5
# Inverse variance of the weights, for features of unit variance. Hardly depends on the number of faces: on 70 to 1,200
# faces of two data sets the best was .003 to .03.
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
DEFAULT_STRENGTH = 0.01  # where there are too few faces to choose
_CHOSEN_ON = 1500  # faces that decide on the strength, at most: more cost seconds and change nothing
_LEAST = 1e-4  # what a class gets that was not among the faces learnt from


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A fitted head. weights: (d, classes), bias: (classes,), for features less `mean` over `scale`, (d,) each.

    A class of which no face was seen has a bias of minus infinity.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    temperature: float = 1.0
    strength: float = DEFAULT_STRENGTH

    def probabilities(self, features: Floats) -> Floats:
        """Return (n, classes) float32, rows sum to one. features: (n, d) float32."""
        logits = ((features - self.mean) / self.scale) @ self.weights + self.bias
        return np.asarray(softmax(logits / self.temperature), np.float32)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A head and what it says, out of fold, of the faces that it was fitted on.

    out_of_fold: (n, classes) float32, calibrated as the head's own answers: of each face the answer of a head that saw
    neither it nor its group. Even shares where there were too few groups to judge one by others. folds: (n,) int64.
    """

    head: LinearHead
    out_of_fold: Floats
    folds: Integers


def fit_linear_head(
    features: Floats,
    shares: NDArray[np.floating[Any]],
    groups: Integers | None = None,
    *,
    scaling: tuple[Floats, Floats] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Fitted:
    """Fit a head.

    features: (n, d) float32. shares: (n, classes), what the faces are: one-hot, or the shares of several opinions; rows
    sum to one. groups: (n,), equal for faces that no folds may tear apart; None: each stands alone. scaling: mean and
    standard deviation of the features, (d,) each, where more faces are known than these. Raises MissingExtra without
    scikit-learn, DataError without a face.
    """
    if not len(features):
        raise DataError("a head cannot be fitted without faces; label some first")
    groups = np.arange(len(features)) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    mean, scale = scaling or standardisation(features)
    scaled = np.asarray((features - mean) / scale, np.float32)
    targets: NDArray[np.float64] = np.asarray(shares, np.float64)
    folds = dealt_folds(targets.argmax(axis=1), groups, seed)
    strength, temperature = DEFAULT_STRENGTH, 1.0
    judged = folds.max() > 0 and np.count_nonzero(targets.sum(axis=0)) > 1
    if judged:
        some = _spread(folds, targets.argmax(axis=1), seed)
        found = {one: _held_out(scaled[some], targets[some], folds[some], one) for one in strengths}
        strength = _chosen_strength({one: _losses(said, targets[some]) for one, said in found.items()})
        whole = found[strength]
        if len(some) < len(folds):
            whole = _held_out(scaled, targets, folds, strength)
        temperature = fit_temperature(whole, targets)
        out_of_fold = np.asarray(calibrated(whole, temperature, 0.0), np.float32)
    else:
        out_of_fold = np.full(targets.shape, 1 / targets.shape[1], np.float32)
    weights, bias = _regression(scaled, targets, strength)
    head = LinearHead(mean, scale, weights, bias, temperature, strength)
    return Fitted(head, out_of_fold, folds)


def refitted(head: LinearHead, features: Floats, shares: NDArray[np.floating[Any]]) -> LinearHead:
    """Return a head of the same settings fitted on other faces."""
    scaled = np.asarray((features - head.mean) / head.scale, np.float32)
    weights, bias = _regression(scaled, np.asarray(shares, np.float64), head.strength)
    return replace(head, weights=weights, bias=bias)


def standardisation(features: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each feature, (d,) float32; a constant one keeps its scale."""
    if not len(features):
        return np.zeros(features.shape[1], np.float32), np.ones(features.shape[1], np.float32)
    deviation = features.std(axis=0)
    return features.mean(axis=0), np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def dealt_folds(labels: Integers, groups: Integers, seed: int = 0) -> Integers:
    """Deal groups to at most five folds, every class as evenly as its groups allow: (n,) int64 from 0.

    labels: (n,) from 0. groups: (n,), numbered from 0 without gaps. A group counts for the class of most of its faces.
    """
    count = int(groups.max()) + 1
    votes = np.zeros((count, int(labels.max()) + 1), np.int64)
    np.add.at(votes, (groups, labels), 1)
    order = np.lexsort((np.random.default_rng(seed).random(count), votes.argmax(axis=1)))
    fold = np.empty(count, np.int64)
    fold[order] = np.arange(count) % min(FOLDS, count)
    return fold[groups]


def _spread(folds: Integers, labels: Integers, seed: int) -> NDArray[np.intp]:
    """Return at most `_CHOSEN_ON` rows, in which rare classes keep more of their faces than common ones."""
    if len(folds) <= _CHOSEN_ON:
        return np.arange(len(folds))
    weights = 1 / np.sqrt(np.bincount(labels)[labels])
    chosen = np.random.default_rng(seed).choice(
        len(folds), _CHOSEN_ON, replace=False, p=weights / weights.sum()
    )
    return np.sort(chosen)


def _held_out(scaled: Floats, shares: NDArray[np.float64], folds: Integers, strength: float) -> Floats:
    found = np.empty(shares.shape, np.float32)
    for fold in np.unique(folds).tolist():
        inside, outside = folds != fold, folds == fold
        if not inside.any():
            found[outside] = 1 / shares.shape[1]
            continue
        weights, bias = _regression(scaled[inside], shares[inside], strength)
        found[outside] = softmax(scaled[outside] @ weights + bias)
    found = np.maximum(found, _LEAST)
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float32)


def _regression(scaled: Floats, shares: NDArray[np.float64], strength: float) -> tuple[Floats, Floats]:
    """Return weights, (d, classes), and bias, (classes,)."""
    classes = shares.shape[1]
    rows, labels = np.nonzero(shares > 0)
    present = np.unique(labels)
    weights = np.zeros((scaled.shape[1], classes), np.float32)
    bias = np.full(classes, -math.inf, np.float32)
    if len(present) == 1:
        bias[present] = 0
        return weights, bias
    linear = need("sklearn.linear_model", "train", "learning from labels")
    learner = linear.LogisticRegression(C=strength, max_iter=100, tol=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that is not quite at the optimum is good enough
        learner.fit(scaled[rows], labels, sample_weight=shares[rows, labels])
    if len(present) == 2:  # scikit-learn keeps the second of two classes alone
        weights[:, present[1]], bias[present] = learner.coef_[0], [0, learner.intercept_[0]]
    else:
        weights[:, present], bias[present] = learner.coef_.T, learner.intercept_
    return weights, bias


def _losses(probabilities: Floats, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross-entropy of each row in nats, (n,)."""
    found: NDArray[np.float64] = -(shares * np.log(probabilities)).sum(axis=1)
    return found


def _chosen_strength(losses: Mapping[float, NDArray[np.float64]]) -> float:
    """Return the strength with the lowest mean loss; the default unless another is better by two standard errors.

    With few faces the lowest of seven means is mostly chance, and following it cost a point of accuracy.
    """
    best = min(losses, key=lambda one: float(losses[one].mean()))
    if DEFAULT_STRENGTH not in losses:
        return best
    gain = losses[DEFAULT_STRENGTH] - losses[best]
    return best if gain.mean() > 2 * gain.std() / math.sqrt(len(gain)) else DEFAULT_STRENGTH
