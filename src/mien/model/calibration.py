"""Making probabilities mean something: temperature, label smoothing undone, calibration error, 'uncertain', priors.

A network learns how often each label occurred in its training pictures, and answers accordingly: where it is not sure,
it says what is common. That is right for pictures in which the labels are as common (`everyday`) and wrong where they
are not, such as a set with as many faces of each kind (`balanced`) or a collection whose shares one knows. A `Prior`
puts other shares in their place, by Bayes' rule on calibrated probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.labels import matching_place
from mien.model.metadata import Blend, Head, Metadata, Quality

_TINY = 1e-12
_SMALLEST = 1e-38  # about where float32 ends: a softmax that says 0 means less than that
# What `without_smoothing` leaves of a probability below the spread share. With a tenth or a fifth the cross-entropy on
# PublicTest is .824 and .825, with a hundredth .828; with a fifth the share that fits is nearest to the trained one.
LEFT_BELOW = 0.2
_FOLDS = 5
EVERYDAY, BALANCED = "everyday", "balanced"
_LEAST = 1e-4  # of a share: below it the label would be ruled out by what is only a guess
# Weights of classes in a training, by the name of the setting: one over the count of a class to this power.
CLASS_WEIGHTS = {"none": 0.0, "sqrt": 0.5, "full": 1.0}


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return (n, classes) probabilities of (n, classes) logits, in their precision."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return found


def with_temperature(
    probabilities: NDArray[np.floating], temperature: float | NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return softmax(log(p) / temperature): what dividing the logits by the temperature gives.

    probabilities: (n, classes), rows sum to one. temperature: above 1 makes answers less sure; one for all, or (n, 1).
    """
    shares: NDArray[np.float64] = softmax(
        np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature
    )
    return shares


def quality_temperature(quality: Quality | None, px: float, score: float | None, covered: float) -> float:
    """Return the temperature for a face, 1 where nothing speaks against it; see `Quality`.

    px: longer side of its box. score: of mien's detector; None where another one found it. covered: how likely
    something hides a part of it, 0 to 1.
    """
    if quality is None:
        return 1.0
    small = math.log(max(1.0, quality.below_px / max(px, 1.0)))
    doubt = 0.0 if score is None else max(0.0, quality.below_score - score)
    return math.exp(quality.size * small + quality.score * doubt + quality.covered * covered)


def without_smoothing(probabilities: NDArray[np.floating], smoothing: float) -> NDArray[np.float64]:
    """Return the answers of a network as if its training had not spread a share of each target evenly.

    Label smoothing (Szegedy et al. 2016, arXiv:1512.00567) and mixup teach a network to leave `smoothing` of every
    answer to all labels alike. So it is less sure than it should be where it is nearly always right, and surer
    elsewhere: an S in the reliability diagram, which no temperature takes away. Each label gives its part back, or
    keeps a fifth of what it has if that is more; then all are scaled to sum to one. The order of the labels stays.

    probabilities: (n, classes), rows sum to one. smoothing: in [0, 1); 0 changes nothing.
    """
    exact = probabilities.astype(np.float64)
    if not smoothing:
        return exact
    kept = np.maximum(exact - smoothing / exact.shape[1], LEFT_BELOW * exact)
    shares: NDArray[np.float64] = kept / kept.sum(axis=1, keepdims=True)
    return shares


def calibrated(
    probabilities: NDArray[np.floating], temperature: float, smoothing: float
) -> NDArray[np.float64]:
    """Return `without_smoothing` of `with_temperature`: what an exported head makes of its raw probabilities."""
    return without_smoothing(with_temperature(probabilities, temperature), smoothing)


