"""Faces of a wall that show the same picture twice, to be looked at side by side: pixel copies and near copies.

`mien faces` sets aside only what is nearly identical. What this finds besides, by the search of `mien data`
(`mien.data.near_copies`), is cropped, mirrored or retouched, and people decide. It is looked for once somebody asks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from mien.data.decisions import PIXEL_COPY
from mien.data.near_copies import estimated_s, near_copies
from mien.data.pictures import Fingerprints, fingerprint_of, joined
from mien.errors import MienError
from mien.faceset.row import SHOWN, FaceRow
from mien.files import shell_word
from mien.images.decode import read_image
from mien.label.wall import PATIENCE_S, Wall

_MOST_S = 600.0  # of processor time; a search that takes longer is left to `mien data --copies`


class _EndedError(Exception):
    """The server ends."""


class CopySearch:
    """Searches in a thread of its own, once for each set of faces. Safe across threads.

    state: 'none', 'reading', 'comparing', 'ready' or 'off', where note says why.
    """

    def __init__(self, wall: Wall) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._pairs: list[tuple[FaceRow, FaceRow, str]] = []
        self._session = ""
        self._done, self._total = 0, 0
        self.state, self.note = "none", ""

    def start(self) -> None:
        """Begin, unless these faces have been searched or are being searched."""
        with self._lock:
            if self._session == self._wall.session or (self._thread and self._thread.is_alive()):
                return
            self._session, faces = self._wall.shown
            self.state = "reading"
            self._thread = threading.Thread(target=self._run, args=(faces,), name="copies", daemon=True)
            self._thread.start()

    def close(self) -> bool:
        """Stop, and say whether the thread has ended."""
        self._ending.set()
        if self._thread:
            self._thread.join(PATIENCE_S)
        return not (self._thread and self._thread.is_alive())

    def told(self) -> dict[str, Any]:
        """Return how far it is, and the pairs that nobody has decided about: [[place, place, kind], …].

        Those first that have two labels, then those of two groups, which training could part: leaks.
        """
        wall = self._wall
        decided = wall.store.compared()
        found = []
        for one, other, kind in self._pairs:
            places = wall.place.get(one.id), wall.place.get(other.id)
            shown = all(wall.status(face) == SHOWN for face in (one, other))
            if None in places or not shown or frozenset((one.id, other.id)) in decided:
                continue
            labels = [wall.agreed(face).label for face in (one, other)]
            unlike = all(labels) and labels[0] != labels[1]
            found.append(((not unlike, one.group == other.group), [*places, kind]))
        found.sort(key=lambda pair: pair[0])
        return {
            "state": self.state,
            "note": self.note,
            "done": self._done,
            "total": self._total,
            "pairs": [pair for _, pair in found],
        }

    def _run(self, faces: Sequence[FaceRow]) -> None:
        try:
            faces = [face for face in faces if self._wall.status(face) == SHOWN]
            if estimated_s(len(faces)) > _MOST_S:
                faces = [face for face in faces if self._wall.agreed(face).label]
            if estimated_s(len(faces)) > _MOST_S:
                self.state = "off"
                self.note = (
                    f"{len(faces):,} labelled faces take longer than a page should; ask for the list in a terminal: "
                    f"mien data {shell_word(self._wall.folder)} --copies DIR"
                )
                return
            self._total = len(faces)
            prints, faces = self._read(faces)
            self.state = "comparing"
            self._pairs = self._found(prints, faces)
            self.state = "ready"
        except _EndedError:
            pass
        except Exception as error:  # it costs nobody an answer, but must be known
            logging.getLogger("mien").exception("the search for copies failed")
            self.state, self.note = "off", f"the search failed: {type(error).__name__}"

    def _read(self, faces: Sequence[FaceRow]) -> tuple[Fingerprints, list[FaceRow]]:
        found, kept = [], []
        for done, face in enumerate(faces, start=1):
            try:
                found.append(fingerprint_of(read_image(self._wall.faceset.crop_path(face))))
                kept.append(face)
            except MienError:  # the wall shows that it is gone
                pass
            self._progress(done, len(faces))
        return joined(found), kept

    def _found(self, prints: Fingerprints, faces: Sequence[FaceRow]) -> list[tuple[FaceRow, FaceRow, str]]:
        first: dict[bytes, int] = {}
        pairs = []
        for place, key in enumerate(prints.keys):
            if (earlier := first.setdefault(key, place)) != place:
                pairs.append((earlier, place, PIXEL_COPY))
        near = near_copies(prints, self._progress)
        pairs += [(*pair, near.kind(place)) for place, pair in enumerate(near.pairs)]
        sharp = np.array([face.sharpness or 0.0 for face in faces])
        # The sharper one comes first: it stays where both are one.
        return [
            (faces[one], faces[other], kind)
            if sharp[one] >= sharp[other]
            else (faces[other], faces[one], kind)
            for one, other, kind in pairs
        ]

    def _progress(self, done: int, of: int) -> None:
        if self._ending.is_set():
            raise _EndedError
        self._done, self._total = done, of
