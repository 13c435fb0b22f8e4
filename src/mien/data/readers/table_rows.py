"""The rows of a table as text, header first, whatever file holds them: CSV, JSON Lines, JSON, Parquet, Excel."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mien.data.readers import words
from mien.data.readers.annotators import exported_rows, via_rows
from mien.data.readers.csv_text import is_csv, lines_of, rows_of
from mien.data.readers.parquet import COLUMNAR, parquet_rows
from mien.data.readers.share_columns import share_columns
from mien.errors import DataError, need
from mien.files import clipped
from mien.images.kinds import HEAD_BYTES, content_kind, is_picture_name

_JSON_LINES = (".jsonl", ".ndjson")
EXCEL = (".xlsx", ".xlsm")
_TITLE_ROWS = 20  # looked at for a table's header
_EXCEL_DAMAGE = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # of zipfile, for a way of packing that is none
    ElementTree.ParseError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)
_LARGEST = 1_000_000_000  # bytes of a JSON file or of a workbook unpacked: both are read whole


def is_table(path: Path) -> bool:
    """Say whether a file is a table, by its suffix; of JSON, which can be anything, only where it holds labels."""
    suffix = path.suffix.lower()
    return (
        is_csv(path)
        or suffix in (*COLUMNAR, *_JSON_LINES)
        or (suffix in EXCEL and not path.name.startswith("~$"))  # Excel's mark of a workbook that is open
        or (suffix == ".json" and has_labels(path))
    )


def header_of(path: Path) -> list[str]:
    """Return a table's first line; nothing where it cannot be read as a table."""
    try:
        if path.suffix.lower() == ".json":
            status = path.stat()
            return list(_json_header(path, (status.st_mtime_ns, status.st_size)))
        return next(rows_in(path), [])
    except (DataError, OSError):
        return []


def has_labels(path: Path) -> bool:
    """Say whether a table names pictures and their labels, as far as its first line tells."""
    return names_labels(header_of(path), path.name)


def tables_with_labels(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if is_table(path) and has_labels(path)]


def names_labels(header: list[str], source: str) -> bool:
    labelled = (
        words.pick_column(header, words.label_names(header)) is not None
        or len(share_columns(source, header, None)) > 1
        or sum(bool(words.series_of(name)) for name in header) > 1
    )
    return labelled and words.pick_column(header, words.PATH_COLUMNS) is not None


def rows_in(path: Path, notes: list[str] | None = None) -> Iterator[list[str]]:
    """Yield the header and the rows of a table. notes: grows by what was decided about the file itself.

    Raises DataError where it is damaged or no table, MissingExtra without what its form needs.
    """
    suffix = path.suffix.lower()
    if suffix in COLUMNAR:
        return parquet_rows(path)
    if suffix in EXCEL:
        return _with_names(_excel_rows(path, notes), path, notes)
    if suffix in _JSON_LINES:
        return rows_of_objects(lambda: _objects(path))
    if suffix == ".json":
        return _json_rows(path)
    return _with_names(rows_of(path, notes), path, notes)


def _with_names(rows: Iterator[list[str]], path: Path, notes: list[str] | None) -> Iterator[list[str]]:
    """Leave out titles above the names of the columns; put names before a first line that is a picture's: a.jpg,happy.

    Titles: lines above one with columns of pictures and labels, as far as the first lines go.
    """
    lines = list(islice(rows, _TITLE_ROWS))
    start = next((place for place, line in enumerate(lines) if names_labels(line, path.name)), 0)
    if start and notes is not None:
        notes.append(f"{path.name}: the columns are named in its line {start + 1}, what is above is left out")
    rows = chain(lines[start:], rows)
    first = next(rows, None)
    if first is None:
        return
    if "region_shape_attributes" in first:
        rows, below = tee(rows)
        if marked := via_rows(first, below):
            yield from rows_of_objects(lambda: iter(marked))
            return
    if names := _names_of(first):
        if notes is not None:
            notes.append(
                f"{path.name} does not name its columns, as its first line is a picture's "
                f"({clipped(', '.join(first))}); they are read as {', '.join(names)}"
            )
        yield names
    elif beside := _table_beside(path, first):
        if notes is not None:
            notes.append(f"{path.name} does not name its columns; they are read as those of {beside.name}")
        yield next(rows_of(beside))
    yield first
    yield from rows


def _table_beside(path: Path, first: Sequence[str]) -> Path | None:
    """Return a table with names for the columns of a first line that is a picture's: training.csv of AffectNet."""
    if not is_csv(path) or not any(map(is_picture_name, first)):
        return None
    for other in sorted(path.parent.glob(f"*{path.suffix}")):
        with suppress(DataError, OSError):
            header = next(rows_of(other), [])
            place = words.pick_column(header, words.PATH_COLUMNS)
            is_alike = len(header) == len(first) and names_labels(header, other.name)
            if is_alike and place is not None and is_picture_name(first[place]):
                return other
    return None


