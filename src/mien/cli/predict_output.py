"""What `mien predict` writes: a table, JSON, lines of JSON, CSV or Parquet, each as the pictures are done.

For programs every picture has its place: one that could not be read has `problem`, one line, in place of faces. With
`--resume FILE` what a run that was killed has written stays; the rest is added behind it.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mien.cli.inputs import Source
from mien.errors import ConfigError, ImageError, need
from mien.files import cannot_write, csv_writer, spreadsheet_safe, whole_file
from mien.images.kinds import is_picture_name
from mien.images.listing import on_one_line
from mien.predict.analyzer import Analyzer, difference
from mien.predict.results import Faces, arrow_schema, arrow_table, table_columns, table_rows
from mien.terminal import counted, sure

Results = Iterator[tuple[Source, Faces | ImageError]]
Writer = Callable[[Results, Sequence[Source], Sequence[str]], None]
_WIDEST = 60  # letters of a name in the table; longer ones push their line to the right
_GROUP = 2048  # pictures in memory when their rows are written to Parquet
FORMS = ("csv", "json", "jsonl", "parquet")


def print_table(results: Results, sources: Sequence[Source], labels: Sequence[str]) -> None:
    """Print a line a face, for people."""
    name = min(_WIDEST, max(len("picture"), *(len(source.name) for source in sources)))  # as long on one line
    emotion = max(len("expression"), *map(len, labels))
    heading = f"{'picture':{name}}  face  {'expression':{emotion}}  sure\n"
    for source, faces in results:
        if isinstance(faces, ImageError):
            continue  # it has its line on stderr
        print(heading, end="")
        heading = ""  # once, and only above something
        shown = on_one_line(source.name)
        if not faces:
            print(f"{shown:{name}}     -  no face found")
        for number, face in enumerate(faces, start=1):
            doubt = "  uncertain" if face.uncertain else ""
            why = f"  ({', '.join(face.reasons)})" if face.reasons else ""
            print(
                f"{shown:{name}}  {number:4}  {face.emotion:{emotion}}  "
                f"{sure(face.probability):>4}{doubt}{why}"
            )


def print_json(results: Results, _: Sequence[Source], __: Sequence[str], *, going_on: bool = False) -> None:
    """Print one list with an object a picture, as they are done. ASCII alone: any terminal and file takes it.

    going_on: behind an object that is there already.
    """
    before = ",\n" if going_on else "[\n"
    for source, faces in results:
        print(before + textwrap.indent(json.dumps(_record(source, faces), indent=2), "  "), end="")
        before = ",\n"
    print("[]" if before == "[\n" else "\n]")


def print_jsonl(results: Results, _: Sequence[Source], __: Sequence[str]) -> None:
    """Print the same objects, each on a line of its own as soon as it is known."""
    for source, faces in results:
        print(json.dumps(_record(source, faces)), flush=True)


def print_csv(
    results: Results, _: Sequence[Source], labels: Sequence[str], *, going_on: bool = False
) -> None:
    """Print a row per face: box in pixels, p_LABEL for each label, problem. No face: a row with the path alone.

    A picture's rows are written together, so that a run that is killed leaves whole rows. going_on: behind rows that
    are there already.
    """
    if not going_on:
        print(_csv([table_columns(labels)]), end="", flush=True)
    # What a name may do to a terminal is kept from it; a file gets the name by which the picture is found again.
    shown = on_one_line if sys.stdout.isatty() else str
    for source, faces in results:
        print(_csv(table_rows(shown(source.name), faces, labels)), end="", flush=True)


def partial_file(path: Path) -> Path:
    """Return where the answers of a Parquet file lie until it is whole: rows as JSON, a line a picture."""
    return path.with_name(f"{path.name}.partial")


def parquet_writer(path: Path, keep: int = 0) -> Writer:
    """Return what writes the rows of CSV to a Parquet file, whole or not at all, for pandas, Polars, DuckDB and Arrow.

    A killed run leaves the answers in `partial_file`. keep: bytes of one that is there, to go on behind. Raises
    MissingExtra without pyarrow and ConfigError for a folder, before any picture is looked at.
    """
    parquet = need("pyarrow.parquet", "parquet", "writing Parquet")
    if path.is_dir():
        raise ConfigError(f"--parquet needs a file, {path} is a folder; name a file in it")
    if is_picture_name(path.name):
        raise ConfigError(f"--parquet {path} is named like a picture; name a file that ends in .parquet")
    partial = partial_file(path)

    def write(results: Results, _: Sequence[Source], labels: Sequence[str]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("ab") as stream:
                stream.truncate(keep)
                for source, faces in results:
                    rows = list(table_rows(source.name, faces, labels))
                    stream.write(json.dumps(rows).encode("ascii") + b"\n")
                    stream.flush()
        except OSError as error:
            raise cannot_write(path, error) from error
        schema = arrow_schema(table_columns(labels))
        pictures = faces_found = 0
        with (
            partial.open("rb") as stream,
            whole_file(path) as temporary,
            temporary.open("wb") as whole,  # by itself Arrow takes no path that is not UTF-8
            parquet.ParquetWriter(whole, schema) as file,
        ):
            while lines := list(islice(stream, _GROUP)):
                rows = [row for line in lines for row in json.loads(line)]
                file.write_table(arrow_table(rows, schema))
                pictures += len(lines)
                faces_found += sum(row[1] is not None for row in rows)
                pictures -= sum(row[-1] is not None for row in rows)
        partial.unlink()
        _settings_file(path).unlink(missing_ok=True)  # a whole file is not gone on with
        print(f"wrote {path}: {counted(pictures, 'picture')}, {counted(faces_found, 'face')}")

    return write


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv_writer(text)
    for row in rows:
        writer.writerow([cell(value) for value in row])
    return text.getvalue()


def cell(value: Any) -> Any:
    """Return what a cell of CSV holds."""
    if isinstance(value, bool):
        return str(value).lower()
    return spreadsheet_safe(value) if isinstance(value, str) else value


def _record(source: Source, faces: Faces | ImageError) -> dict[str, Any]:
    if isinstance(faces, ImageError):
        return {"path": source.name, "problem": str(faces), "faces": []}
    return {"path": source.name, "coarse": faces.coarse, "faces": faces.to_dict()}


WRITERS: dict[str, Writer] = {
    "table": print_table,
    "json": print_json,
    "jsonl": print_jsonl,
    "csv": print_csv,
}


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
    compared = _compared(file, analyzer) if written.is_file() else True
    begun = _read_back(written, form, analyzer)
    if not begun.names:
        note_settings(file, analyzer)
    elif not compared:
        beside = _settings_file(file)
        print(f"mien: without {beside} only head and prior could be compared", file=sys.stderr)
    left = []
    before = sum(begun.names.values())
    for source in sources:
        name = cell(source.name) if form == "csv" else source.name
        left.append(not begun.names[name])
        begun.names[name] -= bool(begun.names[name])
    others = sum(begun.names.values())
    print(
        f"mien: {counted(before, 'picture is', 'pictures are')} in {written} already, {sum(left):,} left"
        + (f"; {others:,} of those in it were not asked for now" if others else ""),
        file=sys.stderr,
    )
    if form == "parquet":
        return left, parquet_writer(file, keep=begun.end)
    return left, partial(_write_behind, (file, form, begun.end))


def note_settings(file: Path, analyzer: Analyzer) -> None:
    """Write, beside a file of answers that is begun, what they hang on, for whoever goes on."""
    with whole_file(_settings_file(file)) as temporary:
        temporary.write_text(json.dumps(analyzer.settings(), indent=2) + "\n", encoding="utf-8")


def _settings_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.settings.json")


def _compared(file: Path, analyzer: Analyzer) -> bool:
    """Say whether it is known what the answers in a file hang on; ConfigError where that differs from those to come."""
    beside = _settings_file(file)
    try:
        before = dict(json.loads(beside.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{beside} cannot be read ({error}); name another file for the answers") from error
    if differs := difference(before, analyzer.settings()):
        raise ConfigError(f"{file} was begun {differs}; name another file")
    return True


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
    read = {"csv": _read_csv, "json": _read_json, "jsonl": _read_jsonl, "parquet": _read_partial}[form]
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


def _whole_lines(file: Path) -> Iterator[tuple[str, int]]:
    """Yield each whole line and where it ends in the file, in bytes; a last one that was cut short is left out."""
    end = 0
    with file.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line.decode("utf-8"), end


def _whole_rows(file: Path) -> Iterator[tuple[str, int]]:
    """Yield each whole row of CSV and where it ends; a file's name may hold line breaks, and stands in quotes then."""
    row = ""
    for line, end in _whole_lines(file):
        row += line
        if row.count('"') % 2 == 0:
            yield row, end
            row = ""


