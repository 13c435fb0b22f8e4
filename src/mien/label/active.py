"""Learning beside the person who labels: what the other faces probably are, which label would help most, what is sure.

    learner = fit(features, labels, groups, classes=4)
    learner.probabilities            # (n, 4), calibrated
    order(learner)                   # unlabelled faces, those first whose label would help most
    confirm(learner, 2)              # the surest of class 2, to be confirmed at one key
    learning_curve(learner)          # what more labels are expected to bring, and of which class

NumPy arrays in and out; it knows neither the table of faces nor the server. Every answer is a function of its input:
the same faces and labels give the same order.

The learner is a logistic regression on the features of the shipped network (`mien.model.linear_head`). What helps most
is found as BAIT does (Ash et al. 2021, 'Gone Fishing: Neural Active Learning with Fisher Embeddings',
arXiv:2106.09675): a face counts by how much its label would lower the variance of all guesses, given those that are
labelled or chosen already. An unsure face tells more, a face like many others tells of them, and a second one like it
tells nothing new; so the choice is unsure, typical and diverse at once, and it needs no labels to begin with. Each
class is taken by itself (class against rest), which makes the matrices small. docs/explanation/active-labelling.md has
the curves against random order and plain uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, DataError
from mien.model.linear_head import DEFAULT_STRENGTH, LinearHead, fit_linear_head, refitted, standardisation
from mien.terminal import counted

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

ENOUGH = 10  # labelled faces of a class from which its guesses are worth showing
BATCH = 200  # faces that `order` chooses one by one
SURE = 0.9  # probability from which `confirm` offers a face
_CANDIDATES = 2000  # faces of different groups among which it chooses
_COMPONENTS = 64  # of the features; all 256 cost twenty times as much and choose no better
_SHARES = (0.25, 0.5, 0.75)  # of the labelled faces, for the learning curve


@dataclass(frozen=True, eq=False)
class Learner:
    """What was learnt from the labelled faces.

    probabilities: (n, classes) float32, calibrated, rows sum to one; of a labelled face by a head that saw neither it
    nor its group. labels: (n,) int64, -1 where there is none. groups: (n,) int64 from 0. counts: (classes,) int64,
    labelled faces. accuracy: share of labelled faces whose label the out-of-fold answer is; None where it cannot be
    told. expected_accuracy: mean probability of the guesses over the unlabelled faces; None without a label. notes: one
    line each, for the user.
    """

    probabilities: Floats
    labels: Integers
    groups: Integers
    counts: Integers
    accuracy: float | None
    expected_accuracy: float | None
    notes: tuple[str, ...]
    features: Floats  # standardised
    shares: NDArray[np.float64]  # of the labelled faces, in order
    head: LinearHead | None  # None where fewer than two classes have a label

    @property
    def unlabelled(self) -> Integers:
        """The faces without a label, in order."""
        rows: Integers = np.flatnonzero(self.labels < 0)
        return rows

    @property
    def guesses(self) -> Integers:
        """The likeliest class of every face, (n,)."""
        best: Integers = self.probabilities.argmax(axis=1)
        return best


def fit(
    features: Floats,
    labels: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    classes: int | None = None,
) -> Learner:
    """Learn from the faces that have a label what the others are.

    features: (n, d) float32, as `Classifier.features` gives them. labels: (n,) integers from 0, -1 for none; or
    (n, classes) votes, counts or shares, rows of zeros for none. groups: (n,) of any kind, equal for faces of one
    track, person or group of near copies; '' or negative stands alone, and so does everyone with None. classes: how
    many there are, where some may have no label yet. Works with any number of labels, and says in `notes` what they do
    not allow.
    """
    features = np.asarray(features, np.float32)
    shares, given = _shares(np.asarray(labels), len(features), classes)
    count, kinds = shares.shape
    numbers = _numbered(groups, count)
    which = np.flatnonzero(given)
    hard = np.full(count, -1, np.int64)
    hard[which] = shares[which].argmax(axis=1)
    counts = np.bincount(hard[which], minlength=kinds).astype(np.int64)
    probabilities = np.full((count, kinds), 1 / max(1, kinds), np.float32)
    scaling = standardisation(features)
    head = accuracy = expected = None
    if (counts > 0).sum() > 1:
        fitted = fit_linear_head(features[which], shares[which], numbers[which], scaling=scaling)
        head = fitted.head
        probabilities = head.probabilities(features)
        probabilities[which] = fitted.out_of_fold
        accuracy = float((fitted.out_of_fold.argmax(axis=1) == hard[which]).mean())
        rest = probabilities[~given]
        expected = float(rest.max(axis=1).mean()) if len(rest) else None
    return Learner(
        probabilities=probabilities, labels=hard, groups=numbers, counts=counts, accuracy=accuracy,
        expected_accuracy=expected, notes=_notes(counts), features=(features - scaling[0]) / scaling[1],
        shares=shares[which], head=head,
    )  # fmt: skip


def order(learner: Learner, *, batch: int = BATCH) -> Integers:
    """Return all unlabelled faces, those first whose label would help most: (m,) rows of the features.

    Of faces of one group all but one come behind the first of every other group. The first `batch` are chosen one by
    one, each for what those before it do not tell; the rest follow by what each would tell by itself.
    """
    rows = learner.unlabelled
    if not len(rows):
        return rows
    strength = learner.head.strength if learner.head else DEFAULT_STRENGTH
    weights = _information(learner)
    features = _condensed(learner.features)
    variances = _Variances(
        features, weights, features[learner.labels >= 0], weights[learner.labels >= 0], strength
    )
    worth = variances.gains(features[rows], weights[rows])
    groups = learner.groups[rows]
    by_worth = np.argsort(-worth, kind="stable")
    # Of few groups each gives several faces of a batch, of many one at most.
    share = -(-batch // len(np.unique(groups)))
    turn = _turns(groups[by_worth])
    some = by_worth[np.argsort(turn, kind="stable")][:_CANDIDATES]
    chosen = some[variances.chosen(features[rows[some]], weights[rows[some]], groups[some], batch, share)]
    place = np.concatenate([chosen, by_worth[~np.isin(by_worth, chosen)]])
    found: Integers = rows[place[np.argsort(_turns(groups[place]), kind="stable")]]
    return found


def confirm(learner: Learner, label: int, *, count: int = 50, least: float = SURE) -> Integers:
    """Return the unlabelled faces that are surest of a class, surest first: (m,), at most `count`, perhaps none.

    least: probability that a face needs.
    """
    if not 0 <= label < len(learner.counts):
        raise ConfigError(f"label must be a class from 0 to {len(learner.counts) - 1}, got {label}")
    if learner.head is None:
        return np.empty(0, np.int64)
    rows = learner.unlabelled
    chances = learner.probabilities[rows]
    rows = rows[(chances.argmax(axis=1) == label) & (chances[:, label] >= least)]
    return np.asarray(rows[np.argsort(-learner.probabilities[rows, label], kind="stable")][:count], np.int64)


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """What more labels are expected to bring.

    labels, accuracy: numbers of labelled faces and the accuracy expected of the guesses over all unlabelled faces with
    so many, the last with all that there are; then, behind `known` of them, what a power law through these foretells
    for twice and four times as many. recall: (classes,) the share of each class that is expected to be found now, NaN
    where nothing is known of it. gain: (classes,) how much of it the last doubling of labels brought. most_needed: the
    class of which more labels would bring most, None where nothing can be told.
    """

    labels: tuple[int, ...]
    accuracy: tuple[float, ...]
    known: int
    recall: tuple[float, ...]
    gain: tuple[float, ...]
    most_needed: int | None


def learning_curve(learner: Learner, *, seed: int = 0) -> LearningCurve:
    """Say what accuracy is expected with more labels, and which class needs them most.

    Heads fitted on parts of the labelled faces guess the unlabelled ones; the calibrated head of all says how likely
    they are right. So it holds for faces that were chosen for being hard, of whose own scores that would not be true.
    """
    kinds = len(learner.counts)
    rows = learner.unlabelled
    if learner.head is None or not len(rows):
        fewest = int(learner.counts.argmin()) if kinds and len(rows) else None
        nothing = (float("nan"),) * kinds
        return LearningCurve(
            labels=(), accuracy=(), known=0, recall=nothing, gain=nothing, most_needed=fewest
        )
    truth = learner.probabilities[rows]
    labelled = np.flatnonzero(learner.labels >= 0)
    random = np.random.default_rng(seed)
    counts, accuracies, recalls = [], [], []
    plain = _uncalibrated(learner.head)
    for share in _SHARES:
        some = np.sort(random.permutation(len(labelled))[: max(2, round(share * len(labelled)))])
        head = refitted(plain, learner.features[labelled[some]], learner.shares[some])
        guesses = head.probabilities(learner.features[rows]).argmax(axis=1)
        counts.append(len(some))
        accuracies.append(float(truth[np.arange(len(rows)), guesses].mean()))
        recalls.append(_recall(truth, guesses))
    guesses = truth.argmax(axis=1)
    counts.append(len(labelled))
    accuracies.append(float(truth.max(axis=1).mean()))
    recalls.append(_recall(truth, guesses))
    further = [count for count in (2 * len(labelled), 4 * len(labelled)) if count <= len(learner.labels)]
    foretold = _power_law(counts, accuracies, further)
    gain = recalls[-1] - recalls[1]
    lacking = np.where(
        learner.counts == 0, np.inf, (1 - recalls[-1]) / np.sqrt(np.maximum(learner.counts, 1))
    )
    return LearningCurve(
        labels=(*counts, *further), accuracy=(*accuracies, *foretold), known=len(counts),
        recall=tuple(recalls[-1].tolist()), gain=tuple(gain.tolist()),
        most_needed=int(np.nan_to_num(lacking, nan=-1.0).argmax()),
    )  # fmt: skip


def _shares(
    labels: NDArray[Any], count: int, classes: int | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (n, classes) shares and which faces have a label, (n,) bool."""
    if len(labels) != count:
        raise DataError(
            f"there are {counted(count, 'face')} and {counted(len(labels), 'label')}; give one for each"
        )
    if labels.ndim == 2:
        votes = labels.astype(np.float64)
        total = votes.sum(axis=1)
        if (votes < 0).any() or not np.isfinite(votes).all():
            raise DataError("votes must be counts or shares from 0")
        return votes / np.maximum(total, 1e-9)[:, None], total > 0
    known = int(labels.max(initial=-1)) + 1
    kinds = known if classes is None else classes
    if known > kinds:
        raise DataError(f"there is a label {known - 1}, but only {kinds} classes, from 0")
    given = labels >= 0
    shares = np.zeros((count, kinds))
    shares[np.flatnonzero(given), labels[given].astype(np.int64)] = 1
    return shares, given


