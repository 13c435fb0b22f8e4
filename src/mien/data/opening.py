"""Opening DATA: what lies at the path decides who reads it; then classes, validation and fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mien.data.classes import choose_classes, merge_classes
from mien.data.dataset import DataConfig, Dataset, Progress, RawDataset, Split, in_order
from mien.data.index import fingerprints_of
from mien.data.readers.csv_text import is_csv, rows_of
from mien.data.readers.fer2013 import FILE_NAMES, is_fer2013, read_fer2013
from mien.data.readers.folders import looks_like, read_folders
from mien.data.readers.tables import is_table, read_table
from mien.data.split import carve
from mien.errors import DataError

FORMS = (
    "a folder with one folder of pictures per class; folders train, validation, test (any of them) of such; "
    "fer2013.csv or icml_face_data.csv (also .gz, .xz); or a .csv/.parquet table with columns path and label"
)


def open_path(
    path: Path, config: DataConfig, *, carve_validation: bool, progress: Progress | None
) -> Dataset:
    """See mien.data.open_dataset."""
    reading = _read(path.expanduser().absolute(), progress)
    reading = choose_classes(merge_classes(reading, config.merge), config.classes)
    _check_classes(reading, path)
    if carve_validation:
        reading = _with_validation(reading, config)
    return Dataset(
        name=reading.name,
        source=path,
        classes=reading.classes,
        splits=reading.splits,
        fingerprint=fingerprint(reading.classes, reading.splits),
        unreadable=reading.unreadable,
        notes=reading.notes,
    )


def _read(path: Path, progress: Progress | None) -> RawDataset:
    if path.is_dir():
        return _read_folder(path, progress)
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path} is a link that leads nowhere or in a circle; give the path of the data itself"
        )
    if not path.exists():
        raise DataError(f"there is no file or folder {path}; DATA can be {FORMS}")
    if is_csv(path) and is_fer2013(next(rows_of(path), [])):
        return read_fer2013(path)
    if is_table(path):
        return read_table(path, progress)
    raise DataError(f"{path} is not in a form that we read; DATA can be {FORMS}")


def _read_folder(folder: Path, progress: Progress | None) -> RawDataset:
    try:
        names = sorted(child.name for child in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be opened: {error.strerror or error}") from error
    for name in FILE_NAMES:
        if name in names:
            return read_fer2013(folder / name)
    reading = read_folders(folder, progress)
    tables = [name for name in names if is_table(Path(name)) and not name.startswith(".")]
    if reading is not None and len(reading.classes) > 1:
        beside = f"not read: {', '.join(tables)} beside the folders; to read a table, give its own path"
        return reading.noting(beside) if tables else reading
    if len(tables) == 1:
        return _read(folder / tables[0], progress)
    if tables:
        raise DataError(f"{folder} holds {len(tables)} tables ({', '.join(tables)}); give the path of one")
    if reading is not None:
        return reading
    lies_there = (
        ", ".join(f"{count} {what}" for what, count in sorted(looks_like(folder).items())) or "nothing"
    )
    raise DataError(f"{folder} holds no labelled pictures (there is: {lies_there}); DATA can be {FORMS}")


def _check_classes(reading: RawDataset, path: Path) -> None:
    counts = reading.counts()
    if empty := [name for name, count in counts.items() if count == 0]:
        first = next((f"; the first: {bad.name}: {bad.reason}" for bad in reading.unreadable), "")
        raise DataError(
            f"{path} has no readable picture of class {', '.join(empty)} (unreadable files: "
            f"{len(reading.unreadable)}{first}); add pictures or leave the class out (--classes)"
        )
    if len(counts) < 2:
        only = ", ".join(counts)
        raise DataError(f"{path} has only one class ({only}); telling expressions apart needs at least two")


def _with_validation(reading: RawDataset, config: DataConfig) -> RawDataset:
    if "validation" in reading.splits or "train" not in reading.splits:
        return reading
    train, validation = carve(
        reading.splits["train"], reading.classes, config.validation_share, config.split_seed
    )
    splits = in_order({**reading.splits, "train": train, "validation": validation})
    return replace(reading, splits=splits).noting(
        f"{len(validation)} of {len(train) + len(validation)} training pictures are set aside for validation "
        f"(stratified, seed {config.split_seed})"
    )


def fingerprint(classes: Sequence[str], splits: Mapping[str, Split]) -> str:
    """Return the SHA-256 over classes and over split, label and content of every picture, in any order.

    The same faces have the same fingerprint in a csv and in folders of PNG files. Content is decoded pixels,
    so a JPEG decoder that rounds differently gives another one.
    """
    digest = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape"))
    for name, split in sorted(splits.items()):
        keys = fingerprints_of(split.pictures).keys
        rows = sorted(zip(split.labels.tolist(), keys, strict=True))
        digest.update(f"\0{name}\0{len(rows)}\0".encode())
        digest.update(b"".join(label.to_bytes(4, "little") + key for label, key in rows))
    return digest.hexdigest()
