"""Setting validation pictures aside: what belongs together stays on one side, and says what still leaks.

The side of a picture is a function of its group alone: a hash of the group's name (the person, the film), or, where it
has none, of its pixels, is compared with the share that is asked for. So adding pictures moves none of the others, and
neither names nor order matter. Near copies form a group as well; the picture with the smallest content hash stands for
it, so only a new near copy of a picture can move that picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Split
from mien.data.duplicates import published_copies
from mien.data.near_copies import (
    NearCopies,
    closest_copies,
    components,
    estimated_s,
    near_copies,
    near_copies_if_quick,
    no_copies,
)
from mien.data.pictures import Fingerprints, fingerprints_of, joined
from mien.data.readers.words import classes_option
from mien.errors import SmallClassError
from mien.terminal import counted

COPIES_NOTE = "leak: of"  # begins the notes about copies across splits; `mien data` has warnings instead
_SEARCH_S = 600  # of processor time, about, for near copies of all kinds; some 45,000 pictures
_HEAVY = 2  # a group of more than this many times the share of all pictures is for training


@dataclass(frozen=True, eq=False)
class Carved:
    """Training pictures in two parts, each in the order in which they were.

    groups: how many named groups were kept together; near: how many pictures have a near copy that stayed on their
    side; copies: how many have a pixel copy there. problems: one line each.
    """

    train: Split
    validation: Split
    groups: int
    near: int
    copies: int
    problems: tuple[str, ...]

    def notes(self, seed: int) -> list[str]:
        """Return what to tell the user."""
        count, total = len(self.validation), len(self.train) + len(self.validation)
        kept = [
            f"{number} {what}"
            for number, what in (
                (self.groups, "groups"),
                (self.copies, "pictures with pixel copies"),
                (self.near, "with near copies"),
            )
            if number
        ]
        together = f"; kept on one side: {', '.join(kept)}" if kept else ""
        first = f"{count} of {total} training pictures are set aside for validation (by a hash, seed {seed}){together}"
        return [first, *self.problems]


def carve(train: Split, classes: Sequence[str], share: float, seed: int) -> Carved:
    """Set about `share` of the training pictures aside for validation.

    Pixel copies, near copies and groups (Split.groups) stay on one side, or the validation score would count what was
    learnt by heart. Every class has at least one picture on either side, where its groups allow it. Raises
    SmallClassError where a class has fewer than two distinct pictures.
    """
    fingerprints = fingerprints_of(train.pictures)
    kinds = fingerprints.kinds
    _check_distinct(train, kinds, classes)
    together = kept_together(train)
    units, problems = together.units, list(together.problems)
    aside, lacking = _chosen(units, _keys(units, fingerprints, train.groups), train.labels, share, seed)
    if lacking:
        names = ", ".join(classes[label] for label in lacking)
        problems.append(
            f"no validation picture of {names}: all of it belongs to one group, which is for training"
        )
    named = {group for group in train.groups or () if group}
    near = {row for pair in together.near.pairs for row in pair}
    return Carved(
        train.take(np.flatnonzero(~aside)),
        train.take(np.flatnonzero(aside)),
        len(named),
        len(near),
        int((np.bincount(kinds)[kinds] > 1).sum()),
        tuple(problems),
    )


@dataclass(frozen=True, eq=False)
class Together:
    """What must lie on one side of any split. units: (n,) the same number for pictures that belong together.

    near: those near copies that count. problems: one line each.
    """

    units: NDArray[np.intp]
    near: NearCopies
    problems: tuple[str, ...] = ()


def kept_together(split: Split) -> Together:
    """Find what belongs together: groups (Split.groups), pixel copies and near copies, directly or in a chain.

    Of very many pictures, crops and shifts are not looked for, because that takes days.

    Where that would put a whole class into one unit, near copies of each other all, they do not count.
    """
    fingerprints = fingerprints_of(split.pictures)
    problems: tuple[str, ...] = ()
    if (hours := estimated_s(len(fingerprints)) / 3600) * 3600 <= _SEARCH_S:
        near = near_copies(fingerprints)
    else:
        near = closest_copies(fingerprints)
        problems = (
            "of so many pictures, near copies were searched as a whole: crops to less than 90 % may lie on both sides "
            f"(to find those, `mien data` takes about {hours:.1f} hours of processor time)",
        )
    units = _units(fingerprints, split.groups, near)
    if _lonely(units, split.labels):
        without = _units(fingerprints, split.groups, no_copies())
        if not _lonely(without, split.labels):
            problem = "near copies lie on both sides: all pictures of a class are near copies of each other"
            return Together(without, no_copies(), (problem,))
    return Together(units, near, problems)


def leaks(splits: Mapping[str, Split]) -> list[str]:
    """Say for every two splits which pictures and groups are in both; nothing where they are apart.

    Without groups only the pictures themselves are compared: pixel copies, and near copies; the latter where that
    takes less than a minute or has been done before (`mien data` does it in any case), or the faces are FER-2013's.
    """
    names = [name for name in splits if len(splits[name])]
    if len(names) < 2:
        return []
    parts = [splits[name] for name in names]
    fingerprints = joined([fingerprints_of(part.pictures) for part in parts])
    where = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    kinds = fingerprints.kinds
    found = near_copies_if_quick(fingerprints)
    lines = []
    for earlier, later in combinations(range(len(parts)), 2):
        ours, theirs = where == later, where == earlier
        copied = ours & np.isin(kinds, kinds[theirs])
        near = np.zeros(len(ours), bool)
        if found is not None:
            near[found.first[theirs[found.second]]] = near[found.second[theirs[found.first]]] = True
            near &= ours & ~copied
        elif names[earlier] == "train":
            known = published_copies(fingerprints.take(np.flatnonzero(ours)))
            if known is not None:
                near[ours] = known & ~copied[ours]
        if copied.any() or near.any():
            lines.append(
                f"{COPIES_NOTE} {counted(int(ours.sum()), f'{names[later]} picture')} {int(copied.sum())} are pixel "
                f"copies of {names[earlier]} pictures and {int(near.sum())} near copies; scores on them say little"
            )
        shared = {group for group in parts[earlier].groups or () if group} & set(parts[later].groups or ())
        if shared:
            lines.append(
                f"leak: {counted(len(shared), 'group')}, such as {min(shared)!r}, in {names[earlier]} and "
                f"{names[later]}"
            )
    return lines


def _check_distinct(train: Split, kinds: NDArray[np.intp], classes: Sequence[str]) -> None:
    small = {}
    for label in np.unique(train.labels).tolist():
        mine = kinds[train.labels == label]
        if len(np.unique(mine)) < 2:
            copies = "" if len(mine) == 1 else f" ({len(mine)} copies of it)"
            small[classes[label]] = f"only one picture{copies}"
    refuse_small(small, classes, "which cannot be both learnt and checked")


def refuse_small(small: Mapping[str, str], classes: Sequence[str], why: str) -> None:
    """Raise SmallClassError where there are classes of too few pictures: all of them, and what to type without them.

    small: name to what it has. why: what goes wrong with so few.
    """
    if not small:
        return
    told = ", ".join(f"class {name!r} has {what}" for name, what in small.items())
    rest = [name for name in classes if name not in small]
    option = f": {classes_option(rest)}" if len(rest) > 1 else " (--classes)"
    merge, leave = ("it into another class", "it") if len(small) == 1 else ("them into other classes", "them")
    raise SmallClassError(
        f"{told}, {why}; add pictures, merge {merge} (--merge) or leave {leave} out{option}"
    )


def _units(fingerprints: Fingerprints, groups: Sequence[str] | None, near: NearCopies) -> NDArray[np.intp]:
    """Number what must stay together: (n,) the same number for pixel copies, near copies and members of a group."""
    found = components(len(fingerprints), near.pairs, fingerprints.keys, groups or ())
    return np.unique(found, return_inverse=True)[1].reshape(-1)


def _lonely(units: NDArray[np.intp], labels: NDArray[np.int64]) -> bool:
    """Say whether a class has all its pictures in one unit."""
    return any(len(np.unique(units[labels == label])) < 2 for label in np.unique(labels))


def _keys(units: NDArray[np.intp], fingerprints: Fingerprints, groups: Sequence[str] | None) -> list[bytes]:
    """Return what stands for each unit: its group's name, else the smallest content hash among its pictures."""
    keys: list[tuple[int, bytes]] = [(2, b"")] * (int(units.max()) + 1 if len(units) else 0)
    for place, (unit, digest) in enumerate(zip(units.tolist(), fingerprints.keys, strict=True)):
        group = groups[place] if groups else ""
        own = (0, group.encode("utf-8", "surrogateescape")) if group else (1, digest)
        keys[unit] = min(keys[unit], own)
    return [key for _, key in keys]


