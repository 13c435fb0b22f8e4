"""`mien predict --resume FILE`: what a run that was killed has written stays; the rest is added behind it."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mien.cli.predict_output import (
    Results,
    Writer,
    cell,
    parquet_writer,
    partial_file,
    print_csv,
    print_json,
    print_jsonl,
)
from mien.cli.predict_sources import Source
from mien.errors import ConfigError
from mien.files import cannot_write
from mien.predict.analyzer import Analyzer
from mien.predict.results import table_columns

FORMS = ("csv", "json", "jsonl", "parquet")


@dataclass
class _Begun:
    """What FILE holds. names: of the pictures that are whole in it. end: bytes to keep."""

    names: Counter[str] = field(default_factory=Counter)
    end: int = 0


def resume_form(file: Path, form: str, parquet: Path | None) -> str:
    """Return the form of FILE: the one that was asked for, otherwise that of its suffix; ConfigError without any."""
    if parquet and parquet != file:
        raise ConfigError(f"--parquet {parquet} and --resume {file} name two files; leave --parquet out")
    chosen = "parquet" if parquet else form if form in FORMS else file.suffix.lower().lstrip(".")
    if chosen not in FORMS:
        raise ConfigError(
            f"in which form is {file}? Add --csv, --json or --jsonl, or name a file that ends in .csv, .json, "
            ".jsonl or .parquet"
        )
    if file.is_dir():
        raise ConfigError(f"--resume needs a file, {file} is a folder; name a file in it")
    return chosen


def resumed(
    file: Path, form: str, analyzer: Analyzer, sources: Sequence[Source]
) -> tuple[list[bool], Writer]:
    """Return which pictures are left to do, and what writes them behind those that FILE holds.

    Raises ConfigError where FILE is not what a run with these options has written.
    """
    if form == "parquet" and file.is_file():
        raise ConfigError(f"{file} is whole: nothing is left to do; name another file for other pictures")
    written = partial_file(file) if form == "parquet" else file
    begun = _read_back(written, form, analyzer)
    left = []
    before = sum(begun.names.values())
    for source in sources:
        name = cell(source.name) if form == "csv" else source.name
        left.append(not begun.names[name])
        begun.names[name] -= bool(begun.names[name])
    others = sum(begun.names.values())
    print(
        f"mien: {before:,} pictures are in {written} already, {sum(left):,} are left"
        + (f"; {others:,} of those in it were not asked for now" if others else ""),
        file=sys.stderr,
    )
    if form == "parquet":
        return left, parquet_writer(file, keep=begun.end)
    return left, partial(_write_behind, (file, form, begun.end))


def _write_behind(
    place: tuple[Path, str, int], results: Results, sources: Sequence[Source], labels: Sequence[str]
) -> None:
    """Write as usual, into a file. place: the file, its form, and the bytes of it to keep."""
    file, form, end = place
    writers: dict[str, Callable[..., None]] = {"csv": print_csv, "json": print_json, "jsonl": print_jsonl}
    going_on = {} if form == "jsonl" else {"going_on": end > 0}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            stream.truncate(end)
        with (
            file.open("a", encoding="utf-8", errors="backslashreplace", newline="") as text,
            redirect_stdout(text),
        ):
            writers[form](results, sources, labels, **going_on)
    except OSError as error:
        raise cannot_write(file, error) from error


def _read_back(file: Path, form: str, analyzer: Analyzer) -> _Begun:
    if not file.is_file():
        return _Begun()
    read = {"csv": _csv, "json": _json, "jsonl": _jsonl, "parquet": _partial}[form]
    try:
        return read(file, analyzer)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; name another file") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{file} is not what mien predict --{form} writes; name another file, or leave --resume out"
        ) from error


def _lines(file: Path) -> Iterator[tuple[str, int]]:
    """Yield each whole line and where it ends in the file, in bytes; a last one that was cut short is left out."""
    end = 0
    with file.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line.decode("utf-8"), end


def _csv(file: Path, analyzer: Analyzer) -> _Begun:
    """The last picture may lack faces, so it is looked at again."""
    begun = _Begun()
    columns = table_columns(analyzer.head.labels)
    last: str | None = None
    before = 0
    for line, end in _lines(file):
        (row,) = csv.reader([line])
        if not before:
            if row != columns:
                raise ConfigError(
                    f"{file} has other columns: it is not of mien predict --csv, or of another model; name another file"
                )
            begun.end = end
        else:
            found = dict(zip(columns, row, strict=True))
            if found["face"]:
                _same(file, found, analyzer)
            if found["face"] in ("", "1"):
                if last is not None:
                    begun.names[last] += 1
                last, begun.end = found["path"], before
        before = end
    return begun


def _jsonl(file: Path, analyzer: Analyzer) -> _Begun:
    begun = _Begun()
    for line, end in _lines(file):
        _record(file, json.loads(line), analyzer, begun)
        begun.end = end
    return begun


def _json(file: Path, analyzer: Analyzer) -> _Begun:
    """An object a picture, each indented by two blanks: `  {` begins it, `  }` ends it."""
    begun = _Begun()
    lines: list[str] = []
    start = 0
    with file.open("rb") as stream:
        for raw in stream:
            line = raw.decode("utf-8").rstrip("\n")
            if not start and line not in ("[", "[]"):
                raise ConfigError(f"{file} is not what mien predict --json writes; name another file")
            if line == "  {":
                lines = []
            lines.append(line)
            if line in ("  }", "  },"):
                _record(file, json.loads("".join(lines).rstrip(",")), analyzer, begun)
                begun.end = start + len("  }")
            start += len(raw)
    return begun


def _partial(file: Path, analyzer: Analyzer) -> _Begun:
    begun = _Begun()
    columns = table_columns(analyzer.head.labels)
    for line, end in _lines(file):
        rows = json.loads(line)
        for row in rows:
            if len(row) != len(columns):
                raise ConfigError(f"{file} has other columns: it is of another model; name another file")
            found = dict(zip(columns, row, strict=True))
            if found["face"]:
                _same(file, found, analyzer)
        begun.names[rows[0][0]] += 1
        begun.end = end
    return begun


def _record(file: Path, record: dict[str, Any], analyzer: Analyzer, begun: _Begun) -> None:
    for face in record["faces"]:
        if list(face["probabilities"]) != list(analyzer.head.labels):
            raise ConfigError(f"{file} has other expressions: it is of another model; name another file")
        _same(file, face, analyzer)
    begun.names[record["path"]] += 1


def _same(file: Path, face: dict[str, Any], analyzer: Analyzer) -> None:
    for name, now in (("head", analyzer.head.name), ("prior", analyzer.prior.name)):
        if face[name] != now:
            raise ConfigError(
                f"{file} was written with {name} {face[name]}, this is {now}: answers would mix; name another file"
            )
