"""Tables of columns, Parquet and Arrow; pictures inside them are unpacked once, into the folder for caches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

from mien.data.readers.unpack import check_room, unpacked_place
from mien.data.readers.words import PATH_COLUMNS, pick_column
from mien.errors import DataError, first_line, need
from mien.files import clipped, whole_folder

COLUMNAR = (".parquet", ".arrow")  # the latter is what Hugging Face's save_to_disk writes
_AT_ONCE = 256  # rows of a Parquet file


def parquet_rows(path: Path) -> Iterator[list[str]]:
    """Yield the header and the rows of a Parquet or Arrow table as text.

    Where a column holds the pictures themselves (bytes, or Hugging Face's {bytes, path}), they are unpacked, and the
    cell is the path of the unpacked file. Class numbers become names where the file has them (Hugging Face's
    ClassLabel). Raises DataError, and MissingExtra without pyarrow.
    """
    parquet = need("pyarrow.parquet", "parquet", "reading Parquet")
    arrow = need("pyarrow", "parquet", "reading Parquet")
    is_arrow = path.suffix.lower() == ".arrow"
    try:
        with _ArrowFile(path, arrow) if is_arrow else parquet.ParquetFile(path) as file:
            yield [str(name) for name in file.schema_arrow.names]
            yield from _texts(file, path)
    except (OSError, ValueError, arrow.lib.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        form = "an Arrow" if is_arrow else "a Parquet"
        raise DataError(
            f"{path} is not {form} file that can be read: {clipped(first_line(error))}"
        ) from error


class _ArrowFile:
    """A file of Arrow's streaming or file format, with as much of pyarrow's ParquetFile as is used here.

    See https://arrow.apache.org/docs/format/Columnar.html.
    """

    def __init__(self, path: Path, arrow: Any) -> None:
        self._source, self._ipc = arrow.memory_map(str(path)), arrow.ipc
        self.schema_arrow = self._opened().schema

    def _opened(self) -> Any:
        self._source.seek(0)
        is_file = self._source.read(6) == b"ARROW1"
        self._source.seek(0)
        return self._ipc.open_file(self._source) if is_file else self._ipc.open_stream(self._source)

    def iter_batches(self, _at_once: int, columns: list[str]) -> Iterator[Any]:
        opened = self._opened()
        if hasattr(opened, "get_batch"):
            batches: Iterator[Any] = map(opened.get_batch, range(opened.num_record_batches))
        else:
            batches = iter(opened)
        return (batch.select(columns) for batch in batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()


def _texts(file: Any, path: Path) -> Iterator[list[str]]:
    schema = file.schema_arrow
    holding = [_holds_pictures(field.type) for field in schema]
    used = _used_for_pictures(schema.names, holding)
    names = _class_names(schema.metadata or {})
    pictures = [] if used is None else sorted(_pictures_folder(file, path, schema.names[used]).iterdir())
    cheap = [name for name, holds in zip(schema.names, holding, strict=True) if not holds]
    row = 0
    for batch in file.iter_batches(_AT_ONCE, columns=cheap):
        columns = {name: batch.column(place).to_pylist() for place, name in enumerate(batch.schema.names)}
        for inside in range(batch.num_rows):
            cells = []
            for place, name in enumerate(schema.names):
                if holding[place]:
                    cells.append(str(pictures[row]) if place == used else "")
                else:
                    cells.append(_cell(columns[name][inside], names.get(name)))
            yield cells
            row += 1


def _holds_pictures(kind: Any) -> bool:
    text = str(kind)
    return text in ("binary", "large_binary", "binary_view") or (
        text.startswith("struct<") and "bytes: " in text
    )


def _used_for_pictures(names: Sequence[str], holding: Sequence[bool]) -> int | None:
    """Return the place of the column with pictures that is called like pictures, else of the first; None for none."""
    place = pick_column(
        [name if holds else "" for name, holds in zip(names, holding, strict=True)], PATH_COLUMNS
    )
    return next((place for place, holds in enumerate(holding) if holds), None) if place is None else place


def _pictures_folder(file: Any, path: Path, column: str) -> Path:
    """Write the pictures of a column, numbered by row."""
    folder = unpacked_place(path)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_room(path.stat().st_size, path, folder.parent)  # pictures are packed already
    with whole_folder(folder) as inside:
        row = 0
        for batch in file.iter_batches(_AT_ONCE, columns=[column]):
            for value in batch.column(0).to_pylist():
                content = value.get("bytes") if isinstance(value, dict) else value
                (inside / f"{row:08d}{_tail(value)}").write_bytes(content or _elsewhere(value, path))
                row += 1
    return folder


def _tail(value: Any) -> str:
    """Return the picture's own name, to be put behind its number: persons and films are often known by it."""
    name = str(value.get("path") or "") if isinstance(value, dict) else ""
    return re.sub(r"[^\w.-]", "_", f"-{PurePosixPath(name).name[-60:]}") if name else ""


def _elsewhere(value: Any, path: Path) -> bytes:
    """Return the content of a picture that the table only names; nothing where it is not beside the table."""
    name = value.get("path") if isinstance(value, dict) else None
    try:
        return (path.parent / str(name)).read_bytes() if name else b""
    except (OSError, ValueError):
        return b""


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Return the names of the classes of each column, as Hugging Face Datasets stores them; none where it does not."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: [str(word) for word in feature["names"]]
            for name, outer in features.items()
            if isinstance(outer, dict)
            and isinstance(feature := outer.get("feature", outer), dict)  # a Sequence: several labels
            and feature.get("_type") == "ClassLabel"
            and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _cell(value: Any, names: list[str] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, list):  # several labels
        return "|".join(_cell(one, names) for one in value)
    if names and isinstance(value, int) and not isinstance(value, bool):
        return names[value] if 0 <= value < len(names) else ""
    return str(value)
