"""Bootstrap intervals and the paired test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from mien.evaluate.significance import (
    difference,
    exact_mcnemar,
    exact_sign_flip,
    group_numbers,
    grouped_intervals,
    intervals,
    macro_f1,
    paired_test,
)


def test_accuracy_interval_is_as_wide_as_the_binomial_one() -> None:
    confusion = np.array([[700, 100], [200, 1000]])
    accuracy, _ = intervals(confusion, 4000, seed=0)
    share = 1700 / 2000
    half = 1.96 * math.sqrt(share * (1 - share) / 2000)
    assert accuracy.low == pytest.approx(share - half, abs=0.002)
    assert accuracy.high == pytest.approx(share + half, abs=0.002)


def test_drawing_cells_is_drawing_pictures() -> None:
    """The same interval of macro-F1 as by resampling rows and asking scikit-learn."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 200)
    guess = np.where(rng.random(200) < 0.6, y, rng.integers(0, 3, 200))
    _, found = intervals(metrics.confusion_matrix(y, guess), 2000, seed=0)
    rows = [rng.integers(0, 200, 200) for _ in range(400)]
    slow = [metrics.f1_score(y[row], guess[row], average="macro") for row in rows]
    low, high = np.percentile(slow, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.015)


def test_intervals_cover_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    truth, hits = 0.7, 0
    for _ in range(200):
        right = int(rng.binomial(300, truth))
        accuracy, _ = intervals(np.array([[right, 300 - right], [0, 0]]), 400, seed=1)
        hits += accuracy.low <= truth <= accuracy.high
    assert 180 <= hits <= 199


def test_groups_are_drawn_whole() -> None:
    """Ten pictures of a person that are right or wrong together say as much as one."""
    persons, each = 100, 10
    labels = np.repeat(np.arange(persons) % 2, each)
    answers = np.where(np.repeat(np.arange(persons) % 4 == 0, each), 1 - labels, labels)
    groups = np.repeat(np.arange(persons), each)
    apart, f1_apart = grouped_intervals(labels * 2 + answers, 2, np.arange(len(labels)), 2000, seed=0)
    plain, f1_plain = intervals(metrics.confusion_matrix(labels, answers), 2000, seed=1)
    assert (apart.low, apart.high, f1_apart.low) == pytest.approx(
        (plain.low, plain.high, f1_plain.low), abs=0.005
    )
    together, _ = grouped_intervals(labels * 2 + answers, 2, groups, 2000, seed=0)
    one_each, _ = intervals(metrics.confusion_matrix(labels[::each], answers[::each]), 2000, seed=1)
    assert (together.low, together.high) == pytest.approx((one_each.low, one_each.high), abs=0.011)
    right = answers == labels
    alone = difference(np.ones(len(right), bool), right, 2000, 0)
    whole = difference(np.ones(len(right), bool), right, 2000, 0, groups)
    assert whole.high - whole.low == pytest.approx((alone.high - alone.low) * np.sqrt(each), rel=0.1)


def test_models_that_agree_in_a_few_pictures_may_still_differ() -> None:
    """Every resample of what is alike says 0: both ends are those of the exact bound of what may have been missed."""
    right, groups = np.ones(24, bool), np.repeat(np.arange(8), 3)
    for agreed, missed in (
        (difference(right[:8], right[:8], 500, 0), binomtest(0, 8)),
        (difference(right, right, 500, 0, groups), binomtest(0, 8)),
        (difference(right, right, 500, 0), binomtest(0, 24)),
    ):
        most = missed.proportion_ci().high
        assert (agreed.low, agreed.high) == pytest.approx((-most, most))
    always = difference(~right, right, 500, 0)
    assert (always.low, always.high) == pytest.approx((1 - 2 * binomtest(0, 24).proportion_ci().high, 1))


def test_groups_are_numbered_and_pictures_without_one_stand_alone() -> None:
    assert group_numbers(["b", "", "a", "b", ""]).tolist() == [0, 1, 2, 0, 3]  # type: ignore[union-attr]
    assert group_numbers(None) is None and group_numbers(["a", "b", ""]) is None


def test_the_same_seed_gives_the_same_interval() -> None:
    table = np.array([[8, 2], [3, 9]])
    assert intervals(table, 500, seed=4) == intervals(table, 500, seed=4)
    assert intervals(table, 500, seed=4) != intervals(table, 500, seed=5)


