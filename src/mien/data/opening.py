"""Opening DATA: what lies at the path decides who reads it; then classes, groups, validation and fingerprint."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from mien.data.classes import (
    check_spellings,
    choose_classes,
    combine,
    merge_classes,
    one_spelling,
    plain_classes,
)
from mien.data.dataset import DataConfig, Dataset, Progress, RawDataset, Split, in_order
from mien.data.decisions import applied, decisions_for
from mien.data.index import Found, LabelledFile, index_files
from mien.data.pictures import fingerprints_of
from mien.data.readers.boxes import find_boxes
from mien.data.readers.columns import ROBOFLOW
from mien.data.readers.csv_text import is_csv, rows_of
from mien.data.readers.face_sets import is_face_set, read_face_set
from mien.data.readers.fer2013 import FILE_NAMES, is_fer2013, read_fer2013
from mien.data.readers.folders import are_classes, entered, find_in_folders, find_in_names
from mien.data.readers.name_lists import numbers_named, numbers_noted
from mien.data.readers.parquet import COLUMNAR
from mien.data.readers.public import find_listed, is_list, shown_below
from mien.data.readers.sidecars import CLASS_SUFFIX, TEXT_SUFFIXES, find_beside
from mien.data.readers.table_rows import has_labels, header_of, is_table
from mien.data.readers.tables import find_in_table
from mien.data.readers.tree import Folder, Tree, looks_like, walk
from mien.data.readers.unpack import is_archive, unpacked
from mien.data.readers.words import LABEL_COLUMNS, mostly_expressions, pick_column, renamed, split_of
from mien.data.refusals import (
    about_films,
    about_models,
    is_text_table,
    refuse_labels_elsewhere,
    refuse_other_labels,
    what_to_do,
)
from mien.data.split import carve, leaks
from mien.errors import DataError
from mien.files import clipped, expanded, joined_paths, plain_text, shell_word
from mien.images.listing import list_pictures
from mien.labels import canonical, is_expression
from mien.terminal import counted

FORMS = (
    "a folder with one folder of pictures per class; folders train, validation, test (any of them) of such; "
    "fer2013.csv or icml_face_data.csv (also .gz, .xz); a .csv, .json, .jsonl, .parquet or .xlsx table with columns "
    "path and label; a face set (a folder with faces.csv, from mien faces); a .zip or .tar of any of these; "
    "docs/data.md lists the public data sets that are read as they come"
)


def open_paths(
    paths: Sequence[Path], config: DataConfig, *, carve_validation: bool, progress: Progress | None
) -> Dataset:
    """See mien.data.open_dataset."""
    if not paths:
        raise DataError(f"no DATA is given; it can be {FORMS}")
    source = joined_paths(paths)
    raws = [numbers_named(_read(own, config, progress), own, config) for own in _absolute(paths)]
    parts = _parts_of_one(raws, paths)
    raw = one_spelling(combine([plain_classes(own, config) for own in ([parts] if parts else raws)]))
    raw = raw.noting(*_in_two_face_sets(raws, paths))
    raw = choose_classes(merge_classes(raw, config.merge), config.classes)
    _check_labels(raw, config)
    raw = check_spellings(raw, config.classes)
    raw = applied(raw, decisions_for(paths, config))
    _check_classes(raw, source)
    raw = raw.noting(*_never_labels(raw))
    raw = numbers_noted(_grouped(raw, [own.name for own in raws if not own.grouped], config))
    raw = _with_validation(raw, config) if carve_validation else raw.noting(*leaks(raw.splits))
    return Dataset(
        name=raw.name,
        source=source,
        classes=raw.classes,
        splits=raw.splits,
        fingerprint=fingerprint(raw.classes, raw.splits),
        unreadable=raw.unreadable,
        notes=tuple(dict.fromkeys(raw.notes)),
    )


def _parts_of_one(raws: Sequence[RawDataset], paths: Sequence[Path]) -> RawDataset | None:
    """Take paths that are named like splits (train.csv test.csv) for one data set; None where they are not.

    Only where all are, training among them, and none has splits of its own: the test pictures would be trained on.
    """
    splits = [split_of(_stem(path)) for path in _absolute(paths)]
    if (
        None in splits
        or len(set(splits)) < 2
        or "train" not in splits
        or any(list(raw.splits) != ["train"] for raw in raws)
    ):
        return None
    parts = []
    for raw, split, path in zip(raws, splits, paths, strict=True):
        own = raw.splits["train"]
        names = [f"{plain_text(path.name)}/{name}" for name in own.names]
        parts.append(replace(raw, splits={split or "train": replace(own, names=names)}))
    listed = ", ".join(
        f"{plain_text(path.name)} ({split})" for path, split in zip(paths, splits, strict=True)
    )
    joined = combine(parts, several=False)
    return replace(joined, name="+".join(dict.fromkeys(raw.name for raw in raws))).noting(
        f"one data set, split by the names of its parts: {listed}"
    )


def _in_two_face_sets(raws: Sequence[RawDataset], paths: Sequence[Path]) -> list[str]:
    """Say which faces are in two face sets, as in copies that two people labelled, and how one set is made of them."""
    notes = []
    sets = [(raw, path) for raw, path in zip(raws, paths, strict=True) if is_face_set(path)]
    for (one, first), (other, second) in combinations(sets, 2):
        faces, others = (
            {
                face
                for own in raw.splits.values()
                for face in zip(own.names, fingerprints_of(own.pictures).keys, strict=True)
            }
            for raw in (one, other)
        )
        if both := len(faces & others):
            notes.append(
                f"{counted(both, 'face')} of {one.name} {'is' if both == 1 else 'are'} in {other.name}, too, and count "
                f"twice; one set of both, with everybody's labels: "
                f"mien faces {shell_word(second)} --to {shell_word(first)}"
            )
    return notes


def _absolute(paths: Sequence[Path]) -> list[Path]:
    return [expanded(path).absolute() for path in paths]


def _read(path: Path, config: DataConfig, progress: Progress | None) -> RawDataset:
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
    if is_csv(path) and is_fer2013(next(rows_of(path), [])):
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
    try:
        folders = find_in_folders(tree, config)
    except DataError:
        if len(tables) != 1 or not has_labels(tables[0]):  # the table says what the folders do not
            raise
        folders = None
    is_one = folders is not None and len({file.label for file in folders.files}) == 1
    if (folders is None or is_one) and not tables:  # a text beside a picture may say anything
        if named := find_in_names(tree, config):
            return index_files(path, named, progress)
        if (found := find_beside(tree, config, TEXT_SUFFIXES)) and not _tables_with_labels(others):
            return index_files(path, found, progress).noting(*_unnamed(tree, found.files))
    if folders is not None and not tables and is_one:
        refuse_labels_elsewhere(path, tree, folders.files[0], config)
    if folders is not None and not (is_one and tables):
        if tables:
            refuse_other_labels(path, tables, folders, config)
            folders = replace(folders, notes=(*folders.notes, *_unread(tables, "folders")))
        return index_files(path, folders, progress)
    if len(tables) == 1 and not (is_csv(tables[0]) and is_fer2013(next(rows_of(tables[0]), []))):
        found = find_in_table(tables[0], config)
        return index_files(tables[0], found, progress).noting(*unlabelled, *_unnamed(tree, found.files))
    if len(tables) == 1:
        return _read(tables[0], config, progress).noting(*unlabelled)
    if tables:
        names = ", ".join(plain_text(table.name) for table in tables)
        raise DataError(
            f"{start.path} holds {len(tables)} tables ({names}); give the path of one, or of several"
        )
    archives = [other for other in start.others if is_archive(other)]
    if len(archives) == 1:
        return _read(archives[0], config, progress)
    if archives:
        return _read_archives(path, archives, config, progress)
    if tree.face_sets:
        listed = " ".join(shell_word(one) for one in tree.face_sets)
        raise DataError(
            f"{path} holds no labelled pictures but in {counted(len(tree.face_sets), 'face set')}; "
            f"give as DATA: {listed}"
        )
    if told := what_to_do(start.others) or ("" if pictures else about_films(path, others)):
        raise DataError(told)
    if pictures and (elsewhere := _tables_with_labels(others)):
        above = os.path.commonpath([picture.parent for picture in pictures])
        raise DataError(
            f"{path} has no folders of classes; if {shown_below(elsewhere[0], path)} says the labels, give that table "
            f"and the folder from which its paths start: "
            f"{shell_word(elsewhere[0])} --root {shell_word(above)}"
        )
    raise DataError(f"{path} holds no labelled pictures (there is: {looks_like(tree)}); DATA can be {FORMS}")


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
            if split and len(child.filled) < 2 and len(own := _tables_with_labels(child.others)) == 1
        ]
    if not named:
        of_name = [
            (_split_named(table), table)
            for table in start.others
            if is_table(table) or (split_of(_stem(table)) and is_text_table(table))
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
        beside = shown_below(table.parent, tree.root.path)
        renamed = {
            name: replace(part, names=[row if beside == "." else f"{beside}/{row}" for row in part.names])
            for name, part in raw.splits.items()
        }
        raws.append(replace(raw, splits=renamed, name=plain_text(tree.root.path.name)))
    listed = ", ".join(f"{shown_below(table, tree.root.path)} ({split})" for split, table in named)
    return combine(raws, several=False).noting(f"read from the tables {listed}", *_unnamed(tree, files))


def _tables_with_labels(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if is_table(path) and has_labels(path)]


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
    series = [_NUMBER.sub("", _stem(archive)) for archive in archives]
    splits = [split_of(one) for one in series]
    listed = ", ".join(plain_text(archive.name) for archive in archives)
    if any(splits) and (None in splits or len(set(series)) > len(set(splits))):
        raise DataError(
            f"{path} holds {len(archives)} archives ({listed}), whose names are not one split each (train.zip, "
            "test.zip); give the path of one, or of several"
        )
    if mostly_expressions(set(series)) or len(config.named & set(series)) > 1:
        return index_files(path, _of_classes(path, archives, series, config), progress)
    raws = []
    for split, archive in zip(splits, archives, strict=True):
        raw = _read(archive, config, progress)
        if split and list(raw.splits) == ["train"]:  # the archive itself names none
            raw = replace(raw, splits={split: raw.splits["train"]})
        if not any(splits) or len(set(series)) < len(
            series
        ):  # parts and shards may have the same names inside
            own = {
                split: replace(part, names=[f"{plain_text(archive.name)}/{name}" for name in part.names])
                for split, part in raw.splits.items()
            }
            raw = replace(raw, splits=own)
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


_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet", ROBOFLOW, "_annotations.csv")
_NUMBER = re.compile(r"[-_.]?\d+$")  # of a shard
_PART = re.compile(r"-\d+-of-\d+(-[0-9a-f]+)?$")


def _stem(table: Path) -> str:
    """Return what a table is called without what its form adds: train-00000-of-00002.parquet is train."""
    return _PART.sub("", table.name.partition(".")[0])


def _split_named(table: Path) -> str | None:
    """Return the split in a table's name; that of parts that name none (data-00000-of-00002.arrow) is train."""
    return split_of(_stem(table)) or ("train" if _PART.search(table.name.partition(".")[0]) else None)


