"""Confident learning finds labels that were swapped on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from mien.data.suspicious import suspicious_labels
from mien.errors import DataError


def test_swapped_labels_come_first():
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 300)
    probabilities = random.dirichlet([1, 1, 1], 300) * 0.1
    probabilities[np.arange(300), true] += 0.9
    labels = true.copy()
    swapped = random.permutation(300)[:20]
    labels[swapped] = (labels[swapped] + 1) % 3
    found = suspicious_labels(probabilities, labels)
    assert set(found[:20].tolist()) == set(swapped.tolist())
    own = probabilities[found, labels[found]]
    assert (np.diff(own) >= 0).all()


def test_by_hand():
    """Thresholds: (.9 + .6 + .1) / 3 = .53 and (.8 + .7) / 2 = .75; only row 2 reaches another's."""
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    assert suspicious_labels(probabilities, np.array([0, 0, 0, 1, 1])).tolist() == [2]


def test_a_class_without_rows_is_never_the_better_answer():
    probabilities = np.array([[0.1, 0.9], [0.2, 0.8]])
    assert suspicious_labels(probabilities, np.array([0, 0])).tolist() == []
    assert suspicious_labels(np.empty((0, 2)), np.empty(0, np.int64)).tolist() == []


@pytest.mark.parametrize("labels", [[0], [0, 2], [0, -1]])
def test_labels_that_do_not_fit(labels):
    with pytest.raises(DataError, match="labels do not fit"):
        suspicious_labels(np.full((2, 2), 0.5), np.array(labels))
