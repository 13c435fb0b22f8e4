"""The table of a face set, `faces.csv`: its columns, reading what people edited, writing it whole.

A face set is a folder:

    faces.csv        one row per face: COLUMNS, and whatever columns people add
    crops/….png      the faces with their colour and some surroundings; `file` names one, relative to the folder
    sources.csv      one row per photograph, film or table that was looked at, and what came of it (`extract.py`)
    labels.sqlite    the answers given in `mien label` (`mien.label.store`)

A table without the other files but its crops is complete by itself.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from mien.detect.base import Box, Detection, Landmarks, Point, scaled
from mien.errors import DataError, ImageError, MienError, optional_package
from mien.files import (
    FORMULA,
    cannot_write,
    clipped,
    locked,
    spreadsheet_safe,
    whole_file,
    without_spreadsheet_guard,
)
from mien.label.agreement import CANNOT_TELL, NO_FACE, Agreed
from mien.label.store import FILE as STORE_FILE
from mien.label.store import MAX_NAME, Store, class_name

TABLE_FILE, CROPS = "faces.csv", "crops"
SHOWN, DUPLICATE, BLURRED, TINY, DOUBTFUL = "", "duplicate", "blurred", "tiny", "doubtful"
SET_ASIDE = (DUPLICATE, BLURRED, TINY, DOUBTFUL)  # by mien itself
STATUSES = (SHOWN, *SET_ASIDE, NO_FACE, CANNOT_TELL)
CONTENT_BYTES = 6  # of the hash of a source: among 100,000, two are the same by chance once in 50,000 sets
_LONGEST_CELL = 1_000_000  # characters
_IN_NOTEBOOK = 40  # crops that a notebook shows
_LOCK_S = 30.0  # how long to wait for another process that is writing the table
_POINTS = Landmarks._fields
_EMPTY: Mapping[str, Any] = MappingProxyType({})

_Unread = tuple[dict[str, str], list[str]]  # a wrong row: its cells by column, and those beyond the last


@dataclass(frozen=True)
class Column:
    """name: as in the header. kind: of its values, with the unit. meaning: in words, for the documentation."""

    name: str
    kind: str
    meaning: str


# The one place where the columns are said. docs/face-sets.md shows this table, and a test compares the two.
COLUMNS = (
    Column("id", "text", "stays the same when the face is found again: made of the source's content and the box"),
    Column("file", "path", "the crop, relative to the folder of the table"),
    Column("source", "path", "photograph or film, relative to the folder of the table, or absolute"),
    Column("time_s", "seconds", "of a film: when the frame is shown, from the first one on; else empty"),
    Column("track", "number from 1", "of a film: which of the faces that were followed; else empty"),
    Column("x", "pixels of the source", "left side of the face's box, in the upright picture"),
    Column("y", "pixels of the source", "upper side of the box, y down"),
    Column("width", "pixels of the source", "of the box, above 0"),
    Column("height", "pixels of the source", "of the box, above 0; it reaches from hairline to chin"),
    *(
        Column(f"{point}_{axis}", "pixels of the source", f"{axis} of the {point.replace('_', ' ')}; may be empty")
        for point in _POINTS
        for axis in "xy"
    ),
    Column("margin", "number above 0", "side of the crop over the box's longer side; empty: the picture is a face"),
    Column("score", "0 to 1", "how sure the detector is; empty where it cannot say"),
    Column("sharpness", "number from 0", "1000 x variance of the Laplacian over variance of the levels, at 64 pixels"),
    Column("reasons", "words", "what speaks against the face: small, turned, low-contrast, unsure, no-face?"),
    Column("group", "text", "faces that belong on one side of a split: of one source, or what --group found"),
    Column("status", "word", "empty: shown; duplicate, blurred, tiny, doubtful: set aside; no face, cannot tell"),
    Column("duplicate_of", "id", "of a duplicate: the face that it repeats"),
    Column("label", "text", f"the class, where persons agree or most say so; at most {MAX_NAME} letters"),
    Column("votes", "JSON", 'persons for each class where they do not agree: {"bored": 1, "calm": 2}'),
    Column("who", "text", "whose answers count, separated by commas; `table`: typed in here"),
    Column("when", "time", "of the last answer: UTC, ISO 8601"),
)  # fmt: skip
_NAMES = tuple(column.name for column in COLUMNS)
_NEEDED = ("id", "file")
_BOX_NAMES = ("x", "y", "width", "height")
_POINT_NAMES = tuple(f"{point}_{axis}" for point in _POINTS for axis in "xy")
_NO_BOX, _NO_POINTS = ("",) * len(_BOX_NAMES), ("",) * len(_POINT_NAMES)
_FORMULA = frozenset(FORMULA)


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceRow:
    """One face: a row of the table. The fields are COLUMNS, with the box and the landmarks put together.

    file, source: as in the table; `FaceSet.crop_path` and `source_path` say where they are. box, landmarks: in pixels
    of the upright source. votes: class to persons, empty unless they disagree. extra: cells of columns that people
    added. Raises DataError on values that cannot be right.
    """

    id: str
    file: str
    source: str = ""
    time_s: float | None = None
    track: int | None = None
    box: Box | None = None
    landmarks: Landmarks | None = None
    margin: float | None = None
    score: float | None = None
    sharpness: float | None = None
    reasons: str = ""
    group: str = ""
    status: str = SHOWN
    duplicate_of: str = ""
    label: str = ""
    votes: Mapping[str, int] = field(default_factory=lambda: _EMPTY, hash=False)
    who: str = ""
    when: str = ""
    extra: Mapping[str, str] = field(default_factory=lambda: _EMPTY, hash=False)

    def __post_init__(self) -> None:
        if not self.id or not self.file:
            raise DataError(f"a face needs an id and a file, got {self.id!r} and {self.file!r}")
        if self.status not in STATUSES:
            raise DataError(
                f"status is {clipped(self.status)!r}; it may be empty or {', '.join(STATUSES[1:])}"
            )
        for name, least in (
            ("time_s", 0.0),
            ("score", 0.0),
            ("sharpness", 0.0),
            ("track", 1),
            ("margin", 1e-6),
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= least):
                raise DataError(f"{name} is {value}; it must be {'above 0' if least else '0 or more'}")
        if self.score is not None and self.score > 1:
            raise DataError(f"score is {self.score}; it must be from 0 to 1")
        if self.box is not None and not (all(map(math.isfinite, self.box)) and min(self.box[2:]) > 0):
            raise DataError(f"the box is {tuple(self.box)}; width and height must be above 0")

    @property
    def is_labelled(self) -> bool:
        """Whether training can use it: a class is given, or votes, and nobody said that it is none."""
        return bool(self.label or self.votes) and self.status not in (NO_FACE, CANNOT_TELL)

    def is_from(self, data: bytes) -> bool:
        """Say whether this is the content of the photograph that the face was found in, and not another one since.

        True as well where the id was made by somebody else, and says nothing of the content.
        """
        content, dash, _ = self.id.partition("-")
        own = dash and len(content) == 2 * CONTENT_BYTES and set(content) <= set("0123456789abcdef")
        return not own or content == content_key(data)

    def in_crop(self, side_px: int) -> Detection:
        """Return the face in pixels of its crop, whose side is `side_px`, as `mien.detect.base` takes it.

        Where the picture is the face (no margin), or the table has no box, the detection is `whole`.
        """
        if self.box is None or self.margin is None:
            return Detection(Box(0.0, 0.0, float(side_px), float(side_px)), self.score, None, whole=True)
        x, y, width, height = self.box
        side = max(1, round(self.margin * max(width, height)))  # as mien.detect.base.square has it
        left, top = round(x + (width - side) / 2), round(y + (height - side) / 2)
        scale = side_px / side
        found = Detection(self.box, self.score, self.landmarks)
        return scaled(found, scale, -left * scale, -top * scale)

    def cells(self) -> list[str]:
        """Return the row as the table has it, in the order of COLUMNS; no spreadsheet runs it."""
        box = [_number(value, 1) for value in self.box] if self.box else _NO_BOX
        points = (
            [_number(value, 1) for point in self.landmarks for value in point]
            if self.landmarks
            else _NO_POINTS
        )
        votes = json.dumps(dict(self.votes), ensure_ascii=False) if self.votes else ""
        texts = (
            self.reasons, self.group, self.status, self.duplicate_of, self.label, votes, self.who, self.when
        )  # fmt: skip
        return [
            *map(_safe, (self.id, self.file, self.source)),
            _number(self.time_s, 4), "" if self.track is None else str(self.track),
            *box, *points,
            _number(self.margin, 4), _number(self.score, 3), _number(self.sharpness, 1),
            *map(_safe, texts),
        ]  # fmt: skip


def content_key(data: bytes) -> str:
    """Return what the content of a source is known by, and what the ids of its faces begin with: 12 hex digits."""
    return hashlib.blake2b(data, digest_size=CONTENT_BYTES).hexdigest()


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
        folder = Path(folder).expanduser()
        if folder.name == TABLE_FILE and not folder.is_dir():
            folder = folder.parent
        opened = cls(folder)
        if (folder / TABLE_FILE).is_file():
            opened._load()
        elif not create:
            raise DataError(
                f"{clipped(str(folder), 300)} is no face set (it has no {TABLE_FILE}); make one of photographs and "
                f"films with: mien faces PATH… --to DIR"
            )
        return opened

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
        return f"FaceSet({str(self.folder)!r}, {len(self):,} faces, {len(self.labelled()):,} labelled)"

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
        return self.folder / face.source if face.source else None

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
            if path.is_file() and _stamp(path) != self._stamp:
                self._take_in()
            with (
                self._recorded(),
                whole_file(path) as temporary,
                temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
            ):
                self._write_to(file)
            self._stamp, self._read = _stamp(path), dict(self._faces)
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
        return [_plain(face) for face in self._faces.values()]

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`, a row per face, with the columns of the table."""
        return optional_package("pandas").DataFrame(
            self.to_dicts(), columns=None if self._faces else list(_NAMES)
        )

    def _load(self) -> None:
        path = self.folder / TABLE_FILE
        self._stamp = _stamp(path)
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
                self._faces[name] = _overlaid(face, agreed)

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
        writer = csv.writer(file, lineterminator="\n")
        added = {name: None for face in self._faces.values() for name in face.extra}
        others = list(dict.fromkeys([*self._extra, *added]))
        header = [*_NAMES, *others]
        writer.writerow(header)
        for face in self._faces.values():
            writer.writerow([*face.cells(), *(_safe(face.extra.get(name, "")) for name in others)])
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
    names = [name.lower() if name.lower() in _NAMES else name for name in header]
    if missing := [name for name in _NEEDED if name not in names]:
        raise DataError(
            f"{path} is no table of a face set: its first line has no column {missing[0]!r} (it has "
            f"{clipped(', '.join(header)) or 'nothing'}); mien faces {path} --to DIR makes a face set of other tables"
        )
    table = _Table(extra=[name for name in names if name and name not in _NAMES])
    number_of: Callable[[str], float] = _decimal_comma if delimiter == ";" else float
    ids: dict[str, int] = {}
    for number, cells in enumerate(rows, start=2):
        if not any(cells):
            continue
        plain = [without_spreadsheet_guard(cell) if cell[:1] == "'" else cell for cell in cells]
        named = dict(zip(names, plain, strict=False))
        try:
            if any(cells[len(names) :]):
                raise DataError(
                    f"it has {len(cells)} cells, the first line {len(names)}; cells with a comma stand in quotes"
                )
            row = _row(named, number_of, table.extra)
            if row.id in ids:
                raise DataError(f"id {clipped(row.id)} is that of row {ids[row.id]} already")
        except MienError as error:
            table.problems.append(f"{path.name} row {number}: {error}; mend or delete it")
            table.unread.append((named, cells[len(names) :]))
            continue
        ids[row.id] = number
        table.faces.append(row)
    return table


