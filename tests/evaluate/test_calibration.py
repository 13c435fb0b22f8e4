"""Temperatures and the reliability diagram."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.evaluate.metrics import five_fold_temperature, reliability, transferred_temperature
from mien.model.calibration import expected_calibration_error, with_temperature


def honest(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities from which the labels are really drawn."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), n)
    return p, np.array([rng.choice(4, p=row) for row in p])


def test_an_overconfident_network_is_mended_out_of_fold() -> None:
    p, y = honest(2000)
    sharp = with_temperature(p, 0.5)
    found = five_fold_temperature(sharp, y, seed=0)
    assert found is not None
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert found.ece_before == pytest.approx(expected_calibration_error(sharp, y))
    assert found.ece_before > 0.15
    assert found.ece_after < 0.04
    assert found.nll_after < found.nll_before


def test_out_of_fold_is_not_in_sample() -> None:
    """With labels that are noise, a temperature fitted on other pictures cannot be as good as one on the same."""
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(4), 12), rng.integers(0, 4, 12)
    found = five_fold_temperature(p, y, seed=0)
    assert found is not None
    in_sample = with_temperature(p, found.temperature)
    assert found.nll_after > -np.log(in_sample[np.arange(12), y]).mean()


def test_few_pictures() -> None:
    p, y = honest(3)
    assert five_fold_temperature(p[:1], y[:1], seed=0) is None
    assert five_fold_temperature(p, y, seed=0) is not None


def test_a_temperature_from_validation() -> None:
    p, y = honest(1500, seed=1)
    q, z = honest(1500, seed=2)
    found = transferred_temperature(with_temperature(p, 0.5), y, (with_temperature(q, 0.5), z))
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert found.ece_after < found.ece_before / 3
    assert "validation" in found.fitted


def test_the_bins_add_up_to_the_calibration_error() -> None:
    p, y = honest(700)
    bins = reliability(with_temperature(p, 0.6), y)
    assert sum(found.count for found in bins) == 700
    gap = sum(b.count * abs(b.confidence - b.accuracy) for b in bins if b.accuracy is not None) / 700
    assert gap == pytest.approx(expected_calibration_error(with_temperature(p, 0.6), y))
    assert all(found.accuracy is None for found in bins if found.high < 0.25)  # four classes: never below 1/4
