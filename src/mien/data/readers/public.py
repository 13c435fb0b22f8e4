"""Public data sets that say the expression in other ways than a folder's name: codes in file names, lists of labels."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mien.data.index import Found, LabelledFile
from mien.data.readers.csv_text import lines_of, rows_of
from mien.data.readers.words import split_of
from mien.errors import DataError
from mien.files import DAMAGED_ARRAYS, clipped, plain_text
from mien.labels import FERPLUS
from mien.terminal import counted

_ENOUGH = 0.5  # share of the pictures whose names must carry a code before the codes are believed
_SOME = 0.05  # from here on, a second code means that a second data set is there


@dataclass(frozen=True)
class NameCode:
    """How a data set writes expression and person into its file names.

    pattern: searched in the name; its groups are `label` (absent: the names tell only the person) and `person`.
    """

    name: str
    pattern: re.Pattern[str]
    labels: Mapping[str, str]

    def read(self, file_name: str) -> tuple[str, str] | None:
        """Return (label, person); label '' where the code has none; None where the name is not of this data set."""
        found = self.pattern.match(file_name)
        if not found:
            return None
        groups = found.groupdict()
        label = self.labels.get(groups.get("label", "").lower(), "") if self.labels else ""
        return None if self.labels and not label else (label, groups["person"].upper())


_TWO_LETTERS = {
    "an": "angry", "di": "disgust", "fe": "fear", "ha": "happy", "ne": "neutral", "sa": "sad", "su": "surprise",
}  # fmt: skip
CODES = (
    # Lundqvist, Flykt and Öhman 1998: session (A, B), sex and number of the person, expression, angle.
    NameCode(
        "KDEF",
        re.compile(r"[AB](?P<person>[FM]\d\d)(?P<label>AF|AN|DI|HA|NE|SA|SU)(?:S|HL|HR|FL|FR)?\.\w+$", re.I),
        {**_TWO_LETTERS, "af": "fear"},
    ),
    # Langner et al. 2010: Rafd090_01_Caucasian_female_angry_frontal.jpg.
    NameCode(
        "RaFD",
        re.compile(r"Rafd\d+_(?P<person>\d+)_[a-z]+_[a-z]+_(?P<label>[a-z]+)_[a-z]+\.\w+$", re.I),
        {
            "angry": "angry", "contemptuous": "contempt", "disgusted": "disgust", "fearful": "fear", "happy": "happy",
            "neutral": "neutral", "sad": "sad", "surprised": "surprise",
        },
    ),
    # Lyons et al. 1998: KA.AN1.39.tiff, the person first.
    NameCode(
        "JAFFE",
        re.compile(r"(?P<person>[A-Z]{2})[.-](?P<label>AN|DI|FE|HA|NE|SA|SU)\d[.-]\d+.*\.\w+$", re.I),
        _TWO_LETTERS,
    ),
    # Tottenham et al. 2009: 01F_AN_C.BMP; C or O: mouth closed or open.
    NameCode(
        "NimStim",
        re.compile(r"(?P<person>\d\d[FM])_(?P<label>AN|CA|DI|FE|HA|NE|SA|SP|SU)_[COX]\.\w+$", re.I),
        {**_TWO_LETTERS, "ca": "calm", "sp": "surprise"},
    ),
    # Ebner, Riediger and Lindenberger 2010: 004_o_m_a_b.jpg: person, age, sex, expression, picture set.
    NameCode(
        "FACES",
        re.compile(r"(?P<person>\d{3})_[ymo]_[fm]_(?P<label>[adfhns])_[ab]\.\w+$", re.I),
        {"a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "s": "sad"},
    ),
    # Ma, Correll and Wittenbrink 2015: CFD-WF-001-003-HO.jpg; HC, HO: happy with closed or open mouth.
    NameCode(
        "CFD",
        re.compile(r"CFD-(?P<person>[A-Z]{2}-\d{3})-\d{3}-(?P<label>A|F|HC|HO|N)\.\w+$", re.I),
        {"a": "angry", "f": "fear", "hc": "happy", "ho": "happy", "n": "neutral"},
    ),
    # Yin et al. 2006: F0001_AN01WH_F2D.bmp.
    NameCode(
        "BU-3DFE",
        re.compile(r"(?P<person>[FM]\d{4})_(?P<label>AN|DI|FE|HA|NE|SA|SU)\d\d[A-Z]{2}_\w+\.\w+$", re.I),
        _TWO_LETTERS,
    ),
    # Cao et al. 2014, frames of its films: 1001_DFA_ANG_XX.jpg.
    NameCode(
        "CREMA-D",
        re.compile(r"(?P<person>1\d{3})_[A-Z]{3}_(?P<label>ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{2}.*\.\w+$", re.I),
        {"ang": "angry", "dis": "disgust", "fea": "fear", "hap": "happy", "neu": "neutral", "sad": "sad"},
    ),
    # Livingstone and Russo 2018, frames of its films: 02-01-03-01-01-01-24.jpg; third the expression, last the actor.
    NameCode(
        "RAVDESS",
        re.compile(r"0[1-3]-0[12]-(?P<label>0[1-8])(?:-0[12]){3}-(?P<person>\d\d)\b.*\.\w+$", re.I),
        {
            "01": "neutral", "02": "calm", "03": "happy", "04": "sad", "05": "angry", "06": "fear", "07": "disgust",
            "08": "surprise",
        },
    ),
)  # fmt: skip
# Names that tell the person and not the expression. Lucey et al. 2010 (CK+): S010_004_00000017.png.
PERSON_CODES = (NameCode("CK+", re.compile(r"(?P<person>S\d{3})_\d{3}_\d{8}.*\.\w+$", re.I), {}),)

# Emotion/S005/001/S005_001_00000011_emotion.txt holds one of these numbers.
CKPLUS = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
RAFDB = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happy", "5": "sad", "6": "angry", "7": "neutral"}
RAFDB_NOTE = "the classes 1 to 7 are those of RAF-DB: 1 surprise, 2 fear, 3 disgust, 4 happy, …"
# AffectNet's numbers (Mollahosseini, Hasani and Mahoor 2017, arXiv:1708.03985, its ReadMe).
AFFECTNET = (
    "neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt", "none", "uncertain", "no-face",
)  # fmt: skip
NO_EXPRESSION = ("none", "uncertain", "no-face")
EXPW = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_RAFDB_LISTS = ("list_patition_label.txt", "list_partition_label.txt")  # the former is how RAF-DB spells it
_RAFDB_NAME = re.compile(r"(?:train|test)_\d{4,5}(?:_aligned)?\.\w+$", re.I)


def code_of(pictures: Sequence[Path]) -> NameCode | None:
    """Return the code of labels that most of these pictures carry (see `coded`); None where they carry none.

    Raises DataError where two codes are found: two data sets.
    """
    counts = {code.name: sum(coded(code, path) is not None for path in pictures) for code in CODES}
    found = {name: count for name, count in counts.items() if count and count >= _SOME * len(pictures)}
    if len(found) > 1 and sum(found.values()) >= _ENOUGH * len(pictures):
        listed = ", ".join(f"{name} {count}" for name, count in found.items())
        raise DataError(
            f"pictures of several data sets lie here ({listed}); name the folder of one as DATA, or those of several"
        )
    return next((code for code in CODES if counts[code.name] >= _ENOUGH * max(len(pictures), 1)), None)


def coded(code: NameCode, path: Path) -> tuple[str, str] | None:
    """Read the code in a picture's name, else in that of its folder, which is a film's where its frames lie in one."""
    return code.read(path.name) or code.read(f"{path.parent.name}/{path.name}")


def person_code_of(names: Sequence[str]) -> NameCode | None:
    """Return the code that tells the person in most of these file names."""
    for code in (*CODES, *PERSON_CODES):
        if names and sum(code.read(name) is not None for name in names) >= _ENOUGH * len(names):
            return code
    return None


def is_rafdb(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Say whether class folders 1 to 7 hold RAF-DB's pictures, whose numbers have names."""
    return set(classes) <= set(RAFDB) and bool(names) and all(_RAFDB_NAME.match(name) for name in names)