def _names_of(row: Sequence[str]) -> list[str]:
    """Return names for the columns of a row with a picture and a label, perhaps a split; nothing for any other.

    >>> _names_of(["train", "1.jpg", "happy"]), _names_of(["1.jpg", "happy"]), _names_of(["1.jpg", "2", "happy"])
    (['split', 'path', 'label'], ['path', 'label'], [])
    >>> _names_of(["1.jpg", "2.jpg"]), _names_of(["path", "label"])
    ([], [])
    """
    names = ["path" if is_picture_name(cell) else "label" if cell.strip() else "" for cell in row]
    if len(row) == 3:
        names = ["split" if words.split_of(cell) else name for name, cell in zip(names, row, strict=True)]
    return names if sorted(names) in (["label", "path"], ["label", "path", "split"]) else []


def rows_of_objects(objects: Callable[[], Iterable[dict[str, object]]]) -> Iterator[list[str]]:
    """Yield the names, some of which stand in some rows only, and the rows. Names within names: label.name."""
    names = list(dict.fromkeys(name for values in objects() for name in _flat(values)))
    if names:
        yield names
    for values in objects():
        row = _flat(values)
        yield [_json_cell(row.get(name)) for name in names]


def _flat(values: dict[str, object], above: str = "") -> dict[str, object]:
    """Return an object without objects inside, but for those that `_json_cell` makes one text of.

    >>> _flat({"image": {"path": "1.jpg"}, "label": {"id": 3, "name": "happy"}})
    {'image': '1.jpg', 'label.id': 3, 'label.name': 'happy'}
    """
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict) and (text := _one_text(value)) is None:
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[above + name] = text if isinstance(value, dict) else value
    return flat


def _one_text(value: dict[str, object]) -> str | None:
    """Return what an object stands for: the path of a picture, or what was chosen in Label Studio; None for others."""
    if isinstance(path := value.get("path", value.get("file_name")), str):
        return path
    if isinstance(choices := value.get("choices"), list):
        return "|".join(map(str, choices))
    return None


def _objects(path: Path) -> Iterator[dict[str, object]]:
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path.name} line {number} is no JSON ({clipped(str(error))}); mend or delete it"
            ) from error
        if not isinstance(values, dict):
            raise DataError(
                f"{path.name} line {number} is no object with names and values; mend or delete it"
            )
        yield values


