"""The same picture twice: pixel copies and near copies.

Within a split they count double, across splits they make scores too good.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache as once
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Dataset, Pictures, Progress
from mien.data.near_copies import NearCopies, grouped, near_copies, near_copies_if_quick, no_copies
from mien.data.pictures import Fingerprints, fingerprints_of, joined

# FER-2013's PublicTest faces that are copies of Training faces, by content: row, training_row (both from 0, within
# their split), kind, digest. How it came about: docs/data-trust.md.
_PUBLISHED = Path(__file__).with_name("fer2013_copies.csv")
_ENOUGH = (
    0.9  # of the published faces that must be there: then a split is PublicTest, whatever its file is called
)


def groups_of_copies(pictures: Pictures) -> NDArray[np.int64]:
    """Number pictures so that pixel copies and near copies of each other, directly or in a chain, have one number.

    Returns (n,) int64: the row of the first picture of the group.
    """
    prints = fingerprints_of(pictures)
    return grouped(prints, near_copies(prints))


@dataclass(frozen=True, eq=False)
class Duplicates:
    """All pictures of a data set (splits behind each other), grouped by content.

    splits, rows, labels: (n,) where each picture comes from. exact: (n,) int64, equal for pixel copies. groups: (n,)
    int64, equal for pixel copies and near copies, directly or in a chain. near: the pairs, in rows of all pictures.
    """

    names: tuple[str, ...]
    splits: NDArray[np.int64]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    exact: NDArray[np.int64]
    groups: NDArray[np.int64]
    near: NearCopies

    def place(self, picture: int) -> tuple[str, int]:
        """Return (split, row) of a picture."""
        return self.names[self.splits[picture]], int(self.rows[picture])

    def redundant(self, split: str) -> int:
        """Count the pictures of a split that repeat an earlier one of it, pixel for pixel."""
        mine = self.exact[self.splits == self.names.index(split)]
        return len(mine) - len(np.unique(mine))

    def copied(self, split: str, source: str) -> int:
        """Count the pictures of `split` that are pixel copies of pictures of `source`."""
        ours, theirs = (self.exact[self.splits == self.names.index(name)] for name in (split, source))
        return int(np.isin(ours, theirs).sum())

    def nearly_copied(self, split: str, source: str) -> int:
        """Count the pictures of `split` that are in a group with pictures of `source`, and no pixel copies of any."""
        ours, theirs = (self.splits == self.names.index(name) for name in (split, source))
        near = np.isin(self.groups[ours], self.groups[theirs])
        return int((near & ~np.isin(self.exact[ours], self.exact[theirs])).sum())

    def near_within(self, split: str) -> int:
        """Count the pairs of near copies within a split."""
        mine = self.splits == self.names.index(split)
        return int((mine[self.near.first] & mine[self.near.second]).sum())

    def conflicts(self) -> list[list[tuple[str, int]]]:
        """Return the groups of pixel copies that carry different labels, each as (split, row)."""
        order = np.lexsort((self.labels, self.exact))
        exact, labels = self.exact[order], self.labels[order]
        differs = (exact[1:] == exact[:-1]) & (labels[1:] != labels[:-1])
        return [
            [self.place(int(picture)) for picture in np.flatnonzero(self.exact == kind)]
            for kind in np.unique(exact[1:][differs])
        ]

    def leaks(self) -> list[tuple[str, str, int, int]]:
        """Return (split, source, pixel copies, near copies) for every two splits that share pictures."""
        pairs = [(later, earlier) for earlier, later in combinations(self.names, 2)]
        found = [(*pair, self.copied(*pair), self.nearly_copied(*pair)) for pair in pairs]
        return [leak for leak in found if leak[2] or leak[3]]


def find_duplicates(dataset: Dataset, *, near: bool = True, progress: Progress | None = None) -> Duplicates:
    """Find pixel copies and, if asked for, near copies within and across all splits."""
    names = tuple(dataset.splits)
    parts = list(dataset.splits.values())
    prints = joined([fingerprints_of(part.pictures) for part in parts])
    pairs = near_copies(prints, progress) if near else no_copies()
    return Duplicates(
        names,
        np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        np.concatenate([np.arange(len(part)) for part in parts]),
        np.concatenate([part.labels for part in parts]),
        prints.kinds.astype(np.int64),
        grouped(prints, pairs),
        pairs,
    )


def copies_of_training(dataset: Dataset, split: str) -> NDArray[np.bool_]:
    """Tell which pictures of a split are pixel-for-pixel copies of training pictures: (n,) bool.

    Colour or grey does not matter where the channels are equal. False everywhere without training pictures.
    """
    train = dataset.splits.get("train")
    learnt = set(fingerprints_of(train.pictures).keys) if train else set()
    mine = fingerprints_of(dataset.split(split).pictures).keys
    return np.array([key in learnt for key in mine], bool)


def near_copies_of_training(dataset: Dataset, split: str) -> NDArray[np.bool_] | None:
    """Tell which pictures of a split are near copies, but no pixel copies, of training pictures: (n,) bool.

    FER-2013's PublicTest is known by its faces. Other sets are searched where that takes a minute or `mien data` has
    done it already. None where that is not so.
    """
    train = dataset.splits.get("train")
    mine = fingerprints_of(dataset.split(split).pictures)
    if not train:
        return np.zeros(len(mine), bool)
    exact = copies_of_training(dataset, split)
    known = published_copies(mine)
    if known is None:
        theirs = fingerprints_of(train.pictures)
        everything = joined([theirs, mine])
        pairs = near_copies_if_quick(everything)
        if pairs is None:
            return None
        groups = grouped(everything, pairs)
        known = np.isin(groups[len(theirs) :], groups[: len(theirs)])
    return known & ~exact


def published_copies(prints: Fingerprints) -> NDArray[np.bool_] | None:
    """Tell which faces are known copies of FER-2013's Training faces, (n,) bool; None where this is not PublicTest."""
    known = _published()
    found = np.array([key in known for key in prints.keys], bool)
    return found if len(known) and len(set(prints.keys) & known) >= _ENOUGH * len(known) else None


@once
def _published() -> frozenset[bytes]:
    with _PUBLISHED.open(encoding="ascii", newline="") as file:
        return frozenset(bytes.fromhex(row["digest"]) for row in csv.DictReader(file))
