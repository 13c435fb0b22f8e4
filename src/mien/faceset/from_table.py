"""Faces that another command found: what `mien predict` (CSV, JSON, Parquet) and `mien video` (CSV, JSON Lines) wrote.

Other tables of pictures and boxes are read as well, in every form and under all names that labelled tables may have.
Each row gives the face in its own box, so a group photograph gives one crop a row. Rows without a face are left out and
counted.
"""

from __future__ import annotations

import glob
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.data.readers.box_columns import find_box_columns
from mien.data.readers.csv_text import CSV_SUFFIXES, lines_of
from mien.data.readers.table_rows import rows_in
from mien.data.readers.words import PATH_COLUMNS, label_names, pick_column
from mien.detect.base import Box, Detection, Landmarks
from mien.errors import DataError
from mien.faceset.settings import FacesConfig
from mien.files import clipped, plain_text, shell_word
from mien.images.kinds import VIDEO
from mien.images.listing import TIMELINE, no_picture
from mien.terminal import counted
from mien.video.places import marked_origin, origin_of

_SUFFIXES = (*CSV_SUFFIXES, ".json", ".jsonl", ".parquet", ".xlsx")
_ADDRESS = re.compile(r"[a-z0-9]{2,}://", re.IGNORECASE)
_SHOWN = 5  # wrong rows that are named; the rest are counted
_NO_FACE, _PROBLEM = "without a face", "whose picture could not be read"

Record = Mapping[str, Any]  # one row, or one face of a JSON object with what stands around it


