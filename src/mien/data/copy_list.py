"""Pairs of copies as a list to decide on: `mien data DATA --copies DIR`, and what was decided there."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.data.dataset import Dataset
from mien.data.decisions import DROP, KEEP, Decision, Decisions, about_copy, digests_of
from mien.data.duplicates import Duplicates
from mien.data.readers.csv_text import rows_of
from mien.data.summary import sheet_of
from mien.errors import DataError
from mien.files import spreadsheet_safe, whole_file
from mien.images.canvas import write_picture

DROP_OTHER = "drop other"
COPY_COLUMNS = ("split", "name", "label", "other_split", "other_name", "other_label", "kind", "decision")
PIXEL_COPY = "pixel copy"


@dataclass(frozen=True, kw_only=True)
class CopyPair:
    """Two pictures that are copies of each other. first, second: (split, row). kind: 'pixel copy', or what was done to
    one of them, 'mirrored, cropped to 80%'. across: they are in different splits, a leak; then the first is the one in
    the earlier split, which is training's where that is one of them.
    """

    first: tuple[str, int]
    second: tuple[str, int]
    kind: str
    across: bool


def copy_pairs(dataset: Dataset, found: Duplicates, decided: Decisions | None = None) -> tuple[CopyPair, ...]:
    """Return the pairs of copies, leaks first; of many pixel copies each is paired with the first of them.

    decided: pairs about which somebody has decided are left out.
    """
    digests = [digest for split in dataset.splits.values() for digest in digests_of(split)]
    order = np.argsort(found.exact, kind="stable")
    starts = order[np.flatnonzero(np.diff(found.exact[order], prepend=-1))]
    first = dict(zip(found.exact[starts].tolist(), starts.tolist(), strict=True))
    pairs = [
        (first[kind], picture, PIXEL_COPY)
        for picture, kind in enumerate(found.exact.tolist())
        if first[kind] != picture
    ]
    ends = zip(found.near.first.tolist(), found.near.second.tolist(), strict=True)
    pairs += [(one, other, found.near.kind(place)) for place, (one, other) in enumerate(ends)]
    listed = [
        CopyPair(
            first=found.place(one),
            second=found.place(other),
            kind=kind,
            across=bool(found.splits[one] != found.splits[other]),
        )
        for one, other, kind in pairs
        if not (decided and decided.on_copy(digests[one], digests[other]))
    ]
    return tuple(sorted(listed, key=lambda pair: not pair.across))


def write_copies(path: Path, dataset: Dataset, pairs: Sequence[CopyPair]) -> None:
    """Write pairs of copies as CSV, safe in a spreadsheet. decision: `drop` leaves the first picture out, `drop other`
    the second, `keep` keeps both and asks no more, nothing decides nothing. `drop` is filled in for training pictures
    that are copies of others, and for pixel copies within a split that have one label.
    """
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COPY_COLUMNS)
        for pair in pairs:
            one, other = (_cells(dataset, *place) for place in (pair.first, pair.second))
            clear = pair.across or (pair.kind == PIXEL_COPY and one[2] == other[2])
            cells = (*one, *other, pair.kind, DROP if clear else "")
            writer.writerow([spreadsheet_safe(cell) for cell in cells])


def write_copies_sheet(path: Path, dataset: Dataset, pairs: Sequence[CopyPair], *, most: int = 32) -> None:
    """Write a picture of the first pairs, side by side, with their splits, labels and kind."""
    shown = [(place, pair.kind) for pair in pairs[:most] for place in (pair.first, pair.second)]
    pictures = [dataset.splits[split].pictures.read(row) for (split, row), _ in shown]
    captions = [
        f"{split}: {_cells(dataset, split, row)[2]}\n{kind if number % 2 == 0 else ''}"
        for number, ((split, row), kind) in enumerate(shown)
    ]
    write_picture(path, sheet_of(pictures, captions))


def decisions_in_copies(dataset: Dataset, path: Path) -> list[Decision]:
    """Return what a list of copies decides, to be remembered (`mien.data.decisions.remember`).

    Raises DataError for a list without the columns, an unknown word, or a list of other data.
    """
    rows = rows_of(path)
    header = [cell.strip() for cell in next(rows, [])]
    needed = [name for name in COPY_COLUMNS if name.removeprefix("other_") in ("split", "name", "decision")]
    if lacking := [name for name in needed if name not in header]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}; write the list with: mien data DATA --copies DIR"
        )
    rows_by_name = {
        (split, name): row
        for split, part in dataset.splits.items()
        for row, name in reversed(list(enumerate(part.names)))
    }
    found = []
    for number, cells in enumerate(rows, start=2):
        told = dict(zip(header, cells, strict=False))
        word = told.get("decision", "").strip()
        if not word:
            continue
        if word not in (KEEP, DROP, DROP_OTHER):
            raise DataError(
                f"{path} row {number} decides {word!r}; allowed are {KEEP}, {DROP}, {DROP_OTHER} or nothing"
            )
        places = []
        for prefix in ("", "other_"):
            place = (told.get(f"{prefix}split", ""), told.get(f"{prefix}name", ""))
            if place not in rows_by_name:
                raise DataError(
                    f"{path} is of other data: there is no {place[1]} in {place[0]} here (row {number})"
                )
            places.append((place[0], rows_by_name[place]))
        if word == DROP_OTHER:
            places.reverse()
        found.append(about_copy(dataset, places[0], places[1], KEEP if word == KEEP else DROP))
    return found


def _cells(dataset: Dataset, split: str, row: int) -> tuple[str, str, str]:
    part = dataset.splits[split]
    return split, part.names[row], dataset.classes[int(part.labels[row])]
