"""Opening DATA: its forms are read and joined; then classes, groups, validation and fingerprint."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from mien.data.classes import (
    check_spellings,
    choose_classes,
    combine,
    merge_classes,
    one_spelling,
    plain_classes,
)
from mien.data.dataset import DataConfig, Dataset, Progress, RawDataset, Split, in_order
from mien.data.decisions import applied, decisions_for
from mien.data.forms import read, stem_of
from mien.data.pictures import fingerprints_of
from mien.data.readers.face_sets import is_face_set
from mien.data.readers.name_lists import numbers_named, numbers_noted
from mien.data.readers.words import split_of
from mien.data.refusals import FORMS
from mien.data.split import carve, leaks
from mien.errors import DataError
from mien.files import expanded, joined_paths, plain_text, shell_word
from mien.terminal import counted


def open_paths(
    paths: Sequence[Path], config: DataConfig, *, carve_validation: bool, progress: Progress | None
) -> Dataset:
    """See mien.data.open_dataset."""
    if not paths:
        raise DataError(f"no DATA is given; it can be {FORMS}")
    source = joined_paths(paths)
    raws = [numbers_named(read(own, config, progress), own, config) for own in _absolute(paths)]
    parts = _parts_of_one(raws, paths)
    raw = one_spelling(combine([plain_classes(own, config) for own in ([parts] if parts else raws)]))
    raw = raw.noting(*_in_two_face_sets(raws, paths))
    raw = choose_classes(merge_classes(raw, config.merge), config.classes)
    _check_labels(raw, config)
    raw = check_spellings(raw, config.classes)
    raw = applied(raw, decisions_for(paths, config))
    _check_classes(raw, source)
    raw = raw.noting(*_never_labels(raw))
    raw = numbers_noted(_grouped(raw, [own.name for own in raws if not own.grouped], config))
    raw = _with_validation(raw, config) if carve_validation else raw.noting(*leaks(raw.splits))
    return Dataset(
        name=raw.name,
        source=source,
        classes=raw.classes,
        splits=raw.splits,
        fingerprint=fingerprint(raw.classes, raw.splits),
        unreadable=raw.unreadable,
        notes=tuple(dict.fromkeys(raw.notes)),
    )


def _parts_of_one(raws: Sequence[RawDataset], paths: Sequence[Path]) -> RawDataset | None:
    """Take paths that are named like splits (train.csv test.csv) for one data set; None where they are not.

    Only where all are, training among them, and none has splits of its own: the test pictures would be trained on.
    """
    splits = [split_of(stem_of(path)) for path in _absolute(paths)]
    if (
        None in splits
        or len(set(splits)) < 2
        or "train" not in splits
        or any(list(raw.splits) != ["train"] for raw in raws)
    ):
        return None
    parts = []
    for raw, split, path in zip(raws, splits, paths, strict=True):
        own = raw.below(plain_text(path.name))
        parts.append(replace(own, splits={split or "train": own.splits["train"]}))
    listed = ", ".join(
        f"{plain_text(path.name)} ({split})" for path, split in zip(paths, splits, strict=True)
    )
    joined = combine(parts, several=False)
    return replace(joined, name="+".join(dict.fromkeys(raw.name for raw in raws))).noting(
        f"one data set, split by the names of its parts: {listed}"
    )


def _in_two_face_sets(raws: Sequence[RawDataset], paths: Sequence[Path]) -> list[str]:
    """Say which faces are in two face sets, as in copies that two people labelled, and how one set is made of them."""
    notes = []
    sets = [(raw, path) for raw, path in zip(raws, paths, strict=True) if is_face_set(path)]
    for (one, first), (other, second) in combinations(sets, 2):
        faces, others = (
            {
                face
                for own in raw.splits.values()
                for face in zip(own.names, fingerprints_of(own.pictures).keys, strict=True)
            }
            for raw in (one, other)
        )
        if both := len(faces & others):
            notes.append(
                f"{counted(both, 'face')} of {one.name} {'is' if both == 1 else 'are'} in {other.name}, too, and count "
                f"twice; one set of both, with everybody's labels: "
                f"mien faces {shell_word(second)} --to {shell_word(first)}"
            )
    return notes


def _absolute(paths: Sequence[Path]) -> list[Path]:
    return [expanded(path).absolute() for path in paths]


def _check_labels(raw: RawDataset, config: DataConfig) -> None:
    """Refuse labels that mean nothing, once it is known that they are used; and rules that meant nothing."""
    for label, reason in raw.refused.items():
        if label in raw.classes:
            raise DataError(reason)
    if (
        config.label_names
        and not set(config.label_names.values()) & set(raw.classes)
        and not (config.merge or config.classes)
    ):
        raise DataError(
            f"--labels renames {', '.join(config.label_names)}, and the data has no such label; its classes are: "
            f"{', '.join(raw.classes)}"
        )


def _check_classes(raw: RawDataset, path: Path) -> None:
    counts = raw.counts()
    if empty := [name for name, count in counts.items() if count == 0]:
        first = next((f"; the first: {bad.name}: {bad.reason}" for bad in raw.unreadable), "")
        raise DataError(
            f"{path} has no readable picture of class {', '.join(empty)} (unreadable files: "
            f"{len(raw.unreadable)}{first}); add pictures or leave the class out (--classes)"
        )
    if len(counts) < 2:
        only = ", ".join(counts)
        raise DataError(f"{path} has only one class ({only}); telling expressions apart needs at least two")


def _never_labels(raw: RawDataset) -> list[str]:
    """Name the classes that have shares of pictures, and are the label of none."""
    counts = [split.counts(raw.classes) for split in raw.splits.values()]
    never = [name for name in raw.classes if not any(count[name] for count in counts)]
    told = f"of no picture {' or '.join(never)} is the label: learnt from shares alone, and not scored"
    return [told] if never else []


def _grouped(raw: RawDataset, lacking: Sequence[str], config: DataConfig) -> RawDataset:
    """Give every picture its group by --group, where that is no column that a reader has used already.

    lacking: names of the data sets that have no such column.
    """
    if config.group == "none":
        return replace(raw, splits={name: replace(split, groups=None) for name, split in raw.splits.items()})
    if not config.group:
        return raw
    if raw.grouped:
        told = (
            f"--group {config.group!r} is a column that {', '.join(lacking)} lacks: there only what is known without "
            "it is grouped"
        )
        return raw.noting(told) if lacking else raw
    pattern = re.compile(config.group)
    splits, without = {}, 0
    for name, split in raw.splits.items():
        found = [pattern.search(row) for row in split.names]
        groups = [(match[1] if pattern.groups else match[0]) or "" if match else "" for match in found]
        without += groups.count("")
        splits[name] = replace(split, groups=groups)
    values = {group for split in splits.values() for group in split.groups or () if group}
    if not values:
        example = next(row for split in raw.splits.values() for row in split.names)
        raise DataError(
            f"--group {config.group!r} is neither a column nor found in any picture's name, such as {example!r}"
        )
    rest = f"; alone: {counted(without, 'picture')} that it does not match" if without else ""
    return replace(raw, splits=splits).noting(
        f"grouped by {config.group!r} in the names: {counted(len(values), 'group')}{rest}"
    )


def _with_validation(raw: RawDataset, config: DataConfig) -> RawDataset:
    if "validation" in raw.splits or "train" not in raw.splits:
        return raw.noting(*leaks(raw.splits))
    carved = carve(raw.splits["train"], raw.classes, config.validation_share, config.split_seed)
    splits = in_order({**raw.splits, "train": carved.train, "validation": carved.validation})
    return replace(raw, splits=splits).noting(*carved.notes(config.split_seed), *leaks(splits))


def fingerprint(classes: Sequence[str], splits: Mapping[str, Split]) -> str:
    """Return the SHA-256 over classes and over split, label (or shares) and content of every picture, in any order.

    The same faces have the same fingerprint in a csv and in folders of PNG files. Content is decoded pixels,
    so a JPEG decoder that rounds differently gives another one.
    """
    digest = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape"))
    for name, split in sorted(splits.items()):
        keys = fingerprints_of(split.pictures).keys
        rows = sorted(zip(split.labels.tolist(), keys, strict=True))
        digest.update(f"\0{name}\0{len(rows)}\0".encode())
        digest.update(b"".join(label.to_bytes(4, "little") + key for label, key in rows))
        if split.shares is not None:
            shares = sorted(key + row.tobytes() for key, row in zip(keys, split.shares, strict=True))
            digest.update(b"".join(shares))
    return digest.hexdigest()