def find_listed(root: Path, pictures: Sequence[Path], others: Sequence[Path]) -> Found | None:
    """Read a data set whose labels stand in a file of its own form; None where no such file is there.

    root: the folder given. pictures, others: all files below it.
    """
    by_name: dict[str, list[Path]] = {}
    for path in others:
        by_name.setdefault(path.name.lower(), []).append(path)
    for name in _RAFDB_LISTS:
        if name in by_name:
            return _rafdb(root, by_name[name][0], pictures)
    if lists := [path for path in others if path.suffix.lower() == ".lst" and _is_expw(path)]:
        return _without(root, _expw(root, lists[0], pictures), pictures)
    if votes := [path for path in by_name.get("label.csv", []) if _is_ferplus(path)]:
        return _without(root, _ferplus(root, votes), pictures)
    if told := [path for path in others if path.name.lower().endswith("_emotion.txt")]:
        return _ckplus(root, told, pictures)
    if told := [path for path in others if path.name.lower().endswith("_exp.npy")]:
        return _affectnet(root, told, pictures)
    return None


def is_list(path: Path) -> bool:
    """Say whether a file is a list of labels of its own form, whose pictures lie elsewhere."""
    return path.name.lower() in _RAFDB_LISTS or (path.suffix.lower() == ".lst" and _is_expw(path))


