"""How much of a figure is chance: 95 % intervals by the bootstrap, and an exact test between two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.terminal import counted

_COVERED = (2.5, 97.5)
SIGNIFICANT = 0.05
_AT_ONCE = 2_000_000  # draws held at once


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
    return _accuracy_and_f1(confusion, draws.reshape(resamples, classes, classes), n)


def grouped_intervals(
    cells: NDArray[np.int64], classes: int, groups: NDArray[np.int64], resamples: int, seed: int
) -> tuple[Interval, Interval]:
    """Return the intervals of accuracy and macro-F1 where whole groups are drawn: the cluster bootstrap.

    Pictures of one person or film are right and wrong together, so as many pictures say less than as many persons
    would (Davison and Hinkley 1997, 'Bootstrap Methods and their Application', section 3.8). cells: (n,) each picture's
    cell of the confusion matrix, label * classes + answer. groups: (n,) from 0 without gaps.
    """
    of_group = np.zeros((int(groups.max()) + 1, classes * classes))
    np.add.at(of_group, (groups, cells), 1)
    tables = _drawn_groups(of_group, resamples, seed).astype(np.int64).reshape(resamples, classes, classes)
    confusion = of_group.sum(axis=0).astype(np.int64).reshape(classes, classes)
    return _accuracy_and_f1(confusion, tables, len(of_group))


def _accuracy_and_f1(
    confusion: NDArray[np.int64], tables: NDArray[np.int64], drawn: int
) -> tuple[Interval, Interval]:
    """tables: resampled ones. drawn: how many pictures, or groups, were drawn for each.

    Where all is right, or all wrong, every resample is alike and says nothing of what was not seen. Then the exact
    bound of a share (Clopper and Pearson 1934) stands for both: of eight right ones, 63 to 100 %.
    """
    right = np.trace(confusion)
    if right not in (0, confusion.sum()):
        return _interval(_accuracy(tables)), _interval(macro_f1(tables))
    bound = _least_share(drawn)
    exact = Interval(bound, 1.0) if right else Interval(0.0, 1 - bound)
    return exact, exact


def _least_share(drawn: int) -> float:
    """Return the exact lower bound of a share where all that were drawn are of one kind."""
    return float((_COVERED[0] / 100) ** (1 / drawn))


def group_numbers(groups: Sequence[str] | None) -> NDArray[np.int64] | None:
    """Number groups from 0, (n,); a picture of none, '', stands alone. None where no two pictures share one."""
    named = [(group, -1) if group else ("", row) for row, group in enumerate(groups or ())]
    known = {name: number for number, name in enumerate(dict.fromkeys(named))}
    return np.array([known[name] for name in named], np.int64) if len(known) < len(named) else None


def _drawn_groups(of_group: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the sums over groups drawn with replacement: (resamples, k). of_group: (groups, k)."""
    random, count = np.random.default_rng(seed), len(of_group)
    even, step = np.full(count, 1 / count), max(1, _AT_ONCE // count)
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return np.concatenate([random.multinomial(count, even, size=size) @ of_group for size in sizes])


def difference(
    right_a: NDArray[np.bool_],
    right_b: NDArray[np.bool_],
    resamples: int,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> Interval:
    """Return the paired interval of accuracy(b) - accuracy(a) on the same pictures.

    groups: as in `grouped_intervals`. Where b is ahead by the same in each picture or group, most often by nothing,
    every resample is alike; the exact bound of how many differ from those seen stands for both sides then.
    """
    ahead = right_b.astype(int) - right_a
    of_group = np.stack([ahead, np.ones(len(ahead), int)], axis=1).astype(float)
    if groups is not None:
        of_group = np.zeros((int(groups.max()) + 1, 2))
        np.add.at(of_group, groups, np.stack([ahead, np.ones(len(groups), int)], axis=1))
    each = of_group[:, 0] / of_group[:, 1]
    if np.ptp(each) == 0:
        unseen = 1 - _least_share(len(each))
        return Interval(*(float(each[0] + unseen * (end - each[0])) for end in (-1, 1)))
    if groups is not None:
        sums = _drawn_groups(of_group, resamples, seed)
        return _interval(sums[:, 0] / sums[:, 1])
    counts, n = np.bincount(ahead + 1, minlength=3), len(ahead)
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=resamples)
    return _interval((draws[:, 2] - draws[:, 0]) / n)


def macro_f1(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean F1 over classes with pictures. tables: (..., classes, classes), rows are the labels."""
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


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """An exact test on the pictures that only one of two models gets right: McNemar's, or of whole groups.

    difference: accuracy of the first minus the second. interval: its paired 95 % bootstrap interval. groups: how many
    groups (persons, films) were tossed for; None where each picture was.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    difference: float
    interval: Interval
    p_value: float
    groups: int | None = None

    @property
    def within_noise(self) -> bool:
        return self.p_value >= SIGNIFICANT

    def sentence(self) -> str:
        """Say in one line what the test says."""
        low, high = 100 * self.interval.low, 100 * self.interval.high
        points = f"{100 * self.difference:+.1f} points (95%: {low:+.1f} to {high:+.1f})"
        test = "McNemar p" if self.groups is None else f"sign-flip test of {counted(self.groups, 'group')}, p"
        chance = (
            f"{test} = {self.p_value:.2g}, {counted(self.only_first, 'picture')} against {self.only_second:,}"
        )
        if self.within_noise:
            return (
                f"{self.first} against {self.second}: {points}; within noise ({chance}): these pictures do "
                "not tell the two apart"
            )
        return f"{self.first} is better than {self.second}: {points}; {chance}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "only_first_right": self.only_first,
            "only_second_right": self.only_second,
            "difference": self.difference,
            "interval": self.interval.to_dict(),
            "p_value": self.p_value,
            "groups": self.groups,
            "within_noise": self.within_noise,
        }


def paired_test(
    first: str,
    second: str,
    right_first: NDArray[np.bool_],
    right_second: NDArray[np.bool_],
    *,
    resamples: int,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> PairedTest:
    """Compare two models. groups: as in `grouped_intervals`.

    right_first, right_second: (n,) whether each picture was answered rightly, the same pictures in the same order.
    """
    only_first = int((right_first & ~right_second).sum())
    only_second = int((right_second & ~right_first).sum())
    p_value, count = exact_mcnemar(only_first, only_second), None
    if groups is not None:
        ahead = np.zeros(int(groups.max()) + 1, np.int64)
        np.add.at(ahead, groups, right_first.astype(int) - right_second)
        p_value, count = exact_sign_flip(ahead), len(ahead)
    return PairedTest(
        first=first,
        second=second,
        only_first=only_first,
        only_second=only_second,
        difference=float(right_first.mean() - right_second.mean()),
        interval=difference(right_second, right_first, resamples, seed, groups),
        p_value=p_value,
        groups=count,
    )


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value: the discordant pictures are coin tosses if neither is better (McNemar 1947)."""
    n, least = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    terms = [_log_half_binomial(n, k) for k in range(least + 1)]
    top = max(terms)
    return min(1.0, 2 * math.exp(top) * sum(math.exp(term - top) for term in terms))


def exact_sign_flip(ahead: NDArray[np.int64]) -> float:
    """Two-sided exact p-value where groups are tossed for: Fisher's test of paired differences (1935, section 21).

    ahead: (groups,) by how many pictures the first model is ahead in each. If neither is better, each group could as
    well be as far behind. Pictures of one person are right and wrong together, so that tossing for each picture
    (McNemar) would call chance a difference; with one picture a group both are the same.
    """
    sizes, counts = np.unique(np.abs(ahead[ahead != 0]), return_counts=True)
    # Of all signs alike likely, the share in which the first model is ahead by `place` pictures in all.
    chances = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        tossed = np.zeros(size * count + 1)
        tossed[::size] = [math.exp(_log_half_binomial(count, k)) for k in range(count + 1)]
        chances = np.convolve(chances, tossed)
    least = (len(chances) - 1 - abs(int(ahead.sum()))) // 2
    return min(1.0, 2 * float(chances[: least + 1].sum()))


def _log_half_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
