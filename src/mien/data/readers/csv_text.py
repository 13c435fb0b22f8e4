"""Reading and writing csv text, plain or compressed, with one clear line for whatever is wrong with the file itself.

Reading is bounded: a line, a cell and the number of rows cannot grow until the machine has no memory left, whatever a
small compressed file unpacks to. What `files.spreadsheet_safe` put before a formula is taken off again.
"""

from __future__ import annotations

import csv
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from mien.errors import DataError
from mien.files import clipped, without_spreadsheet_guard
from mien.images.kinds import HEAD_BYTES, content_kind

CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".csv.xz", ".tsv.gz", ".tsv.xz")
_LONGEST_LINE = 10_000_000  # characters; a FER-2013 row has 9,000
_MOST_ROWS = 20_000_000  # ImageNet has 14 million pictures


def is_csv(path: Path) -> bool:
    return path.name.lower().endswith(CSV_SUFFIXES)


def rows_of(path: Path, notes: list[str] | None = None) -> Iterator[list[str]]:
    """Yield the rows of a csv (`.csv`, `.tsv`, `.csv.gz`, `.csv.xz`), its header first.

    Columns are separated by what the header has most of: commas, semicolons, tabs or upright bars; or by what Excel's
    first line `sep=;` says; in a .txt also by blanks. Empty lines before the header are left out. notes: see lines_of.
    Raises DataError when the file cannot be opened, is no text, its compression is damaged, or a line or the number of
    rows is beyond what a table has.
    """
    limit = csv.field_size_limit(_LONGEST_LINE)
    try:
        lines = lines_of(path, notes)
        header = next((line for line in lines if line.strip()), "")
        if told := re.fullmatch(r'"?sep=(.)"?\s*', header, re.IGNORECASE):
            rows = csv.reader(lines, delimiter=told[1])
        else:
            separator = _delimiter(path, header)
            # Else a quote behind a blank is part of the text, and a comma inside it an end: a.jpg, "calm, still"
            rows = csv.reader(chain([header], lines), delimiter=separator, skipinitialspace=True)
        for row in rows:
            # What a crash leaves in a file; the system refuses it in a name.
            if any("\0" in cell for cell in row):
                raise DataError(
                    f"{path} has zero bytes in line {rows.line_num}: it is damaged, or UTF-16 without its mark; get "
                    "it again, or save it as UTF-8"
                )
            yield [without_spreadsheet_guard(cell) if cell[:1] == "'" else cell for cell in row]
    except csv.Error as error:
        raise DataError(f"{path} is damaged: {error}; get the file again") from error
    finally:
        csv.field_size_limit(limit)


def lines_of(path: Path, notes: list[str] | None = None) -> Iterator[str]:
    """Yield the lines of a text file, plain or compressed, with the same bounds and errors as rows_of.

    What is no UTF-8 is read as Windows-1252, which Excel writes as 'CSV' in the Americas and western Europe; notes
    grows by a line that says so.
    """
    given, plain = 0, True
    try:
        try:
            with _opened(path) as text:
                for line in _lines(text, path):
                    given, plain = given + 1, plain and line.isascii()
                    yield line
        except UnicodeDecodeError as error:
            if not plain or error.encoding != "utf-8":  # some of it is UTF-8: a mixture, or damaged
                raise
            yield from _in_windows_1252(path, given, notes)
    except UnicodeDecodeError as error:
        kind, _ = content_kind(_head(path))
        what = "; let its name end in .xlsx if it is a workbook" if kind == "zip archive" else ""
        raise DataError(
            f"{path} is a {kind}, not text{what}"
            if kind not in ("", "text")
            else f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from error
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged: {error}; get the file again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _head(path: Path) -> bytes:
    with _open(path, "rb") as file:
        return bytes(file.read(HEAD_BYTES))


def _in_windows_1252(path: Path, given: int, notes: list[str] | None) -> Iterator[str]:
    """Yield the lines after the first `given`, which are the same in UTF-8."""
    with _open(path, "rt", "cp1252") as text:
        for number, line in enumerate(_lines(text, path)):
            if number < given:
                continue
            if notes is not None and (word := re.search(r"\w*[^\x00-\x7f]\w*", line)):
                notes.append(
                    f"{path.name} is no UTF-8 and read as Windows-1252; if {clipped(word[0])!r} is not what it "
                    "should be, save it as UTF-8 (in Excel: 'CSV UTF-8')"
                )
                notes = None
            yield line


def _lines(text: IO[str], path: Path) -> Iterator[str]:
    for number in range(_MOST_ROWS):
        line = text.readline(_LONGEST_LINE)
        if not line:
            return
        if len(line) == _LONGEST_LINE:
            raise DataError(
                f"{path} is no table: its line {number + 1} has more than {_LONGEST_LINE:,} characters; get it again"
            )
        yield line
    raise DataError(f"{path} has more than {_MOST_ROWS:,} rows; split it into smaller tables")


def _delimiter(path: Path, header: str) -> str:
    """Return what separates the columns: what the header has most of. Excel writes semicolons in half of Europe."""
    if path.name.lower().removesuffix(".gz").removesuffix(".xz").endswith(".tsv"):
        return "\t"
    found = max(",;\t|", key=header.count)
    return " " if found not in header and path.suffix.lower() == ".txt" else found


def _opened(path: Path) -> IO[str]:
    with _open(path, "rb") as file:
        mark = file.read(2)
    # Excel's 'Unicode text' is UTF-16. utf-8-sig: it puts a mark before UTF-8 that would be part of the first name.
    return _open(path, "rt", "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def opened_to_write(path: Path) -> IO[str]:
    """Open a csv for writing, compressed where its suffix says so."""
    return _open(path, "wt", "utf-8")


def _open(path: Path, mode: str, encoding: str | None = None) -> IO[Any]:
    openers: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".xz": lzma.open}
    opener: Callable[..., IO[Any]] = openers.get(path.suffix.lower(), open)
    return opener(path, mode, encoding=encoding, newline=None if encoding is None else "")
