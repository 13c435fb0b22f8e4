"""Labels in a file beside each picture: 0001.jpg with 0001.cls, 0001.txt or 0001.json, as in WebDataset's shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mien.data.dataset import DataConfig
from mien.data.index import Found
from mien.data.readers.csv_text import lines_of
from mien.data.readers.table_rows import names_labels, rows_of_objects
from mien.data.readers.tables import find_in_rows
from mien.data.readers.tree import Tree
from mien.data.readers.words import plain_column
from mien.errors import DataError
from mien.files import clipped, plain_text
from mien.labels import is_expression

CLASS_SUFFIX = ".cls"  # which says nothing but a class; a text or JSON beside a picture may say anything
TEXT_SUFFIXES = (".txt", ".json")


def find_beside(tree: Tree, config: DataConfig, suffixes: Sequence[str]) -> Found | None:
    """Read what lies beside most pictures, each file as a row of a table; None where that says no labels.

    A text is the label itself, unless most pictures have one of their own that is no expression, as captions are.
    """
    root, pictures = tree.root.path, tree.root.pictures_below()
    others = {
        (path.with_suffix(""), path.suffix.lower()): path
        for path in tree.root.others_below()
        if path.suffix.lower() in suffixes
    }
    for suffix in suffixes:
        beside = {path: others[key] for path in pictures if (key := (path.with_suffix(""), suffix)) in others}
        if 2 * len(beside) <= len(pictures):
            continue
        told = {path: row for path, own in beside.items() if (row := _row(own))}
        objects: list[dict[str, object]] = [
            {"path": ""} | row | {"path": path.relative_to(root).as_posix()} for path, row in told.items()
        ]
        captions = {
            row["label"] for row in objects if suffix == ".txt" and not is_expression(str(row["label"]))
        }
        header = next(rows_of_objects(objects.copy), [])
        if config.label_column:
            asked = map(plain_column, config.label_column.split(","))
            labelled = set(map(plain_column, header)).issuperset(asked)
        else:
            labelled = names_labels(header, root.name)
        if not labelled or 2 * len(captions) > len(objects):
            continue
        names = [plain_text(beside[path].relative_to(root).as_posix()) for path in told]
        found = find_in_rows(root / "labels", rows_of_objects(objects.copy), config, names=names)
        return replace(
            found, notes=(*found.notes, f"labels are read from the {suffix} file beside each picture")
        )
    return None


def _row(path: Path) -> dict[str, object]:
    """Return what a JSON object says, or the one line of a text as `label`; nothing for another file."""
    lines = [line.strip() for line in lines_of(path) if line.strip()]
    if path.suffix.lower() != ".json":
        return {"label": lines[0]} if len(lines) == 1 else {}
    try:
        value = json.loads("".join(lines))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no JSON ({clipped(str(error))}); mend or delete it") from error
    return value if isinstance(value, dict) else {}
