"""A folder as a tree: the pictures, tables and other files that lie in it and below it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mien.data.dataset import DECISIONS_FILE
from mien.data.readers.table_rows import is_table
from mien.data.readers.unpack import is_archive
from mien.files import plain_text
from mien.images.listing import (
    CLOSED_FOLDER,
    FACE_SET,
    OWN_RESULT,
    folder_entries,
    ignored_folder,
    is_folder,
    no_picture,
    own_files,
)


@dataclass
class Folder:
    """One folder of a tree: the pictures and other files in it, the folders below it that hold something.

    is_closed: it cannot be opened, so nothing is known of what it holds.
    """

    path: Path
    pictures: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    is_closed: bool = False

    @property
    def name(self) -> str:
        return plain_text(self.path.name)

    def pictures_below(self) -> list[Path]:
        """All pictures in this folder and below it."""
        return [*self.pictures, *(path for child in self.folders for path in child.pictures_below())]

    def others_below(self) -> list[Path]:
        return [*self.others, *(path for child in self.folders for path in child.others_below())]

    @property
    def filled(self) -> list[Folder]:
        """The folders right below that hold pictures, at any depth."""
        return [child for child in self.folders if child.has_pictures]

    @property
    def has_pictures(self) -> bool:
        return bool(self.pictures) or any(child.has_pictures for child in self.folders)

    @property
    def tables(self) -> list[Path]:
        """The tables and archives right in this folder."""
        return [path for path in self.others if is_table(path) or is_archive(path)]


@dataclass
class Tree:
    """A folder with all below it. passed_over: files that are no pictures, and folders not entered, by kind.

    face_sets: those among the folders that are not entered.
    """

    root: Folder
    passed_over: Counter[str]
    face_sets: list[Path]


def walk(path: Path) -> Tree:
    """List what lies in a folder and below it; links in a circle end.

    System and hidden folders are not entered. What mien itself wrote, where somebody works among the data, is no data.
    """
    passed_over: Counter[str] = Counter()
    face_sets: list[Path] = []

    def visit(here: Path, above: tuple[tuple[int, int], ...]) -> Folder:
        folder, status = Folder(here), here.stat()
        if (identity := (status.st_dev, status.st_ino)) in above:
            return folder
        entries = folder_entries(here)
        if entries is None:
            folder.is_closed = True
            passed_over[CLOSED_FOLDER] += 1
        own = own_files(entries or [])
        for entry in entries or []:
            place = Path(entry.path)
            if is_folder(entry):
                if kind := ignored_folder(place):
                    passed_over[kind] += 1
                    if kind == FACE_SET:
                        face_sets.append(place)
                else:
                    folder.folders.append(visit(place, (*above, identity)))
            elif entry.name == DECISIONS_FILE:
                pass  # mien's own
            elif entry.name in own:
                passed_over[OWN_RESULT] += 1
            elif kind := no_picture(place):
                if kind != "hidden file":
                    folder.others.append(place)
                    passed_over[kind] += 1
            else:
                folder.pictures.append(place)
        return folder

    return Tree(visit(path, ()), passed_over, face_sets)


def holds_tables(folder: Folder) -> bool:
    return bool(folder.tables) or any(holds_tables(child) for child in folder.folders)


def looks_like(tree: Tree) -> str:
    """Say what lies in a folder, for the message when no data set is found."""
    root = tree.root
    found = Counter(path.suffix.lower() or "no suffix" for path in (*root.pictures, *root.others))
    if root.folders:
        found["folders" if len(root.folders) > 1 else "folder"] = len(root.folders)
    return ", ".join(f"{count} {plain_text(what)}" for what, count in sorted(found.items())) or "nothing"