def _class_folders(start: Folder) -> bool:
    return any(split_of(child.name) and child.filled for child in start.filled)


def _check_labels(raw: RawDataset, config: DataConfig) -> None:
    """Refuse labels that mean nothing, once it is known that they are used; and rules that meant nothing."""
    for label, reason in raw.refused.items():
        if label in raw.classes:
            raise DataError(reason)
    if (
        config.label_names
        and not set(config.label_names.values()) & set(raw.classes)
        and not (config.merge or config.classes)
    ):
        raise DataError(
            f"--labels renames {', '.join(config.label_names)}, and the data has no such label; its classes are: "
            f"{', '.join(raw.classes)}"
        )


def _check_classes(raw: RawDataset, path: Path) -> None:
    counts = raw.counts()
    if empty := [name for name, count in counts.items() if count == 0]:
        first = next((f"; the first: {bad.name}: {bad.reason}" for bad in raw.unreadable), "")
        raise DataError(
            f"{path} has no readable picture of class {', '.join(empty)} (unreadable files: "
            f"{len(raw.unreadable)}{first}); add pictures or leave the class out (--classes)"
        )
    if len(counts) < 2:
        only = ", ".join(counts)
        raise DataError(f"{path} has only one class ({only}); telling expressions apart needs at least two")


def _never_labels(raw: RawDataset) -> list[str]:
    """Name the classes that have shares of pictures, and are the label of none."""
    counts = [split.counts(raw.classes) for split in raw.splits.values()]
    never = [name for name in raw.classes if not any(count[name] for count in counts)]
    told = f"of no picture {' or '.join(never)} is the label: learnt from shares alone, and not scored"
    return [told] if never else []


