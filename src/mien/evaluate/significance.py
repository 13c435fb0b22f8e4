"""95 % intervals by the bootstrap, drawn from the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_COVERED = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a share, both ends in [0, 1]."""

    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


def intervals(confusion: NDArray[np.int64], resamples: int, seed: int) -> tuple[Interval, Interval]:
    """Return the percentile intervals of accuracy and macro-F1 (Efron & Tibshirani 1993, chapter 13).

    confusion: (classes, classes) counts, rows are the labels. Both figures depend on the pictures only
    through this table, so drawing n pictures with replacement is one multinomial draw of its cells:
    thousands cost milliseconds.
    """
    classes, n = len(confusion), int(confusion.sum())
    draws = np.random.default_rng(seed).multinomial(n, confusion.ravel() / n, size=resamples)
    tables = draws.reshape(resamples, classes, classes)
    return _interval(_accuracy(tables)), _interval(macro_f1(tables))


def difference(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_], resamples: int, seed: int) -> Interval:
    """Return the paired interval of accuracy(b) - accuracy(a) on the same pictures."""
    cells = np.bincount(2 * right_a.astype(int) + right_b, minlength=4)
    n = len(right_a)
    draws = np.random.default_rng(seed).multinomial(n, cells / n, size=resamples)
    return _interval((draws[:, 1] - draws[:, 2]) / n)


def macro_f1(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean F1 over the classes that a table has pictures of. tables: (..., classes, classes), rows the
    labels.
    """
    support, predicted = tables.sum(axis=-1), tables.sum(axis=-2)
    hits = np.diagonal(tables, axis1=-2, axis2=-1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    # A class without pictures has an F1 of 0 here, so that only the count needs to leave it out.
    mean: NDArray[np.float64] = f1.sum(axis=-1) / np.maximum((support > 0).sum(axis=-1), 1)
    return mean


def _accuracy(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    hits: NDArray[np.float64] = np.trace(tables, axis1=-2, axis2=-1) / tables.sum(axis=(-2, -1))
    return hits


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, _COVERED)
    return Interval(float(low), float(high))
