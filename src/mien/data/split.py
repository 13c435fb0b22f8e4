"""Setting validation pictures aside from the training pictures: stratified, seeded, copies kept together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Split
from mien.data.index import fingerprints_of
from mien.errors import DataError


def carve(train: Split, classes: Sequence[str], share: float, seed: int) -> tuple[Split, Split]:
    """Return (train, validation), each in the order of `train`.

    share: of each class, rounded, but at least one distinct picture on either side. Which pictures are chosen
    depends on their content and the seed, not on their names or order; pixel copies within a class stay on
    one side, or the validation score would count what was learnt by heart. Raises DataError where a class has
    fewer than two distinct pictures.
    """
    digests = fingerprints_of(train.pictures).digests
    _, kinds = np.unique(digests, axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(train), bool)
    for label in np.unique(train.labels).tolist():
        rows = np.flatnonzero(train.labels == label)
        chosen[rows] = _chosen(kinds[rows], share, random, classes[label])
    return train.take(np.flatnonzero(~chosen)), train.take(np.flatnonzero(chosen))


def _chosen(
    kinds: NDArray[np.intp], share: float, random: np.random.Generator, name: str
) -> NDArray[np.bool_]:
    """Choose rows of one class. kinds: (n,) the number of each row's content. Returns (n,) bool."""
    distinct, counts = np.unique(kinds, return_counts=True)
    if len(distinct) < 2:
        copies = "" if len(kinds) == 1 else f" ({len(kinds)} copies of it)"
        raise DataError(
            f"class {name!r} has only one picture{copies}, which cannot be both learnt and checked; "
            f"add pictures, merge it into another class (--merge) or leave it out (--classes)"
        )
    order = random.permutation(len(distinct))
    taken = np.cumsum(counts[order])
    target = max(1, round(share * len(kinds)))
    # As many kinds as fit into the target, at least one, and never all of them.
    number = min(max(1, int((taken <= target).sum())), len(distinct) - 1)
    return np.isin(kinds, distinct[order[:number]])
