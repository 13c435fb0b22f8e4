"""A table (CSV or Parquet) of picture paths and labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mien.data.dataset import Progress, RawDataset
from mien.data.index import LabelledFile, index_files
from mien.data.readers.csv_text import is_csv, rows_of
from mien.data.readers.folders import shown
from mien.data.readers.words import need_column, pick_column, split_of
from mien.errors import DataError, need

PATH_COLUMNS = ("path", "file", "image", "filename", "file_name", "filepath", "image_path")
LABEL_COLUMNS = ("label", "emotion", "class", "expression")
SPLIT_COLUMNS = ("split", "usage")


def is_table(path: Path) -> bool:
    return is_csv(path) or path.suffix.lower() == ".parquet"


def read_table(path: Path, progress: Progress | None = None) -> RawDataset:
    """Read the table. Its paths start from its own folder; a missing file is listed as unreadable."""
    rows = _rows(path)
    header = next(rows, [])
    path_column = need_column(header, PATH_COLUMNS, path.name)
    label_column = need_column(header, LABEL_COLUMNS, path.name)
    split_column = pick_column(header, SPLIT_COLUMNS)
    files = []
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        where = f"{path.name} row {number}"
        if len(row) < len(header) or any(row[len(header) :]):  # Excel leaves empty cells at the end
            raise DataError(
                f"{where} has {len(row)} columns, the header has {len(header)}; mend or delete it "
                f"(names with a comma stand in double quotes)"
            )
        label = row[label_column].strip()
        if not label or not row[path_column]:
            raise DataError(
                f"{where} has no {header[path_column if label else label_column]}; mend or delete it"
            )
        split = "train" if split_column is None else _split(row[split_column], where)
        name = shown(Path(row[path_column]))
        files.append(LabelledFile(path.parent / row[path_column], name, label, split))
    if not files:
        raise DataError(f"{path} has no rows below its header; nothing to read")
    stem = path.name.partition(".")[0]
    return index_files(path, path.parent.name if stem == "labels" else stem, files, progress)


def _rows(path: Path) -> Iterator[list[str]]:
    return _parquet_rows(path) if path.suffix.lower() == ".parquet" else rows_of(path)


def _parquet_rows(path: Path) -> Iterator[list[str]]:
    parquet = need("pyarrow.parquet", "parquet", "reading Parquet")
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are kinds of these
        raise DataError(
            f"{path} is not a Parquet file that can be read: {str(error).splitlines()[0]}"
        ) from error
    yield [str(name) for name in table.column_names]
    columns = [column.to_pylist() for column in table.columns]
    for row in zip(*columns, strict=True):
        yield ["" if value is None else str(value) for value in row]


def _split(word: str, where: str) -> str:
    split = split_of(word)
    if split is None:
        raise DataError(
            f"{where} has the split {word!r}; allowed are train, validation and test; mend that row"
        )
    return split