def _read_csv(file: Path, analyzer: Analyzer) -> _Begun:
    """The last picture may lack faces, so it is looked at again."""
    begun = _Begun()
    columns = table_columns(analyzer.head.labels)
    last: str | None = None
    before = 0
    for line, end in _whole_rows(file):
        (row,) = csv.reader(io.StringIO(line, newline=""))
        if not before:
            if row != columns:
                raise ConfigError(
                    f"{file} has other columns: it is not of mien predict --csv, or of another model; name another file"
                )
            begun.end = end
        else:
            found = dict(zip(columns, row, strict=True))
            if found["face"]:
                _check_same(file, found, analyzer)
            if found["face"] in ("", "1"):
                if last is not None:
                    begun.names[last] += 1
                last, begun.end = found["path"], before
        before = end
    return begun


def _read_jsonl(file: Path, analyzer: Analyzer) -> _Begun:
    begun = _Begun()
    for line, end in _whole_lines(file):
        _note_record(file, json.loads(line), analyzer, begun)
        begun.end = end
    return begun


def _read_json(file: Path, analyzer: Analyzer) -> _Begun:
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
                _note_record(file, json.loads("".join(lines).rstrip(",")), analyzer, begun)
                begun.end = start + len("  }")
            start += len(raw)
    return begun


def _read_partial(file: Path, analyzer: Analyzer) -> _Begun:
    begun = _Begun()
    columns = table_columns(analyzer.head.labels)
    for line, end in _whole_lines(file):
        rows = json.loads(line)
        for row in rows:
            if len(row) != len(columns):
                raise ConfigError(f"{file} has other columns: it is of another model; name another file")
            found = dict(zip(columns, row, strict=True))
            if found["face"]:
                _check_same(file, found, analyzer)
        begun.names[rows[0][0]] += 1
        begun.end = end
    return begun


def _note_record(file: Path, record: dict[str, Any], analyzer: Analyzer, begun: _Begun) -> None:
    for face in record["faces"]:
        if list(face["probabilities"]) != list(analyzer.head.labels):
            raise ConfigError(f"{file} has other expressions: it is of another model; name another file")
        _check_same(file, face, analyzer)
    begun.names[record["path"]] += 1


def _check_same(file: Path, face: dict[str, Any], analyzer: Analyzer) -> None:
    now = {"head": analyzer.head.name, "prior": analyzer.prior.name}
    if differs := difference({name: face[name] for name in now}, now):
        raise ConfigError(f"{file} was begun {differs}; name another file")
