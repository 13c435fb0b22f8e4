"""What was said about faces, in order, and what it comes to: the agreed class of each face, the classes, the pace.

Rows are only ever added: undo, renaming and merging are rows as well, and can be undone like any other.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from mien.errors import ConfigError
from mien.files import clipped, plain_text
from mien.label.agreement import CANNOT_TELL, NO_CLASS, NO_FACE, NOTHING, Agreed, Agreement, agreed

LABEL, CLEAR, SETTLE = "label", "clear", "settle"  # and CANNOT_TELL, NO_FACE
ADD, RENAME, MERGE = "class", "rename", "merge"  # about classes; `face` is empty
KEEP, SAME, DISTINCT, UNDO = "keep", "duplicate", "distinct", "undo"
TABLE = "table"  # who gave a label by editing the table
ABOUT_FACES = (LABEL, CANNOT_TELL, NO_FACE, CLEAR, SETTLE, KEEP, SAME, DISTINCT)

MAX_NAME = 100  # letters of a class or a person
_PAUSE_S = 60.0  # between two answers: longer was a break, not thinking
_PACE_BATCHES, _PACE_LEAST = 60, 10  # of answers that the pace is measured by


@dataclass(frozen=True)
class Row:
    """One row of the history; fields: the table `answers`."""

    seq: int
    batch: int
    face: str
    who: str
    at: str
    action: str
    class_: str | None
    target: str | None


class History:
    """The rows that were taken in, and what they come to. Safe across threads.

    classes: in their order. agreed: by id of the face, for every face that something was said about.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._seen = 0
        self._rows: list[Row] = []
        self._of_face: dict[str, list[Row]] = {}
        self._about_classes: list[Row] = []
        self._undone: set[int] = set()
        self.classes: tuple[str, ...] = ()
        self.agreed: dict[str, Agreed] = {}
        self._alone: dict[str, dict[str, str]] = {}  # what each person said before anybody settled it
        self._people, self._agreement = Counter[str](), Agreement()

    @property
    def seq(self) -> int:
        """The number of the last row."""
        return self._seen

    def history(self, face: str) -> list[Row]:
        """Return everything that was said about a face, taken back or not."""
        with self._lock:
            return list(self._of_face.get(face, ()))

    def is_undone(self, row: Row) -> bool:
        return row.batch in self._undone

    def distinct(self) -> set[frozenset[str]]:
        """Return the pairs of faces that were looked at and found to be two, whatever was found before that."""
        return self._pairs(DISTINCT)

    def compared(self) -> set[frozenset[str]]:
        """Return the pairs of faces about which somebody has decided whether they are one or two."""
        return self._pairs(DISTINCT, SAME)

    def _pairs(self, *actions: str) -> set[frozenset[str]]:
        latest: dict[frozenset[str], str] = {}
        with self._lock:
            for row in self._rows:
                if row.action in (SAME, DISTINCT) and row.target and row.batch not in self._undone:
                    latest[frozenset((row.face, row.target))] = row.action
        return {pair for pair, action in latest.items() if action in actions}

    def people(self) -> dict[str, int]:
        """Return everybody who said something about a face, with the number of faces that their word stands for."""
        with self._lock:
            return {who: faces for who, faces in self._people.items() if faces}

    def pace_s(self, who: str) -> float | None:
        """Return the seconds that a person takes for a face, by their last answers, breaks left out; None: too few."""
        with self._lock:
            times: list[tuple[datetime, int]] = []
            batch = None
            for row in reversed(self._rows):
                if row.who != who or row.action not in (LABEL, CANNOT_TELL, NO_FACE) or not row.face:
                    continue
                if row.batch != batch:
                    if len(times) > _PACE_BATCHES:
                        break
                    batch = row.batch
                    times.append((datetime.fromisoformat(row.at), 0))
                times[-1] = (times[-1][0], times[-1][1] + 1)
        seconds, faces = 0.0, 0
        for (later, count), (earlier, _) in pairwise(times):
            if 0 <= (gap := (later - earlier).total_seconds()) <= _PAUSE_S:  # below 0: the clock was put back
                seconds, faces = seconds + gap, faces + count
        return seconds / faces if faces >= _PACE_LEAST and seconds > 0 else None

    def alpha(self) -> tuple[float | None, int]:
        """Return Krippendorff's alpha of what people said independently, and how many faces two or more labelled.

        Of two answers of one person the last counts; what settled a face does not. None where it is not defined.
        """
        with self._lock:
            return self._agreement.alpha(), self._agreement.units

    def name_now(self, name: str, since: int) -> str:
        """Return what a class is called now that had a name when row `since` was the last: others rename and merge."""
        with self._lock:
            for row in self._about_classes:
                moved = row.seq > since and row.action in (RENAME, MERGE) and row.batch not in self._undone
                if moved and row.class_ == name and row.target:
                    name = row.target
        return name

    def _batch(self, number: int) -> tuple[Row | None, set[str]]:
        """Return the first row of what was said at one press of a key, of those about faces where there are any.

        And the ids of the faces that it is about.
        """
        rows = [row for row in self._rows if row.batch == number]
        about_faces = [row for row in rows if row.face]
        return next(iter(about_faces or rows), None), {row.face for row in about_faces}

    def _take(self, rows: Iterable[Row]) -> set[str]:
        """Take in further rows; returns the ids of the faces about which something else may now be true."""
        stale: set[str] = set()
        everything = False
        undone: set[int] = set()
        for row in rows:
            self._seen = row.seq
            self._rows.append(row)
            if row.face:
                self._of_face.setdefault(row.face, []).append(row)
                stale.add(row.face)
            elif row.action == UNDO:
                undone.add(int(row.target or 0))
            else:
                self._about_classes.append(row)
                everything |= row.action != ADD
        self._undone |= undone
        for row in self._rows if undone else ():
            if row.batch in undone:
                everything |= not row.face and row.action != ADD
                stale |= {row.face} if row.face else set()
        self.classes = self._classes_now()
        for face in self._of_face if everything else stale:
            self._work_out(face)
        return set(self._of_face) if everything else stale

    def _classes_now(self) -> tuple[str, ...]:
        names: list[str] = []
        for row in self._about_classes:
            if row.batch in self._undone or row.class_ is None:
                continue
            if row.action == ADD and row.class_ not in names:
                names.append(row.class_)
            elif row.class_ in names and row.target is not None:
                place = names.index(row.class_)
                names[place : place + 1] = [] if row.target in names else [row.target]
        return tuple(names)

    def _work_out(self, face: str) -> None:
        """Read what was said about a face, and the renames between, in order."""
        said: dict[str, str] = {}
        alone: dict[str, str] = {}
        kept, when, twin = "", "", None
        mine = self._of_face.get(face, ())
        moved = [row for row in self._about_classes if row.action != ADD] if mine else ()
        for row in sorted((*mine, *moved), key=lambda row: row.seq) if moved else mine:
            if row.batch in self._undone:
                continue
            if not row.face:
                old, new = row.class_, row.target or ""
                said = {who: new if word == old else word for who, word in said.items()}
                alone = {who: new if word == old else word for who, word in alone.items()}
                kept = new if kept == old else kept
                continue
            when = row.at
            if row.action == SAME:
                twin = row.target or ""
            elif row.action == DISTINCT:
                twin = twin if twin and twin != row.target else ""  # it repeats another one still
            elif row.action == KEEP:
                kept = row.class_ or ""
            elif row.action == CLEAR and row.who == TABLE:
                said = {}
            elif row.action == CLEAR:
                said.pop(row.who, None)
                alone.pop(row.who, None)
            else:
                word = row.class_ if row.action in (LABEL, SETTLE) else row.action
                if row.action == SETTLE:
                    said = {}
                else:
                    alone[row.who] = word or ""
                said.pop(row.who, None)  # so that the last who spoke stands last
                said[row.who] = word or ""
        self._people.subtract(self.agreed.get(face, NOTHING).people.keys())
        self._people.update(said.keys())
        self._agreement.count(self._alone.get(face, {}).values(), -1)
        self._agreement.count(alone.values())
        self._alone[face] = alone
        self.agreed[face] = agreed(said, when, twin, kept)


def class_name(text: str) -> str:
    """Return a class's name as it is stored, on one line; ConfigError for one that cannot be a class."""
    return _name(text, "a class", NO_CLASS)


def person_name(text: str) -> str:
    """Return a person's name as it is stored; ConfigError for one that cannot be shown."""
    return _name(text, "a person", ())


def _name(text: str, whose: str, reserved: Collection[str]) -> str:
    name = plain_text(" ".join(text.split()))
    if "\ufffd" in name:
        raise ConfigError(
            f"the name of {whose} has letters that can be shown, got {clipped(text)!r}; leave out the others"
        )
    if not name or len(name) > MAX_NAME:
        raise ConfigError(
            f"the name of {whose} has 1 to {MAX_NAME} letters, got {clipped(name, 40)!r}; choose another"
        )
    if name.casefold() in reserved:
        raise ConfigError(f"{name!r} is an answer of its own, not the name of {whose}; choose another")
    return name
