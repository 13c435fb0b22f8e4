"""The table of many pictures: a row a face, as `mien predict --csv`, `--parquet` and `mien batch` write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mien.errors import ImageError, need
from mien.predict.results import COLUMNS, Faces

_TYPES = {  # of Parquet's columns; the others are numbers
    **dict.fromkeys(("path", "emotion", "reasons", "head", "prior", "problem", "source", "error"), "string"),
    **dict.fromkeys(("face", "frame", "track"), "int32"),
    **dict.fromkeys(("uncertain", "interpolated"), "bool"),
}


def table_columns(labels: Sequence[str]) -> list[str]:
    """Return path, the columns of a face, p_LABEL for each label, problem."""
    return ["path", *COLUMNS, *(f"p_{label}" for label in labels), "problem"]


def table_rows(name: str, faces: Faces | ImageError, labels: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the rows of one picture: one a face; one with the name alone where there is none or it cannot be read.

    name: what the picture is called in the column `path`.
    """
    if isinstance(faces, ImageError) or not faces:
        problem = str(faces) if isinstance(faces, ImageError) else None
        yield [name, *[None] * (len(COLUMNS) + len(labels)), problem]
        return
    for number, face in enumerate(faces, start=1):
        yield [name, *face.row(number), None]


def arrow_schema(names: Sequence[str]) -> Any:
    """Return the `pyarrow.Schema` of these columns; MissingExtra without pyarrow."""
    arrow = need("pyarrow", "parquet", "writing Parquet")
    types = [arrow.type_for_alias(_TYPES.get(name, "float64")) for name in names]
    return arrow.schema(list(zip(names, types, strict=True)))


def arrow_table(rows: Sequence[Sequence[Any]], schema: Any) -> Any:
    """Return rows as a `pyarrow.Table`."""
    arrow = need("pyarrow", "parquet", "writing Parquet")
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return arrow.table(
        [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