def _grouped(raw: RawDataset, lacking: Sequence[str], config: DataConfig) -> RawDataset:
    """Give every picture its group by --group, where that is no column that a reader has used already.

    lacking: names of the data sets that have no such column.
    """
    if config.group == "none":
        return replace(raw, splits={name: replace(split, groups=None) for name, split in raw.splits.items()})
    if not config.group:
        return raw
    if raw.grouped:
        told = (
            f"--group {config.group!r} is a column that {', '.join(lacking)} lacks: there only what is known without "
            "it is grouped"
        )
        return raw.noting(told) if lacking else raw
    pattern = re.compile(config.group)
    splits, without = {}, 0
    for name, split in raw.splits.items():
        found = [pattern.search(row) for row in split.names]
        groups = [(match[1] if pattern.groups else match[0]) or "" if match else "" for match in found]
        without += groups.count("")
        splits[name] = replace(split, groups=groups)
    values = {group for split in splits.values() for group in split.groups or () if group}
    if not values:
        example = next(row for split in raw.splits.values() for row in split.names)
        raise DataError(
            f"--group {config.group!r} is neither a column nor found in any picture's name, such as {example!r}"
        )
    rest = f"; alone: {counted(without, 'picture')} that it does not match" if without else ""
    return replace(raw, splits=splits).noting(
        f"grouped by {config.group!r} in the names: {counted(len(values), 'group')}{rest}"
    )


