"""A head learns from few faces, judges none by itself or its group, and its probabilities mean something."""

from __future__ import annotations

import numpy as np
import pytest

from mien.errors import DataError
from mien.model.linear_head import dealt_folds, fit_linear_head, standardisation

pytest.importorskip("sklearn", reason="learning from labels takes the training extra")


def clouds(count: int, classes: int = 3, spread: float = 1.0, seed: int = 0):
    """Overlapping Gaussian clouds of 24 numbers a face, and what each is."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    centres = 1.2 * np.eye(classes, 24)
    features = centres[labels] + spread * random.normal(size=(count, 24)) + 5
    return features.astype(np.float32), labels


def one_hot(labels, classes=3):
    return np.eye(classes)[labels]


def test_its_probabilities_are_right_as_often_as_they_say():
    features, labels = clouds(300)
    fitted = fit_linear_head(features, one_hot(labels))
    others, truth = clouds(4000, seed=1)
    found = fitted.head.probabilities(others)
    right = found.argmax(axis=1) == truth
    assert found.dtype == np.float32 and found.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert right.mean() > 0.66  # .69; the best possible is .72
    assert found.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.04)
    assert (fitted.out_of_fold.argmax(axis=1) == labels).mean() == pytest.approx(right.mean(), abs=0.06)


def test_what_cannot_be_learnt_is_regularised_away():
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 24)).astype(np.float32)
    noise = fit_linear_head(features, one_hot(random.integers(0, 3, 200))).head
    seen, labels = clouds(200, spread=0.3)
    signal = fit_linear_head(seen, one_hot(labels)).head
    assert noise.strength < signal.strength
    assert noise.probabilities(features).max() < 0.6


def test_groups_are_not_judged_by_themselves():
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(150, 400)), 2, axis=0).astype(np.float32)
    labels = np.repeat(random.integers(0, 2, 150), 2)
    pairs = np.repeat(np.arange(150), 2)
    together = fit_linear_head(features, one_hot(labels, 2), pairs, strengths=(1.0,))
    apart = fit_linear_head(features, one_hot(labels, 2), strengths=(1.0,))
    assert (together.folds[::2] == together.folds[1::2]).all()
    assert (together.out_of_fold.argmax(axis=1) == labels).mean() < 0.65
    assert (apart.out_of_fold.argmax(axis=1) == labels).mean() > 0.75


def test_every_class_is_dealt_to_all_folds():
    labels = np.repeat([0, 1, 2], [100, 10, 5])
    folds = dealt_folds(labels, np.arange(115))
    assert [np.bincount(folds[labels == label]).tolist() for label in range(3)] == [
        [20] * 5,
        [2] * 5,
        [1] * 5,
    ]


def test_shares_of_several_opinions_are_learnt():
    features, labels = clouds(400, spread=0.2)
    shares = np.full((400, 3), 0.1)
    shares[np.arange(400), labels] = 0.8
    found = fit_linear_head(features, shares).head.probabilities(features)
    assert found[np.arange(400), labels].mean() == pytest.approx(0.8, abs=0.03)


def test_unknown_classes_one_class_and_one_face():
    features, labels = clouds(60, classes=2)
    three = fit_linear_head(features, one_hot(labels))
    assert (three.head.probabilities(features)[:, 2] == 0).all() and three.out_of_fold[:, 2].max() < 0.01
    only = fit_linear_head(features[:1], one_hot(labels[:1]))
    assert only.head.probabilities(features).argmax(axis=1).tolist() == [labels[0]] * 60
    with pytest.raises(DataError, match="without faces"):
        fit_linear_head(features[:0], one_hot(labels[:0]))


def test_constant_features_do_no_harm():
    features, labels = clouds(100)
    features[:, 3] = 7
    mean, scale = standardisation(features)
    assert mean[3] == 7 and scale[3] == 1
    assert np.isfinite(fit_linear_head(features, one_hot(labels)).head.probabilities(features)).all()
