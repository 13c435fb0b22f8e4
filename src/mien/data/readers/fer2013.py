"""FER-2013 in Kaggle's own form (fer2013.csv, icml_face_data.csv), with FER+ votes from a file beside it.

The competition's train.csv, which has no Usage, is read as well: all of it is for training.

Goodfellow et al. 2013, 'Challenges in Representation Learning', arXiv:1307.0414; votes: Barsoum et al. 2016,
'Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label Distribution',
arXiv:1608.01041.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data import cache
from mien.data.dataset import SPLITS, DataConfig, RawDataset, Split, in_order
from mien.data.pictures import Fingerprints, InMemoryPictures, fingerprints_of_all
from mien.data.readers.csv_text import is_csv, opened_to_write, rows_of
from mien.data.readers.words import LABEL_COLUMNS, SPLIT_COLUMNS, as_number, need_column, renamed, split_of
from mien.errors import DataError
from mien.files import clipped, csv_writer, natural
from mien.labels import FER2013, FERPLUS, canonical, is_expression
from mien.terminal import counted

SIDE = 48  # pixels
_OF_A_LIST = re.compile(r"[\[\],;\n]|\.0*(?!\d)")
_LEAST_SIDE = 16  # of the csvs of this form with faces of another size
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
FILE_NAMES = tuple(
    stem + suffix for stem in ("fer2013.csv", "icml_face_data.csv") for suffix in ("", ".gz", ".xz")
)


# Kaggle's csvs of the same form with an eighth class (CK+ as ckextended.csv, FER-2013 relabelled) number it 7.
EMOTIONS = (*FER2013, "contempt")


@dataclass(frozen=True, eq=False)
class Table:
    """The whole csv, in its order.

    pixels: (n, side, side) uint8. words: the different cells of the column emotion. emotions: (n,) int64, index in
    words. places: (n,) int64, index in SPLITS.
    """

    pixels: NDArray[np.uint8]
    words: tuple[str, ...]
    emotions: NDArray[np.int64]
    places: NDArray[np.int64]
    fingerprints: Fingerprints


def read_fer2013(path: Path, config: DataConfig | None = None) -> RawDataset:
    """Read the csv, or what was cached of it. Raises DataError naming the first row whose pixels are wrong.

    Emotions are FER-2013's numbers, 7 for contempt, or names; --labels gives other numbers a meaning. An emotion that
    means nothing is refused once classes are chosen.
    """
    names = config.label_names if config else {}
    table = _table(path)
    meant = {word: _meaning(word, names) for word in table.words}
    called = [meaning or word for word, meaning in meant.items()]
    classes = tuple(sorted(set(called), key=_rank))
    labels = np.array([classes.index(name) for name in called], np.int64)[table.emotions]
    refused = {
        word: _no_emotion(word, f"{path.name} row {int(np.flatnonzero(table.emotions == place)[0]) + 1}")
        for place, (word, meaning) in enumerate(meant.items())
        if not meaning
    }
    votes, note = votes_beside(
        path, [SPLITS[place] for place in table.places], [classes[label] for label in labels]
    )
    pictures = InMemoryPictures(table.pixels, table.fingerprints)
    splits = {}
    for place, name in enumerate(SPLITS):
        rows = np.flatnonzero(table.places == place)
        row_names = [f"{path.name} row {row + 1}" for row in rows.tolist()]
        splits[name] = Split(
            pictures.take(rows), labels[rows], row_names, None if votes is None else votes[rows]
        )
    name = "fer2013" if path.name.lower() in FILE_NAMES else path.name.partition(".")[0]
    return RawDataset(name, classes, in_order(splits), notes=(note,) if note else (), refused=refused)


def _meaning(word: str, names: Mapping[str, str]) -> str:
    """Return the class that a cell of the column emotion means; '' for none."""
    if (told := renamed(names, word)) != word:
        return told
    number = as_number(word)
    if number:
        return EMOTIONS[int(number)] if 0 <= int(number) < len(EMOTIONS) else ""
    return word if is_expression(word) else ""


def _rank(name: str) -> tuple[int, object]:
    """The order of FER-2013's numbers, then that of names."""
    return (EMOTIONS.index(name), ()) if name in EMOTIONS else (len(EMOTIONS), natural(name))


def _no_emotion(word: str, where: str) -> str:
    meanings = ", ".join(f"{number} {name}" for number, name in enumerate(EMOTIONS))
    return (
        f"{where} has emotion {clipped(word)!r}; allowed are {meanings}; mend or delete that row, say what it means "
        f"(--labels {shlex.quote(clipped(word) or 'X')}=NAME) or leave it out with --classes"
    )


def _table(path: Path) -> Table:
    key = cache.content_hash(path)
    stored = cache.load("fer2013", key) or cache.kept("fer2013", key, _parse(path))
    words = tuple(json.loads(stored["words"].tobytes()))
    arrays: Any = stored
    return Table(
        arrays["pixels"], words, arrays["emotions"], arrays["places"], Fingerprints.from_arrays(stored)
    )


