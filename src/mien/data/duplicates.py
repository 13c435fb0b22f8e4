"""The same picture twice: within a split it counts double, across splits it makes scores too good."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Dataset
from mien.data.index import traits_of
from mien.data.likeness import near_pairs
from mien.data.traits import joined


def copies_of_training(dataset: Dataset, split: str) -> NDArray[np.bool_]:
    """Tell which pictures of a split are pixel-for-pixel copies of training pictures: (n,) bool.

    Colour or grey does not matter where the channels are equal. False everywhere without training pictures.
    """
    train = dataset.splits.get("train")
    learnt = set(traits_of(train.pictures).keys) if train else set()
    mine = traits_of(dataset.split(split).pictures).keys
    return np.array([key in learnt for key in mine], bool)


@dataclass(frozen=True, eq=False)
class Duplicates:
    """All pictures of a data set (splits behind each other), grouped by content.

    splits, rows, labels: (n,) where each picture comes from. groups: (n,) int64, equal for pixel copies.
    near: (m, 3) int64, two groups that are near-duplicates and their distance in bits.
    """

    names: tuple[str, ...]
    splits: NDArray[np.int64]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    near: NDArray[np.int64]

    def members(self, group: int) -> list[tuple[str, int]]:
        """Return (split, row) of each picture in a group."""
        places = np.flatnonzero(self.groups == group)
        return [(self.names[self.splits[place]], int(self.rows[place])) for place in places]

    def redundant(self, split: str) -> int:
        """Count the pictures of a split that repeat an earlier one of it, pixel for pixel."""
        mine = self.groups[self.splits == self.names.index(split)]
        return len(mine) - len(np.unique(mine))

    def copied(self, split: str, source: str) -> int:
        """Count the pictures of `split` that are pixel copies of pictures of `source`."""
        ours, theirs = (self.groups[self.splits == self.names.index(name)] for name in (split, source))
        return int(np.isin(ours, theirs).sum())

    def nearly_copied(self, split: str, source: str) -> int:
        """Count the pictures of `split` that are near-duplicates, but no copies, of pictures of `source`."""
        ours, theirs = (self.groups[self.splits == self.names.index(name)] for name in (split, source))
        both_ways = np.concatenate([self.near[:, :2], self.near[:, 1::-1]])
        alike = both_ways[np.isin(both_ways[:, 1], theirs), 0]
        return int((np.isin(ours, alike) & ~np.isin(ours, theirs)).sum())

    def near_within(self, split: str) -> int:
        """Count the pairs of near-duplicates within a split."""
        mine = self.groups[self.splits == self.names.index(split)]
        return int(np.isin(self.near[:, :2], mine).all(axis=1).sum())

    def conflicts(self) -> list[list[tuple[str, int]]]:
        """Return the groups of pixel copies that carry different labels, each as (split, row)."""
        order = np.lexsort((self.labels, self.groups))
        groups, labels = self.groups[order], self.labels[order]
        differs = (groups[1:] == groups[:-1]) & (labels[1:] != labels[:-1])
        return [self.members(int(group)) for group in np.unique(groups[1:][differs])]

    def leaks(self) -> list[tuple[str, str, int, int]]:
        """Return (split, source, copies, near-duplicates) for every two splits that share pictures."""
        pairs = [(later, earlier) for earlier, later in combinations(self.names, 2)]
        found = [(*pair, self.copied(*pair), self.nearly_copied(*pair)) for pair in pairs]
        return [leak for leak in found if leak[2] or leak[3]]


def find_duplicates(dataset: Dataset) -> Duplicates:
    """Find pixel copies and near-duplicates within and across all splits."""
    names = tuple(dataset.splits)
    parts = list(dataset.splits.values())
    traits = joined([traits_of(part.pictures) for part in parts])
    _, first, groups = np.unique(traits.digests, axis=0, return_index=True, return_inverse=True)
    return Duplicates(
        names,
        np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        np.concatenate([np.arange(len(part)) for part in parts]),
        np.concatenate([part.labels for part in parts]),
        groups.reshape(-1).astype(np.int64),
        near_pairs(traits.take(first)),
    )