def test_macro_f1_of_a_table_with_an_empty_class() -> None:
    table = np.array([[2, 0, 1], [0, 0, 0], [0, 1, 3]])
    assert macro_f1(table) == pytest.approx((2 * 2 / (3 + 2) + 2 * 3 / (4 + 4)) / 2)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 2 * (1 + 10) / 1024), (0, 6, 2 / 64), (3, 2, 1.0)],
)
def test_exact_mcnemar(first: int, second: int, p: float) -> None:
    assert exact_mcnemar(first, second) == pytest.approx(p)
    assert exact_mcnemar(second, first) == pytest.approx(p)


def test_exact_mcnemar_of_many_pictures_does_not_underflow() -> None:
    assert 0 < exact_mcnemar(900, 1100) < 1e-4
    assert exact_mcnemar(0, 4000) == pytest.approx(0, abs=1e-300)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 9), (40, 61), (900, 1100)])
def test_a_sign_flip_of_single_pictures_is_mcnemars_test(first: int, second: int) -> None:
    ahead = np.array([1] * first + [-1] * second + [0] * 5)
    assert exact_sign_flip(ahead) == pytest.approx(exact_mcnemar(first, second), rel=1e-9)


def test_a_sign_flip_of_groups_is_the_share_of_all_signs() -> None:
    random = np.random.default_rng(4)
    for _ in range(20):
        ahead = random.integers(-6, 7, 10)
        signs = 2 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1) - 1
        share = (np.abs(signs @ np.abs(ahead)) >= abs(int(ahead.sum()))).mean()
        assert exact_sign_flip(ahead) == pytest.approx(share)


def test_a_difference_of_a_few_persons_is_noise() -> None:
    """Three persons of thirty pictures, in which one model is ahead, were 'better' with p = 1e-15."""
    groups = np.repeat(np.arange(6), 30)
    first, second = groups < 3, np.zeros(180, bool)
    alone = paired_test("a", "b", first, second, resamples=500, seed=0)
    of_groups = paired_test("a", "b", first, second, resamples=500, seed=0, groups=groups)
    assert alone.p_value < 1e-15
    assert (of_groups.p_value, of_groups.groups) == (pytest.approx(2 / 8), 6)
    assert (
        "within noise (sign-flip test of 6 groups, p = 0.25, 90 pictures against 0)" in of_groups.sentence()
    )
    assert of_groups.difference == alone.difference == 0.5


def test_noise_is_called_noise() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(400) < 0.7
    found = paired_test("a", "b", first, rng.permutation(first), resamples=500, seed=0)
    assert found.within_noise
    assert found.interval.low < 0 < found.interval.high
    assert "within noise" in found.sentence()


def test_a_real_difference_is_called_one() -> None:
    first = np.ones(300, bool)
    second = np.arange(300) % 5 > 0
    found = paired_test("a", "b", first, second, resamples=500, seed=0)
    assert (found.only_first, found.only_second, found.difference) == (60, 0, pytest.approx(0.2))
    assert not found.within_noise
    assert found.interval == difference(second, first, 500, 0)
    assert 0.15 < found.interval.low < 0.2 < found.interval.high < 0.26
    assert found.sentence().startswith("a is better than b: +20.0 points")


def test_all_right_or_all_wrong_has_an_exact_interval() -> None:
    """Every resample was alike: eight right pictures read '100 % (100 to 100 %)'."""
    binomial = binomtest(8, 8).proportion_ci(0.95, method="exact")
    for found in intervals(np.diag([5, 3]), 500, seed=0):
        assert (found.low, found.high) == pytest.approx((binomial.low, 1))
    for found in intervals(np.array([[0, 5], [3, 0]]), 500, seed=0):
        assert (found.low, found.high) == pytest.approx((0, 1 - binomial.low))
    cells, groups = np.array([0, 0, 0, 3, 3, 3]), np.array([0, 0, 0, 1, 1, 1])
    accuracy, _ = grouped_intervals(cells, 2, groups, 500, seed=0)
    assert accuracy.low == pytest.approx(binomtest(2, 2).proportion_ci(0.95, method="exact").low)