def _row(cells: Mapping[str, str], number_of: Callable[[str], float], extra: Sequence[str]) -> FaceRow:
    def text(name: str) -> str:
        return cells.get(name, "").strip()

    def number(name: str) -> float | None:
        cell = text(name)
        if not cell:
            return None
        try:
            return number_of(cell)
        except ValueError:
            raise DataError(f"{name} is {clipped(cell)!r}; it must be a number") from None

    def whole(name: str) -> int | None:
        value = number(name)
        if value is not None and not value.is_integer():
            raise DataError(f"{name} is {clipped(text(name))!r}; it must be a whole number")
        return None if value is None else int(value)

    box = [number(name) for name in _BOX_NAMES]
    points = [number(name) for name in _POINT_NAMES]
    if None in box and box.count(None) < len(box):
        raise DataError("the box is not complete: x, y, width and height belong together")
    for name in _NEEDED:
        if not text(name):
            raise DataError(f"it has no {name}")
    if "\0" in "".join(cells.values()):
        raise DataError("it has zero bytes, as a crash leaves them")
    file = text("file").replace("\\", "/")
    if ".." in file.split("/") or file[:1] == "/" or file[1:2] == ":":
        raise DataError(f"file is {clipped(file)!r}; crops lie below the folder of the table")
    label, source, group = text("label"), cells.get("source", ""), text("group")
    return FaceRow(
        id=text("id"),
        file=file,
        source=source,
        time_s=number("time_s"),
        track=whole("track"),
        box=None if None in box else Box(*box),  # type: ignore[arg-type]
        landmarks=None if None in points else Landmarks(*map(Point, points[::2], points[1::2])),  # type: ignore[arg-type]
        margin=number("margin"),
        score=number("score"),
        sharpness=number("sharpness"),
        reasons=text("reasons"),
        group=source if group == source else group,  # one text in memory for both
        status=text("status").lower(),
        duplicate_of=text("duplicate_of"),
        label=class_name(label) if label else "",
        votes=_votes(text("votes")),
        who=text("who"),
        when=text("when"),
        extra={name: cells[name] for name in extra if cells.get(name)} or _EMPTY,
    )


