"""Answers about faces: who said what, and when. One SQLite file beside the table; rows are only ever added.

What is true now (the agreed class of each face, the list of classes, what was decided about doubtful labels) is the
result of reading the rows in order. So nothing that anybody said is lost: undo, renaming and merging are rows as well,
and can be undone like any other. A row is on disk before `Store.answer` returns.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from mien.errors import ConfigError, DataError, OutputError
from mien.files import clipped, plain_text
from mien.label.agreement import CANNOT_TELL, NO_FACE, NOTHING, Agreed, Agreement, agreed
from mien.labels import same_letters

FILE = "labels.sqlite"
LABEL, CLEAR, SETTLE = "label", "clear", "settle"  # and CANNOT_TELL, NO_FACE
ADD, RENAME, MERGE = "class", "rename", "merge"  # about classes; `face` is empty
KEEP, SAME, DISTINCT, UNDO = "keep", "duplicate", "distinct", "undo"
TABLE = "table"  # who gave a label by editing the table
ABOUT_FACES = (LABEL, CANNOT_TELL, NO_FACE, CLEAR, SETTLE, KEEP, SAME, DISTINCT)
MAX_NAME = 100  # letters of a class or a person

_APPLICATION, _VERSION = 0x6D69656E, 1  # "mien"; PRAGMA user_version
_WAIT_S = 3.0  # for another program that is writing
_PAUSE_S = 60.0  # between two answers: longer was a break, not thinking
_PACE_BATCHES, _PACE_LEAST = 60, 10  # of answers that the pace is measured by
_TABLES = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    batch INTEGER NOT NULL,  -- seq of the first row of what was said at one key
    face TEXT NOT NULL,      -- its id; empty: about classes
    who TEXT NOT NULL,
    at TEXT NOT NULL,        -- UTC, ISO 8601
    action TEXT NOT NULL,
    class TEXT,
    target TEXT              -- of a rename or merge the new class, of a duplicate the other face, of an undo the batch
);
CREATE TRIGGER answers_stay BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
CREATE TRIGGER answers_remain BEFORE DELETE ON answers BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
-- What the table's labels were when mien last wrote it; previous: until that writing is known to have succeeded.
CREATE TABLE written (face TEXT PRIMARY KEY, label TEXT NOT NULL, previous TEXT) WITHOUT ROWID;
"""
# Which batch was stored under a key. A file from before it has none until it is opened for writing; an older mien takes
# no notice of it.
_KEYS = (
    "CREATE TABLE IF NOT EXISTS idempotency_keys (key TEXT PRIMARY KEY, batch INTEGER NOT NULL) WITHOUT ROWID"
)


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