def _is_expw(path: Path) -> bool:
    try:
        return len(next(lines_of(path), "").split()) == 8
    except DataError:
        return False


def _without(root: Path, found: Found, pictures: Sequence[Path]) -> Found:
    """Count the pictures that no list names."""
    named = {file.path for file in found.files}
    rest = [path for path in pictures if path not in named]
    if not rest:
        return found
    return replace(
        found,
        notes=(
            *found.notes,
            f"not used: {counted(len(rest), 'picture')} without a label, such as {shown_below(rest[0], root)}",
        ),
    )


def shown_below(path: Path, root: Path) -> str:
    """Return a path as people look for it: from the folder that they gave."""
    return plain_text(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())


def split_above(picture: Path, root: Path) -> str:
    """Return the split that one of the folders around a picture is named like, the outermost first; else train."""
    above = picture.relative_to(root).parts[:-1] if picture.is_relative_to(root) else ()
    return next((found for part in above if (found := split_of(part))), "train")


def _affectnet(root: Path, told: Sequence[Path], pictures: Sequence[Path]) -> Found:
    """AffectNet as its manually annotated part is given out: train_set/images/7.jpg, …/annotations/7_exp.npy."""
    there = {(path.parent.parent, path.stem): path for path in pictures}
    files: list[LabelledFile] = []
    without, left_out = 0, 0
    for file in sorted(told):
        try:
            number = str(np.load(file, allow_pickle=False).item())
        except DAMAGED_ARRAYS as error:
            raise DataError(
                f"{shown_below(file, root)} is no NumPy file with one number ({error})"
            ) from error
        if not (number.isdecimal() and int(number) < len(AFFECTNET)):
            raise DataError(
                f"{shown_below(file, root)} has the expression {clipped(number)!r}; allowed are 0 to 10"
            )
        picture = there.get((file.parent.parent, file.stem.removesuffix("_exp")))
        label = AFFECTNET[int(number)]
        if picture is None:
            without += 1
        elif label in NO_EXPRESSION:
            left_out += 1
        else:
            split = split_above(picture, root)
            files.append(LabelledFile(picture, shown_below(picture, root), label, split))
    notes = [f"AffectNet: labels from {counted(len(files), 'file')} *_exp.npy"]
    if without:
        notes.append(f"not used: {counted(without, 'annotation')} without a picture")
    if left_out:
        notes.append(f"rows without an expression are left out: {left_out:,}")
    return Found("AffectNet", files, tuple(notes))


def _rafdb(root: Path, file: Path, pictures: Sequence[Path]) -> Found:
    """RAF-DB (Li, Deng and Du 2017): lines of name and number; pictures named so, or with _aligned."""
    there: dict[str, Path] = {}
    for path in pictures:  # the aligned faces before the original photographs
        stem = path.stem.lower()
        if stem.endswith("_aligned"):
            there[stem.removesuffix("_aligned")] = path
        else:
            there.setdefault(stem, path)
    files, aligned = [], 0
    for number, words in _worded(file, 2):
        label = RAFDB.get(words[1])
        if label is None:
            raise _wrong(file, number, f"the number {words[1]!r}; allowed are 1 to 7")
        stem = Path(words[0]).stem
        path = there.get(stem.lower(), file.parent / words[0])
        aligned += path.stem.lower().endswith("_aligned")
        split = split_of(words[0].partition("_")[0]) or "train"
        files.append(LabelledFile(path, shown_below(path, root), label, split))
    notes = [f"RAF-DB: labels from {shown_below(file, root)}, {aligned} aligned faces"]
    named = {
        path.name.partition("_aligned")[0].partition(".")[0].lower() for path in (one.path for one in files)
    }
    if rest := sum(stem not in named for stem in there):
        notes.append(f"not used: {counted(rest, 'picture')} without a label")
    return Found("RAF-DB", files, tuple(notes))


def _expw(root: Path, file: Path, pictures: Sequence[Path]) -> Found:
    """ExpW (Zhang et al. 2018): name, number of the face, its box (top, left, right, bottom), confidence, label."""
    there = {path.name: path for path in pictures}
    files = []
    for number, words in _worded(file, 8):
        try:
            top, left, right, bottom = (round(float(word)) for word in words[2:6])
            label = EXPW[int(words[7])]
        except (ValueError, IndexError, OverflowError) as error:
            raise _wrong(
                file, number, f"{' '.join(words[1:])!r}; four numbers of a box and a label 0 to 6"
            ) from error
        path = there.get(words[0], file.parent / words[0])
        name = f"{shown_below(path, root)} face {words[1]}"
        files.append(LabelledFile(path, name, label, "train", box=(left, top, right, bottom), group=words[0]))
    return Found(
        "ExpW", files, (f"ExpW: labels and faces' boxes from {shown_below(file, root)}; faces are cut out",)
    )


