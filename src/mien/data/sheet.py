"""Contact sheets: many faces on one picture, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mien.data.dataset import Dataset, Split
from mien.images.canvas import Picture, beside, fitted, framed, paper, stacked, text_block

CELL = 96  # pixels a side of one face on a sheet
_GAP, _MARGIN = 4, 8  # pixels between faces, border of the sheet
_TITLE_PX, _CAPTION_PX = 15, 12  # type


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
        rows.append(
            _titled(f"{name}: {len(places)}", _row([fitted(face, CELL) for face in faces], per_class))
        )
    return framed(stacked(rows, _GAP), _MARGIN)


def captioned_sheet(
    split: Split, rows: Sequence[int], captions: Sequence[str], *, across: int = 8
) -> Picture:
    """Return the given pictures of a split, each with its caption (which may have lines) above: RGB uint8."""
    return sheet_of([split.pictures.read(row) for row in rows], captions, across=across)


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
