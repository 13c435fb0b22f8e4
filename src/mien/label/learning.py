"""Beside the people who label: features of all faces, guesses that are fitted anew after answers, what is doubtful.

One thread does it, behind the page: nobody waits for it, and whatever goes wrong in it is told and costs no answer.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.detect.base import align
from mien.errors import MienError, OutputError, need
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet
from mien.files import whole_file
from mien.images.decode import read_image
from mien.label import active
from mien.label.wall import PATIENCE_S, Wall
from mien.model.classifier import Classifier
from mien.model.folder import file_sha256
from mien.model.preprocess import to_model_inputs
from mien.predict.analyzer import model_folder

CACHE = "features.npz"
_BATCH = 32  # faces at a time through the network
_SAVE_S = 30.0  # between two savings of the features while they are computed
_QUIET_S = 0.4  # of no answer before the guesses are fitted anew, and at most ten times that without
_MOST_DOUBTS = 300
_CLOSE = 0.35  # a margin above this leaves nothing to ask

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Guesses:
    """What the page shows of what was learnt. All by place.

    version: grows with every fit. session: of the wall, whose places these are. guess: number of a class, -1 for none.
    share: its probability in percent. helpful: places, the most helpful first. alike: places in the order of what the
    shipped network sees, so that faces that are alike stand together. doubts: place, what it probably is, in percent;
    the most doubtful first. likely: how many labels are probably wrong.
    """

    version: int = 0
    session: str = ""
    classes: tuple[str, ...] = ()
    guess: Sequence[int] = ()
    share: Sequence[int] = ()
    helpful: Sequence[int] = ()
    alike: Sequence[int] = ()
    doubts: Sequence[tuple[int, str, int]] = ()
    likely: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)


class Learning:
    """Fits guesses to the answers on a wall, in a thread of its own. guesses: the newest."""

    def __init__(self, wall: Wall) -> None:
        self.wall = wall
        self.guesses = Guesses()
        self.step, self.note = "waiting", ""
        self._done, self._total = 0, 0
        self._answered, self._ending = threading.Event(), threading.Event()
        self._features: dict[str, Floats] = {}
        self._seen: dict[str, Floats] = {}  # what the shipped network answers, by id
        self._classifier: Classifier | None = None
        wall.on_answer(self._answered.set)
        self._thread = threading.Thread(target=self._run, name="learning", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> bool:
        """Stop, and say whether the thread has ended: guesses that nobody will see are not worth waiting for."""
        self._ending.set()
        self._answered.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        return not self._thread.is_alive()

    def told(self) -> dict[str, Any]:
        """Return how far the work is, for every answer to the page. version: 0 without guesses about these faces."""
        return {
            "version": self.guesses.version if self.guesses.session == self.wall.session else 0,
            "step": self.step,
            "note": self.note,
            "done": self._done,
            "total": self._total,
            **self.guesses.about,
        }

    def _run(self) -> None:
        took_s = self._work()
        while not self._ending.is_set():
            self._answered.wait()
            self._ending.wait(took_s)  # half of the time belongs to others on this machine
            latest = time.monotonic() + 10 * _QUIET_S
            while self._answered.is_set() and not self._ending.is_set() and time.monotonic() < latest:
                self._answered.clear()
                self._ending.wait(_QUIET_S)
            self._answered.clear()
            if not self._ending.is_set():
                took_s = self._work()

    def _work(self) -> float:
        """Do what there is to do, and return the seconds that fitting took. Where it fails, the page says so."""
        begun = time.monotonic()
        try:
            session, faces = self.wall.shown
            self._look_at_faces(faces)
            begun = time.monotonic()
            # Threads of BLAS wait by spinning: beside a page that is served they cost more than they bring.
            with need("threadpoolctl", "train", "learning from labels").threadpool_limits(1, user_api="blas"):
                self._fit(session, faces)
        except MienError as error:
            self.step, self.note = "off", f"there are no new guesses: {error}"
        # The page works on without guesses, and the next answers may bring them back.
        except Exception as error:
            if self.step != "off" and not self._ending.is_set():
                logging.getLogger("mien").exception("learning beside the labels failed")
            self.step, self.note = "off", f"there are no new guesses: {type(error).__name__}"
        return time.monotonic() - begun

    # Features

    def _look_at_faces(self, faces: Sequence[FaceRow]) -> None:
        """Compute the features of faces that have none yet; they are kept in `features.npz`."""
        if all(face.id in self._features for face in faces):
            return
        if self._classifier is None:
            self._classifier = Classifier(model_folder(None))
        classifier = self._classifier
        stamp = _stamp(model_folder(None))
        if not self._features:
            self._features, self._seen = _load(self.wall.folder / CACHE, stamp)
        missing = [face for face in faces if face.id not in self._features]
        self.step, self._done, self._total = "looking", len(faces) - len(missing), len(faces)
        saved = time.monotonic()
        for ids, features, seen in _computed(classifier, self.wall.faceset, missing):
            self._features.update(zip(ids, features, strict=True))
            self._seen.update(zip(ids, seen, strict=True))
            self._done += len(ids)
            if self._ending.is_set() or time.monotonic() - saved > _SAVE_S:
                _save(self.wall.folder / CACHE, stamp, self._features, self._seen)
                saved = time.monotonic()
            if self._ending.is_set():
                return
        if missing:
            _save(self.wall.folder / CACHE, stamp, self._features, self._seen)

    # Guesses

    def _fit(self, session: str, faces: Sequence[FaceRow]) -> None:
        """Fit the guesses to the answers that there are now."""
        if self._ending.is_set():
            return
        self.step = "learning"
        classes = self.wall.store.classes
        number = {name: place for place, name in enumerate(classes)}
        agreed = [self.wall.agreed(face) for face in faces]
        kinds = max(1, len(classes))  # the wall can be sorted before there is any
        places, votes = [], []
        for place, (face, said) in enumerate(zip(faces, agreed, strict=True)):
            if said.status_over(face.status) or not np.isfinite(self._features[face.id][0]):
                continue
            row = np.zeros(kinds, np.float32)
            for name, count in said.votes.items():
                if name in number:
                    row[number[name]] = count
            places.append(place)
            votes.append(row)
        if not places:
            self.step, self.note = "ready", ""
            return
        rows = np.array(places)
        features = np.stack([self._features[faces[place].id] for place in places])
        groups = np.array([faces[place].group for place in places])
        learner = active.fit(features, np.array(votes), groups, classes=kinds)
        guess, share = np.full(len(faces), -1, np.int64), np.zeros(len(faces), np.int64)
        if learner.head is not None and (learner.counts >= active.ENOUGH).sum() > 1:
            guess[rows] = learner.guesses
            best = learner.probabilities.max(axis=1)
            # What is short of certain is never shown as certain.
            share[rows] = np.clip(np.round(100 * best), 1, 99)
        curve = active.learning_curve(learner)
        own = self._own([faces[place].id for place in places], classes)
        doubts, likely = _doubts(learner, own, [agreed[place].kept for place in places], classes)
        self.guesses = Guesses(
            version=self.guesses.version + 1,
            session=session,
            classes=classes,
            guess=guess.tolist(),
            share=share.tolist(),
            helpful=rows[active.order(learner)].tolist(),
            alike=self._alike(faces),
            doubts=[(int(rows[row]), name, percent) for row, name, percent in doubts],
            likely=likely,
            about=_about(learner, curve, classes, len(doubts)),
        )
        self.step, self.note = "ready", ""

    def _own(self, ids: Sequence[str], classes: Sequence[str]) -> Floats | None:
        """Return what the shipped network says of faces, (n, classes); None where it does not know all classes."""
        from mien.data.label_errors import in_classes

        assert self._classifier is not None
        metadata = self._classifier.metadata
        return in_classes(
            metadata, {metadata.head().name: np.stack([self._seen[one] for one in ids])}, classes
        )

    def _alike(self, faces: Sequence[FaceRow]) -> list[int]:
        """Order faces by the expression that the shipped network sees, the surest of each first."""
        seen = np.stack([self._seen[face.id] for face in faces])
        best = np.nan_to_num(seen.max(axis=1), nan=-1.0)
        kind = np.where(best < 0, seen.shape[1], np.nan_to_num(seen, nan=-1.0).argmax(axis=1))
        return [int(place) for place in np.lexsort((-best, kind))]


def _doubts(
    learner: active.Learner, own: Floats | None, kept: Sequence[str], classes: Sequence[str]
) -> tuple[list[tuple[int, str, int]], int]:
    """Return labels that heads fitted without them doubt, the most doubtful first, and how many are probably wrong.

    As `mien.data.label_errors` ranks them. own: (n, classes), what the shipped network says, where it knows the
    classes. kept: the label of each face that somebody has confirmed; it is not asked again.
    """
    labelled = np.flatnonzero(learner.labels >= 0)
    if learner.accuracy is None or not len(labelled):
        return [], 0
    from mien.data.label_errors import normalised_margin, ranked

    known = np.unique(learner.labels[labelled])
    labels = np.searchsorted(known, learner.labels[labelled])
    chances = _reduced(learner.probabilities[labelled], known)
    with suppress(ValueError, IndexError):  # confident learning needs every class twice or so
        opinion = None if own is None else _reduced(own[labelled], known)
        sure = opinion is not None and np.isfinite(opinion).all()
        ranking = ranked(chances, labels, opinion if sure else None)
        doubted = int((normalised_margin(chances, labels) <= -_CLOSE).sum())
        found: list[tuple[int, str, int]] = []
        for place in ranking.order[: max(ranking.likely, doubted)].tolist():
            row, other = int(labelled[place]), int(ranking.suggestions[place])
            if kept[row] != classes[learner.labels[row]]:
                share = int(np.clip(round(100 * float(chances[place, other])), 1, 99))
                found.append((row, classes[known[other]], share))
        return found[:_MOST_DOUBTS], ranking.likely
    return [], 0


def _reduced(chances: Floats, known: NDArray[np.int64]) -> Floats:
    """Return probabilities of the classes that have labels alone, rows sum to one."""
    some = chances[:, known]
    return np.asarray(some / np.maximum(some.sum(axis=1, keepdims=True), 1e-9), np.float32)


def _about(
    learner: active.Learner, curve: active.LearningCurve, classes: Sequence[str], doubts: int
) -> dict[str, Any]:
    def number(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else round(float(value), 4)

    return {
        "labelled": int(learner.counts.sum()),
        "enough": active.ENOUGH,
        "accuracy": number(learner.accuracy),
        "expected": number(learner.expected_accuracy),
        "notes": list(learner.notes),
        "curve": {
            "labels": list(curve.labels),
            "accuracy": [number(value) for value in curve.accuracy],
            "known": curve.known,
        },
        "recall": {name: number(value) for name, value in zip(classes, curve.recall, strict=False)},
        "needed": None if curve.most_needed is None or not classes else classes[curve.most_needed],
        "doubts": doubts,
    }


def _computed(
    classifier: Classifier, faceset: FaceSet, faces: Sequence[FaceRow]
) -> Iterator[tuple[list[str], Floats, Floats]]:
    """Yield ids, features and the network's answers of faces, a batch at a time; NaN where a crop cannot be read."""
    how = classifier.metadata.preprocess
    head = classifier.metadata.head().name
    for start in range(0, len(faces), _BATCH):
        batch = faces[start : start + _BATCH]
        crops, lost = [], []
        for place, face in enumerate(batch):
            try:
                image = read_image(faceset.crop_path(face))
                crops.append(align(image, face.in_crop(image.shape[1]), how.margin))
            except MienError:
                lost.append(place)
        features, answers = classifier.features_and_probabilities(to_model_inputs(crops, how))
        seen = answers[head]
        for place in lost:
            features = np.insert(features, place, np.nan, axis=0)
            seen = np.insert(seen, place, np.nan, axis=0)
        yield [face.id for face in batch], features, seen


def _stamp(model: Path) -> str:
    """Return what the features depend on besides the faces, whose content their ids stand for."""
    files = sorted(path for path in model.iterdir() if path.suffix in (".onnx", ".json"))
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def _load(path: Path, stamp: str) -> tuple[dict[str, Floats], dict[str, Floats]]:
    try:
        with np.load(path) as stored:
            if str(stored["stamp"]) != stamp:
                return {}, {}
            ids = stored["ids"].tolist()
            return (
                dict(zip(ids, stored["features"], strict=True)),
                dict(zip(ids, stored["seen"], strict=True)),
            )
    except Exception:  # missing, damaged or something else: it is made again
        return {}, {}


def _save(path: Path, stamp: str, features: Mapping[str, Floats], seen: Mapping[str, Floats]) -> None:
    """Store the features. A cache: nothing fails without it."""
    ids = list(features)
    if not ids:
        return
    with suppress(OutputError), whole_file(path) as temporary:
        np.savez(
            temporary,
            ids=np.array(ids, str),
            features=np.stack([features[one] for one in ids]),
            seen=np.stack([seen[one] for one in ids]),
            stamp=np.array(stamp),
        )