def _ferplus(root: Path, tables: Sequence[Path]) -> Found:
    """FER+ (Barsoum et al. 2016): folders FER2013Train, FER2013Valid, FER2013Test, a label.csv without header in each.

    A row: picture, box, votes for the eight expressions of labels.FERPLUS, for unknown and for no face.
    """
    files: list[LabelledFile] = []
    left_out: Counter[str] = Counter()
    for table in tables:
        split = split_of(table.parent.name) or "train"
        for number, row in enumerate(rows_of(table), start=1):
            try:
                counts = tuple(float(cell) for cell in row[2:12])
            except ValueError as error:
                raise _wrong(table, number, "votes that are no numbers; get the file again") from error
            if len(counts) < 10 or not all(map(math.isfinite, counts)):
                raise _wrong(
                    table,
                    number,
                    f"{counted(len(counts), 'vote')}; there must be 10 numbers; get the file again",
                )
            most = max(counts)
            chosen = [place for place, count in enumerate(counts) if count == most]
            if len(chosen) > 1 or chosen[0] >= len(FERPLUS):
                left_out[
                    "without one expression that most chose" if len(chosen) > 1 else "unknown or no face"
                ] += 1
                continue
            path = table.parent / row[0]
            label = FERPLUS[chosen[0]]
            files.append(
                LabelledFile(path, shown_below(path, root), label, split, votes=counts[: len(FERPLUS)])
            )
    if not files:
        raise DataError(f"{root} is laid out as FER+, but no row of its label.csv has an expression")
    notes = ["FER+: the label is what most raters chose; their votes are kept"]
    if left_out:
        notes.append(
            "left out: "
            + ", ".join(f"{counted(count, 'picture')} {kind}" for kind, count in left_out.most_common())
        )
    return Found("ferplus", files, tuple(notes))


def _is_ferplus(path: Path) -> bool:
    try:
        row = next(rows_of(path), [])
    except DataError:
        return False
    return len(row) >= 12 and all(re.fullmatch(r"\s*\d+(\.\d*)?\s*", cell) for cell in row[2:12])


def _ckplus(root: Path, told: Sequence[Path], pictures: Sequence[Path]) -> Found:
    """CK+ (Lucey et al. 2010) as distributed: the label of a sequence belongs to its last frame, the peak."""
    last: dict[str, Path] = {}
    for path in pictures:
        sequence = path.stem.rpartition("_")[0].upper()
        if sequence not in last or path.stem > last[sequence].stem:
            last[sequence] = path
    files = []
    for file in told:
        words = next((words for _, words in _worded(file, 1)), ["?"])
        try:
            label = CKPLUS[round(float(words[0]))]
        except (ValueError, IndexError, OverflowError) as error:
            raise _wrong(file, 1, f"{words[0]!r}; allowed are 0 to 7") from error
        sequence = "_".join(file.stem.split("_")[:2]).upper()
        if sequence not in last:
            raise DataError(
                f"{shown_below(file, root)} labels the sequence {sequence}, of which no picture is there"
            )
        path = last[sequence]
        files.append(
            LabelledFile(path, shown_below(path, root), label, "train", group=sequence.partition("_")[0])
        )
    notes = [f"CK+: the last frame of each of {counted(len(files), 'labelled sequence')}; grouped by person"]
    if rest := len(last) - len({file.path for file in files}):
        notes.append(f"not used: {counted(rest, 'sequence')} without a label")
    return Found("ck+", files, tuple(notes))


def _worded(file: Path, least: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a list split at blanks, with their numbers; DataError for one with too few words."""
    for number, line in enumerate(lines_of(file), start=1):
        if words := line.split():
            if len(words) < least:
                raise _wrong(file, number, f"{counted(len(words), 'word')}; there must be {least}")
            yield number, words


def _wrong(file: Path, number: int, what: str) -> DataError:
    return DataError(f"{file.name} line {number} has {plain_text(what)}; mend or delete that line")


def by_code(
    code: NameCode, root: Path, pictures: Sequence[Path], start: Path
) -> tuple[list[LabelledFile], int]:
    """Return the pictures with the labels and persons of their codes, and how many carry none.

    start: the folder below which folders may say the splits.
    """
    files = [
        LabelledFile(path, shown_below(path, root), told[0], split_above(path, start), told[1])
        for path in pictures
        if (told := coded(code, path))
    ]
    return files, len(pictures) - len(files)