class Store:
    """The answers about one face set, read and written; several processes may share the file. Safe across threads.

    classes: in their order. agreed: by id of the face, for every face that something was said about.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writable: bool) -> None:
        self.path = path
        self._connection, self._writable = connection, writable
        self._lock = threading.RLock()
        self._key = ""
        self._seen = 0
        self._rows: list[Row] = []
        self._of_face: dict[str, list[Row]] = {}
        self._about_classes: list[Row] = []
        self._undone: set[int] = set()
        self.classes: tuple[str, ...] = ()
        self.agreed: dict[str, Agreed] = {}
        self._alone: dict[str, dict[str, str]] = {}  # what each person said before anybody settled it
        self._people, self._agreement = Counter[str](), Agreement()

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open the answers in the folder of a face set; the file is made where it is missing.

        Raises DataError where it is damaged, another program's or of a newer mien, OutputError where it cannot be
        written or another program holds it.
        """
        path = folder / FILE
        with _worded(path):
            connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False, isolation_level=None)
            try:
                _check(path, connection)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(_KEYS)
                store = cls(path, connection, writable=True)
                store.refresh()
            except BaseException:
                connection.close()
                raise
        return store

    @classmethod
    def read(cls, folder: Path) -> Store | None:
        """Open the answers for reading alone, also while others write or where nothing may be written.

        None where there are none. Raises DataError as `open` does.
        """
        path = folder / FILE
        if not path.is_file() or not path.stat().st_size:
            return None
        address = path.resolve().as_uri()
        with _worded(path):
            connection = sqlite3.connect(
                f"{address}?mode=ro", uri=True, timeout=_WAIT_S, check_same_thread=False
            )
            try:
                _check(path, connection)
            except sqlite3.OperationalError:
                connection.close()
                if path.with_name(f"{FILE}-wal").exists():
                    raise
                # A folder where SQLite may not put the index of its log beside the file: nobody writes there either.
                connection = sqlite3.connect(f"{address}?immutable=1", uri=True, check_same_thread=False)
                _check(path, connection)
            store = cls(path, connection, writable=False)
            store.refresh()
        return store

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seq(self) -> int:
        """The number of the last row."""
        return self._seen

    # Saying something

    @contextmanager
    def under(self, key: str) -> Iterator[bool]:
        """Store what the block says under a key of its sender's, who may have to send it again: no reply came.

        Yields whether something was stored under that key before, by whichever process; the block then says nothing.
        key: unlike any other; empty for none.
        """
        with self._lock, _worded(self.path):
            before, self._key = self._key, key
            try:
                yield bool(key) and self._stored_under(key) is not None
            finally:
                self._key = before

    def undone_under(self, key: str) -> tuple[Row | None, set[str]]:
        """Return what `undo` returned when it was called under a key."""
        with self._lock, _worded(self.path):
            self.refresh()
            undo = next((row for row in self._rows if row.batch == self._stored_under(key)), None)
            return self._batch(int(undo.target or 0)) if undo else (None, set())

    def answer(
        self, faces: Sequence[str], who: str, action: str, class_: str | None = None, target: str = ""
    ) -> set[str]:
        """Store one person's answer about faces; returns the ids of those about which something else is now true.

        action: one of ABOUT_FACES. `label` and `settle` need a class, which joins the list where it is new; `settle`
        puts aside what was said before, and takes 'cannot tell' and 'no face' too. `duplicate` and `distinct` need
        target, the other face; `keep` needs the class that is doubted, and confirms it. All of it is on disk when this
        returns, or none of it. Raises ConfigError, OutputError.
        """
        if action not in ABOUT_FACES:
            raise ConfigError(f"there is no answer {clipped(action)!r}; there are: {', '.join(ABOUT_FACES)}")
        who = person_name(who)
        settles_none = action == SETTLE and class_ in (CANNOT_TELL, NO_FACE)
        if action in (SAME, DISTINCT) and (not target or target in faces):
            raise ConfigError(f"{action!r} is about two faces: give the other one as target")
        with self._lock:
            if action in (LABEL, SETTLE, KEEP) and not settles_none:
                class_ = self._spelled(class_name(class_ or ""))
            elif not settles_none:
                class_ = None
            rows = [(face, action, class_, target or None) for face in faces]
            if action in (LABEL, SETTLE) and not settles_none and class_ not in self.classes:
                rows.insert(0, ("", ADD, class_, None))
            return self._add(who, rows)

    def label_each(self, labels: Mapping[str, str], who: str) -> set[str]:
        """Store one person's classes for faces, by id, as one answer, which one undo takes back; see `answer`."""
        with self._lock:
            named = {face: self._spelled(class_name(label)) for face, label in labels.items()}
            spelled = {same_letters(name): name for name in reversed(named.values())}
            named = {face: spelled[same_letters(name)] for face, name in named.items()}
            new = [name for name in dict.fromkeys(named.values()) if name not in self.classes]
            rows = [("", ADD, name, None) for name in new]
            return self._add(
                person_name(who), [*rows, *((face, LABEL, name, None) for face, name in named.items())]
            )

    def add_classes(self, names: Iterable[str], who: str) -> None:
        """Add classes at the end of the list, those that are not on it."""
        with self._lock:
            new = [name for name in dict.fromkeys(map(class_name, names)) if name not in self.classes]
            for name in new:
                self._check_new(name)
            if new:
                self._add(person_name(who), [("", ADD, name, None) for name in new])

    def name_now(self, name: str, since: int) -> str:
        """Return what a class is called now that had a name when row `since` was the last: others rename and merge."""
        with self._lock:
            for row in self._about_classes:
                moved = row.seq > since and row.action in (RENAME, MERGE) and row.batch not in self._undone
                if moved and row.class_ == name and row.target:
                    name = row.target
        return name

    def rename(self, old: str, new: str, who: str) -> set[str]:
        """Give a class another name, in all answers; returns the ids of the faces that are concerned."""
        with self._lock:
            self._check_known(old)
            self._check_new(new := class_name(new), but=old)
            return self._add(person_name(who), [("", RENAME, old, new)])

    def merge(self, old: str, into: str, who: str) -> set[str]:
        """Count every answer for one class as one for another, and take the first off the list."""
        with self._lock:
            self._check_known(old)
            self._check_known(into)
            if old == into:
                raise ConfigError(f"a class cannot be merged into itself, got {old!r} twice")
            return self._add(person_name(who), [("", MERGE, old, into)])

    def undo(self, who: str) -> tuple[Row | None, set[str]]:
        """Take back what a person said last and has not taken back yet, however long ago.

        Returns the first row of it (of those about faces, where there are any), None where nothing is left, and the ids
        of the faces that are concerned.
        """
        who = person_name(who)
        with self._lock:
            self.refresh()
            last = next(
                (
                    row
                    for row in reversed(self._rows)
                    if row.who == who and row.action != UNDO and row.batch not in self._undone
                ),
                None,
            )
            if last is None:
                return None, set()
            changed = self._add(who, [("", UNDO, None, str(last.batch))])
            return self._batch(last.batch)[0], changed

    def refresh(self) -> set[str]:
        """Take in what others wrote; returns the ids of the faces about which something else may now be true."""
        with self._lock, _worded(self.path):
            found = self._connection.execute(
                "SELECT seq, batch, face, who, at, action, class, target FROM answers WHERE seq > ? ORDER BY seq",
                (self._seen,),
            )
            return self._take(Row(*values) for values in found)

    # The table

    def edits(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return what somebody changed in the table by hand: labels there that are not those that mien wrote.

        labels: of every row of the table, by id, empty for none.
        """
        with self._lock, _worded(self.path):
            found = self._connection.execute("SELECT face, label, previous FROM written")
            known = {face: (label, previous) for face, label, previous in found}
            return {
                face: label
                for face, label in labels.items()
                if label not in known.get(face, ("", None))
                and self._spelled(label) != self.agreed.get(face, NOTHING).label
            }

    def take_edits(self, labels: Mapping[str, str]) -> set[str]:
        """Store what somebody changed in the table by hand; such an edit settles a face. Returns the ids."""
        with self._lock:
            by_label: dict[str, list[str]] = {}
            for face, label in (edits := self.edits(labels)).items():
                by_label.setdefault(label, []).append(face)
            for label in filter(None, by_label):
                class_name(label)  # before anything is stored: a table with a wrong row is refused whole
            for label, faces in by_label.items():
                self.answer(faces, TABLE, SETTLE if label else CLEAR, label or None)
        return set(edits)

    @contextmanager
    def writing_table(self, labels: Mapping[str, str]) -> Iterator[None]:
        """Remember which labels the table holds that the block writes, however the block ends."""
        with self._lock, self._transaction() as connection:
            connection.executemany(
                "INSERT INTO written VALUES (?, ?, '') ON CONFLICT (face) DO UPDATE "
                "SET previous = label, label = excluded.label WHERE label != excluded.label",
                labels.items(),
            )
        yield
        with self._lock, self._transaction() as connection:
            connection.execute("UPDATE written SET previous = NULL WHERE previous IS NOT NULL")

    # What it comes to

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
            if (gap := (later - earlier).total_seconds()) <= _PAUSE_S:
                seconds, faces = seconds + gap, faces + count
        return seconds / faces if faces >= _PACE_LEAST and seconds > 0 else None

    def alpha(self) -> tuple[float | None, int]:
        """Return Krippendorff's alpha of what people said independently, and how many faces two or more labelled.

        Of two answers of one person the last counts; what settled a face does not. None where it is not defined.
        """
        with self._lock:
            return self._agreement.alpha(), self._agreement.units

    # Inside

    def _spelled(self, name: str) -> str:
        """Return a class as the list spells it: no two differ by small and large letters alone."""
        return next((known for known in self.classes if same_letters(known) == same_letters(name)), name)

    def _check_known(self, name: str) -> None:
        if name not in self.classes:
            raise ConfigError(
                f"there is no class {clipped(name)!r}; there are: {', '.join(self.classes) or 'none yet'}"
            )

    def _check_new(self, name: str, but: str = "") -> None:
        for known in self.classes:
            if known != but and same_letters(known) == same_letters(name):
                raise ConfigError(
                    f"there is a class {known!r} already; merge the two, or choose another name"
                )

    def _add(self, who: str, rows: Sequence[tuple[str, str, str | None, str | None]]) -> set[str]:
        """Write rows of one batch in one transaction, then take them in."""
        if not self._writable:
            raise OutputError(f"{self.path} was opened for reading; open it with Store.open")
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._transaction() as connection:
            if self._key and self._stored_under(self._key) is not None:
                return self.refresh()  # by another process, since the block began
            ((last,),) = connection.execute("SELECT coalesce(max(seq), 0) FROM answers")
            if self._key:
                connection.execute("INSERT INTO idempotency_keys VALUES (?, ?)", (self._key, last + 1))
            connection.executemany(
                "INSERT INTO answers (batch, face, who, at, action, class, target) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(last + 1, face, who, at, action, class_, target) for face, action, class_, target in rows],
            )
        return self.refresh()

    def _stored_under(self, key: str) -> int | None:
        """Return the batch that was stored under a key; None: nothing was."""
        found = self._connection.execute(
            "SELECT batch FROM idempotency_keys WHERE key = ?", (key,)
        ).fetchone()
        return None if found is None else int(found[0])

    def _batch(self, number: int) -> tuple[Row | None, set[str]]:
        """Return the first row of what was said at one press of a key, of those about faces where there are any.

        And the ids of the faces that it is about.
        """
        rows = [row for row in self._rows if row.batch == number]
        about_faces = [row for row in rows if row.face]
        return next(iter(about_faces or rows), None), {row.face for row in about_faces}

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _worded(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _take(self, rows: Iterable[Row]) -> set[str]:
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
    return _name(text, "a class", (CANNOT_TELL, NO_FACE))


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


def _check(path: Path, connection: sqlite3.Connection) -> None:
    """Make the tables in a new file; refuse one that is not ours, newer or damaged."""
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    if not tables and not application:
        connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}COMMIT;")
        return
    if application != _APPLICATION:
        raise DataError(f"{path} is a database of another program; move it away, and mien makes its own")
    if version > _VERSION:
        raise DataError(
            f"{path} was written by a newer mien (its version is {version}, this mien reads up to {_VERSION}); "
            "update mien, nothing was changed"
        )
    ((state,),) = connection.execute("PRAGMA quick_check(1)")
    if state != "ok":
        raise sqlite3.DatabaseError(str(state))


@contextmanager
def _worded(path: Path) -> Iterator[None]:
    """Turn what SQLite reports into one line that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise OutputError(
                f"{path} is held by another program; close what has it open and try again, nothing was lost"
            ) from error
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise OutputError(
                f"cannot write {path}: {error}; free some space or allow writing there, what was stored before is safe"
            ) from error
        raise DataError(
            f"{path} is damaged ({plain_text(str(error))}); move it away and put back a copy, or go on without: the "
            "table has the labels that were last written to it"
        ) from error