def _parse(path: Path) -> cache.Arrays:
    """Return the fields of a Table by name, those of its fingerprints among them."""
    rows = rows_of(path)
    header = next(rows, [])
    columns = [need_column(header, LABEL_COLUMNS, path.name), need_column(header, ["pixels"], path.name)]
    # A third column of another name may well be the split: only two are read as training faces.
    if len(header) > 2:
        columns.append(need_column(header, ["usage", *SPLIT_COLUMNS], path.name))
    faces: list[NDArray[np.uint8]] = []
    cells, places, most = [], [], _most_rows()
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        where = f"{path.name} row {number}"
        if len(row) <= max(columns):
            raise DataError(
                f"{where} has {counted(len(row), 'column')}, the header has {len(header)}; the file is damaged"
            )
        emotion, pixels, *split = (row[column] for column in columns)
        cells.append(emotion.strip())
        faces.append(_face(pixels, where, len(faces[0]) if faces else 0))
        places.append(_place(split[0], where) if split else SPLITS.index("train"))
        if len(faces) > most:
            raise DataError(
                f"{path.name} has more faces ({most:,}) than this machine's memory holds; write them as files"
            )
    if not faces:
        raise DataError(f"{path.name} has no rows below its header; get the file again")
    stacked = np.stack(faces)
    words, emotions = np.unique(np.array(cells, object), return_inverse=True)
    listed = np.frombuffer(json.dumps(words.tolist()).encode("ascii"), np.uint8)
    labels = {"emotions": emotions.reshape(-1).astype(np.int64), "places": np.array(places, np.int64)}
    return {"pixels": stacked, "words": listed, **labels, **fingerprints_of_all(stacked).arrays()}


def _most_rows() -> int:
    """Return how many faces fit into half of the machine's memory; where that is unknown, into 4 GB."""
    memory = 8 * 2**30
    if sys.platform != "win32":
        with suppress(ValueError, OSError):
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory // 2 // (2 * SIDE * SIDE)  # once as read, once stacked


def _face(text: str, where: str, side: int) -> NDArray[np.uint8]:
    """Return one face. side: that of the first face of the file, which all must have; 0 for the first itself."""
    # A list as Python or NumPy writes it: [12, 13.0, …]
    if not text[:1].isdigit() or "," in text or "." in text:
        text = _OF_A_LIST.sub(" ", text)
    # Checked first, because np.fromstring warns instead of raising when it meets a letter.
    if text.encode("ascii", "replace").translate(None, b"0123456789 \t"):
        raise DataError(
            f"{where} has something else than grey levels 0-255 among its pixels; mend or delete that row"
        )
    values = np.fromstring(text, dtype=np.int64, sep=" ") if text.strip() else np.empty(0, np.int64)
    own = math.isqrt(len(values))
    wanted = side or (own if own >= _LEAST_SIDE and own * own == len(values) else SIDE)
    if len(values) != wanted * wanted:
        whose = "a FER-2013 face" if wanted == SIDE else "the first face"
        raise DataError(
            f"{where} has {counted(len(values), 'pixel')}; {whose} has {wanted}x{wanted} = {wanted * wanted}; "
            f"mend or delete that row"
        )
    if values.max() > 255:
        raise DataError(
            f"{where} has the grey level {values.max()}; allowed is 0-255; mend or delete that row"
        )
    return values.astype(np.uint8).reshape(wanted, wanted)


def _place(usage: str, where: str) -> int:
    split = split_of(usage)
    if split is None:
        allowed = ", ".join(USAGES.values())
        raise DataError(
            f"{where} has Usage {clipped(usage)!r}; allowed are {allowed}; mend or delete that row"
        )
    return SPLITS.index(split)


def is_fer2013(header: Sequence[str]) -> bool:
    """Whether a csv's header is FER-2013's: it holds the pixels themselves."""
    return any(word.strip().lower() == "pixels" for word in header)


def is_fer2013_csv(path: Path) -> bool:
    return is_csv(path) and is_fer2013(next(rows_of(path), []))


def write_csv(path: Path, rows: Iterator[tuple[int, NDArray[np.uint8], str]]) -> None:
    """Write (emotion 0-6, 48x48 grey face, split) in Kaggle's form."""
    with opened_to_write(path) as file:
        writer = csv_writer(file)
        writer.writerow(("emotion", "pixels", "Usage"))
        for emotion, face, split in rows:
            writer.writerow((emotion, " ".join(map(str, face.ravel().tolist())), USAGES[split]))


VOTES_FILE = "fer2013new.csv"


# Raters agree with FER-2013's own label on 63 % of its faces; on faces of somebody else, on about 20 %.
_LEAST_AGREEMENT, _ENOUGH_ROWS = 0.4, 100


def votes_beside(
    path: Path, splits: Sequence[str], labels: Sequence[str]
) -> tuple[NDArray[np.float32] | None, str]:
    """Return the votes for the rows of a FER-2013 csv and a note for the user ('' for none).

    splits, labels: the split and the own label of each row of the csv. Returns
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
    agreement = _agreement(votes[rows], labels)
    if agreement < _LEAST_AGREEMENT and len(rows) >= _ENOUGH_ROWS:
        return (
            None,
            f"{VOTES_FILE} is not used: it agrees with only {agreement:.0%} of the labels of {path.name}",
        )
    return votes[rows], ""


def _agreement(votes: NDArray[np.float32], labels: Sequence[str]) -> float:
    """Return the share of rows whose most chosen expression is the row's own, among rows with votes."""
    own = np.array([FERPLUS.index(canonical(name)) if is_expression(name) else -1 for name in labels])
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