def negative_log_likelihood(probabilities: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """Mean cross-entropy in nats. targets: (n, classes), rows sum to one (one-hot or rater shares)."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), _TINY))
    return float(-(targets * logs).sum(axis=1).mean())


def fit_temperature(probabilities: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """Return the temperature in [0.2, 5] with the lowest cross-entropy (Guo et al. 2017, arXiv:1706.04599)."""
    return _fitted_temperature(probabilities, targets, 0.0)[1]


def fit_calibration(
    probabilities: NDArray[np.floating], targets: NDArray[np.floating]
) -> tuple[float, float]:
    """Return the temperature in [0.2, 5] and the smoothing in [0, 0.3] with the lowest cross-entropy together.

    A smoothing below half a hundredth is taken for none.
    """

    def loss(smoothing: float) -> float:
        return _fitted_temperature(probabilities, targets, smoothing)[0]

    smoothing = _lowest(loss, 0.0, 0.3, 12)
    if smoothing < 0.005:
        smoothing = 0.0
    return _fitted_temperature(probabilities, targets, smoothing)[1], smoothing


def _fitted_temperature(
    probabilities: NDArray[np.floating], targets: NDArray[np.floating], smoothing: float
) -> tuple[float, float]:
    """Return the lowest cross-entropy over all temperatures, and the temperature that has it.

    Without smoothing the cross-entropy is convex in 1 / temperature, so a golden-section search over that finds it.
    """

    def loss(inverse: float) -> float:
        return negative_log_likelihood(calibrated(probabilities, 1 / inverse, smoothing), targets)

    inverse = _lowest(loss, 0.2, 5.0, 40)
    return loss(inverse), 1 / inverse


def _lowest(loss: Callable[[float], float], low: float, high: float, steps: int) -> float:
    """Return where `loss` is lowest between two ends, by golden-section search; it should have one minimum."""
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    for _ in range(steps):
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return (low + high) / 2


def over_folds(n: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield (rest, fold) for five folds of n pictures drawn at random: fit on the rest, judge on the fold."""
    for fold in np.array_split(np.random.default_rng(seed).permutation(n), min(_FOLDS, n)):
        yield np.setdiff1d(np.arange(n), fold), fold


def expected_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins (Naeini et al. 2015), in [0, 1].

    probabilities: (n, classes). labels: (n,) class indices.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(places, minlength=bins)
    gaps = np.bincount(places, weights=confidence, minlength=bins) - np.bincount(
        places, weights=right, minlength=bins
    )
    return float(np.abs(gaps).sum() / max(counts.sum(), 1))


def uncertain_threshold(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the probability below which the network's answers are wrong at least every second time.

    The largest threshold t on a grid of hundredths such that, of the answers surer than t - 0.05 and below t, at
    most half are right; 0.0 where even the least sure answers are mostly right. At least 20 answers decide.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    found = 0.0
    for step in range(5, 100):
        threshold = step / 100
        inside = (confidence >= threshold - 0.05) & (confidence < threshold)
        if inside.sum() >= 20 and right[inside].mean() <= 0.5:
            found = threshold
    return found


@dataclass(frozen=True)
class Prior:
    """What is taken for granted about how often labels occur. name: as results state it.

    shares: of labels; the others share what is left evenly. Raises ConfigError for numbers that are no shares.
    """

    name: str = EVERYDAY
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = list(self.shares.values())
        if self.name not in (EVERYDAY, BALANCED) and not numbers:
            raise ConfigError(_wanted(self.name))
        _check_shares(self.shares)
        if sum(numbers) > 1 + 1e-6:
            raise ConfigError(f"the shares of a prior must sum to one at most, got {sum(numbers):g}")

    def over(self, labels: tuple[str, ...]) -> NDArray[np.float64]:
        """Return the share of each label, (labels,), summing to one.

        A name is the label that it is written as, else the one label that it means (`joy` for happy). Raises
        ConfigError for a name that is no label, or two for one.
        """
        given: dict[int, float] = {}
        for name, share in self.shares.items():
            place = matching_place(name, labels)
            if place is None:
                raise ConfigError(f"the prior names {name}; the labels are: {', '.join(labels)}")
            if place in given:
                raise ConfigError(f"the prior gives {labels[place]} two shares; give it one")
            given[place] = float(share)
        rest = len(labels) - len(given)
        if not (rest or any(given.values())):
            raise ConfigError("the shares of a prior are all 0; give one label, at least, a share above 0")
        shares = np.full(len(labels), (1 - sum(given.values())) / rest if rest else 0.0)
        shares[list(given)] = list(given.values())
        shares = np.maximum(shares, _LEAST)
        return np.asarray(shares / shares.sum(), np.float64)


def _check_shares(shares: Mapping[Any, Any]) -> None:
    if strange := [name for name in shares if not isinstance(name, str)]:
        raise ConfigError(f"the labels of a prior must be words, got {strange[0]!r}")
    if any(
        isinstance(one, bool) or not (isinstance(one, Real) and 0 <= float(one) < math.inf)
        for one in shares.values()
    ):
        raise ConfigError(f"the shares of a prior must be numbers from 0 on, got {dict(shares)}")


def read_prior(given: str | Mapping[str, float] | Prior | None) -> Prior:
    """Return what a user named: `everyday`, `balanced`, or shares, as a mapping or as `happy=0.4,neutral=0.4`.

    >>> read_prior("happy=0.5, sad=0.2").shares
    {'happy': 0.5, 'sad': 0.2}
    """
    if given is None or isinstance(given, Prior):
        return given or Prior()
    if isinstance(given, Mapping):
        _check_shares(given)
        return Prior(_spelt(given), dict(given))
    if not isinstance(given, str):
        raise ConfigError(_wanted(given))
    if given in (EVERYDAY, BALANCED):
        return Prior(given)
    shares: dict[str, float] = {}
    for part in given.split(","):
        label, share = (word.strip() for word in part.rpartition("=")[::2])
        if label in shares:
            raise ConfigError(f"the prior gives {label} two shares; give it one")
        try:
            shares[label] = float(share)
        except ValueError:
            raise ConfigError(_wanted(given)) from None
        if not label:
            raise ConfigError(_wanted(given))
    return Prior(_spelt(shares), shares)


def reweighting(prior: Prior, head: Head, metadata: Metadata) -> NDArray[np.float64] | None:
    """Return by what each label's probability is multiplied before all are scaled to sum to one; None: nothing to do.

    Bayes' rule: p(label | face) is in proportion to p(face | label) p(label), so a probability that was calibrated
    under one prior is divided by that and multiplied by the other (Saerens et al. 2002,
    doi:10.1162/089976602753284446). Raises ConfigError as base_rates does.
    """
    if prior.name == EVERYDAY:
        return None
    return prior.over(head.labels) / base_rates(head, metadata)


def base_rates(head: Head, metadata: Metadata) -> NDArray[np.float64]:
    """Return the share of each label that is inside the head's answers, (labels,), summing to one.

    A training that weights pictures by class shows the first head rare ones as if there were more of them. Raises
    ConfigError where the network does not say it of a label, or never saw one.
    """
    if isinstance(head, Blend) and head.prior:
        # The blend has taken `adjustment` of the training shares out, and divides the logits by its temperature.
        shares = np.array([head.prior[label] for label in head.labels]) ** (1 - head.adjustment)
    else:
        data = metadata.training.get("data")
        about = data if isinstance(data, Mapping) else {}
        common = about.get("shares", {}).get("train") or about.get("counts", {}).get("train", {})
        if unsaid := [label for label in head.labels if label not in common]:
            raise ConfigError(
                f"the network {metadata.name} does not say how often {', '.join(unsaid)} of its head {head.name!r} "
                "occurred in training, so that no other prior can be put in its place; choose another head, or leave "
                "the prior out"
            )
        shares = np.array([float(common[label]) for label in head.labels])
    if never := [label for label, share in zip(head.labels, shares, strict=True) if not share]:
        raise ConfigError(
            f"the network {metadata.name} saw no picture of {', '.join(never)} in training, so its answers cannot be "
            "given another prior; choose another head, or leave the prior out"
        )
    if head == metadata.heads[0]:
        shares = shares ** (1 - _weighted_by(metadata))
    return np.asarray(shares / shares.sum(), np.float64)


def _weighted_by(metadata: Metadata) -> float:
    """Return the power of the class weights in the last phase of the training; 0 where none are recorded."""
    stored = metadata.training.get("settings")
    settings = stored if isinstance(stored, Mapping) else {}
    named = [
        one["class_weights"] for one in (settings, *settings.get("phases", ())) if "class_weights" in one
    ]
    return CLASS_WEIGHTS[named[-1]] if named else 0.0


def _spelt(shares: Mapping[str, float]) -> str:
    return ",".join(f"{label}={share:g}" for label, share in shares.items())


def _wanted(given: object) -> str:
    return f"a prior must be {EVERYDAY}, {BALANCED}, or shares such as happy=0.4,neutral=0.4, got {given!r}"
