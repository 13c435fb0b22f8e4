"""Reading csv text, plain or compressed, with one clear line for whatever is wrong with the file itself."""

from __future__ import annotations

import csv
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO

from mien.errors import DataError

CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".csv.xz")
_LONGEST_CELL = 10_000_000  # characters; the module's own limit of 131,072 is 20 times a FER-2013 face


def is_csv(path: Path) -> bool:
    return path.name.lower().endswith(CSV_SUFFIXES)


def rows_of(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a csv (`.csv`, `.tsv`, `.csv.gz`, `.csv.xz`), its header first.

    Columns may be separated by semicolons too. Raises DataError when the file cannot be opened, is no text or its
    compression is damaged.
    """
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        with _opened(path) as text:
            header = text.readline()
            rows = csv.reader(chain([header], text), delimiter=_delimiter(path, header))
            for row in rows:
                # What a crash leaves in a file; the system refuses it in a name.
                if any("\0" in cell for cell in row):
                    raise DataError(
                        f"{path} is damaged: line {rows.line_num} has zero bytes; get the file again"
                    )
                yield row
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
        raise DataError(f"{path} is damaged: {error}; get the file again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    finally:
        csv.field_size_limit(limit)


def _delimiter(path: Path, header: str) -> str:
    """Return what separates the columns: where a comma is the decimal sign, Excel writes semicolons."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def _opened(path: Path) -> IO[str]:
    # utf-8-sig: Excel puts a mark in front that would become part of the first column's name.
    return _open(path, "rt", "utf-8-sig")


def opened_to_write(path: Path) -> IO[str]:
    """Open a csv for writing, compressed where its suffix says so."""
    return _open(path, "wt", "utf-8")


def _open(path: Path, mode: str, encoding: str) -> IO[str]:
    openers: dict[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".xz": lzma.open}
    opener: Callable[..., IO[str]] = openers.get(path.suffix.lower(), open)
    return opener(path, mode, encoding=encoding, newline="")
