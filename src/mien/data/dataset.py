"""What every reader returns and everything downstream takes: a Dataset of Splits of Pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, DataError
from mien.settings import BETWEEN, SEED, check_settings, setting

SPLITS = ("train", "validation", "test")
DECISIONS_FILE = "mien-decisions.csv"  # beside the data: see mien.data.decisions
Progress = Callable[[int, int], None]  # told (done, of) while pictures are examined


class Pictures(Protocol):
    """Faces that can be read by index, from memory or from disk. Safe to read from several threads."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return one picture: (height, width) grey or (height, width, 3) RGB, uint8."""
        ...

    def take(self, indices: NDArray[np.intp]) -> Pictures:
        """Return the pictures at these places, in this order."""
        ...


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set; all fields have the same length.

    labels: (n,) int64, index into Dataset.classes. names: what a person would look for (a path below the data
    set's folder, or `fer2013.csv row 12`). votes: (n, 8) float32 counts of FER+ raters in the order labels.FERPLUS,
    a row of zeros where no rater chose one of the eight; None where the data set has no votes. groups: what must stay
    on one side of a split (the person, the film), '' for a picture that stands alone; None where nothing is known.
    shares: (n, classes) float32, rows that sum to 1, soft labels in the order of Dataset.classes; None where the data
    has only hard ones. Where there are shares, labels are their largest.
    """

    pictures: Pictures
    labels: NDArray[np.int64]
    names: Sequence[str]
    votes: NDArray[np.float32] | None = None
    groups: Sequence[str] | None = None
    shares: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        optional = [len(part) for part in (self.votes, self.groups, self.shares) if part is not None]
        lengths = {len(self.pictures), len(self.labels), len(self.names), *optional}
        if len(lengths) != 1:
            raise DataError(
                f"pictures, labels, names, votes, groups and shares of a split differ in length: {sorted(lengths)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self, classes: Sequence[str]) -> dict[str, int]:
        """Return the number of pictures of each class by name; of soft labels the largest share counts."""
        found = np.bincount(self.labels, minlength=len(classes))
        return dict(zip(classes, found.tolist(), strict=True))

    def amounts(self, classes: int) -> NDArray[np.float64]:
        """Return how much there is of each class, (classes,): pictures, those with soft labels counted by shares."""
        if self.shares is None:
            return np.bincount(self.labels, minlength=classes).astype(np.float64)
        return np.asarray(self.shares.sum(axis=0, dtype=np.float64), np.float64)

    def take(self, indices: NDArray[np.intp]) -> Split:
        """Return the rows at these places, in this order."""
        return Split(
            self.pictures.take(indices),
            self.labels[indices],
            [self.names[int(i)] for i in indices],
            None if self.votes is None else self.votes[indices],
            None if self.groups is None else [self.groups[int(i)] for i in indices],
            None if self.shares is None else self.shares[indices],
        )


@dataclass(frozen=True)
class Unreadable:
    """A file that was meant to be a picture and is not used."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class RawDataset:
    """Labelled pictures as a reader found them, before classes are chosen and a validation split is made.

    The labels of the splits are indices into `classes`. refused: labels that cannot be used, and why; they are an
    error only where they are still there after --merge and --classes. grouped: whether the groups are those of a
    column: where --group is given, it named that one and is no pattern for the pictures' names.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    grouped: bool = False

    def counts(self) -> dict[str, int]:
        """Pictures of each class over all splits; with soft labels, those with a share of it."""
        found = np.zeros(len(self.classes), np.int64)
        for split in self.splits.values():
            if split.shares is None:
                found += np.bincount(split.labels, minlength=len(self.classes))
            else:
                found += (split.shares > 0).sum(axis=0)
        return dict(zip(self.classes, found.tolist(), strict=True))

    def noting(self, *notes: str) -> RawDataset:
        return replace(self, notes=self.notes + notes)

    def below(self, folder: str) -> RawDataset:
        """Put `folder/` before the name of every picture."""
        named = {
            name: replace(split, names=[f"{folder}/{row}" for row in split.names])
            for name, split in self.splits.items()
        }
        return replace(self, splits=named)


def in_order(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Put the splits into the order train, validation, test and leave out the empty ones."""
    return {name: splits[name] for name in SPLITS if name in splits and len(splits[name])}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled faces.

    name: `fer2013` for that data set in any of its forms, otherwise the folder's or file's name.
    splits: any of train, validation, test. fingerprint: SHA-256 over classes, labels, split and picture content.
    """

    name: str
    source: Path
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    fingerprint: str
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = field(default=())  # one line each, for the user: what was decided while reading

    def split(self, name: str) -> Split:
        """Return one split; DataError with the ones that exist when it is missing or empty."""
        found = self.splits.get(name)
        if found is None or len(found) == 0:
            have = ", ".join(f"{key} ({len(part)})" for key, part in self.splits.items()) or "none"
            raise DataError(f"{self.source} has no pictures in its {name} split; it has: {have}")
        return found


_read = partial(setting, group="how DATA is read")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How DATA is read. Every command that takes DATA has these settings."""

    labels: tuple[str, ...] = _read(
        (), "what the data's labels mean: OLD=NEW, several separated by commas (0=angry,1=happy)"
    )
    merge: tuple[str, ...] = _read(
        (), "merge classes: NEW=OLD+OLD, several separated by commas (nothappy=sad+angry)"
    )
    classes: tuple[str, ...] = _read(
        (),
        "use only these classes, in this order (after --labels and --merge); one with a comma in its name stands in "
        "double quotes: '\"calm, still\",bored'; unset: all",
    )
    path_column: str | None = _read(None, "table: the column with the pictures' paths; unset: by its name")
    label_column: str | None = _read(
        None, "table: the column with the labels, or those of several raters (Ann,Bo,Cy); unset: by its name"
    )
    split_column: str | None = _read(
        None,
        "table: the column that says train, validation or test; 'none': there is none; unset: by its name",
    )
    root: str | None = _read(
        None,
        "table: the folder from which its paths start; unset: the table's own, or where the pictures are found",
    )
    group: str | None = _read(
        None,
        "what stays on one side of the split (persons, films): a table's column, or a regular expression for the "
        "pictures' names, such as '^[^_]+' for all before the first '_'; 'none': nothing; unset: by what is known",
    )
    validation_share: float = _read(
        0.15,
        "share of the training pictures set aside for validation where the data has none",
        within=BETWEEN,
    )
    split_seed: int = _read(0, "seed of that split", within=SEED)
    decisions: str | None = _read(
        None,
        f"file with what was decided about labels and copies (mien data --remember); 'none': nothing; unset: "
        f"{DECISIONS_FILE} beside the data, where there is one",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_labels()
        if self.group is not None:
            try:
                re.compile(self.group)
            except re.error as error:
                raise ConfigError(
                    f"group must be a column's name or a regular expression, got {self.group!r} ({error})"
                ) from error
        for rule in self.merge:
            new, equals, old = rule.partition("=")
            if not (new.strip() and equals and old.strip("+ ")):
                raise ConfigError(f"merge must look like nothappy=sad+angry, got {rule!r}")
        if len(self.classes) == 1:
            raise ConfigError(f"classes must name at least two classes, got only {self.classes[0]!r}")

    @property
    def named(self) -> set[str]:
        """The classes that the user speaks of; they stay what they are, whatever they are called."""
        rules = [word for rule in self.merge for word in rule.partition("=")[2].split("+")]
        return {word.strip() for word in (*self.classes, *rules)} | set(self.label_names)

    def _check_labels(self) -> None:
        for rule in self.labels:
            old, equals, new = rule.partition("=")
            if not (old.strip() and equals and new.strip()):
                raise ConfigError(f"labels must look like 0=angry,1=happy, got {rule!r}")

    @property
    def label_names(self) -> dict[str, str]:
        """What --labels says: old to new."""
        pairs = (rule.partition("=") for rule in self.labels)
        return {old.strip(): new.strip() for old, equals, new in pairs if equals}
