"""What `mien predict` writes: a table, JSON, lines of JSON, CSV or Parquet, each as the pictures are done.

For programs every picture has its place: one that could not be read has `problem`, one line, in place of faces.
"""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mien.cli.predict_sources import Source
from mien.errors import ConfigError, ImageError, need
from mien.files import spreadsheet_safe, whole_file
from mien.predict.results import Faces
from mien.predict.table import arrow_schema, arrow_table, table_columns, table_rows
from mien.terminal import percent

Results = Iterator[tuple[Source, Faces | ImageError]]
Writer = Callable[[Results, Sequence[Source], Sequence[str]], None]
_WIDEST = 60  # letters of a name in the table; longer ones push their line to the right
_GROUP = 4096  # rows of Parquet in memory before they are written


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


def print_json(results: Results, _: Sequence[Source], __: Sequence[str]) -> None:
    """Print one list with an object a picture, as they are done. ASCII alone: any terminal and file takes it."""
    before = "[\n"
    for source, faces in results:
        print(before + textwrap.indent(json.dumps(_record(source, faces), indent=2), "  "), end="")
        before = ",\n"
    print("[]" if before == "[\n" else "\n]")


def print_jsonl(results: Results, _: Sequence[Source], __: Sequence[str]) -> None:
    """Print the same objects, each on a line of its own as soon as it is known."""
    for source, faces in results:
        print(json.dumps(_record(source, faces)), flush=True)


def print_csv(results: Results, _: Sequence[Source], labels: Sequence[str]) -> None:
    """Print a row per face: box in pixels, p_LABEL for each label, problem. No face: a row with the path alone.

    A picture's rows are written together, so that a run that is killed leaves whole rows.
    """
    print(_csv([table_columns(labels)]), end="", flush=True)
    for source, faces in results:
        print(_csv(table_rows(source.name, faces, labels)), end="", flush=True)


def parquet_writer(path: Path) -> Writer:
    """Return what writes the rows of CSV to a Parquet file, whole or not at all, for pandas, Polars, DuckDB and Arrow.

    Raises MissingExtra without pyarrow and ConfigError for a folder, before any picture is looked at.
    """
    parquet = need("pyarrow.parquet", "parquet", "writing Parquet")
    if path.is_dir():
        raise ConfigError(f"--parquet needs a file, {path} is a folder; name a file in it")

    def write(results: Results, _: Sequence[Source], labels: Sequence[str]) -> None:
        schema = arrow_schema(table_columns(labels))
        group: list[list[Any]] = []
        faces_found = pictures = 0
        with whole_file(path) as temporary, parquet.ParquetWriter(temporary, schema) as file:
            for source, faces in results:
                group += table_rows(source.name, faces, labels)
                if not isinstance(faces, ImageError):
                    faces_found, pictures = faces_found + len(faces), pictures + 1
                if len(group) >= _GROUP:
                    file.write_table(arrow_table(group, schema))
                    group = []
            file.write_table(arrow_table(group, schema))
        print(f"wrote {path}: {pictures:,} pictures, {faces_found:,} faces")

    return write


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: Any) -> Any:
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
