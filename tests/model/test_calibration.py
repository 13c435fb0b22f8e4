"""Temperature and calibration error, against scipy's optimiser and a loop that follows the definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from mien.model.calibration import (
    calibrated,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    negative_log_likelihood,
    uncertain_threshold,
    with_temperature,
    without_smoothing,
)

Floats = NDArray[np.float64]


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _answers(
    seed: int, scale: float, n: int = 500, classes: int = 7
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return logits, labels drawn from their softmax, and the answers of a network that is `scale` too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, classes))
    labels = np.array([rng.choice(classes, p=row) for row in _softmax(logits)])
    return logits, labels, _softmax(logits * scale)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_with_temperature_divides_the_logits(temperature: float) -> None:
    logits, _, _ = _answers(0, 1.0, n=50)
    expected = _softmax(logits / temperature)
    np.testing.assert_allclose(with_temperature(_softmax(logits), temperature), expected, rtol=1e-6)


def test_with_temperature_takes_certain_answers() -> None:
    certain = np.array([[1.0, 0.0, 0.0]], np.float32)
    softer = with_temperature(certain, 2.0)
    assert softer.sum() == pytest.approx(1)
    assert softer[0, 0] == pytest.approx(1, abs=1e-5)
    assert (softer[0, 1:] > 0).all()


def test_negative_log_likelihood_of_known_answers() -> None:
    halves = np.array([[0.5, 0.5], [0.25, 0.75]])
    assert negative_log_likelihood(halves, np.eye(2)) == pytest.approx((np.log(2) - np.log(0.75)) / 2)
    assert negative_log_likelihood(halves, np.full((2, 2), 0.5)) == pytest.approx(
        -(np.log(0.5) + (np.log(0.25) + np.log(0.75)) / 2) / 2
    )
    assert negative_log_likelihood(np.array([[0.0, 1.0]]), np.eye(2)[:1]) == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_the_temperature_is_where_scipy_finds_it(scale: float) -> None:
    _, labels, sure = _answers(1, scale)
    targets = np.eye(7)[labels]

    def loss(temperature: float) -> float:
        return float(-np.log(_softmax(np.log(sure) / temperature)[np.arange(len(labels)), labels]).mean())

    best = minimize_scalar(loss, bounds=(0.2, 5), method="bounded", options={"xatol": 1e-7}).x
    found = fit_temperature(sure, targets)
    assert found == pytest.approx(best, abs=1e-4)
    assert found == pytest.approx(scale, rel=0.2)  # the labels were drawn that way


def test_the_temperature_stays_in_its_range() -> None:
    wrong = np.array([[0.99, 0.01], [0.01, 0.99]])
    assert fit_temperature(wrong, np.eye(2)[::-1]) == pytest.approx(5, abs=1e-3)
    assert fit_temperature(np.array([[0.6, 0.4], [0.4, 0.6]]), np.eye(2)) == pytest.approx(0.2, abs=1e-3)


def test_soft_targets_are_fitted_too() -> None:
    logits, _, sure = _answers(2, 3.0)
    assert fit_temperature(sure, _softmax(logits)) == pytest.approx(3.0, abs=1e-4)


def _naive_ece(probabilities: Floats, labels: NDArray[np.int64], bins: int) -> float:
    total = 0.0
    for number in range(bins):
        rows = [
            row
            for row, answer in enumerate(probabilities)
            if number / bins <= answer.max() < (number + 1) / bins
            or (number == bins - 1 and answer.max() == 1)
        ]
        if rows:
            confidence = np.mean([probabilities[row].max() for row in rows])
            accuracy = np.mean([probabilities[row].argmax() == labels[row] for row in rows])
            total += len(rows) / len(labels) * abs(confidence - accuracy)
    return total


@pytest.mark.parametrize(("bins", "scale"), [(15, 1.0), (15, 3.0), (10, 0.4), (1, 2.0)])
def test_calibration_error_against_the_definition(bins: int, scale: float) -> None:
    _, labels, answers = _answers(3, scale)
    expected = _naive_ece(answers, labels, bins)
    assert expected_calibration_error(answers, labels, bins) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_at_the_ends() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert expected_calibration_error(certain, np.array([0, 1])) == 0
    assert expected_calibration_error(certain, np.array([1, 0])) == 1
    assert expected_calibration_error(np.empty((0, 7)), np.empty(0, np.int64)) == 0


def test_calibration_error_falls_when_the_temperature_is_right() -> None:
    _, labels, sure = _answers(4, 3.0, n=2000)
    before = expected_calibration_error(sure, labels)
    after = expected_calibration_error(
        with_temperature(sure, fit_temperature(sure, np.eye(7)[labels])), labels
    )
    assert before > 0.15
    assert after < 0.05


def test_what_was_spread_evenly_is_taken_back() -> None:
    logits, _, _ = _answers(5, 1.0, n=200)
    honest = 0.9 * _softmax(logits) + 0.1 / 7  # nothing so unlikely that it meets the floor
    smoothed = 0.85 * honest + 0.15 / 7
    np.testing.assert_allclose(without_smoothing(smoothed, 0.15), honest, rtol=1e-9)


def test_smoothing_taken_out_keeps_order_and_sum_and_leaves_nothing_impossible() -> None:
    sure = np.array([[0.97, 0.02, 0.009, 0.001], [0.25, 0.25, 0.25, 0.25]], np.float32)
    found = without_smoothing(sure, 0.1)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (np.diff(found[0]) < 0).all()
    assert found.min() > 0
    np.testing.assert_allclose(found[1], 0.25)
    np.testing.assert_array_equal(without_smoothing(sure, 0.0), sure)


def test_temperature_and_smoothing_are_found_together() -> None:
    logits, labels, _ = _answers(6, 1.0, n=20000)
    smoothed = with_temperature(0.75 * _softmax(logits) + 0.25 / 7, 1 / 0.8)
    temperature, smoothing = fit_calibration(smoothed, np.eye(7)[labels])
    assert temperature == pytest.approx(0.8, rel=0.1)
    assert 0.15 < smoothing < 0.27  # what the floor leaves of unlikely labels is not theirs, so a little less
    after = calibrated(smoothed, temperature, smoothing)
    one = with_temperature(smoothed, fit_temperature(smoothed, np.eye(7)[labels]))
    assert expected_calibration_error(after, labels) < 0.6 * expected_calibration_error(one, labels)


def test_without_smoothing_none_is_found() -> None:
    _, labels, sure = _answers(7, 2.0, n=20000)
    temperature, smoothing = fit_calibration(sure, np.eye(7)[labels])
    assert temperature == pytest.approx(2.0, rel=0.05)
    assert smoothing == pytest.approx(0.0, abs=0.01)


def _two_classes(confidence: Floats, right: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64]]:
    return np.stack([confidence, 1 - confidence], axis=1), np.where(right, 0, 1)


def test_the_threshold_is_where_half_of_the_answers_are_wrong() -> None:
    """Wrong four times in ten below 0.7 is fine; two times in three below it is not."""
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.5, 1.0, 4000)
    chance = rng.random(4000)
    bad = _two_classes(confidence, chance < np.where(confidence < 0.7, 0.33, 0.9))
    assert uncertain_threshold(*bad) == pytest.approx(0.7, abs=0.03)
    good = _two_classes(confidence, chance < np.where(confidence < 0.7, 0.65, 0.9))
    assert uncertain_threshold(*good) == 0.0


def test_few_answers_decide_nothing() -> None:
    wrong = _two_classes(np.full(19, 0.62), np.zeros(19, bool))
    assert uncertain_threshold(*wrong) == 0.0
    wrong = _two_classes(np.full(20, 0.62), np.zeros(20, bool))
    assert uncertain_threshold(*wrong) == pytest.approx(0.67)
