"""Making probabilities mean something: temperature scaling, calibration error, the 'uncertain' threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-12


def with_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return softmax(log(p) / temperature): what dividing the logits by the temperature gives.

    probabilities: (n, classes), rows sum to one. temperature above 1 makes answers less sure.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), _TINY)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def negative_log_likelihood(probabilities: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """Mean cross-entropy in nats. targets: (n, classes), rows sum to one (one-hot or rater shares)."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), _TINY))
    return float(-(targets * logs).sum(axis=1).mean())


def fit_temperature(probabilities: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """Return the temperature in [0.2, 5] with the lowest cross-entropy (Guo et al. 2017, arXiv:1706.04599).

    The cross-entropy is convex in 1 / temperature, so a golden-section search over it finds the minimum.
    """
    low, high = 0.2, 5.0
    ratio = (5**0.5 - 1) / 2

    def loss(inverse: float) -> float:
        return negative_log_likelihood(with_temperature(probabilities, 1 / inverse), targets)

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    for _ in range(40):
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return float(2 / (low + high))


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
