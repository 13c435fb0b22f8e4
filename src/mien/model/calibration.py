"""Making probabilities mean something: temperature, label smoothing undone, calibration error, 'uncertain'."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-12
_SMALLEST = 1e-38  # about where float32 ends: a softmax that says 0 means less than that
# What `without_smoothing` leaves of a probability below the spread share. With a tenth or a fifth the cross-entropy on
# PublicTest is .824 and .825, with a hundredth .828; with a fifth the share that fits is nearest to the trained one.
LEFT_BELOW = 0.2
_FOLDS = 5


def with_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return softmax(log(p) / temperature): what dividing the logits by the temperature gives.

    probabilities: (n, classes), rows sum to one. temperature above 1 makes answers less sure.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


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