def _chosen(
    units: NDArray[np.intp], keys: Sequence[bytes], labels: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.bool_], list[int]]:
    """Return which rows are set aside, (n,) bool, and the classes of which none could be."""
    ranks = np.array([_rank(key, seed) for key in keys])
    weights = np.bincount(units, minlength=len(keys))
    aside = (ranks < share) & (weights <= max(1, _HEAVY * share * len(units)))
    of_class = {label: np.unique(units[labels == label]) for label in np.unique(labels).tolist()}
    lacking = []
    for label, mine in of_class.items():  # too few pictures for chance to give every side one
        if not aside[mine].any():
            free = [unit for unit in mine if not _empties(int(unit), aside, of_class)]
            if free:
                aside[
                    min(free, key=lambda unit: (weights[unit] > _HEAVY * share * len(units), ranks[unit]))
                ] = True
            else:
                lacking.append(label)
    for mine in of_class.values():
        if aside[mine].all():
            aside[max(mine, key=lambda unit: ranks[unit])] = False
    lacking = [label for label, mine in of_class.items() if not aside[mine].any()]
    return aside[units], lacking


def _empties(unit: int, aside: NDArray[np.bool_], of_class: Mapping[int, NDArray[np.intp]]) -> bool:
    """Say whether setting this unit aside, too, would leave some class without training pictures."""
    return any(unit in mine and (aside[mine] | (mine == unit)).all() for mine in of_class.values())


def _rank(key: bytes, seed: int) -> float:
    """Return a number from 0 to 1 that depends on the key and the seed alone."""
    digest = hashlib.blake2b(key, digest_size=8, salt=seed.to_bytes(16, "little", signed=False)[:16])
    return int.from_bytes(digest.digest(), "big") / 2**64
