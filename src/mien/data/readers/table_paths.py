"""Where the paths of a table lead: from its own folder or the one that was named, or from where its pictures are found.

Tables come from other machines and systems: their paths start elsewhere, have other slashes, capitals or suffixes, or
are names alone. The surest reading is tried first, and what was found out is said.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from mien.data.readers import words
from mien.errors import DataError
from mien.files import clipped, expanded, plain_text
from mien.images.listing import folder_entries, ignored_folder, is_folder, list_pictures
from mien.terminal import counted

_SUFFIXES = (".jpg", ".png", ".jpeg")  # tried where a table's names have none
_LONGEST_PATH = 1000  # characters, about; pictures in base64 or as lists of numbers have more
_TRIED = 50  # paths looked at to find out where they start
_WHOLE = re.compile(r"/|\\\\|[a-z]:[/\\]|[a-z0-9]{2,}://", re.IGNORECASE)  # a path from a root, an address
_HASH = re.compile(r"^[0-9a-f]{8}-")  # put before what is uploaded to Label Studio


def resolve_paths(
    table: Path, cells: Sequence[str], root: str | None, split: str | None
) -> tuple[Callable[[str], Path], list[str]]:
    """Return what turns a cell of a table into the path of its picture, and notes on what was found out.

    root: the folder that the user named, from which paths start; None: the table's own, or what is found below it.
    split: that of all pictures. Raises DataError where none is there, or in several places.
    """
    place, notes = _Search(table, cells, root, split).found()
    alike = _Alike.below(place, cells)
    return alike, [*notes, *([alike.note()] if alike.found else [])]


class _Search:
    """One table's search for the place from which its paths start."""

    def __init__(self, table: Path, cells: Sequence[str], root: str | None, split: str | None) -> None:
        self._path, self._cells, self._own_split = table, cells, split
        self._base = expanded(root) if root else table.parent
        self._root_given = bool(root)

    def found(self) -> tuple[_Base | _ByName, list[str]]:
        first = list(dict.fromkeys(self._cells))[:_TRIED]
        start = _Base(self._base)
        if any(_exists(start(cell)) for cell in first):
            return start, []
        tries = [_Base(self._base, suffix=suffix) for suffix in _SUFFIXES]
        tries += [_Base(self._base, slashes=True)]
        if not self._root_given:
            tries += [
                _Base(folder, slashes=slashes) for folder in _below(self._base) for slashes in (False, True)
            ]
            tries += [_Base(folder, suffix=suffix) for folder in _below(self._base) for suffix in _SUFFIXES]
        found = [place for place in tries if any(_exists(place(cell)) for cell in first)]
        if self._own_split:  # the pictures of train.csv lie in train/, whatever test/ holds
            found = [
                place for place in found if words.split_of(place.folder.name) == self._own_split
            ] or found
        if found and len({place.folder for place in found}) == 1:
            if (folder := found[0].folder) == self._base:
                return found[0], []
            return found[0], [f"pictures found in {_shown_below(folder, self._base)}/"]
        if found and (named := self._by_name()):
            return named, [f"pictures found by their names below {plain_text(self._base.name)}/"]
        if found:
            places = ", ".join(dict.fromkeys(_shown_below(place.folder, self._base) for place in found))
            raise DataError(
                f"the pictures of {self._path.name} lie in several folders ({places}); name one with --root"
            )
        if any(_exists(start(cell)) for cell in self._cells):
            return start, []
        alike = _Alike.below(start, first)
        if 2 * len(alike.found) >= len(first):
            return start, []
        if named := self._by_name():
            return named, [f"pictures found by their names below {plain_text(self._base.name)}/"]
        if shortened := self._shortened(first):
            left, kept = first[0], shortened(first[0])
            return shortened, [
                f"the paths start elsewhere: {clipped(left)!r} is read as {clipped(_shown_below(kept, self._base))}"
            ]
        if named := self._by_name(paths=True) or self._by_name(paths=True, hashed=True):
            first_kept = clipped(_shown_below(named(first[0]), self._base))
            return named, [
                f"the paths start elsewhere: {clipped(first[0])!r} is read as {first_kept!r}, by its name"
            ]
        if re.match(r"[a-z0-9]{2,}://", first[0], re.IGNORECASE):
            raise DataError(
                f"{self._path} names addresses, such as {clipped(first[0])}, and mien fetches nothing; fetch the "
                "pictures and give their paths"
            )
        if max(map(len, first)) > _LONGEST_PATH:
            raise DataError(
                f"{self._path} seems to hold pictures themselves where paths should stand ({clipped(first[0], 40)}); "
                "write each into a file and give its path, or the files' bytes into a column of Parquet"
            )
        raise DataError(
            f"no picture that {self._path} names is there, of {len(self._cells):,}; looked for "
            f"{clipped(str(start(first[0])), 300)}; name the folder from which its paths start: --root DIR"
        )

    def _by_name(self, *, paths: bool = False, hashed: bool = False) -> _ByName | None:
        if self._root_given:
            return None
        return _ByName.below(self._base, self._cells, paths=paths, hashed=hashed)

    def _shortened(self, first: Sequence[str]) -> _Base | None:
        """Find the pictures of paths that start elsewhere, as those of another machine, without their beginnings.

        Only where most are there, no two become one, and more than a bare name fits below the table's own folder.
        """
        longest = max(len(path_parts(cell)) for cell in first)
        for folder in (self._base, *(() if self._root_given else _below(self._base))):
            for drop in range(1, longest if folder == self._base else longest - 1):
                place = _Base(folder, drop=drop)
                there = sum(_exists(place(cell)) for cell in first)
                if 2 * there >= len(first) and len(set(map(place, self._cells))) == len(set(self._cells)):
                    return place
        return None


