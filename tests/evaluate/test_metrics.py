"""Every figure against scikit-learn or a sum worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from mien.errors import DataError
from mien.evaluate.metrics import by_quality, score, selective

NAMES = ("angry", "disgust", "fear", "happy", "sad")


def answers(n: int, classes: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), labels


def test_against_scikit_learn_on_random_labels() -> None:
    p, y = answers(501, 5)
    found, guess = score(p, y, NAMES), p.argmax(axis=1)
    assert found.n == 501
    assert found.accuracy == pytest.approx(metrics.accuracy_score(y, guess))
    assert found.top2 == pytest.approx(metrics.top_k_accuracy_score(y, p, k=2))
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, guess))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(y, guess, average="macro"))
    assert found.weighted_f1 == pytest.approx(metrics.f1_score(y, guess, average="weighted"))
    assert found.nll == pytest.approx(metrics.log_loss(y, p))
    assert found.brier == pytest.approx(((p - np.eye(5)[y]) ** 2).sum(axis=1).mean())
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(y, p, multi_class="ovr"))
    assert found.average_precision == pytest.approx(metrics.average_precision_score(np.eye(5)[y], p))
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(y, guess))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(y, guess)
    for place, one in enumerate(found.classes):
        assert one.name == NAMES[place]
        assert (one.precision, one.recall, one.f1) == pytest.approx(
            (precision[place], recall[place], f1[place])
        )
        assert one.support == support[place]


def test_curves_keep_their_ends_and_area() -> None:
    p, y = answers(3000, 5)
    for place, one in enumerate(score(p, y, NAMES).classes):
        assert one.roc is not None and one.precision_recall is not None
        assert (one.roc.x[0], one.roc.y[0], one.roc.x[-1], one.roc.y[-1]) == (0, 0, 1, 1)
        assert len(one.roc.x) <= 201
        assert one.roc.area == pytest.approx(metrics.roc_auc_score(y == place, p[:, place]))
        assert np.trapezoid(one.roc.y, one.roc.x) == pytest.approx(one.roc.area, abs=0.005)
        assert (one.precision_recall.x[0], one.precision_recall.y[0]) == (0, 1)
        assert one.precision_recall.x[-1] == 1


def test_a_class_without_pictures_is_left_out_of_means() -> None:
    p, y = answers(200, 5)
    y[y == 1] = 0
    found, guess = score(p, y, NAMES), p.argmax(axis=1)
    empty = found.classes[1]
    assert (empty.support, empty.recall, empty.f1, empty.roc, empty.precision_recall) == (
        0,
        None,
        None,
        None,
        None,
    )
    assert empty.precision == 0  # it was answered, never rightly
    recalls = metrics.recall_score(y, guess, labels=[0, 2, 3, 4], average=None)
    assert found.balanced_accuracy == pytest.approx(recalls.mean())
    f1 = metrics.f1_score(y, guess, labels=[0, 2, 3, 4], average="macro")
    assert found.macro_f1 == pytest.approx(f1)
    present = [metrics.roc_auc_score(y == c, p[:, c]) for c in (0, 2, 3, 4)]
    assert found.roc_auc == pytest.approx(np.mean(present))


def test_a_class_that_is_never_answered_has_no_precision() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    found = score(p, np.array([0, 1]), ("a", "b", "c"))
    assert [one.precision for one in found.classes] == [0.5, None, None]
    assert [one.recall for one in found.classes] == [1.0, 0.0, None]


def test_one_picture() -> None:
    found = score(np.array([[0.2, 0.5, 0.3]]), np.array([2]), ("a", "b", "c"))
    assert (found.accuracy, found.top2, found.macro_f1, found.roc_auc) == (0, 1, 0, None)
    assert (found.accuracy_interval.low, found.accuracy_interval.high) == (0, 0.975)
    assert found.average_precision == 1
    assert found.nll == pytest.approx(-np.log(0.3))


def test_two_classes_have_no_top2() -> None:
    p, y = answers(50, 2)
    assert score(p, y, ("happy", "sad")).top2 is None


def test_what_cannot_be_scored() -> None:
    p, y = answers(4, 3)
    with pytest.raises(DataError, match="no pictures to score"):
        score(p[:0], y[:0], ("a", "b", "c"))
    with pytest.raises(DataError, match=r"must be of shape \(4, 2\)"):
        score(p, y, ("a", "b"))
    p[2, 1] = np.nan
    with pytest.raises(DataError, match="picture number 2 is not finite"):
        score(p, y, ("a", "b", "c"))


def test_to_dict_is_plain() -> None:
    import json

    p, y = answers(40, 5)
    stored = json.loads(json.dumps(score(p, y, NAMES).to_dict()))
    assert stored["classes"][3]["name"] == "happy"
    assert stored["accuracy_interval"]["low"] < stored["accuracy"] < stored["accuracy_interval"]["high"]
    assert set(stored["classes"][0]["roc"]) == {"false_positive_rate", "true_positive_rate"}


def test_risk_coverage_and_its_area() -> None:
    """Four answers, the second surest wrong: risks 0, 1/2, 1/3, 1/4."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    found = selective(probabilities, np.array([0, 0, 0, 1]), 0.65)
    assert found.coverage == (0.25, 0.5, 0.75, 1.0)
    assert found.risk == pytest.approx((0, 1 / 2, 1 / 3, 1 / 4))
    assert found.aurc == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert (found.answered, found.accuracy, found.below) == (0.75, pytest.approx(2 / 3), 1.0)
    assert selective(probabilities, np.array([0, 0, 0, 1]), 0.0).below is None


def test_equally_sure_answers_have_no_order() -> None:
    """The order of the data, which is often that of the labels, made an area of .16 or of .84 of these."""
    probabilities, labels = np.tile([0.6, 0.4], (100, 1)), np.repeat([0, 1], 50)
    for order in (np.arange(100), np.arange(100)[::-1]):
        found = selective(probabilities[order], labels[order], 0.0)
        assert found.aurc == pytest.approx(0.5)
        assert found.risk == pytest.approx((0.5,) * 100)


def test_calibration_by_quality_takes_both_ends() -> None:
    probabilities = np.tile([0.8, 0.2], (8, 1))
    labels = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    low, high = by_quality(
        probabilities, labels, {"dark / bright": np.arange(8.0), "same / same": np.ones(8)}
    )
    assert (low.name, low.n, low.accuracy, low.confidence) == ("dark", 2, 0.0, pytest.approx(0.8))
    assert (high.name, high.accuracy, high.ece) == ("bright", 1.0, pytest.approx(0.2))
