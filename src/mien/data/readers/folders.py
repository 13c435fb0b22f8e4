"""One folder per class, alone or below folders for train, validation and test."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mien.data.dataset import Progress, RawDataset
from mien.data.index import LabelledFile, index_files
from mien.data.readers.words import split_of
from mien.files import natural
from mien.images.listing import PICTURE_SUFFIXES

# Named like pictures, so that they are listed with a reason rather than passed over in silence.
_MEANT_AS_PICTURES = PICTURE_SUFFIXES
_DEEPEST = (
    3  # folders between the one given and its train folder (Kaggle sets: images/train, NAME/NAME/train)
)
_KAGGLE_PREFIXES = ("Training_", "PublicTest_", "PrivateTest_")


def read_folders(root: Path, progress: Progress | None = None) -> RawDataset | None:
    """Read a folder of class folders, or of split folders of those; None where it is neither."""
    splits = _split_folders(root)
    files: list[LabelledFile] = []
    notes: list[str] = []
    if splits is None:
        files = list(_class_files(root, root, "train", notes))
    else:
        for split, folders in splits.items():
            for folder in folders:
                if folder.parent != root and not files:
                    notes.append(f"read from {shown(folder.parent.relative_to(root))}/")
                files += _class_files(folder, root, split, notes)
    if not files:
        return None
    files = _kaggle_parts(files)
    reading = index_files(root, _name(root, files), files, progress)
    return reading.noting(*notes)


def _split_folders(root: Path) -> dict[str, list[Path]] | None:
    """Return the folders of each split: those of the only folder on the shallowest level that has any.

    A folder with pictures in it is a class, and not looked into.
    """
    level = [root]
    for _ in range(_DEEPEST + 1):
        found = [splits for folder in level if (splits := _named_splits(folder))]
        if found:
            return found[0] if len(found) == 1 else None
        below = [child for folder in level for child in _subfolders(folder)]
        level = [folder for folder in below if not _has_pictures(folder)]
    return None


def _named_splits(folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for child in _subfolders(folder):
        if split := split_of(child.name):
            splits.setdefault(split, []).append(child)
    return splits


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, in natural order, not hidden; nothing where it cannot be opened."""
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []
    return sorted(seen, key=lambda entry: natural(entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return Path(entry.name).suffix.lower() in _MEANT_AS_PICTURES and not _is_folder(entry)


def _subfolders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if _is_folder(entry)]


def _has_pictures(folder: Path) -> bool:
    return any(_is_picture(entry) for entry in _entries(folder))


def _class_files(folder: Path, root: Path, split: str, notes: list[str]) -> Iterator[LabelledFile]:
    loose = sum(_is_picture(entry) for entry in _entries(folder))
    if loose:
        where = "this folder" if folder == root else f"{shown(folder.relative_to(root))}/"
        notes.append(f"{loose} pictures lie in {where} outside any class folder; they are not used")
    for child in _subfolders(folder):
        pictures = list(_pictures_below(child, (_identity(folder),)))
        if not pictures:
            notes.append(f"{shown(child.relative_to(root))}/ holds no pictures; it is not taken for a class")
        label = shown(Path(child.name))
        for path in pictures:
            yield LabelledFile(path, shown(path.relative_to(root)), label, split)


def _pictures_below(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the pictures in a folder and below it, sorted; a link back to a folder above is not followed."""
    identity = _identity(folder)
    if identity in above:
        return
    entries = _entries(folder)
    yield from (Path(entry.path) for entry in entries if _is_picture(entry))
    for entry in entries:
        if _is_folder(entry):
            yield from _pictures_below(Path(entry.path), (*above, identity))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def shown(path: Path) -> str:
    """Return a path as text to print and compare: forward slashes, one form of each accented letter."""
    text = os.fsencode(path.as_posix()).decode("utf-8", "replace")
    return unicodedata.normalize("NFC", text)


def _kaggle_parts(files: list[LabelledFile]) -> list[LabelledFile]:
    """Give FER-2013's two test parts their places where only the names of the pictures tell them apart."""
    if not _is_kaggle_fer2013(files) or any(file.split == "validation" for file in files):
        return files
    return [
        replace(file, split=split_of(file.path.name.partition("_")[0]) or file.split)
        if file.split == "test"
        else file
        for file in files
    ]


def _is_kaggle_fer2013(files: list[LabelledFile]) -> bool:
    return all(file.path.name.startswith(_KAGGLE_PREFIXES) for file in files)


def _name(root: Path, files: list[LabelledFile]) -> str:
    return "fer2013" if _is_kaggle_fer2013(files) else shown(Path(root.resolve().name))


def looks_like(root: Path) -> Mapping[str, int]:
    """Count what lies in a folder, for the message when no data set is found: suffixes and 'folders'."""
    return Counter(
        "folders" if _is_folder(entry) else Path(entry.name).suffix.lower() or "no suffix"
        for entry in _entries(root)
    )
