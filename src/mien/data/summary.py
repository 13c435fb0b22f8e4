"""All that one should know of a data set before training on it: plain values, and a sheet of its faces to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.data.dataset import Dataset, Unreadable
from mien.data.duplicates import Duplicates, find_duplicates
from mien.data.pictures import fingerprints_of, joined
from mien.images.canvas import Picture, beside, fitted, framed, paper, stacked, text_block

CELL = 96  # pixels a side of one face on a sheet
_GAP, _MARGIN = 4, 8  # pixels between faces, border of the sheet
_TITLE_PX, _CAPTION_PX = 15, 12  # type


@dataclass(frozen=True)
class Leak:
    """Pictures of `split` that are also in `source`: pixel copies, and near copies besides."""

    split: str
    source: str
    copies: int
    near: int


@dataclass(frozen=True)
class NearCopy:
    """Two pictures that show the same shot. kind: what was done to one of them, 'mirrored, cropped to 80%'."""

    first: str
    second: str
    kind: str


@dataclass(frozen=True)
class Sizes:
    """Sizes in pixels, as (width, height); grey and colour count pictures."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    grey: int
    colour: int


@dataclass(frozen=True)
class Summary:
    """What `mien data` shows.

    counts: split to class to pictures. missing: classes of which the training split (where there is one) has nothing.
    imbalance: how much there is of the largest class over the smallest in that split; None where one is missing.
    soft: whether pictures there have soft labels, by whose shares they are counted for these two. repeats: split to
    pictures that repeat another of the same split pixel for pixel. near_pairs: split to pairs of near copies within it;
    near: all such pairs, across splits as well; None where they were not looked for.
    conflicts: pixel copies that carry different labels, each a list of `name (label)`.
    """

    name: str
    source: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    missing: tuple[str, ...]
    imbalance: float | None
    soft: bool
    sizes: Sizes
    votes: bool
    repeats: Mapping[str, int]
    near_pairs: Mapping[str, int]
    near: tuple[NearCopy, ...] | None
    leaks: tuple[Leak, ...]
    conflicts: tuple[tuple[str, ...], ...]
    unreadable: tuple[Unreadable, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **vars(self),
            "classes": list(self.classes),
            "missing": list(self.missing),
            "sizes": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in vars(self.sizes).items()
            },
            "near": None if self.near is None else [vars(pair) for pair in self.near],
            "leaks": [vars(leak) for leak in self.leaks],
            "conflicts": [list(group) for group in self.conflicts],
            "unreadable": [vars(bad) for bad in self.unreadable],
            "notes": list(self.notes),
        }


def summarise(
    dataset: Dataset,
    *,
    near: bool = True,
    found: Duplicates | None = None,
) -> Summary:
    """Count, measure and compare all pictures of a data set.

    near: look for near copies, which takes longest. found: what `find_duplicates` said, where it was asked before.
    """
    duplicates = found or find_duplicates(dataset, near=near)
    main = dataset.splits.get("train") or next(iter(dataset.splits.values()))
    amounts = main.amounts(len(dataset.classes))
    return Summary(
        name=dataset.name,
        source=str(dataset.source),
        fingerprint=dataset.fingerprint,
        classes=dataset.classes,
        counts={name: split.counts(dataset.classes) for name, split in dataset.splits.items()},
        missing=tuple(name for name, amount in zip(dataset.classes, amounts, strict=True) if not amount),
        imbalance=float(amounts.max() / amounts.min()) if amounts.all() else None,
        soft=main.shares is not None,
        sizes=_sizes(dataset),
        votes=any(split.votes is not None for split in dataset.splits.values()),
        repeats={name: duplicates.redundant(name) for name in dataset.splits},
        near_pairs={name: duplicates.near_within(name) for name in dataset.splits},
        near=_near(dataset, duplicates) if near else None,
        leaks=tuple(Leak(*leak) for leak in duplicates.leaks()),
        conflicts=_conflicts(dataset, duplicates),
        unreadable=dataset.unreadable,
        notes=dataset.notes,
    )


def _sizes(dataset: Dataset) -> Sizes:
    sizes = joined([fingerprints_of(split.pictures) for split in dataset.splits.values()]).sizes
    ranked = sizes[np.argsort(sizes[:, 0].astype(np.int64) * sizes[:, 1], kind="stable")]
    smallest, median, largest = (
        (int(ranked[place, 1]), int(ranked[place, 0])) for place in (0, len(ranked) // 2, -1)
    )
    colour = int((sizes[:, 2] == 3).sum())
    return Sizes(smallest, median, largest, len(sizes) - colour, colour)


def _near(dataset: Dataset, duplicates: Duplicates) -> tuple[NearCopy, ...]:
    def name(picture: int) -> str:
        split, row = duplicates.place(picture)
        return dataset.splits[split].names[row]

    near = duplicates.near
    return tuple(
        NearCopy(name(one), name(other), near.kind(place)) for place, (one, other) in enumerate(near.pairs)
    )


def _conflicts(dataset: Dataset, duplicates: Duplicates) -> tuple[tuple[str, ...], ...]:
    def worded(split: str, row: int) -> str:
        part = dataset.splits[split]
        return f"{part.names[row]} ({dataset.classes[int(part.labels[row])]})"

    return tuple(tuple(worded(*place) for place in group) for group in duplicates.conflicts())


def contact_sheet(dataset: Dataset, *, per_class: int = 12, seed: int = 0) -> Picture:
    """Return a row of examples for each class, chosen at random (seeded) over all splits: RGB uint8."""
    random = np.random.default_rng(seed)
    rows = []
    for label, name in enumerate(dataset.classes):
        places = [
            (split, int(row))
            for split in dataset.splits.values()
            for row in np.flatnonzero(split.labels == label)
        ]
        chosen = sorted(random.permutation(len(places))[:per_class].tolist())
        faces = [places[place][0].pictures.read(places[place][1]) for place in chosen]
        # A class may be nobody's label: soft labels know it, and it is no picture's largest share.
        cells = [fitted(face, CELL) for face in faces] or [paper(1, CELL)]
        rows.append(_titled(f"{name}: {len(places)}", _row(cells, per_class)))
    return framed(stacked(rows, _GAP), _MARGIN)


def sheet_of(pictures: Sequence[Picture], captions: Sequence[str], *, across: int = 8) -> Picture:
    """Return pictures (grey or RGB uint8) on one sheet, each with its caption above: RGB uint8. At least one."""
    side = CELL * 4 // 3
    heads = [text_block(caption, side, _CAPTION_PX) for caption in captions]
    lines = []
    for start in range(0, len(pictures), across):
        group = slice(start, start + across)
        tall = max(head.shape[0] for head in heads[group])
        cells = [
            stacked([paper(tall - head.shape[0], side), head, fitted(picture, side)], 0)
            for picture, head in zip(pictures[group], heads[group], strict=True)
        ]
        lines.append(_row(cells, across))
    return framed(stacked(lines, _GAP), _MARGIN)


def _row(cells: Sequence[Picture], across: int) -> Picture:
    """Put cells side by side on paper that is as wide as `across` of them."""
    width = max(cell.shape[1] for cell in cells)
    line = beside(cells, _GAP)
    wide = across * width + (across - 1) * _GAP
    return beside([line, paper(1, wide - line.shape[1])], 0) if line.shape[1] < wide else line


def _titled(text: str, below: Picture) -> Picture:
    return stacked([text_block(text, below.shape[1], _TITLE_PX), below], 0)
