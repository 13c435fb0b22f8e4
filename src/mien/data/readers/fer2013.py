"""FER-2013 in Kaggle's own form (fer2013.csv, icml_face_data.csv), with FER+ votes from a file beside it.

The competition's train.csv, which has no Usage, is read as well: all of it is for training.

Goodfellow et al. 2013, 'Challenges in Representation Learning', arXiv:1307.0414; votes: Barsoum et al. 2016,
'Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label Distribution',
arXiv:1608.01041.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data import cache
from mien.data.dataset import SPLITS, RawDataset, Split, in_order
from mien.data.fingerprints import Fingerprints, fingerprints_of_all
from mien.data.index import InMemoryPictures
from mien.data.readers.csv_text import opened_to_write, rows_of
from mien.data.readers.words import need_column, split_of
from mien.errors import DataError
from mien.labels import FER2013, FERPLUS, canonical

SIDE = 48  # pixels
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
FILE_NAMES = tuple(
    stem + suffix for stem in ("fer2013.csv", "icml_face_data.csv") for suffix in ("", ".gz", ".xz")
)


@dataclass(frozen=True, eq=False)
class Table:
    """The whole csv, in its order.

    pixels: (n, 48, 48) uint8. emotions: (n,) int64, 0-6. places: (n,) int64, index in SPLITS.
    """

    pixels: NDArray[np.uint8]
    emotions: NDArray[np.int64]
    places: NDArray[np.int64]
    fingerprints: Fingerprints


def read_fer2013(path: Path) -> RawDataset:
    """Read the csv, or what was cached of it. Raises DataError naming the first row that is wrong."""
    table = _table(path)
    votes, note = votes_beside(path, [SPLITS[place] for place in table.places], table.emotions)
    present = [emotion for emotion in range(len(FER2013)) if (table.emotions == emotion).any()]
    labels = np.searchsorted(present, table.emotions).astype(np.int64)
    pictures = InMemoryPictures(table.pixels, table.fingerprints)
    splits = {}
    for place, name in enumerate(SPLITS):
        rows = np.flatnonzero(table.places == place)
        names = [f"{path.name} row {row + 1}" for row in rows.tolist()]
        splits[name] = Split(pictures.take(rows), labels[rows], names, None if votes is None else votes[rows])
    name = "fer2013" if path.name in FILE_NAMES else path.name.partition(".")[0]
    classes = tuple(FER2013[emotion] for emotion in present)
    return RawDataset(name, classes, in_order(splits), notes=(note,) if note else ())


def _table(path: Path) -> Table:
    key = cache.content_hash(path)
    stored = cache.load("fer2013", key) or cache.kept("fer2013", key, _parse(path))
    fingerprints = Fingerprints.from_arrays(stored)
    return Table(stored["pixels"], stored["emotions"], stored["places"], fingerprints)  # type: ignore[arg-type]


def _parse(path: Path) -> cache.Arrays:
    """Return the fields of a Table by name, those of its fingerprints among them."""
    rows = rows_of(path)
    header = next(rows, [])
    # A third column of another name may well be the split: only two columns are read as training faces alone.
    names = ("emotion", "pixels", "usage")[: max(2, len(header))]
    columns = [need_column(header, [name], path.name) for name in names]
    faces, emotions, places = [], [], []
    for number, row in _with_numbers(rows):
        where = f"{path.name} row {number}"
        if len(row) <= max(columns):
            raise DataError(
                f"{where} has {len(row)} columns, the header has {len(header)}; the file is damaged"
            )
        emotion, pixels, *split = (row[column] for column in columns)
        emotions.append(_emotion(emotion, where))
        faces.append(_face(pixels, where))
        places.append(_place(split[0], where) if split else SPLITS.index("train"))
    if not faces:
        raise DataError(f"{path.name} has no rows below its header; get the file again")
    stacked = np.stack(faces)
    labels = {"emotions": np.array(emotions, np.int64), "places": np.array(places, np.int64)}
    return {"pixels": stacked, **labels, **fingerprints_of_all(stacked).arrays()}


def _with_numbers(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return ((number, row) for number, row in enumerate(rows, start=1) if row)


def _emotion(text: str, where: str) -> int:
    if text.strip() not in map(str, range(len(FER2013))):
        meanings = ", ".join(f"{number} {name}" for number, name in enumerate(FER2013))
        raise DataError(f"{where} has emotion {text!r}; allowed are {meanings}; mend or delete that row")
    return int(text)


def _face(text: str, where: str) -> NDArray[np.uint8]:
    # Checked first, because np.fromstring warns instead of raising when it meets a letter.
    if text.encode("ascii", "replace").translate(None, b"0123456789 \t"):
        raise DataError(
            f"{where} has something else than grey levels 0-255 among its pixels; mend or delete that row"
        )
    values = np.fromstring(text, dtype=np.int64, sep=" ") if text.strip() else np.empty(0, np.int64)
    if len(values) != SIDE * SIDE:
        raise DataError(
            f"{where} has {len(values)} pixels; a FER-2013 face has {SIDE}x{SIDE} = {SIDE * SIDE}; "
            f"mend or delete that row"
        )
    if values.max() > 255:
        raise DataError(
            f"{where} has the grey level {values.max()}; allowed is 0-255; mend or delete that row"
        )
    return values.astype(np.uint8).reshape(SIDE, SIDE)


def _place(usage: str, where: str) -> int:
    split = split_of(usage)
    if split is None:
        allowed = ", ".join(USAGES.values())
        raise DataError(f"{where} has Usage {usage!r}; allowed are {allowed}; mend or delete that row")
    return SPLITS.index(split)


def is_fer2013(header: Sequence[str]) -> bool:
    """Whether a csv's header is FER-2013's: it holds the pixels themselves."""
    return any(word.strip().lower() == "pixels" for word in header)


def write_csv(path: Path, rows: Iterator[tuple[int, NDArray[np.uint8], str]]) -> None:
    """Write (emotion 0-6, 48x48 grey face, split) in Kaggle's form."""
    with opened_to_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("emotion", "pixels", "Usage"))
        for emotion, face, split in rows:
            writer.writerow((emotion, " ".join(map(str, face.ravel().tolist())), USAGES[split]))


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
