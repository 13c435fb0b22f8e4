"""Answers about faces, kept: who said what, and when. One SQLite file beside the table; rows are only ever added.

What is true now is the result of reading the rows in order (`history.py`), so nothing that anybody said is lost. A row
is on disk before `Store.answer` returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mien.errors import ConfigError, OutputError
from mien.files import clipped
from mien.label.agreement import NO_CLASS, NOTHING
from mien.label.database import FILE, connect, connect_to_read, worded
from mien.label.history import (
    ABOUT_FACES,
    ADD,
    CLEAR,
    DISTINCT,
    KEEP,
    LABEL,
    MAX_NAME,
    MERGE,
    RENAME,
    SAME,
    SETTLE,
    TABLE,
    UNDO,
    History,
    Row,
    class_name,
    person_name,
)
from mien.labels import same_letters

_NewRow = tuple[str, str, str, str | None, str | None]  # time, face, action, class, target


@dataclass(frozen=True)
class Taken:
    """What came of another set's answers. faces: ids of those about which something was added.

    renamed: persons who say one thing here and another there, with the name that the other one has here.
    """

    faces: frozenset[str]
    renamed: tuple[tuple[str, str], ...]


class Store(History):
    """The answers about one face set, read and written; several processes may share the file."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writable: bool) -> None:
        super().__init__()
        self.path = path
        self._connection, self._writable = connection, writable
        self._key = ""
        try:
            self.refresh()
        except BaseException:
            connection.close()
            raise

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open the answers in the folder of a face set; the file is made where it is missing.

        Raises DataError where it is damaged, another program's or of a newer mien, OutputError where it cannot be
        written or another program holds it.
        """
        path = folder / FILE
        return cls(path, connect(path), writable=True)

    @classmethod
    def read(cls, folder: Path) -> Store | None:
        """Open the answers for reading alone, also while others write or where nothing may be written.

        None where there are none. Raises DataError as `open` does.
        """
        path = folder / FILE
        if not path.is_file() or not path.stat().st_size:
            return None
        return cls(path, connect_to_read(path), writable=False)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Saying something

    @contextmanager
    def under(self, key: str) -> Iterator[bool]:
        """Store what the block says under a key of its sender's, who may have to send it again: no reply came.

        Yields whether something was stored under that key before, by whichever process; the block then says nothing.
        key: unlike any other; empty for none.
        """
        with self._lock, worded(self.path):
            before, self._key = self._key, key
            try:
                yield bool(key) and self._stored_under(key) is not None
            finally:
                self._key = before

    def undone_under(self, key: str) -> tuple[Row | None, set[str]]:
        """Return what `undo` returned when it was called under a key."""
        with self._lock, worded(self.path):
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
        settles_none = action == SETTLE and class_ in NO_CLASS
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

    def take_over(self, other: History | None, typed: Mapping[str, str], called: str) -> Taken:
        """Take in what was said about faces in another set, which may be a copy of this one, when and by whom.

        What both hold counts once, so this may be repeated. Where nothing was said of a face here since the two parted,
        what was said there holds; elsewhere each person's last word there is a vote here, and settles nothing. other:
        None where there are no answers. typed: labels of its table that nobody answered, by id. called: what goes
        behind the name of somebody who says one thing here and another there, as the two may be two persons.
        """
        other = other or History()
        batches: dict[tuple[int, str], list[_NewRow]] = {}
        faces, renamed = set[str](), dict[str, str]()

        def vote(number: int, who: str, at: str, face: str, word: str, *, here_too: bool) -> None:
            people = self.agreed.get(face, NOTHING).people
            if here_too and people.get(who) != word:
                end = f" ({called[: MAX_NAME // 2]})"
                renamed[who] = who = who[: MAX_NAME - len(end)] + end
            if people.get(who) != word:
                action = word if word in NO_CLASS else LABEL
                row = (at, face, action, self._spelled(word) if action == LABEL else None, None)
                batches.setdefault((number, who), []).append(row)
                faces.add(face)

        with self._lock:
            self.refresh()
            for face, agreed in other.agreed.items():
                theirs = [row for row in other.history(face) if not other.is_undone(row)]
                mine = self.history(face)
                known, there = {_said(row) for row in mine}, {_said(row) for row in theirs}
                new = [row for row in theirs if _said(row) not in known]
                since = {row.who for row in mine if not self.is_undone(row) and _said(row) not in there}
                for row in new:
                    if not since or row.action in (KEEP, SAME, DISTINCT):
                        class_ = row.class_ and self._spelled(other.name_now(row.class_, row.seq))
                        rows = batches.setdefault((row.batch, row.who), [])
                        rows.append((row.at, face, row.action, class_, row.target))
                        faces.add(face)
                for who in {row.who: None for row in new} if since else ():
                    if (word := agreed.people.get(who)) is not None:
                        last = next(row for row in reversed(new) if row.who == who)
                        vote(last.batch, who, last.at, face, word, here_too=who in since)
            now = _now()
            for face, label in typed.items():
                here_too = TABLE in self.agreed.get(face, NOTHING).people
                vote(0, TABLE, now, face, class_name(label), here_too=here_too)
            given = [row[3] for rows in batches.values() for row in rows if row[3] and row[3] not in NO_CLASS]
            self.add_classes([name for name in other.classes if name in given], TABLE)
            self.add_classes(given, TABLE)
            self._add_batches([(who, batches[number, who]) for number, who in sorted(batches)])
        return Taken(frozenset(faces), tuple(renamed.items()))

    def refresh(self) -> set[str]:
        """Take in what others wrote; returns the ids of the faces about which something else may now be true."""
        with self._lock, worded(self.path):
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
        with self._lock, worded(self.path):
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
        at = _now()
        return self._add_batches([(who, [(at, *row) for row in rows])])

    def _add_batches(self, batches: Sequence[tuple[str, Sequence[_NewRow]]]) -> set[str]:
        """Write rows of several batches, each of one person, in one transaction; each row begins with its time."""
        with self._transaction() as connection:
            if self._key and self._stored_under(self._key) is not None:
                return self.refresh()  # by another process, since the block began
            ((last,),) = connection.execute("SELECT coalesce(max(seq), 0) FROM answers")
            if self._key:
                connection.execute("INSERT INTO idempotency_keys VALUES (?, ?)", (self._key, last + 1))
            for who, rows in batches:
                connection.executemany(
                    "INSERT INTO answers (batch, who, at, face, action, class, target) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(last + 1, who, *row) for row in rows],
                )
                last += len(rows)
        return self.refresh()

    def _stored_under(self, key: str) -> int | None:
        """Return the batch that was stored under a key; None: nothing was."""
        found = self._connection.execute(
            "SELECT batch FROM idempotency_keys WHERE key = ?", (key,)
        ).fetchone()
        return None if found is None else int(found[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with worded(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _said(row: Row) -> tuple[str, ...]:
    """Return what an answer about a face is known by, also in a copy of the store."""
    return row.who, row.at, row.action