def _with_validation(raw: RawDataset, config: DataConfig) -> RawDataset:
    if "validation" in raw.splits or "train" not in raw.splits:
        return raw.noting(*leaks(raw.splits))
    carved = carve(raw.splits["train"], raw.classes, config.validation_share, config.split_seed)
    splits = in_order({**raw.splits, "train": carved.train, "validation": carved.validation})
    return replace(raw, splits=splits).noting(*carved.notes(config.split_seed), *leaks(splits))


def fingerprint(classes: Sequence[str], splits: Mapping[str, Split]) -> str:
    """Return the SHA-256 over classes and over split, label (or shares) and content of every picture, in any order.

    The same faces have the same fingerprint in a csv and in folders of PNG files. Content is decoded pixels,
    so a JPEG decoder that rounds differently gives another one.
    """
    digest = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape"))
    for name, split in sorted(splits.items()):
        keys = fingerprints_of(split.pictures).keys
        rows = sorted(zip(split.labels.tolist(), keys, strict=True))
        digest.update(f"\0{name}\0{len(rows)}\0".encode())
        digest.update(b"".join(label.to_bytes(4, "little") + key for label, key in rows))
        if split.shares is not None:
            shares = sorted(key + row.tobytes() for key, row in zip(keys, split.shares, strict=True))
            digest.update(b"".join(shares))
    return digest.hexdigest()