def _numbered(groups: NDArray[Any] | None, count: int) -> Integers:
    """Return groups as numbers from 0; '' and negative ones stand alone."""
    if groups is None:
        return np.arange(count)
    groups = np.asarray(groups)
    if len(groups) != count:
        raise DataError(
            f"there are {counted(count, 'face')} and {counted(len(groups), 'group')}; give one for each"
        )
    alone = groups == "" if groups.dtype.kind in "US" else groups < 0
    numbers = np.unique(groups, return_inverse=True)[1].ravel().astype(np.int64)
    numbers[alone] = len(numbers) + np.arange(int(alone.sum()))
    return np.unique(numbers, return_inverse=True)[1].ravel().astype(np.int64)


def _notes(counts: Integers) -> tuple[str, ...]:
    kinds = int((counts > 0).sum())
    if not counts.sum():
        return ("no face has a label yet: label a few of each class",)
    if kinds == 1:
        return (
            "all labelled faces are of one class, from which nothing can be learnt: label some of another",
        )
    few = int(((counts > 0) & (counts < ENOUGH)).sum())
    none = int((counts == 0).sum())
    notes = []
    if none:
        notes.append(
            f"{counted(none, 'class has', 'classes have')} no labelled face yet, and no face is guessed to be "
            "of such a class"
        )
    if few:
        notes.append(
            f"{counted(few, 'class has', 'classes have')} fewer than {ENOUGH} labelled faces: such guesses are weak"
        )
    return tuple(notes)


