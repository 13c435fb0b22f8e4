"""The table of a face set, `faces.csv`: reading what people edited, writing it whole.

A face set is a folder:

    faces.csv        one row per face: its columns (`row.py`), and whatever columns people add
    crops/….png      the faces with their colour and some surroundings; `file` names one, relative to the folder
    sources.csv      one row per photograph, film or table that was looked at, and what came of it (`extract.py`)
    labels.sqlite    the answers given in `mien label` (`mien.label.store`)

A table without the other files but its crops is complete by itself.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mien.errors import DataError, ImageError, MienError, optional_package
from mien.faceset.row import (
    NAMES,
    NEEDED,
    SHOWN,
    FaceRow,
    as_dict,
    decimal_comma,
    overlaid,
    read_row,
    safe_cell,
)
from mien.files import (
    cannot_write,
    clipped,
    csv_writer,
    expanded,
    given_path,
    remove_left_behind,
    shell_word,
    spreadsheet_safe,
    whole_file,
    without_spreadsheet_guard,
)
from mien.label.database import FILE as STORE_FILE
from mien.label.store import Store
from mien.locks import locked
from mien.terminal import counted

TABLE_FILE, CROPS = "faces.csv", "crops"
_LONGEST_CELL = 1_000_000  # characters
_IN_NOTEBOOK = 40  # crops that a notebook shows
_ESCAPED_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")  # as "backslashreplace" writes a byte that is no UTF-8
_LOCK_S = 30.0  # how long to wait for another process that is writing the table

_Unread = tuple[dict[str, str], list[str]]  # a wrong row: its cells by column, and those beyond the last


class FaceSet:
    """The faces of a folder, in the order of the table, and what is wrong with its rows.

    folder: where it lies. faces: the rows, frozen; to change one: `put(dataclasses.replace(row, …))`. problems: a line
    for each row that could not be read, with its number; such rows stay in the file as they are. Not safe to use from
    several threads; several processes may work on one folder, because `write` first takes in what others wrote.
    """

    def __init__(self, folder: Path, faces: Iterable[FaceRow] = (), *, problems: Sequence[str] = ()) -> None:
        self.folder = folder
        self.problems = tuple(problems)
        self._faces = {face.id: face for face in faces}
        self._read: dict[str, FaceRow] = {}  # as they stood in the file
        self._stamp: tuple[int, int, int] | None = None
        self._unread: list[_Unread] = []
        self._typed: dict[str, str] = {}  # labels that were typed in
        self._extra: list[str] = []  # columns that people added

    @classmethod
    def open(cls, folder: str | Path, *, create: bool = False) -> FaceSet:
        """Read a face set, with the answers of `labels.sqlite` over it, whatever was written to the table since.

        A label that somebody typed into the table since mien wrote it holds, and becomes an answer at the next `write`.
        folder: with `faces.csv` in it; or that file. create: an empty set where there is no table yet. Raises
        DataError, in one line, where there is none, or it is no such table at all.
        """
        folder = expanded(given_path(folder))
        if folder.name == TABLE_FILE and not folder.is_dir():
            folder = folder.parent
        opened = cls(folder)
        if (folder / TABLE_FILE).is_file():
            opened._load()
        elif not create:
            source = shell_word(folder) if folder.is_dir() else "PATH…"
            raise DataError(
                f"{clipped(str(folder), 300)} is no face set (it has no {TABLE_FILE}); make one of photographs and "
                f"films with: mien faces {source} --to DIR"
            )
        return opened

    @property
    def stamp(self) -> tuple[int, int, int] | None:
        """What `stamp_of` said of the file when it was read or written here last; None: never."""
        return self._stamp

    @property
    def faces(self) -> list[FaceRow]:
        return list(self._faces.values())

    def __len__(self) -> int:
        return len(self._faces)

    def __iter__(self) -> Iterator[FaceRow]:
        return iter(self.faces)

    def __contains__(self, face: str) -> bool:
        return face in self._faces

    def __getitem__(self, face: str) -> FaceRow:
        """Return a face by its id; KeyError where there is none."""
        return self._faces[face]

    def __repr__(self) -> str:
        return (
            f"FaceSet({str(self.folder)!r}, {counted(len(self), 'face')}, {len(self.labelled()):,} labelled)"
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that were given, in order of the alphabet."""
        given = {face.label for face in self._faces.values() if face.is_labelled and face.label}
        voted = {name for face in self._faces.values() if face.is_labelled for name in face.votes}
        return tuple(sorted(given | voted))

    def labelled(self) -> list[FaceRow]:
        """Return the faces that training can use: `FaceRow.is_labelled`."""
        return [face for face in self._faces.values() if face.is_labelled]

    def shown(self) -> list[FaceRow]:
        """Return the faces that are not set aside."""
        return [face for face in self._faces.values() if face.status == SHOWN]

    def crop_path(self, face: FaceRow) -> Path:
        """Return where the crop lies. DataError for a name that leads out of the folder."""
        path = self.folder / face.file
        if ".." in Path(face.file).parts or Path(face.file).is_absolute():
            raise DataError(
                f"{TABLE_FILE}: {clipped(face.file)!r} leads out of the folder; crops lie below it"
            )
        return path

    def source_path(self, face: FaceRow) -> Path | None:
        """Return where the photograph or film was, whether it is there still or not; None where the table has none."""
        if not face.source:
            return None
        return source_file(self.folder, face.source)

    def add(self, rows: Iterable[FaceRow]) -> int:
        """Add faces, and return how many were new. One whose id is there already stays as it is, labels and all."""
        count = len(self._faces)
        for row in rows:
            self._faces.setdefault(row.id, row)
        return len(self._faces) - count

    def put(self, row: FaceRow) -> None:
        """Put a row in the place of the one with its id; a new one behind all others."""
        self._faces[row.id] = row

    def write(self) -> Path:
        """Write the table, whole or not at all, and return its path.

        What others wrote since it was read is taken in first: their new rows, and every row that was not changed here.
        Rows that could not be read are written back as they were. Raises OutputError where it cannot be written.
        """
        path = self.folder / TABLE_FILE
        with _writing(self.folder):
            remove_left_behind(path)
            if path.is_file() and stamp_of(path) != self._stamp:
                self._take_in()
            with self._recorded(), whole_file(path) as temporary:
                with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                    self._write_to(file)
                # Before it has its name: what somebody writes there right behind would be taken for this.
                self._stamp = stamp_of(temporary)
            self._read = dict(self._faces)
        return path

    def _repr_html_(self) -> str:
        """What a notebook shows: how many faces there are of each kind, and the first that are shown."""
        import base64
        import html

        import cv2

        from mien.images import read_image

        pictures = []
        for face in self.shown()[:_IN_NOTEBOOK]:
            with suppress(ImageError):  # a crop that is gone leaves its place to the next
                small = cv2.resize(read_image(self.crop_path(face)), (72, 72), interpolation=cv2.INTER_AREA)
                shown = small if small.ndim == 2 else small[:, :, ::-1]
                data = base64.b64encode(cv2.imencode(".jpg", shown)[1].tobytes()).decode("ascii")
                title = html.escape(f"{face.label or 'no label'}: {face.source}", quote=True)
                pictures.append(f'<img src="data:image/jpeg;base64,{data}" alt="{title}" title="{title}">')
        kinds = Counter(face.label or face.status or "to be labelled" for face in self)
        said = html.escape(", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(12)))
        return (
            f"<figure>{''.join(pictures)}<figcaption>{html.escape(repr(self))}: {said}</figcaption></figure>"
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict per face, column to value, those that people added as well. Empty cells are None."""
        return [as_dict(face) for face in self._faces.values()]

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`, a row per face, with the columns of the table."""
        return optional_package("pandas").DataFrame(
            self.to_dicts(), columns=None if self._faces else list(NAMES)
        )

    def _load(self) -> None:
        path = self.folder / TABLE_FILE
        self._stamp = stamp_of(path)
        table = _read_table(path)
        self.problems, self._unread, self._extra = tuple(table.problems), table.unread, table.extra
        self._faces = {face.id: face for face in table.faces}
        self._read, self._typed = dict(self._faces), {}
        if store := Store.read(self.folder):
            with store:
                self._typed = store.edits({face.id: face.label for face in table.faces})
                self._overlay(store)
        self._read = dict(self._faces)

    def _overlay(self, store: Store) -> None:
        """Lay what people answered over the rows, but for labels that were typed, or put in by a program."""
        for name, agreed in store.agreed.items():
            face, before = self._faces.get(name), self._read.get(name)
            if face and name not in self._typed and face.label == (before.label if before else ""):
                self._faces[name] = overlaid(face, agreed)

    def _take_in(self) -> None:
        """Merge with the file, which somebody else has written since."""
        before, mine = self._read, self._faces
        self._load()
        for name, face in mine.items():
            deleted = name in before and name not in self._faces
            if not deleted and (name not in before or face != before[name]):
                self._faces[name] = face

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Turn typed labels into answers, and remember what the block writes, so that it is not taken for typed."""
        if not (self.folder / STORE_FILE).is_file():
            yield
            return
        with Store.open(self.folder) as store:
            store.take_edits(
                {name: label for name, label in self._typed.items() if self._label(name) == label}
            )
            self._typed = {}
            self._overlay(store)
            # Labels that a program has put in without asking the store count as typed when the table is read again.
            agreed = {name: one.label for name, one in store.agreed.items() if self._label(name) == one.label}
            with store.writing_table(agreed):
                yield

    def _label(self, face: str) -> str | None:
        return self._faces[face].label if face in self._faces else None

    def _write_to(self, file: TextIO) -> None:
        writer = csv_writer(file)
        added = {name: None for face in self._faces.values() for name in face.extra}
        others = list(dict.fromkeys([*self._extra, *added]))
        header = [*NAMES, *others]
        writer.writerow(header)
        for face in self._faces.values():
            writer.writerow([*face.cells(), *(safe_cell(face.extra.get(name, "")) for name in others)])
        for cells, beyond in self._unread:
            writer.writerow(map(spreadsheet_safe, [*(cells.get(name, "") for name in header), *beyond]))


@dataclass
class _Table:
    faces: list[FaceRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unread: list[_Unread] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def _read_table(path: Path) -> _Table:
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel puts a mark in front
            first = file.readline()
            file.seek(0)
            return _parsed(path, file, first)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except csv.Error as error:
        raise DataError(f"{path} is damaged: {error}; restore it") from error
    finally:
        csv.field_size_limit(limit)


def _parsed(path: Path, file: TextIO, first: str) -> _Table:
    delimiter = "," if "," in first else ";" if ";" in first else "\t" if "\t" in first else ","
    rows = csv.reader(file, delimiter=delimiter)
    header = [name.strip() for name in next(rows, [])]
    names = _column_names(header)
    if missing := [name for name in NEEDED if name not in names]:
        raise DataError(
            f"{path} is no table of a face set: its first line has no column {missing[0]!r} (it has "
            f"{clipped(', '.join(header)) or 'nothing'}); mien faces {shell_word(path)} --to DIR "
            "makes a face set of other tables"
        )
    table = _Table(extra=[name for name in names if name not in NAMES])
    number_of: Callable[[str], float] = decimal_comma if delimiter == ";" else float
    ids: dict[str, int] = {}
    for number, cells in enumerate(rows, start=2):
        if not any(cells):
            continue
        plain = [without_spreadsheet_guard(cell) if cell[:1] == "'" else cell for cell in cells]
        named = dict(zip(names, plain, strict=False))
        try:
            if any(cells[len(names) :]):
                raise DataError(
                    f"it has {counted(len(cells), 'cell')}, the first line {len(names)}; cells with a comma "
                    "stand in quotes"
                )
            row = read_row(named, number_of, table.extra)
            if row.id in ids:
                raise DataError(f"id {clipped(row.id)} is that of row {ids[row.id]} already")
        except MienError as error:
            table.problems.append(f"{path.name} row {number}: {error}; mend or delete it")
            table.unread.append((named, cells[len(names) :]))
            continue
        ids[row.id] = number
        table.faces.append(row)
    empty = {name for name, given in zip(names, header, strict=True) if not given}
    empty.difference_update(*(face.extra for face in table.faces), *(cells for cells, _ in table.unread))
    table.extra = [name for name in table.extra if name not in empty]
    return table


def _column_names(header: Sequence[str]) -> list[str]:
    """Return a name for each column, none twice: ours in small letters, "column 7" for none, "note 2" for another."""
    names: list[str] = []
    for place, given in enumerate(header, start=1):
        plain = given.lower() if given.lower() in NAMES else given or f"column {place}"
        name, count = plain, 1
        while name in names:
            count += 1
            name = f"{plain} {count}"
        names.append(name)
    return names


def label_next(folder: Path) -> str:
    """Return the command that labels a face set, to be typed as it is: classes of somebody's own are not known here."""
    return f"mien label {shell_word(folder)}   (its page asks for your classes)"


def source_file(folder: Path, source: str) -> Path:
    """Return where a source is that a face set's tables name: `sources.source_name`, undone."""
    path = folder / source
    if "\\x" in source and not path.exists():  # bytes of a name that are no text
        name = _ESCAPED_BYTE.sub(lambda byte: bytes.fromhex(byte[1].decode()), source.encode())
        path = folder / os.fsdecode(name)
    return path


def stamp_of(path: Path) -> tuple[int, int, int]:
    """Return what changes with every writing of a file, without reading it. OSError where there is none."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Let one process at a time write the table; others wait for it. ConfigError after half a minute."""
    place = folder / CROPS
    try:
        # Here, so that no lock that ends takes it away from the next.
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with locked(place, "being written", wait_s=_LOCK_S):
        yield