def _votes(cell: str) -> Mapping[str, int]:
    if not cell:
        return _EMPTY
    try:
        votes = json.loads(cell)
        good = isinstance(votes, dict) and all(
            isinstance(count, int) and not isinstance(count, bool) and count > 0 for count in votes.values()
        )
    except (ValueError, RecursionError):
        good = False
    if not good:
        raise DataError(f'votes are {clipped(cell)!r}; they are written as {{"bored": 1, "calm": 2}}')
    return {class_name(name): count for name, count in votes.items()}


def _decimal_comma(cell: str) -> float:
    return float(cell.replace(",", "."))


def _overlaid(face: FaceRow, agreed: Agreed) -> FaceRow:
    """Return a row with what people said about the face."""
    status = agreed.status_over(face.status)
    if status == DUPLICATE:
        twin = agreed.duplicate_of or face.duplicate_of
    else:
        twin = "" if agreed.duplicate_of == "" else face.duplicate_of
    return replace(
        face,
        label=agreed.label,
        status=status,
        duplicate_of=twin,
        votes=dict(agreed.votes) if len(agreed.votes) > 1 else _EMPTY,
        who=agreed.who,
        when=agreed.when,
    )


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return ""
    text = f"{value:.{digits}f}".rstrip("0")
    return text[:-1] if text[-1] == "." else text


def _safe(text: str) -> str:
    return spreadsheet_safe(text) if text[:1] in _FORMULA else text


def _plain(face: FaceRow) -> dict[str, Any]:
    box: Sequence[Any] = face.box or (None,) * 4
    points: Sequence[Any] = [value for point in face.landmarks or () for value in point] or (None,) * 2 * len(
        _POINTS
    )
    values: list[Any] = [
        face.id, face.file, face.source or None, face.time_s, face.track, *box, *points, face.margin, face.score,
        face.sharpness, face.reasons, face.group, face.status, face.duplicate_of or None, face.label or None,
        dict(face.votes) or None, face.who or None, face.when or None,
    ]  # fmt: skip
    return {**dict(zip(_NAMES, values, strict=True)), **face.extra}


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Let one process at a time write the table; others wait for it. ConfigError after half a minute."""
    place = folder / CROPS
    try:
        place.mkdir(
            parents=True, exist_ok=True
        )  # here, so that no lock that ends takes it away from the next
    except OSError as error:
        raise cannot_write(folder, error) from error
    with locked(place, "being written", wait_s=_LOCK_S):
        yield