def _path_in(cell: str) -> str:
    """Return the path in an address: of Label Studio's the one that it asks for, of others without the question.

    >>> _path_in("/data/local-files/?d=faces/1.jpg"), _path_in("https://x.org/1.jpg?w=200"), _path_in("/why?/1.jpg")
    ('faces/1.jpg', 'https://x.org/1.jpg', '/why?/1.jpg')
    """
    asked = cell.rpartition("?d=")[2]
    return asked.partition("?")[0] if "://" in asked else asked


def path_parts(cell: str) -> tuple[str, ...]:
    """Return the folders and the name of a path, whichever slashes it has."""
    return PurePosixPath(cell.replace("\\", "/")).parts


@dataclass(frozen=True)
class _Base:
    """How a table's cell becomes a path: from a folder, with a suffix put on, with Windows' slashes turned.

    drop: parts left out at its beginning.
    """

    folder: Path
    suffix: str = ""
    slashes: bool = False
    drop: int = 0

    def __call__(self, cell: str) -> Path:
        if self.drop:
            return self.folder.joinpath(*path_parts(cell)[self.drop :])
        return self.folder / ((cell.replace("\\", "/") if self.slashes else cell) + self.suffix)


@dataclass(frozen=True)
class _ByName:
    """Pictures by their file names, each of which lies in one place only: where classes or parts have folders."""

    folder: Path
    places: dict[str, Path]

    def __call__(self, cell: str) -> Path:
        return self.places.get(cell, self.folder / cell)

    @classmethod
    def below(cls, folder: Path, cells: Sequence[str], *, paths: bool, hashed: bool) -> _ByName | None:
        """Look for names below a folder; None where less than half are there, or one lies in several places.

        paths: whether names of whole paths or addresses count (Label Studio's /data/upload/1/a.jpg): no two may have
        the same, and all must be there. hashed: without the mark that Label Studio puts before what is uploaded.
        """
        if paths and not all(map(_WHOLE.match, cells)):
            return None
        wanted: dict[str, list[str]] = {}
        for cell in dict.fromkeys(cells):
            name = PureWindowsPath(_path_in(cell) if paths else cell).name
            wanted.setdefault(_HASH.sub("", name) if hashed else name, []).append(cell)
        if any(own != [name] and not (paths and len(own) == 1) for name, own in wanted.items()):
            return None
        places: dict[str, Path] = {}
        for path in list_pictures(folder).pictures:
            if own := wanted.get(path.name):
                if own[0] in places:
                    return None
                places[own[0]] = path
        return cls(folder, places) if len(places) * (1 if paths else 2) >= len(wanted) else None


@dataclass(frozen=True)
class _Alike:
    """Pictures that lie under another spelling than a table has: capitals, forms of accents, a suffix left out.

    Tables come from systems that do not tell IMG/1.JPG from img/1.jpg, that write é as two letters or a blank as %20.
    """

    place: _Base | _ByName
    found: dict[str, Path]

    @property
    def folder(self) -> Path:
        return self.place.folder

    def __call__(self, cell: str) -> Path:
        return self.found.get(cell) or self.place(cell)

    def note(self) -> str:
        cell, path = next(iter(self.found.items()))
        return (
            f"{counted(len(self.found), 'path is', 'paths are')} found under another spelling, such as "
            f"{clipped(plain_text(cell))!r} as {clipped(_shown_below(path, self.folder))!r}"
        )

    @classmethod
    def below(cls, place: _Base | _ByName, cells: Sequence[str]) -> _Alike:
        """Look for the pictures of a table that are not at their place; of two that are alike none is taken."""
        missing = [cell for cell in dict.fromkeys(cells) if not _exists(place(cell))]
        suffix = place.suffix if isinstance(place, _Base) else ""  # of the others; these may have another one
        wanted = {
            cell: key.removesuffix(suffix)
            for cell in missing
            if (key := _spelling(place(cell), place.folder))
        }
        if not wanted:
            return cls(place, {})
        there: dict[str, list[Path]] = {}
        for path in list_pictures(place.folder).pictures:
            key = _spelling(path, place.folder)
            for one in {key, key.rpartition(".")[0]}:
                there.setdefault(one, []).append(path)
        alike = {cell: there.get(key, []) for cell, key in wanted.items()}
        return cls(place, {cell: paths[0] for cell, paths in alike.items() if len(paths) == 1})


def _spelling(path: Path, folder: Path) -> str:
    """Return a path below a folder without what systems do not tell apart; '' for one that leads elsewhere."""
    below = os.path.relpath(path, folder)
    if below.startswith(".."):
        return ""
    return unicodedata.normalize("NFC", unquote(Path(below).as_posix())).casefold()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _below(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Yield the folders below one, two levels deep."""
    for entry in folder_entries(folder) or []:
        if is_folder(entry) and not ignored_folder(Path(entry.path)):
            yield Path(entry.path)
            if depth > 1:
                yield from _below(Path(entry.path), depth - 1)


def _shown_below(folder: Path, base: Path) -> str:
    return plain_text(folder.relative_to(base).as_posix()) if folder != base else "its own folder"
