"""FER+ votes: what ten raters said of each FER-2013 face, from `fer2013new.csv` beside the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.csv_text import rows_of
from mien.data.reading import need_column, split_of
from mien.errors import DataError
from mien.labels import FER2013, FERPLUS, canonical

VOTES_FILE = "fer2013new.csv"


# Raters agree with FER-2013's own label on 63 % of its faces; on faces of somebody else, on about 20 %.
_LEAST_AGREEMENT, _ENOUGH_ROWS = 0.4, 100


def votes_beside(
    path: Path, splits: Sequence[str], emotions: NDArray[np.int64]
) -> tuple[NDArray[np.float32] | None, str]:
    """Return the votes for the rows of a FER-2013 csv and a note for the user ('' for none).

    splits: the split of each row of the csv. emotions: (n,) its own label, index in labels.FER2013. Returns
    (n, 8) float32 in the order FERPLUS, or None where there is no such file or its rows are not those of the
    csv: then the note says so, because votes on the wrong faces would be worse than none.
    """
    file = path.with_name(VOTES_FILE)
    if not file.is_file():
        return None, ""
    votes, their_splits = _read(file)
    rows = _matched(splits, their_splits)
    if rows is None:
        return None, f"{VOTES_FILE} is not used: its rows do not fit those of {path.name}, split by split"
    agreement = _agreement(votes[rows], emotions)
    if agreement < _LEAST_AGREEMENT and len(rows) >= _ENOUGH_ROWS:
        return (
            None,
            f"{VOTES_FILE} is not used: it agrees with only {agreement:.0%} of the labels of {path.name}",
        )
    return votes[rows], ""


def _agreement(votes: NDArray[np.float32], emotions: NDArray[np.int64]) -> float:
    """Return the share of rows whose most chosen expression is the row's own, among rows with votes."""
    own = np.array([FERPLUS.index(name) for name in FER2013])[emotions]
    voted = votes.any(axis=1)
    return float((votes.argmax(axis=1) == own)[voted].mean()) if voted.any() else 1.0


def _matched(ours: Sequence[str], theirs: Sequence[str]) -> NDArray[np.intp] | None:
    """Return, for each of our rows, the row of theirs; None where they cannot belong together.

    Both files list the same faces in the same order, so row i belongs to row i (the 'Image name' numbers are
    not row numbers). One of them may lack a whole split: then the rows are counted within each split.
    """
    if list(ours) == list(theirs):
        return np.arange(len(ours))
    our_splits, their_splits = np.array(ours), np.array(theirs)
    rows = np.zeros(len(ours), np.intp)
    for name in np.unique(our_splits):
        places = np.flatnonzero(their_splits == name)
        if len(places) != (our_splits == name).sum():
            return None
        rows[our_splits == name] = places
    return rows


def _read(file: Path) -> tuple[NDArray[np.float32], list[str]]:
    lines = rows_of(file)
    header = next(lines, [])
    usage = need_column(header, ["usage"], file.name)
    names = [canonical(word) for word in header]
    missing = [name for name in FERPLUS if name not in names]
    if missing:
        raise DataError(f"{file} has no column for {', '.join(missing)}; get the file again or take it away")
    columns = [names.index(name) for name in FERPLUS]
    votes, splits = [], []
    for number, row in enumerate(lines, start=1):
        try:
            votes.append([float(row[column]) for column in columns])
            splits.append(split_of(row[usage]) or row[usage])
        except (ValueError, IndexError) as error:
            raise DataError(f"{file.name} row {number} is damaged ({error}); get the file again") from error
    return np.array(votes, np.float32).reshape(-1, len(FERPLUS)), splits
