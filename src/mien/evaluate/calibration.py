"""Whether the probabilities mean what they say, and what one temperature would change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.model.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    over_folds,
    with_temperature,
)

BINS = 15


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


def five_fold_temperature(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], *, seed: int
) -> Calibration | None:
    """Judge a temperature on pictures it was not fitted on: five times, four fifths fit it for the other
    fifth.

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
