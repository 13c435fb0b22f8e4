"""The forms of DATA: what lies at a path decides which reader reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from mien.data.classes import combine
from mien.data.dataset import DataConfig, Progress, RawDataset
from mien.data.index import Found, LabelledFile, index_files
from mien.data.readers.boxes import find_boxes
from mien.data.readers.csv_text import is_csv
from mien.data.readers.face_sets import is_face_set, read_face_set
from mien.data.readers.fer2013 import FILE_NAMES, is_fer2013, is_fer2013_csv, read_fer2013
from mien.data.readers.folders import are_classes, entered, find_in_folders, find_in_names
from mien.data.readers.name_lists import numbers_named
from mien.data.readers.parquet import COLUMNAR
from mien.data.readers.public import find_listed, is_list, shown_below
from mien.data.readers.share_columns import ROBOFLOW
from mien.data.readers.sidecars import CLASS_SUFFIX, TEXT_SUFFIXES, find_beside
from mien.data.readers.table_rows import has_labels, header_of, is_table, tables_with_labels
from mien.data.readers.tables import find_in_table
from mien.data.readers.tree import Folder, Tree, walk
from mien.data.readers.unpack import is_archive, unpacked
from mien.data.readers.words import LABEL_COLUMNS, mostly_expressions, pick_column, renamed, split_of
from mien.data.refusals import (
    FORMS,
    about_models,
    is_text_table,
    refuse_labels_elsewhere,
    refuse_other_labels,
    refuse_unlabelled,
    what_to_do,
)
from mien.errors import DataError
from mien.files import clipped, plain_text
from mien.images.listing import list_pictures
from mien.labels import canonical, is_expression
from mien.terminal import counted

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet", ROBOFLOW, "_annotations.csv")
_NUMBER = re.compile(r"[-_.]?\d+$")  # of a shard
_PART = re.compile(r"-\d+-of-\d+(-[0-9a-f]+)?$")


def read(path: Path, config: DataConfig, progress: Progress | None) -> RawDataset:
    """Read what lies at an absolute path. Raises DataError where no reader knows it, or it cannot be used."""
    if is_face_set(path):
        return read_face_set(path, config, progress)
    if path.is_dir():
        return _read_folder(path, config, progress)
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path} is a link that leads nowhere or in a circle; give the path of the data itself"
        )
    if not path.exists():
        raise DataError(f"there is no file or folder {clipped(str(path), 300)}; DATA can be {FORMS}")
    if not path.is_file():  # reading one may wait for ever
        raise DataError(f"{path} is a pipe, socket or device; save what it gives as a file, or name a folder")
    if is_archive(path):
        folder, left_out = unpacked(path)
        try:
            raw = numbers_named(_read_folder(folder, config, progress), folder, config)
        except DataError as error:
            raise DataError(str(error).replace(str(folder), str(path))) from error
        name = plain_text(path.name.partition(".")[0])
        raw = replace(raw, name=raw.name if raw.name in ("fer2013", "ferplus") else name)
        return raw.noting(*_left_out(name, left_out))
    if is_fer2013_csv(path):
        return read_fer2013(path, config)
    if is_table(path) or path.suffix.lower() == ".json" or is_text_table(path):
        return index_files(path, find_in_table(path, config), progress)
    if is_list(path):  # its pictures lie beside it, or in a folder beside its own
        above = path.parent if list_pictures(path.parent).pictures else path.parent.parent
        return _read_folder(above, config, progress)
    if told := what_to_do([path]):
        raise DataError(told)
    raise DataError(f"{path} is not in a form that we read; DATA can be {FORMS}")


def _read_folder(path: Path, config: DataConfig, progress: Progress | None) -> RawDataset:
    try:
        next(path.iterdir(), None)
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}") from error
    if told := about_models(path):
        raise DataError(told)
    tree = walk(path)
    pictures, others = tree.root.pictures_below(), tree.root.others_below()
    found = find_listed(path, pictures, others)
    if found or (not are_classes(tree.root) and (found := find_boxes(path, pictures, others))):
        renamed_files = [replace(file, label=renamed(config.label_names, file.label)) for file in found.files]
        return index_files(path, replace(found, files=renamed_files), progress)
    start = entered(tree.root)
    tables, unlabelled = _labelled_ones([table for table in start.others if is_table(table)])
    if not are_classes(tree.root) and (found := find_beside(tree, config, (CLASS_SUFFIX,))):
        return index_files(path, found, progress).noting(
            *_unread(tables, "pictures"), *_unnamed(tree, found.files)
        )
    for table in tables:
        if table.name.lower() in FILE_NAMES:
            return read_fer2013(table, config)
    if raw := _split_tables(start, tree, config, progress):
        return raw
    if raw := _in_folders(path, tree, tables, config, progress):
        return raw
    if len(tables) == 1 and is_fer2013_csv(tables[0]):
        return read_fer2013(tables[0], config).noting(*unlabelled)
    if len(tables) == 1:
        found = find_in_table(tables[0], config)
        return index_files(tables[0], found, progress).noting(*unlabelled, *_unnamed(tree, found.files))
    if tables:
        names = ", ".join(plain_text(table.name) for table in tables)
        raise DataError(
            f"{start.path} holds {len(tables)} tables ({names}); give the path of one, or of several"
        )
    archives = [other for other in start.others if is_archive(other)]
    if len(archives) == 1:
        return read(archives[0], config, progress)
    if archives:
        return _read_archives(path, archives, config, progress)
    refuse_unlabelled(path, tree, start)


def _in_folders(
    path: Path, tree: Tree, tables: Sequence[Path], config: DataConfig, progress: Progress | None
) -> RawDataset | None:
    """Read labels that stand in names of folders or pictures, or in texts beside them; None where a table has them."""
    try:
        folders = find_in_folders(tree, config)
    except DataError:
        if len(tables) != 1 or not has_labels(tables[0]):  # the table says what the folders do not
            raise
        folders = None
    is_one = folders is not None and len({file.label for file in folders.files}) == 1
    if tables:
        if folders is None or is_one:
            return None
        refuse_other_labels(path, tables, folders, config)
        noted = replace(folders, notes=(*folders.notes, *_unread(tables, "folders")))
        return index_files(path, noted, progress)
    if folders is None or is_one:
        if named := find_in_names(tree, config):
            return index_files(path, named, progress)
        beside = find_beside(tree, config, TEXT_SUFFIXES)  # a text beside a picture may say anything
        if beside and not tables_with_labels(tree.root.others_below()):
            return index_files(path, beside, progress).noting(*_unnamed(tree, beside.files))
    if folders is None:
        return None
    if is_one:
        refuse_labels_elsewhere(path, tree, folders.files[0], config)
    return index_files(path, folders, progress)


def _split_tables(
    start: Folder, tree: Tree, config: DataConfig, progress: Progress | None
) -> RawDataset | None:
    """Read tables that belong together: metadata beside the pictures, or one table a split, by its name or folder."""
    metadata = [table for table in start.others if table.name.lower() in _METADATA and has_labels(table)]
    if metadata:
        found = find_in_table(metadata[0], config)
        return index_files(tree.root.path, found, progress).noting(*_unnamed(tree, found.files))
    parts = [(split_of(child.name), child) for child in start.folders]
    named = [
        (split, table)
        for split, child in parts
        for table in child.others
        if split and (table.name.lower() in _METADATA or table.suffix in COLUMNAR) and has_labels(table)
    ]
    if not named:  # train/labels.csv beside train/images/
        named = [
            (split, own[0])
            for split, child in parts
            if split and len(child.filled) < 2 and len(own := tables_with_labels(child.others)) == 1
        ]
    if not named:
        of_name = [
            (_split_named(table), table)
            for table in start.others
            if is_table(table) or (split_of(stem_of(table)) and is_text_table(table))
        ]
        labelled = [
            (split, table) for split, table in of_name if split and (len(of_name) == 1 or has_labels(table))
        ]
        enough = len({split for split, _ in labelled}) > 1 or (labelled and labelled[0][1].suffix in COLUMNAR)
        named = labelled if enough and not (start.filled and _class_folders(start)) else []
    if not named:
        return None
    raws = []
    files: list[LabelledFile] = []
    for split, table in named:
        found = find_in_table(table, config, split)
        files += found.files
        raw = index_files(table, found, progress)
        above = shown_below(table.parent, tree.root.path)
        raws.append(replace(raw if above == "." else raw.below(above), name=plain_text(tree.root.path.name)))
    listed = ", ".join(f"{shown_below(table, tree.root.path)} ({split})" for split, table in named)
    return combine(raws, several=False).noting(f"read from the tables {listed}", *_unnamed(tree, files))


def _labelled_ones(tables: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the one table that has labels, and a note on the others (a competition's test.csv); else all tables."""
    labelled = [table for table in tables if has_labels(table) or _has_faces(table)]
    if len(tables) < 2 or len(labelled) != 1:
        return list(tables), []
    others = ", ".join(plain_text(table.name) for table in tables if table not in labelled)
    return labelled, [f"not read: {others}, without columns of pictures and labels"]


