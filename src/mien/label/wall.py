"""A face set and the answers about it, as the page sees both."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mien.errors import ConfigError, DataError, MienError
from mien.faceset.row import FaceRow
from mien.faceset.table import TABLE_FILE, FaceSet, stamp_of
from mien.files import clipped, plain_text, shell_word
from mien.label.agreement import NOTHING, Agreed
from mien.label.history import TABLE, person_name
from mien.label.store import Store

PATIENCE_S = 1.0  # at the end, for a thread whose work nobody needs any more
_TABLE_S = 4.0  # of quiet before the table is written, and at most ten times that without
_LOOK_S = 2.0  # between two looks at whether somebody else has written it


class Wall:
    """The faces of a folder in the order of its table, each with what was said about it. Safe across threads.

    shown: the session, which changes whenever the places of faces may have changed, and the faces by place: at any
    moment those of one another. session, faces: each by itself.
    """

    def __init__(self, faceset: FaceSet, store: Store) -> None:
        self.store = store
        self.folder = faceset.folder
        self._take(faceset)
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self._log: list[tuple[int, frozenset[str]]] = []  # seq, and the faces of which something else is true
        self._begun_seq = store.seq
        self._stale_table = threading.Event()
        # Why the table is not written, why what others wrote is not taken in.
        self._unwritten = self._unread = ""
        self._ending = threading.Event()
        self._writer = threading.Thread(target=self._keep_table, name="table", daemon=True)

    @classmethod
    def open(cls, folder: Path, classes: Sequence[str], who: str) -> Wall:
        """Open a face set for labelling. Raises MienError, in one line, where that is not possible."""
        faceset = FaceSet.open(folder)
        if not len(faceset):
            raise DataError(
                f"{folder} holds no faces; add some with: mien faces PATH… --to {shell_word(folder)}"
            )
        store = Store.open(faceset.folder)
        try:
            store.take_edits({face.id: face.label for face in faceset.faces})
            store.add_classes(classes, who)
        except BaseException:
            store.close()
            raise
        wall = cls(faceset, store)
        wall._writer.start()
        return wall

    def close(self) -> None:
        """Write the table a last time and close the answers."""
        self._ending.set()
        self._stale_table.set()
        if self._writer.is_alive():
            self._writer.join()
        self.store.close()

    def _take(self, faceset: FaceSet) -> None:
        """Show the faces of a table. What the page has loaded before names other places."""
        self.faceset, self._stamp = faceset, faceset.stamp
        self.shown: tuple[str, list[FaceRow]] = (secrets.token_hex(8), faceset.faces)
        self.place = {face.id: place for place, face in enumerate(self.faces)}
        self._by_file: tuple[str, dict[str, int]] = ("", {})

    @property
    def session(self) -> str:
        return self.shown[0]

    @property
    def faces(self) -> list[FaceRow]:
        return self.shown[1]

    def place_of_file(self) -> dict[str, int]:
        """Return the places of faces by the names of their crops, as training calls them."""
        session, faces = self.shown
        if self._by_file[0] != session:
            self._by_file = (session, {plain_text(face.file): place for place, face in enumerate(faces)})
        return self._by_file[1]

    def on_answer(self, listener: Callable[[], None]) -> None:
        """Have a function called after each change, of answers or of faces, in the thread that made it."""
        self._listeners.append(listener)

    def agreed(self, face: FaceRow) -> Agreed:
        return self.store.agreed.get(face.id, NOTHING)

    def status(self, face: FaceRow) -> str:
        """Return the status that holds: what people said counts more than what the detector thought."""
        return self.agreed(face).status_over(face.status)

    # What the page does. key: under which it sends what it says, again where no reply came: stored once, `Store.under`.
    # known: the last row that it knew when somebody said so; classes that had other names then go by those of now.

    def answer(
        self,
        faces: Sequence[str],
        who: str,
        action: str,
        class_: str | None,
        target: str,
        *,
        key: str = "",
        known: int | None = None,
    ) -> None:
        """Store an answer about faces, by id; see Store.answer."""
        with self._once(key, who) as new:
            if new:
                self._check([*faces, *([target] if target else [])])
                self._changed(
                    self.store.answer(faces, who, action, class_ and self._name_now(class_, known), target)
                )

    def label_each(
        self, labels: Mapping[str, str], who: str, *, key: str = "", known: int | None = None
    ) -> None:
        """Store classes for faces, by id, as one answer."""
        with self._once(key, who) as new:
            if new:
                self._check(labels)
                named = {face: self._name_now(label, known) for face, label in labels.items()}
                self._changed(self.store.label_each(named, who))

    def undo(self, who: str, *, key: str = "") -> dict[str, Any]:
        """Take back what a person did last; says what it was, and about which faces."""
        with self._once(key, who) as new:
            row, changed = self.store.undo(who) if new else self.store.undone_under(key)
            self._changed(changed)
        if row is None:
            return {"undone": None, "faces": []}
        return {
            "undone": row.action,
            "class": row.class_,
            "faces": sorted(self.place[face] for face in changed if face in self.place) if row.face else [],
        }

    def edit_classes(self, who: str, action: str, name: str, to: str, *, key: str = "") -> None:
        """Add, rename or merge classes."""
        with self._once(key, who) as new:
            if not new:
                return
            if action == "add":
                self.store.add_classes([name], who)
                self._changed(set())
            elif action == "rename":
                self._changed(self.store.rename(name, to, who))
            elif action == "merge":
                self._changed(self.store.merge(name, to, who))
            else:
                raise ConfigError(f"classes can be added, renamed and merged; got {clipped(action)!r}")

    def _name_now(self, class_: str, known: int | None) -> str:
        return class_ if known is None else self.store.name_now(class_, known)

    @contextmanager
    def _once(self, key: str, who: str) -> Iterator[bool]:
        """Yield whether what the block stores is new: it must store nothing where it is not."""
        if person_name(who) == TABLE:
            raise ConfigError(f"{TABLE!r} stands for whoever edits the table; choose another name")
        with self._lock, self.store.under(key) as stored:
            if stored and (changed := self.store.refresh()):
                self._changed(changed)
            yield not stored

    def _check(self, faces: Collection[str]) -> None:
        if not faces:
            raise ConfigError("about which faces? send at least one id")
        for face in faces:
            if face not in self.place:
                raise ConfigError(f"there is no face {clipped(face)!r} in this face set; load the page anew")

    def _changed(self, faces: Iterable[str]) -> None:
        self._log.append((self.store.seq, frozenset(faces)))
        self._stale_table.set()
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    # What the page is told

    def columns(self) -> dict[str, Any]:
        """Return what does not change about the faces, column by column, and all answers."""
        sources, groups = _Numbers(), _Numbers()
        with self._lock:
            return self._columns(self.faces, sources, groups)

    def _columns(self, faces: Sequence[FaceRow], sources: _Numbers, groups: _Numbers) -> dict[str, Any]:
        return {
            "session": self.session,
            "folder": self.folder.resolve().name,
            "id": [face.id for face in faces],
            "source": [sources.of(face.source) for face in faces],
            "sources": sources.words,
            "group": [groups.of(face.group) for face in faces],
            "groups": groups.words,
            "time_s": [face.time_s for face in faces],
            "track": [face.track for face in faces],
            "sharpness": [face.sharpness and round(face.sharpness, 1) for face in faces],
            "score": [face.score and round(face.score, 3) for face in faces],
            "status": [face.status for face in faces],
            "duplicate_of": [
                self.place.get(face.duplicate_of, -1) if face.duplicate_of else -1 for face in faces
            ],
            "answers": self._answers(
                place for place, face in enumerate(faces) if face.id in self.store.agreed
            ),
            "problems": list(self.faceset.problems[:20]),
            **self.summary(),
        }

    def changes(self, since: int, who: str) -> dict[str, Any]:
        """Return what is true now of the faces that somebody said something about after row `since`."""
        with self._lock:
            if changed := self.store.refresh():  # by another process on the same folder
                self._changed(changed)
            faces: set[str] = set().union(*(faces for seq, faces in self._log if seq > since))
            if since < self._begun_seq:
                faces |= self.store.agreed.keys()
            places = sorted(self.place[face] for face in faces if face in self.place)
            return {
                "session": self.session,
                "answers": self._answers(places),
                "pace_s": self.store.pace_s(who) if who else None,
                **self.summary(),
            }

    def summary(self) -> dict[str, Any]:
        alpha, both = self.store.alpha()
        return {
            "seq": self.store.seq,
            "classes": list(self.store.classes),
            "people": self.store.people(),
            "agreement": {"alpha": alpha, "faces": both},
            "problem": self.problem,
        }

    def history(self, face: FaceRow) -> list[dict[str, Any]]:
        """Return everything that was said about a face, the oldest first."""
        return [
            {
                "who": row.who,
                "at": row.at,
                "action": row.action,
                "class": row.class_,
                "taken_back": self.store.is_undone(row),
            }
            for row in self.store.history(face.id)
        ]

    def _answers(self, places: Iterable[int]) -> list[list[Any]]:
        """Return [place, label, status, what each person said, the label that was confirmed, duplicate_of] of faces."""
        rows = []
        for place in places:
            face = self.faces[place]
            agreed = self.agreed(face)
            twin = agreed.duplicate_of
            rows.append(
                [
                    place,
                    agreed.label,
                    agreed.status_over(face.status),
                    dict(agreed.people),
                    agreed.kept,
                    None if twin is None else self.place.get(twin, -1),
                ]
            )
        return rows

    # The table

    def write_table(self) -> None:
        """Write what people agreed on into `faces.csv`, and take in what others wrote there: edits and further faces.

        Raises MienError; the answers are safe all the same.
        """
        faceset = FaceSet.open(self.folder)
        faceset.write()
        with self._lock:
            self._take_in(faceset)
            if changed := self.store.refresh():
                self._changed(changed)
        self._unread = ""

    def read_table(self) -> bool:
        """Take in what others wrote into `faces.csv`, and return whether they wrote anything since it was looked at.

        Raises MienError where it cannot be read.
        """
        with suppress(OSError):  # it is gone: reading it says so
            if stamp_of(self.folder / TABLE_FILE) == self._stamp:
                return False
        faceset = FaceSet.open(self.folder)
        with self._lock:
            self._take_in(faceset)
            if changed := self.store.take_edits({face.id: face.label for face in faceset.faces}):
                self._changed(changed)
        self._unread = ""
        return True

    def _take_in(self, faceset: FaceSet) -> None:
        """Show the faces of a table that was read again, where others are there or set aside than before."""
        self._stamp = faceset.stamp
        now, before = (
            [(face.id, self.status(face)) for face in some] for some in (faceset.faces, self.faces)
        )
        if now != before:
            self._take(faceset)
            self._tell()

    def _keep_table(self) -> None:
        """Write the table after answers, and read it where others have written it, for as long as the server runs."""
        took_s = 0.0
        while True:
            if self._stale_table.wait(max(_LOOK_S, 10 * took_s)):
                took_s = self._write_after_quiet(took_s)
                if self._ending.is_set():
                    return
                continue
            begun = time.monotonic()
            self._unread = self._said(self.read_table, "what others wrote into the table is not shown")
            if self._unread:
                self._stamp = None  # so that it is tried again
            took_s = max(time.monotonic() - begun, took_s / 2)  # of a large set not too often

    def _write_after_quiet(self, took_s: float) -> float:
        quiet_s = max(_TABLE_S, 10 * took_s)
        deadline = time.monotonic() + 10 * quiet_s
        while not self._ending.is_set() and self._stale_table.is_set() and time.monotonic() < deadline:
            self._stale_table.clear()
            self._ending.wait(quiet_s)
        self._stale_table.clear()
        begun = time.monotonic()
        self._unwritten = self._said(self.write_table, "the answers are stored, but the table is not")
        return time.monotonic() - begun

    def _said(self, act: Callable[[], object], what: str) -> str:
        """Do something with the table; return in one line what went wrong, empty for nothing: the thread must go on."""
        try:
            act()
        except MienError as error:
            return f"{what}: {error}"
        except Exception as error:  # whatever it is, people must know
            logging.getLogger("mien").exception(what)
            return f"{what}: {type(error).__name__}"
        return ""

    @property
    def problem(self) -> str:
        return self._unwritten or self._unread


class _Numbers:
    """Words as numbers in order of their appearance."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._of: dict[str, int] = {}

    def of(self, word: str) -> int:
        if word not in self._of:
            self._of[word] = len(self.words)
            self.words.append(word)
        return self._of[word]