def _json_cell(value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        return "|".join(map(str, value))  # several labels
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


@lru_cache(4096)
def _json_header(path: Path, _written: tuple[int, int]) -> tuple[str, ...]:
    """Return the names in a JSON file's rows, nothing where it is no table. _written: its time and size."""
    try:
        return tuple(next(_json_rows(path), []))
    except DataError:
        return ()


def _json_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a JSON array of objects or of [picture, label], or of an object of one of several kinds.

    Such an array among others: {"data": […]}, {"train": […], "test": […]}; pictures to their labels or to more about
    them; labels to their pictures; columns, as pandas writes them.
    """
    if path.stat().st_size > _LARGEST:
        raise DataError(
            f"{path} has more than {_LARGEST / 1e9:.0f} GB, too much to be read whole; write .jsonl"
        )
    text = "".join(lines_of(path))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no JSON ({clipped(str(error))}); write it again") from error
    try:
        objects = _objects_in(value, path.name)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error
    if objects is not None:
        yield from rows_of_objects(lambda: iter(objects))
    elif isinstance(value, list) and value and all(map(_is_list_of_texts, value)):
        yield from _with_names(iter(value), path, None)
    elif isinstance(value, dict) and (columns := _columns(value)):
        yield list(columns)
        yield from ([_json_cell(cell) for cell in row] for row in zip(*columns.values(), strict=True))
    else:
        raise DataError(
            f"{path.name} is no table; mien reads JSON as a list of objects with a picture and a label: "
            '[{"path": "1.jpg", "label": "happy"}, …]'
        )


def _objects_in(value: object, source: str) -> list[dict[str, object]] | None:
    """Return the rows that are objects; None where there are none."""
    if (rows := exported_rows(value)) is not None:
        return rows
    if isinstance(value, dict):
        value = _only_rows(value, source) or _of_pictures(value)
    return value if isinstance(value, list) and _is_rows(value) else None


def _of_pictures(value: dict[str, object]) -> list[dict[str, object]]:
    """Return a row for each picture of {picture: label}, {picture: {…}} or {label: [picture, …]}; none for others."""
    if all(map(is_picture_name, value)):
        return [
            {"path": name, **(about if isinstance(about, dict) else {"label": about})}
            for name, about in value.items()
        ]
    if all(map(_are_pictures, value.values())):
        return [
            {"path": name, "label": label}
            for label, names in value.items()
            for name in names  # type: ignore[attr-defined]
        ]
    return []


def _only_rows(value: dict[str, Any], source: str) -> list[dict[str, object]] | None:
    """Return the rows in an object: its only array of objects, that of pictures and labels, or one for each split."""
    found = {name: one for name, one in value.items() if _is_rows(one)}
    splits = {name: words.split_of(name) for name in found}
    if len(found) > 1 and len(found) == len(value) and all(splits.values()):
        return [{"split": splits[name], **row} for name, rows in found.items() for row in rows]
    if not found and _is_rows(about := list(value.values())) and names_labels(_names_in_rows(about), source):
        return about  # as pandas writes it by rows: {"0": {"path": …, "label": …}, …}
    if len(found) > 1:
        found = {name: rows for name, rows in found.items() if names_labels(_names_in_rows(rows), source)}
    return next(iter(found.values())) if len(found) == 1 else None


def _names_in_rows(rows: list[dict[str, object]]) -> list[str]:
    return next(rows_of_objects(lambda: iter(rows)), [])


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _are_pictures(value: object) -> bool:
    return _is_list_of_texts(value) and all(map(is_picture_name, value))  # type: ignore[call-overload]


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _columns(value: dict[str, object]) -> dict[str, list[object]]:
    """Return columns of one length; nothing where the object is something else."""
    found: dict[str, list[object]] = {}
    for name, column in value.items():
        if isinstance(column, dict):  # pandas: row to cell
            found[name] = list(column.values())
        elif isinstance(column, list):
            found[name] = column
        else:
            return {}
    return found if len(found) > 1 and len({len(column) for column in found.values()}) == 1 else {}


def _excel_rows(path: Path, notes: list[str] | None) -> Iterator[list[str]]:
    """Yield the rows of the first sheet with pictures and labels, else of the first one; values as they are shown."""
    openpyxl = need("openpyxl", "excel", "reading an Excel file")
    try:
        with path.open("rb") as stream:  # openpyxl leaves a file open that it cannot read
            with zipfile.ZipFile(stream) as stored:
                if sum(member.file_size for member in stored.infolist()) > _LARGEST:
                    raise DataError(f"{path} unpacks to more than {_LARGEST / 1e9:.0f} GB; save it as CSV")
            with closing(openpyxl.load_workbook(stream, read_only=True, data_only=True)) as book:
                yield from _of_sheets(book, path, notes)
    except _EXCEL_DAMAGE as error:  # sheets are read while their rows are asked for
        if isinstance(error, DataError):
            raise
        if _is_text(path):
            raise DataError(f"{path} is text, not an Excel file; let its name end in .csv") from error
        raise DataError(
            f"{path} is no Excel file that can be read ({clipped(str(error))}); save it again, or as CSV UTF-8"
        ) from error


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return content_kind(file.read(HEAD_BYTES))[0] == "text"
    except OSError:
        return False


def _of_sheets(book: Any, path: Path, notes: list[str] | None) -> Iterator[list[str]]:
    found = [(sheet, row) for sheet in book.worksheets if (row := _header_row(sheet, path.name)) is not None]
    splits = [words.split_of(sheet.title) for sheet, _ in found]
    if len(set(splits)) > 1 and None not in splits:
        yield from _of_splits(found, splits, notes)
        return
    for sheet, row in found[:1] or [(sheet, 0) for sheet in book.worksheets if next(_cells(sheet), None)][:1]:
        if notes is not None and len(book.sheetnames) > 1:
            rest = ", ".join(repr(clipped(other.title)) for other, _ in found[1:])
            also = f"; not read, though of pictures and labels, too: {rest}" if rest else ""
            notes.append(f"read from the sheet {clipped(sheet.title)!r} of {len(book.sheetnames)}{also}")
        yield from _cells(sheet, row)


def _of_splits(
    sheets: Sequence[tuple[Any, int]], splits: Sequence[str | None], notes: list[str] | None
) -> Iterator[list[str]]:
    """Yield the rows of sheets that are called train, test and the like, with a column of the split."""
    if notes is not None:
        notes.append(f"read from the sheets {', '.join(repr(clipped(sheet.title)) for sheet, _ in sheets)}")
    objects: list[dict[str, object]] = []
    for (sheet, start), split in zip(sheets, splits, strict=True):
        rows = _cells(sheet, start)
        header = next(rows, [])
        for number, row in enumerate(rows, start=1):
            if any(row[len(header) :]):
                raise DataError(
                    f"the sheet {clipped(sheet.title)!r} has more cells in row {number} than names of columns; mend it"
                )
            objects.append({"split": split, **dict(zip(header, row, strict=False))})
    yield from rows_of_objects(lambda: iter(objects))


def _header_row(sheet: Any, source: str) -> int | None:
    """Return where a sheet names pictures and labels, below its title perhaps; None where it does not."""
    rows = sheet.iter_rows(max_row=_TITLE_ROWS, values_only=True)
    return next((n for n, row in enumerate(rows) if names_labels(list(map(_excel_cell, row)), source)), None)


def _cells(sheet: Any, start: int = 0) -> Iterator[list[str]]:
    """Yield the rows from the first that is not empty, as wide as that one. start: rows left out before."""
    width = 0
    for row in sheet.iter_rows(min_row=start + 1, values_only=True):
        cells = [_excel_cell(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        width = width or len(cells)
        if width:
            yield cells + [""] * (width - len(cells))


def _excel_cell(value: object) -> str:
    if isinstance(value, float) and value.is_integer():  # Excel knows no whole numbers
        value = int(value)
    return "" if value is None else str(value).strip()
