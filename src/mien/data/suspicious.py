"""Labels that are most likely wrong, by confident learning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError


def suspicious_labels(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the rows whose label is most likely wrong, most suspicious first.

    probabilities: (n, k), each row sums to 1, from a network that was not trained on these rows (one that was
    has learnt their mistakes by heart). labels: (n,) int64 in 0..k-1. A row is suspicious when another class
    reaches that class's own threshold, the mean probability of the class among the rows that carry its label;
    rows are ranked by self-confidence, the probability of the given label. Northcutt, Jiang and Chuang 2021,
    'Confident Learning: Estimating Uncertainty in Dataset Labels', JAIR 70, sections 3.1 and 3.2,
    arXiv:1911.00068.
    """
    count, classes = probabilities.shape
    if len(labels) != count or (count and not 0 <= labels.min() <= labels.max() < classes):
        raise DataError(f"{len(labels)} labels do not fit probabilities of shape {probabilities.shape}")
    thresholds = np.array(
        [
            probabilities[labels == place, place].mean() if (labels == place).any() else 2.0
            for place in range(classes)
        ]
    )
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    guess = confident.argmax(axis=1)
    suspects = np.flatnonzero((confident.max(axis=1) >= 0) & (guess != labels))
    own = probabilities[suspects, labels[suspects]]
    return np.asarray(suspects[np.argsort(own, kind="stable")])
