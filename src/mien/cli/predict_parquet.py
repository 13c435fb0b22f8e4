"""`mien predict --parquet FILE`: the rows of --csv with types, for pandas, Polars, DuckDB and Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.cli.predict_sources import Source
from mien.cli.predict_text import COLUMNS, Results, Writer, rows
from mien.errors import ConfigError, need
from mien.files import whole_file

_GROUP = 4096  # rows in memory before they are written
_TYPES = {
    "path": "string",
    "face": "int32",
    "emotion": "string",
    "uncertain": "bool",
    "head": "string",
}  # else float


def parquet_writer(path: Path) -> Writer:
    """Return what writes results to a Parquet file, whole or not at all.

    Raises MissingExtra without pyarrow and ConfigError for a folder, before any picture is looked at.
    """
    arrow = need("pyarrow", "parquet", "writing Parquet")
    parquet = need("pyarrow.parquet", "parquet", "writing Parquet")
    if path.is_dir():
        raise ConfigError(f"--parquet needs a file, {path} is a folder; name a file in it")

    def write(results: Results, _: Sequence[Source], labels: Sequence[str]) -> None:
        names = [*COLUMNS, *(f"p_{label}" for label in labels)]
        types = [arrow.type_for_alias(_TYPES.get(name, "float64")) for name in names]
        schema = arrow.schema(list(zip(names, types, strict=True)))
        group: list[list[Any]] = []
        faces_found = pictures = 0
        with whole_file(path) as temporary, parquet.ParquetWriter(temporary, schema) as file:
            for source, faces in results:
                group += rows(source, faces, labels)
                faces_found, pictures = faces_found + len(faces), pictures + 1
                if len(group) >= _GROUP:
                    file.write_table(_table(arrow, group, schema))
                    group = []
            file.write_table(_table(arrow, group, schema))
        print(f"wrote {path}: {pictures:,} pictures, {faces_found:,} faces")

    return write


def _table(arrow: Any, group: list[list[Any]], schema: Any) -> Any:
    columns = zip(*group, strict=True) if group else [()] * len(schema)
    return arrow.table(
        [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