def _unread(tables: Sequence[Path], beside: str) -> list[str]:
    names = clipped(", ".join(plain_text(table.name) for table in tables), 300)
    return [f"not read: {names} beside the {beside}; to read a table, give its own path"] if tables else []


def _has_faces(table: Path) -> bool:
    header = header_of(table) if is_csv(table) else []
    return is_fer2013(header) and pick_column(header, LABEL_COLUMNS) is not None


def _read_archives(
    path: Path, archives: Sequence[Path], config: DataConfig, progress: Progress | None
) -> RawDataset:
    """Read archives that lie together as one data set: each a split, a class, a shard (data-000001.tar) or a part."""
    series = [_NUMBER.sub("", stem_of(archive)) for archive in archives]
    splits = [split_of(one) for one in series]
    listed = ", ".join(plain_text(archive.name) for archive in archives)
    if any(splits) and (None in splits or len(set(series)) > len(set(splits))):
        raise DataError(
            f"{path} holds {len(archives)} archives ({listed}), whose names are not one split each (train.zip, "
            "test.zip); give the path of one, or of several"
        )
    if mostly_expressions(set(series)) or len(config.named & set(series)) > 1:
        return index_files(path, _of_classes(path, archives, series, config), progress)
    is_divided = not any(splits) or len(set(series)) < len(series)
    raws = []
    for split, archive in zip(splits, archives, strict=True):
        raw = read(archive, config, progress)
        if split and list(raw.splits) == ["train"]:  # the archive itself names none
            raw = replace(raw, splits={split: raw.splits["train"]})
        if is_divided:  # parts and shards may have the same names inside
            raw = raw.below(plain_text(archive.name))
        raws.append(replace(raw, name=plain_text(path.name)))
    for (one, first), (other, second) in combinations(zip(series, raws, strict=True), 2):
        if not any(splits) and one != other and set(first.classes) & set(second.classes):
            raise DataError(
                f"{path} holds {len(archives)} archives ({listed}), each with classes of its own; if they are data "
                f"sets, name one as DATA, or several to combine them; if parts of one, call them {one}-1, {one}-2, …"
            )
    return combine(raws, several=False).noting(f"read from the archives {clipped(listed, 300)}")


