"""What class numbers mean: lists of names that tools write beside pictures, and what is said where there are none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mien.data.dataset import DataConfig, RawDataset
from mien.data.readers import words
from mien.data.readers.csv_text import is_csv, lines_of
from mien.data.readers.public import shown_below
from mien.errors import DataError
from mien.files import clipped, plain_text
from mien.images.kinds import is_picture_name
from mien.images.listing import folder_entries, is_folder

# What tools write beside classes that are numbers: one name a line, '0 angry', {"angry": 0} or {"0": "angry"}.
_NAME_LISTS = re.compile(
    r"(classes|class[_-]?names?|labels?|label[_-]?(names?|map)|categories|names|obj|synsets|classname|emotions)[.](txt|names|json|csv|tsv)"
    r"|(class[_-]?ind(ex|ices)|class[_-]to[_-]idx|idx[_-]to[_-]class|id2label|label2id)[.]json",
    re.IGNORECASE,
)
_LONGEST_LIST = 100_000  # bytes
_FEW = 8  # folders that are looked into


@dataclass(frozen=True)
class NameList:
    """What a file says that numbers mean. is_plain: it has no numbers itself; the first name is taken for 0."""

    path: Path
    names: dict[int, str]
    is_plain: bool


def name_lists(path: Path) -> Iterator[NameList]:
    """Yield lists that say what numbers mean, in a folder (or in that of a file) and in the one around it."""
    folder = path if path.is_dir() else path.parent
    below = [Path(entry.path) for entry in folder_entries(folder) or [] if is_folder(entry)]
    inside = [one for one in below if not one.name.isdecimal()][:_FEW]  # archive/ or meta/, not the classes
    for here in (folder, *inside, folder.parent):
        for entry in folder_entries(here) or []:
            if _NAME_LISTS.fullmatch(entry.name) and (found := _names_in(Path(entry.path))):
                yield found


def _names_in(path: Path) -> NameList | None:
    """Return number to name as a list says it; None where it is none."""
    try:
        if path.stat().st_size > _LONGEST_LIST:
            return None
        lines = [line.strip() for line in lines_of(path)]
        value = json.loads("".join(lines)) if path.suffix.lower() == ".json" else None
    except (DataError, OSError, ValueError, RecursionError):
        return None
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        lines = value
    elif isinstance(value, dict):
        pairs = [(str(one), str(other)) for one, other in value.items()]
        if all(words.as_number(other) for _, other in pairs):
            pairs = [(other, one) for one, other in pairs]
        lines = [" ".join(pair) for pair in pairs]
    elif path.suffix.lower() == ".json":
        return None
    lines = [plain_text(line) for line in lines if line]
    if any(is_picture_name(word) for line in lines for word in re.split(r"[\s,;:=\"']+", line)):
        return None  # it says something about pictures
    numbered = [re.fullmatch(r"(\d{1,6})\s*[ :=,;\t]\s*(\S.*)", line) for line in lines]
    if len(numbered) > 1 and not numbered[0]:
        numbered = numbered[1:] if all(numbered[1:]) else numbered  # a line that names the columns
    told = {int(found[1]): found[2].strip(" '\"") for found in numbered if found}
    if numbered and len(told) == len(numbered):
        # Else it is a table whose first column counts: 0,000,3 or, of pictures called by numbers, 0,3.
        cells = [re.split(r"[,;\t]", found[2]) for found in numbered if found and found[2][0] not in "\"'"]
        is_table = is_csv(path) and any(len(row) > 1 for row in cells)
        if is_table or any(map(words.as_number, told.values())) or len(set(told.values())) < len(told):
            return None
        return NameList(path, told, is_plain=False)
    if is_csv(path) or not lines:  # mostly a table
        return None
    if len(lines) == 1:
        lines = [name.strip() for name in lines[0].split(",")]
    return NameList(path, dict(enumerate(lines)), is_plain=True)


def numbers_named(raw: RawDataset, path: Path, config: DataConfig) -> RawDataset:
    """Give classes that are numbers their names, where a list of them (classes.txt) lies in the folder or beside it.

    Not where the user's own words speak of the numbers.
    """
    asked = re.split(r"[=+]", "+".join((*config.labels, *config.classes, *config.merge)))
    if not all(name.isdecimal() for name in raw.classes) or any(word.strip().isdecimal() for word in asked):
        return raw
    numbers = [int(number) for number in raw.classes]
    unfit = ""
    for found in name_lists(path):
        # Of as many names as numbers, from 1 to the last one, the first can only be that of 1.
        shift = found.is_plain and sorted(numbers) == list(range(1, len(found.names) + 1))
        meant = [found.names.get(number - shift, "") for number in numbers]
        shown = shown_below(found.path, path)
        if all(meant) and len(set(meant)) == len(meant):
            told = ", ".join(f"{number} {name}" for number, name in zip(raw.classes, meant, strict=True))
            return replace(raw, classes=tuple(meant)).noting(
                f"what the numbers mean is read from {shown}: {clipped(told)}"
            )
        if found.path.is_relative_to(path if path.is_dir() else path.parent):
            unfit = unfit or f"{shown} has {len(found.names)} names, not one for each number; it is not used"
    return raw.noting(unfit) if unfit else raw


def numbers_noted(raw: RawDataset) -> RawDataset:
    numbers = [name for name in raw.classes if words.as_number(name)]
    if not numbers:
        return raw
    what = (
        "the labels are numbers"
        if len(numbers) == len(raw.classes)
        else "some labels are numbers, others names"
    )
    meaning = ",".join(f"{number}={name}" for number, name in zip(numbers, ("angry", "happy"), strict=False))
    return raw.noting(f"{what} ({', '.join(numbers[:8])}); what they mean can be said: --labels {meaning},…")
