"""What `mien predict` writes: a table, JSON, lines of JSON, CSV or Parquet, each as the pictures are done.

For programs every picture has its place: one that could not be read has `problem`, one line, in place of faces.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mien.cli.predict_sources import Source
from mien.errors import ConfigError, ImageError, need
from mien.files import cannot_write, spreadsheet_safe, whole_file
from mien.predict.results import Faces, arrow_schema, arrow_table, table_columns, table_rows
from mien.terminal import percent

Results = Iterator[tuple[Source, Faces | ImageError]]
Writer = Callable[[Results, Sequence[Source], Sequence[str]], None]
_WIDEST = 60  # letters of a name in the table; longer ones push their line to the right
_GROUP = 2048  # pictures in memory when their rows are written to Parquet


def print_table(results: Results, sources: Sequence[Source], labels: Sequence[str]) -> None:
    """Print a line a face, for people."""
    name = min(_WIDEST, max(len("picture"), *(len(source.name) for source in sources)))
    emotion = max(len("expression"), *map(len, labels))
    print(f"{'picture':{name}}  face  {'expression':{emotion}}  sure")
    for source, faces in results:
        if isinstance(faces, ImageError):
            continue  # it has its line on stderr
        if not faces:
            print(f"{source.name:{name}}     -  no face found")
        for number, face in enumerate(faces, start=1):
            doubt = "  uncertain" if face.uncertain else ""
            why = f"  ({', '.join(face.reasons)})" if face.reasons else ""
            print(
                f"{source.name:{name}}  {number:4}  {face.emotion:{emotion}}  "
                f"{percent(face.probability):>4}{doubt}{why}"
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
    for source, faces in results:
        print(_csv(table_rows(source.name, faces, labels)), end="", flush=True)


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
        except KeyboardInterrupt:
            print(f"mien: what is done is kept: --resume {path} goes on", file=sys.stderr)
            raise
        schema = arrow_schema(table_columns(labels))
        pictures = faces_found = 0
        with (
            partial.open("rb") as stream,
            whole_file(path) as temporary,
            parquet.ParquetWriter(temporary, schema) as file,
        ):
            while lines := list(islice(stream, _GROUP)):
                rows = [row for line in lines for row in json.loads(line)]
                file.write_table(arrow_table(rows, schema))
                pictures += len(lines)
                faces_found += sum(row[1] is not None for row in rows)
                pictures -= sum(row[-1] is not None for row in rows)
        partial.unlink()
        print(f"wrote {path}: {pictures:,} pictures, {faces_found:,} faces")

    return write


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
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