def _of_classes(path: Path, archives: Sequence[Path], names: Sequence[str], config: DataConfig) -> Found:
    """Read archives that hold the pictures of a class each. DataError where folders inside say something else."""
    files: list[LabelledFile] = []
    notes = []
    for name, archive in zip(names, archives, strict=True):
        shown = plain_text(archive.name)
        folder, left_out = unpacked(archive)
        notes += _left_out(shown, left_out)
        pictures = [(shown_below(picture, folder), picture) for picture in walk(folder).root.pictures_below()]
        if not pictures:
            notes.append(f"{shown} holds no pictures; it is not taken for a class")
        for inside, picture in pictures:
            for part in Path(inside).parts[:-1]:
                if split_of(part) or (is_expression(part) and canonical(part) != canonical(name)):
                    raise DataError(
                        f"{path} holds archives that are named like classes, and in {shown} there is a folder {part}; "
                        "unpack them, and give the folder"
                    )
            label = renamed(config.label_names, plain_text(name))
            files.append(LabelledFile(picture, f"{shown}/{inside}", label, "train"))
    used = clipped(", ".join(dict.fromkeys(file.name.partition("/")[0] for file in files)), 300)
    return Found(plain_text(path.name), files, (f"the names of the archives are the classes: {used}", *notes))


def _left_out(archive: str, count: int) -> list[str]:
    kinds = "links, devices, files whose names come again, lead out of it or are too long"
    return [f"left out: {counted(count, 'member')} of {archive} that are {kinds}"] if count else []


def _unnamed(tree: Tree, files: Sequence[LabelledFile]) -> list[str]:
    """Count the pictures of a folder that its tables do not name."""
    named = {os.path.normpath(file.path) for file in files}
    without = [path for path in tree.root.pictures_below() if os.path.normpath(path) not in named]
    if not without:
        return []
    first = shown_below(without[0], tree.root.path)
    return [f"in no row that is used: {counted(len(without), 'picture')}, such as {first}"]


def stem_of(table: Path) -> str:
    """Return what a table is called without what its form adds: train-00000-of-00002.parquet is train."""
    return _PART.sub("", table.name.partition(".")[0])


def _split_named(table: Path) -> str | None:
    """Return the split in a table's name; that of parts that name none (data-00000-of-00002.arrow) is train."""
    return split_of(stem_of(table)) or ("train" if _PART.search(table.name.partition(".")[0]) else None)


def _class_folders(start: Folder) -> bool:
    return any(split_of(child.name) and child.filled for child in start.filled)