@dataclass
class TableFaces:
    """photos: each picture with its faces; None: to be searched for. film, frames: of a table of mien video."""

    photos: dict[Path, list[Detection] | None] = field(default_factory=dict)
    film: Path | None = None
    frames: dict[int, list[tuple[int, Detection]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_faces_table(path: Path) -> bool:
    return path.name.lower().endswith(_SUFFIXES)


def read_faces_table(path: Path, config: FacesConfig) -> TableFaces:
    """Read a table. DataError where it is none of pictures or frames, or its film is not found."""
    found = TableFaces()
    left_out: Counter[str] = Counter()
    wrong: list[str] = []
    is_video: bool | None = None
    count = 0
    for number, record in _records(path, found.notes):
        count += 1
        if is_video is None:
            is_video = _of_video(path, record)
            if is_video:
                found.film = _film(path, config)
            elif (
                "face" not in record
                and (place := pick_column(list(record), label_names(list(record)))) is not None
            ):
                found.notes.append(
                    f"{path.name}: its labels ({clipped(list(record)[place])}) are not taken over; --label takes "
                    "them from the paths, and what trains on them is: "
                    f"mien train {shell_word(plain_text(str(path)))} --faces crop"
                )
        if record.get("problem"):
            left_out[_PROBLEM] += 1
            continue
        try:
            _take(path, record, found, left_out, is_video=is_video)
        except DataError as error:
            wrong.append(f"{path.name} row {number}: {error}; mend or delete it")
    if not count:
        raise DataError(f"{plain_text(str(path))} has no rows; nothing to read")
    found.problems += wrong[:_SHOWN]
    if len(wrong) > _SHOWN:
        found.problems.append(
            f"{path.name}: {counted(len(wrong) - _SHOWN, 'more row is', 'more rows are')} wrong in such ways"
        )
    found.notes += [
        f"{path.name}: left out: {counted(number, 'row')} {why}" for why, number in left_out.items()
    ]
    return found


def _records(path: Path, notes: list[str]) -> Iterator[tuple[int, Record]]:
    """Yield (number, row); a JSON object with several faces gives one each, one without a face itself."""
    name = path.name.lower()
    if not name.endswith((".json", ".jsonl")):
        rows = rows_in(path, notes)
        header = [column.strip().lower() for column in next(rows, [])]
        for number, row in enumerate(rows, start=2):
            if any(row):
                yield number, dict(zip(header, row, strict=False))
        return
    for number, value in _json_values(path):
        if not isinstance(value, dict):
            raise DataError(
                f"{path.name} {number} is no object with names and values; give what mien predict wrote"
            )
        faces = value.get("faces")
        if not isinstance(faces, list):
            yield number, value
            continue
        around = {key: one for key, one in value.items() if key != "faces"}
        if not faces:
            yield number, {**around, "face": ""}
        for face in faces:
            yield number, {**around, **(face if isinstance(face, dict) else {"box": face})}


def _json_values(path: Path) -> Iterator[tuple[int, Any]]:
    lines = lines_of(path)
    try:
        if path.name.lower().endswith(".jsonl"):
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, json.loads(line)
            return
        values = json.loads("".join(lines))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{plain_text(str(path))} is no JSON ({clipped(str(error))}); write it again"
        ) from error
    yield from enumerate(values if isinstance(values, list) else [values], start=1)


def _of_video(path: Path, record: Record) -> bool:
    if "time_s" in record and "frame" in record:
        return True
    if _path_column(record) is None:
        names = clipped(", ".join(record))
        raise DataError(
            f"{plain_text(str(path))} names neither pictures (a column path) nor frames (frame and time_s); it has "
            f"{names}"
        )
    return False


def _path_column(record: Record) -> str | None:
    names = list(record)
    place = pick_column(names, PATH_COLUMNS)
    return None if place is None else names[place]


def _film(path: Path, config: FacesConfig) -> Path:
    """Return the film that a table of mien video is about: NAME-faces.csv stands for NAME, in its folder or above.

    The timeline beside it says which film that is; clip.mov is not taken for clip.mp4, whose frames are others.
    """
    if config.film is not None:
        return config.film
    suffix = max((one for one in _SUFFIXES if path.name.lower().endswith(one)), key=len)
    stem = path.name[: -len(suffix)].removesuffix("-faces")
    origin = marked_origin(path.with_name(f"{stem}{TIMELINE}"))
    named = glob.escape(origin.name) if origin else f"{glob.escape(stem)}.*"
    places = [path.absolute().parent, path.absolute().parent.parent, Path.cwd()]
    changed = ""
    for place in dict.fromkeys(places):
        for other in sorted(place.glob(named)):
            if origin and origin_of(other).content == origin.content:
                return other
            if origin:
                changed = changed or f", and {plain_text(str(other))} is another one, or was changed since"
            if not origin and other != path and other.is_file() and no_picture(other) == VIDEO:
                return other
    wanted = origin.name if origin else f"{stem}.mp4, for instance"
    raise DataError(
        f"{plain_text(str(path))} is about a film that is not found beside it ({plain_text(wanted)})"
        f"{changed}; name it: --film FILE"
    )


def _take(
    path: Path, record: Record, found: TableFaces, left_out: Counter[str], *, is_video: bool | None
) -> None:
    box = _box(record)
    if is_video:
        if box is None:
            left_out[_NO_FACE] += 1
            return
        frame, track = _whole(record, "frame", 0), _whole(record, "track", 1)
        if str(record.get("interpolated", "")).lower() != "true":  # between two frames that were searched
            found.frames.setdefault(frame, []).append((track, _detection(record, box)))
        return
    column = _path_column(record)
    cell = str(record.get(column or "") or "").strip()
    if not cell:
        raise DataError("it names no picture")
    if cell == "-":
        raise DataError("its picture came from standard input; save it and name it")
    if _ADDRESS.match(cell):
        raise DataError("it names an address, and mien fetches nothing; fetch the picture and give its path")
    picture = _found(Path(cell), path)
    if box is not None:
        faces = found.photos.setdefault(picture, [])
        if faces is not None:
            faces.append(_detection(record, box))
    elif _has_box(record) or "face" in record:
        left_out[_NO_FACE] += 1
    else:
        found.photos[picture] = None


def _found(path: Path, table: Path) -> Path:
    """Return where a picture lies: as from here, where mien predict was called, else as from the table's folder."""
    beside = table.absolute().parent / path
    try:
        return beside if not path.exists() and beside.exists() else path
    except (OSError, ValueError):
        raise DataError(f"{clipped(str(path))} is no path") from None


def _has_box(record: Record) -> bool:
    return "box" in record or find_box_columns(list(record)) is not None


def _box(record: Record) -> Box | None:
    values: Sequence[Any] | None = record.get("box")
    if values is not None and not isinstance(values, list | tuple | str):
        raise DataError(f"its box is {clipped(str(values))}; four numbers are needed")
    columns = None
    if values is None and (columns := find_box_columns(list(record))):
        values = [list(record.values())[place] for place in columns.places]
    if values is None or all(value in (None, "") for value in values):
        return None
    numbers = [math.nan if value is None else value for value in map(_float, values)]
    if columns:
        left, top, right, bottom = columns.edges(numbers)
        numbers = [left, top, right - left, bottom - top]
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or min(numbers[2:]) <= 0:
        raise DataError(
            f"its box is {clipped(str(list(values)))}; four numbers are needed, width and height above 0"
        )
    if max(numbers) <= 1:
        raise DataError(
            f"its box is {clipped(str(list(values)))}, shares of the picture's size; pixels are needed"
        )
    return Box(*numbers)


def _detection(record: Record, box: Box) -> Detection:
    score = _float(record.get("score"))
    points = record.get("landmarks")
    try:
        landmarks = Landmarks.of(points) if points else None
    except (DataError, ValueError, TypeError):
        landmarks = None
    return Detection(box, score if score is not None and 0 <= score <= 1 else None, landmarks)


def _float(value: Any) -> float | None:
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return math.nan


def _whole(record: Record, name: str, least: int) -> int:
    value = _float(record.get(name))
    if value is None or not math.isfinite(value) or value < least or value != int(value):
        raise DataError(f"its {name} is {clipped(str(record.get(name)))!r}; a whole number is needed")
    return int(value)