def _information(learner: Learner) -> Floats:
    """Return what a label tells of each class against the rest, p (1 - p): (n, classes); one column without a head."""
    if learner.head is None:
        return np.full((len(learner.labels), 1), 0.25, np.float32)
    chances = learner.probabilities[:, learner.counts > 0]
    return np.asarray(chances * (1 - chances), np.float32)


def _uncalibrated(head: LinearHead) -> LinearHead:
    """Return the head for features that are standardised already, without its temperature."""
    width = len(head.mean)
    return replace(head, mean=np.zeros(width, np.float32), scale=np.ones(width, np.float32), temperature=1.0)


def _condensed(features: Floats) -> Floats:
    """Return the features' first principal components, at most `_COMPONENTS`, and a column of ones for the bias."""
    _, directions = np.linalg.eigh(features.T @ features)  # ascending; the features have a mean of zero
    return np.hstack([features @ directions[:, -_COMPONENTS:], np.ones((len(features), 1), np.float32)])


class _Variances:
    """How sure the guesses of all faces would be, and what one more label would change.

    For each class against the rest, the weights of a logistic regression have the covariance S, the inverse of
    sum(w x x') + 1 / strength over the labelled faces, and the guesses of all faces the summed variance tr(S F) with
    F = mean(w x x'). A label of x lowers it by w x'S F S x / (1 + w x'S x). features: (n, d); weights: (n, classes).
    """

    def __init__(
        self, features: Floats, weights: Floats, labelled: Floats, known: Floats, strength: float
    ) -> None:
        kinds, width = weights.shape[1], features.shape[1]
        self._all = np.stack([(features * weights[:, [k]]).T @ features for k in range(kinds)]) / len(
            features
        )
        told = [(labelled * known[:, [k]]).T @ labelled + np.eye(width) / strength for k in range(kinds)]
        self._covariances = np.linalg.inv(np.stack(told)).astype(np.float32)

    def _terms(self, features: Floats) -> tuple[Floats, Floats]:
        """Return x'S x and x'S F S x: (n, classes) each."""
        spread = self._covariances @ self._all @ self._covariances
        own = [((features @ one) * features).sum(axis=1) for one in self._covariances]
        change = [((features @ one) * features).sum(axis=1) for one in spread]
        return np.stack(own, axis=1), np.stack(change, axis=1)

    def gains(self, features: Floats, weights: Floats) -> NDArray[np.float64]:
        """Return what the label of each face by itself would change: (n,)."""
        own, change = self._terms(features)
        return np.asarray((weights * change / (1 + weights * own)).sum(axis=1), np.float64)

    def chosen(self, features: Floats, weights: Floats, groups: Integers, count: int, share: int) -> Integers:
        """Choose faces, each for what it tells beside those before it: (m,) places; uses this up.

        At most `count` of them, and `share` of a group.
        """
        own, change = self._terms(features)
        taken = np.zeros(int(groups.max()) + 1, np.int64)
        free = np.ones(len(features), bool)
        found: list[int] = []
        while len(found) < count and free.any():
            gains = np.where(free, (weights * change / (1 + weights * own)).sum(axis=1), -np.inf)
            best = int(gains.argmax())
            found.append(best)
            free[best] = False
            taken[groups[best]] += 1
            if taken[groups[best]] == share:
                free &= groups != groups[best]
            # S loses lost * u u' with u = S x; the terms of all others follow without another matrix product.
            u = self._covariances @ features[best]
            lost = weights[best] / (1 + weights[best] * own[best])
            target = np.einsum("kij,kj->ki", self._all, u)
            v = np.einsum("kij,kj->ki", self._covariances, target)
            along, across = features @ u.T, features @ v.T
            change += lost * along * (lost * (u * target).sum(axis=1) * along - 2 * across)
            own -= lost * along**2
            self._covariances -= lost[:, None, None] * u[:, :, None] * u[:, None, :]
        return np.array(found, np.int64)


