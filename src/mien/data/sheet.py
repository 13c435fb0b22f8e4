"""Contact sheets: many faces on one picture, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Dataset, Split
from mien.errors import OutputError
from mien.files import whole_file
from mien.images.letters import drawable

CELL = 96  # pixels a side of one face on a sheet
_GAP, _LINE, _MARGIN = 4, 18, 8  # pixels between faces, height of a line of text, border of the sheet
_PAPER, _INK = 255, (40, 40, 40)
_WRITTEN = (".png", ".jpg", ".jpeg", ".webp")


def contact_sheet(dataset: Dataset, *, per_class: int = 12, seed: int = 0) -> NDArray[np.uint8]:
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
            _titled(f"{name}: {len(places)}", _side_by_side([_cell(face) for face in faces], per_class))
        )
    return _framed(rows)


def captioned_sheet(
    split: Split, rows: Sequence[int], captions: Sequence[str], *, across: int = 8
) -> NDArray[np.uint8]:
    """Return the given pictures of a split, each with its caption (which may have lines) above: RGB uint8."""
    return sheet_of([split.pictures.read(row) for row in rows], captions, across=across)


def sheet_of(
    pictures: Sequence[NDArray[np.uint8]], captions: Sequence[str], *, across: int = 8
) -> NDArray[np.uint8]:
    """Return pictures (grey or RGB uint8) on one sheet, each with its caption above: RGB uint8. At least one."""
    cells = [
        _titled(caption, _cell(picture, CELL * 4 // 3), small=True)
        for picture, caption in zip(pictures, captions, strict=True)
    ]
    lines = [_side_by_side(cells[start : start + across], across) for start in range(0, len(cells), across)]
    return _framed(lines)


def write_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write a sheet (RGB uint8), whole or not at all; OutputError for a suffix that is no picture's."""
    check_suffix(path)
    with whole_file(path) as temporary:
        _, encoded = cv2.imencode(path.suffix.lower(), sheet[:, :, ::-1])
        temporary.write_bytes(encoded.tobytes())


def check_suffix(path: Path) -> None:
    """Raise OutputError for a name under which a sheet cannot be written; before long work."""
    if path.suffix.lower() not in _WRITTEN:
        raise OutputError(
            f"cannot write {path}: a sheet is a picture; its name must end in {', '.join(_WRITTEN)}"
        )


def _cell(face: NDArray[np.uint8], side: int = CELL) -> NDArray[np.uint8]:
    """Fit a face into a square of paper, keeping its proportions."""
    if face.ndim == 2:
        face = np.asarray(cv2.cvtColor(face, cv2.COLOR_GRAY2RGB), np.uint8)
    scale = side / max(face.shape[:2])
    height, width = (max(1, round(length * scale)) for length in face.shape[:2])
    filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    cell = _paper(side, side)
    top, left = (side - height) // 2, (side - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(face, (width, height), interpolation=filter_)
    return cell


def _paper(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _side_by_side(cells: Sequence[NDArray[np.uint8]], across: int) -> NDArray[np.uint8]:
    height, width = max(cell.shape[0] for cell in cells), max(cell.shape[1] for cell in cells)
    line = _paper(height, across * width + (across - 1) * _GAP)
    for place, cell in enumerate(cells):
        left = place * (width + _GAP)
        line[: cell.shape[0], left : left + cell.shape[1]] = cell
    return line


def _titled(text: str, below: NDArray[np.uint8], *, small: bool = False) -> NDArray[np.uint8]:
    lines = text.splitlines()
    head = _paper(_LINE * len(lines), below.shape[1])
    for number, line in enumerate(lines, start=1):
        size = 0.36 if small else 0.5
        place = (1, _LINE * number - 5)
        cv2.putText(head, drawable(line), place, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)
    return np.vstack([head, below])


def _framed(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    width = max(row.shape[1] for row in rows)
    height = sum(row.shape[0] for row in rows) + _GAP * (len(rows) - 1)
    sheet = _paper(height + 2 * _MARGIN, width + 2 * _MARGIN)
    top = _MARGIN
    for row in rows:
        sheet[top : top + row.shape[0], _MARGIN : _MARGIN + row.shape[1]] = row
        top += row.shape[0] + _GAP
    return sheet
