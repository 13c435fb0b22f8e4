"""One face of a face set, a row of its table: the columns, from a row's cells to a face and back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from mien.detect.base import Box, Detection, Landmarks, Point, scaled, square
from mien.errors import DataError
from mien.files import FORMULA, clipped, spreadsheet_safe
from mien.label.agreement import CANNOT_TELL, NO_FACE, Agreed
from mien.label.history import MAX_NAME, class_name

SHOWN, DUPLICATE, BLURRED, TINY, DOUBTFUL = "", "duplicate", "blurred", "tiny", "doubtful"
SET_ASIDE = (DUPLICATE, BLURRED, TINY, DOUBTFUL)  # by mien itself
STATUSES = (SHOWN, *SET_ASIDE, NO_FACE, CANNOT_TELL)
CONTENT_BYTES = 6  # of the hash of a source: among 100,000, two are the same by chance once in 50,000 sets
_POINTS = Landmarks._fields
_EMPTY: Mapping[str, Any] = MappingProxyType({})


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
    Column("group", "text", "faces that belong on one side of a split: of one source or moment, or what --group found"),
    Column("status", "word", "empty: shown; duplicate, blurred, tiny, doubtful: set aside; no face, cannot tell"),
    Column("duplicate_of", "id", "of a duplicate: the face that it repeats"),
    Column("label", "text", f"the class, where persons agree or most say so; at most {MAX_NAME} letters"),
    Column("votes", "JSON", 'persons for each class where they do not agree: {"bored": 1, "calm": 2}'),
    Column("who", "text", "whose answers count, separated by commas; `table`: typed in here"),
    Column("when", "time", "of the last answer: UTC, ISO 8601"),
)  # fmt: skip
NAMES = tuple(column.name for column in COLUMNS)
NEEDED = ("id", "file")
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
        if self.landmarks is not None and not all(
            math.isfinite(value) for point in self.landmarks for value in point
        ):
            raise DataError("a landmark is no place; its x and y must be numbers")

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
        left, top, side = square(self.box, self.margin)
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
            *map(safe_cell, (self.id, self.file, self.source)),
            _number(self.time_s, 4), "" if self.track is None else str(self.track),
            *box, *points,
            _number(self.margin, 4), _number(self.score, 3), _number(self.sharpness, 1),
            *map(safe_cell, texts),
        ]  # fmt: skip


def content_key(data: bytes) -> str:
    """Return what the content of a source is known by, and what the ids of its faces begin with: 12 hex digits."""
    return hashlib.blake2b(data, digest_size=CONTENT_BYTES).hexdigest()


def read_row(cells: Mapping[str, str], number_of: Callable[[str], float], extra: Sequence[str]) -> FaceRow:
    """Return the face of a row; DataError, in words, for one that cannot be right.

    cells: by column. number_of: reads a number, `float` or `decimal_comma`. extra: the columns that people added.
    """

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
    for name in NEEDED:
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


def decimal_comma(cell: str) -> float:
    """Read a number as tables with semicolons write it."""
    return float(cell.replace(",", "."))


def overlaid(face: FaceRow, agreed: Agreed) -> FaceRow:
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


def safe_cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return spreadsheet_safe(text) if text[:1] in _FORMULA else text


def as_dict(face: FaceRow) -> dict[str, Any]:
    """Return column to value, those of added columns too; empty cells are None."""
    box: Sequence[Any] = face.box or (None,) * 4
    points: Sequence[Any] = [value for point in face.landmarks or () for value in point] or (None,) * 2 * len(
        _POINTS
    )
    values: list[Any] = [
        face.id, face.file, face.source or None, face.time_s, face.track, *box, *points, face.margin, face.score,
        face.sharpness, face.reasons, face.group, face.status, face.duplicate_of or None, face.label or None,
        dict(face.votes) or None, face.who or None, face.when or None,
    ]  # fmt: skip
    return {**dict(zip(NAMES, values, strict=True)), **face.extra}
