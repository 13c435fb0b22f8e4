"""Choosing the problem: merging classes into new ones (`--merge`), and using only some (`--classes`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mien.data.dataset import RawDataset, in_order
from mien.errors import DataError
from mien.labels import canonical


def merge_classes(reading: RawDataset, rules: Sequence[str]) -> RawDataset:
    """Apply rules such as `nothappy=sad+angry`; the new class stands where the first of its old ones stood.

    Old names match exactly, or as another spelling of the same expression (labels.canonical). Raises
    DataError for a name that the data does not have and for a class that two rules claim.
    """
    new_names = list(reading.classes)
    claimed: dict[int, str] = {}
    for rule in rules:
        new, _, olds = rule.partition("=")
        for old in filter(None, (word.strip() for word in olds.split("+"))):
            place = find_class(old, reading.classes)
            if claimed.setdefault(place, new.strip()) != new.strip():
                raise DataError(
                    f"--merge puts {old!r} into both {claimed[place]!r} and {new.strip()!r}; choose one"
                )
            new_names[place] = new.strip()
    return _relabelled(reading, tuple(dict.fromkeys(new_names)), new_names)


def choose_classes(reading: RawDataset, wanted: Sequence[str]) -> RawDataset:
    """Keep only the wanted classes, in that order and under those names; none wanted keeps all."""
    if not wanted:
        return reading
    places = [find_class(name, reading.classes) for name in wanted]
    if len(set(places)) < len(places):
        raise DataError(f"--classes names a class twice: {', '.join(wanted)}; name each once")
    new_names: list[str | None] = [None] * len(reading.classes)
    for place, name in zip(places, wanted, strict=True):
        new_names[place] = name
    chosen = _relabelled(reading, tuple(wanted), new_names)
    left_out = sum(map(len, reading.splits.values())) - sum(map(len, chosen.splits.values()))
    return chosen.noting(f"{left_out} pictures of other classes are left out") if left_out else chosen


def find_class(name: str, classes: Sequence[str]) -> int:
    """Return the place of a class by its exact name or by a spelling that means the same expression."""
    if name in classes:
        return list(classes).index(name)
    alike = [place for place, known in enumerate(classes) if canonical(known) == canonical(name)]
    if len(alike) == 1:
        return alike[0]
    problem = f"several classes like {name!r}" if alike else f"no class {name!r}"
    raise DataError(f"the data has {problem}; its classes are: {', '.join(classes)}")


def _relabelled(reading: RawDataset, classes: tuple[str, ...], new_names: Sequence[str | None]) -> RawDataset:
    """Give every old class its new name; rows whose class has None are dropped."""
    table = np.array([-1 if name is None else classes.index(name) for name in new_names], np.int64)
    splits = {}
    for name, split in reading.splits.items():
        labels = table[split.labels]
        rows = np.flatnonzero(labels >= 0)
        splits[name] = replace(split.take(rows), labels=labels[rows])
    return replace(reading, classes=classes, splits=in_order(splits))
