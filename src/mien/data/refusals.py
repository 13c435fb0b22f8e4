"""What is said where DATA is in a form that is not read, or where its labels are elsewhere than it seems."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mien.data.dataset import DataConfig
from mien.data.index import Found, LabelledFile
from mien.data.readers.public import shown_below
from mien.data.readers.table_rows import has_labels, is_table, tables_with_labels
from mien.data.readers.tables import find_in_table
from mien.data.readers.tree import Folder, Tree, looks_like
from mien.data.readers.unpack import is_archive
from mien.data.readers.words import classes_option, mostly_expressions
from mien.errors import DataError
from mien.files import shell_word
from mien.images.kinds import HEAD_BYTES, VIDEO, content_kind
from mien.images.listing import no_picture
from mien.labels import canonical
from mien.terminal import counted

FORMS = (
    "a folder with one folder of pictures per class; folders train, validation, test (any of them) of such; "
    "fer2013.csv or icml_face_data.csv (also .gz, .xz); a .csv, .json, .jsonl, .parquet or .xlsx table with columns "
    "path and label; a face set (a folder with faces.csv, from mien faces); a .zip or .tar of any of these; "
    "docs/data.md lists the public data sets that are read as they come"
)
_AS_TABLE = "save it as .xlsx or as CSV UTF-8"
_AS_PICTURES = (
    "write the pictures as files, in a folder for each class or with a table of paths and labels, as rows of a "
    "fer2013.csv, or into Parquet"
)
_ARRAYS = (
    ".npy", ".npz", ".h5", ".hdf5", ".mat", ".pkl", ".pickle", ".pt", ".tfrecord", ".tfrecords", ".feather",
)  # fmt: skip
_PERHAPS_LABELS = (
    ".xml", ".json", ".txt", ".xls", ".ods", ".mat", ".pkl", ".npz", ".h5", ".yaml", ".manifest",
)  # fmt: skip
_UNREAD = {
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers"), _AS_TABLE),
    **dict.fromkeys(_ARRAYS, _AS_PICTURES),
}


def is_text_table(path: Path) -> bool:
    """Say whether a .txt that a user names is a table; those that lie in folders are mostly something else."""
    return path.suffix.lower() == ".txt" and has_labels(path)


def what_to_do(paths: Sequence[Path]) -> str:
    """Say what to do about the first file that holds pictures or labels in a form that is not read; '' for none.

    Archives, videos and pictures are known by their content.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                kind, is_picture = content_kind(file.read(HEAD_BYTES))
        except OSError:
            continue
        if path.suffix.lower() in _UNREAD:
            return f"{path} is not read; {_UNREAD[path.suffix.lower()]}"
        if kind == "zip archive" and not path.suffix:
            return f"{path} is a zip archive; let its name end in .zip"
        if kind.endswith("archive") and kind != "zip archive" and not is_archive(path):
            return f"{path} is a {kind}, which mien does not unpack; unpack it and give the folder"
        if kind == VIDEO:
            return f"{path} is a video; cut its faces out first: mien faces {shell_word(path)} --to faces"
        if is_picture:
            return f"{path} is one picture; give the folder with the folders of all classes, or a table"
    return ""


def about_models(path: Path) -> str:
    """Say that a folder is a model's or a run's, whose own tables and lists are no labelled pictures; '' for others."""
    for model in (path, path / "model"):
        if (model / "model.json").is_file() and (model / "model.onnx").is_file():
            return (
                f"{path} is a {'model' if model == path else 'run'} folder, not labelled pictures; to measure the "
                f"model: mien evaluate {shell_word(path)} DATA"
            )
    return ""