def _turns(groups: Integers) -> Integers:
    """Return which of its group each is, in this order: 0 for the first of a group, 1 for the second."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    turns = np.empty(len(groups), np.int64)
    turns[order] = np.arange(len(groups)) - np.repeat(starts, np.diff([*starts, len(groups)]))
    return turns


def _recall(truth: Floats, guesses: Integers) -> NDArray[np.float64]:
    """Return the share of each class that the guesses find, (classes,), going by the probabilities `truth`."""
    hit = np.zeros(truth.shape[1])
    np.add.at(hit, guesses, truth[np.arange(len(truth)), guesses].astype(np.float64))
    expected = truth.sum(axis=0, dtype=np.float64)
    return np.where(expected > 0, hit / np.maximum(expected, 1e-12), np.nan)


def _power_law(counts: list[int], values: list[float], further: list[int]) -> list[float]:
    """Foretell values by top - scale * count ** -power (least squares, power from .2 to 1), never below the last."""
    sizes, found = np.array(counts, float), np.array(values)
    best = (np.inf, np.zeros(2), 0.5)
    for power in np.linspace(0.2, 1, 17):
        columns = np.stack([np.ones(len(sizes)), -(sizes**-power)], axis=1)
        solved = np.linalg.lstsq(columns, found, rcond=None)[0]
        best = min(
            best, (float(((columns @ solved - found) ** 2).sum()), solved, power), key=lambda one: one[0]
        )
    _, (top, scale), power = best
    return [float(np.clip(top - scale * count**-power, values[-1], 1)) for count in further]