def refuse_unlabelled(path: Path, tree: Tree, start: Folder) -> NoReturn:
    """Say what to do about a folder in which no reader found labelled pictures. start: see folders.entered."""
    pictures, others = tree.root.pictures_below(), tree.root.others_below()
    if tree.face_sets:
        listed = " ".join(shell_word(one) for one in tree.face_sets)
        raise DataError(
            f"{path} holds no labelled pictures but in {counted(len(tree.face_sets), 'face set')}; "
            f"give as DATA: {listed}"
        )
    if told := what_to_do(start.others) or ("" if pictures else _about_films(path, others)):
        raise DataError(told)
    if pictures and (elsewhere := tables_with_labels(others)):
        above = os.path.commonpath([picture.parent for picture in pictures])
        raise DataError(
            f"{path} has no folders of classes; if {shown_below(elsewhere[0], path)} says the labels, give that table "
            f"and the folder from which its paths start: "
            f"{shell_word(elsewhere[0])} --root {shell_word(above)}"
        )
    raise DataError(f"{path} holds no labelled pictures (there is: {looks_like(tree)}); DATA can be {FORMS}")


def _about_films(path: Path, others: Sequence[Path]) -> str:
    """Say how the films in a folder become labelled faces; '' where there are none."""
    films = [other for other in others if no_picture(other) == VIDEO]
    if not films:
        return ""
    of_folders = mostly_expressions({film.parent.name for film in films})
    how = "; --label takes the folders for the labels" if of_folders else ""
    label = " --label '([^/]+)/[^/]+$'" if of_folders else ""
    return (
        f"{path} holds {counted(len(films), 'video')} and no pictures; cut the faces out first: mien faces "
        f"{shell_word(path)} --to faces{label}{how}"
    )


def refuse_labels_elsewhere(path: Path, tree: Tree, file: LabelledFile, config: DataConfig) -> None:
    """Say what to give where the only folder of pictures has its labels in a file elsewhere: images/ and labels/."""
    others = tree.root.others_below()
    for table in others:
        if (is_table(table) and has_labels(table)) or is_text_table(table):
            try:  # whether its paths lead there by themselves
                find_in_table(table, config)
                root = ""
            except DataError:
                root = f" --root {shell_word(file.path.parent)}"
            raise DataError(
                f"{path} has one folder of pictures ({file.label}), which is no class by itself; if "
                f"{shown_below(table, path)} says their labels, give that table{' and their folder' if root else ''}: "
                f"{shell_word(table)}{root}"
            )
    if unread := [shown_below(other, path) for other in others if other.suffix.lower() in _PERHAPS_LABELS]:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        raise DataError(
            f"{path} has one folder of pictures ({file.label}), which is no class by itself, and mien finds no labels "
            f"in {unread[0]}{more}; export them as folders of classes, or as a table (.csv, .json, .xlsx) with a row "
            "per picture: path, label"
        )


def refuse_other_labels(path: Path, tables: Sequence[Path], folders: Found, config: DataConfig) -> None:
    """Refuse folders as classes where the only table beside them says something else of the pictures in each.

    So are part1/ and part2/, or front/ and side/, beside labels.csv. Not expressions, whatever a table adds to them,
    nor folders of which each has one label (0 for engaged/): then both say the same.
    """
    classes = list(dict.fromkeys(file.label for file in folders.files))
    if config.named or mostly_expressions(classes) or len(tables) != 1 or not has_labels(tables[0]):
        return
    try:
        found = find_in_table(tables[0], config).files
    except DataError:  # it is about something else
        return
    told = {os.path.normpath(file.path): file.label for file in found}
    beside = ((file.label, told.get(os.path.normpath(file.path))) for file in folders.files)
    pairs = {pair for pair in beside if pair[1] is not None}
    is_torn = len(pairs) > len({folder for folder, _ in pairs})
    if is_torn and not set(map(canonical, told.values())) & set(map(canonical, classes)):
        labels = ", ".join(list(dict.fromkeys(file.label for file in found))[:4])
        raise DataError(
            f"{path} has folders ({', '.join(classes[:4])}) and a table of other labels ({labels}) for their pictures; "
            f"give the table: {shell_word(tables[0])}; or, if the folders are the classes, say so: "
            f"{classes_option(classes)}"
        )
