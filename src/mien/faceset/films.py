"""The faces of a film: followed from frame to frame, and of each track the few sharp ones that differ most.

Memory does not grow with the film: a track keeps a few times as many candidates as will be taken, and gives up the one
that is most like another; a film keeps as many faces as it may give.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Detection, Detector
from mien.errors import ImageError
from mien.faceset.crops import Cut, cut_out, likeness, status_of
from mien.faceset.row import CONTENT_BYTES, SHOWN
from mien.faceset.settings import FacesConfig
from mien.faceset.sources import Source
from mien.files import cannot_write, plain_text, whole_file
from mien.images.decode import workers
from mien.terminal import counted
from mien.video.analyze import VideoSettings, detect_resized
from mien.video.reader import Frame, open_video, prefetch
from mien.video.tracking import BoxTracker, TrackerSettings, with_cuts

_CHUNK = 1 << 20  # bytes of a film that are read at once
_PREFETCH = 8  # frames decoded in advance
_MIN_HITS = 2  # searches in a row in which a face must be found; video has 3, at three times as many searches a second
_MOST = 4  # candidates of a track, in units of what is taken of it
# Likeness from which a frame of a track shows nothing new. In films of four faces that begin to smile, two frames with
# the same smile have 0.97 to 0.98 (medians), a neutral and a smiling one 0.85 to 0.93.
_ALIKE = 0.96
_OVER = 1.25  # times per_film, from which faces are given up before the end

OnFrames = Callable[[int, int], None]  # frames that were read, frames in all (0: the film does not say)


@dataclass(frozen=True, eq=False)
class Pick:
    """A face that was chosen. rank: from 0, in the order in which those of its track were chosen."""

    cut: Cut
    time_s: float
    track: int
    rank: int


@dataclass
class FilmReport:
    """What else came of a film. problem: one line, or ''. The rest: faces, by why they are not among the picks."""

    problem: str = ""
    fleeting: int = 0  # tracks seen in one search alone
    beyond: int = 0  # beyond per_film

    def lines(self, name: str) -> list[str]:
        """Return what to say of faces that were left out because of a limit or as false alarms."""
        said = []
        if self.beyond:
            said.append(
                f"{name}: {counted(self.beyond, 'more face differs', 'more faces differ')}, beyond what "
                "--per-film allows"
            )
        if self.fleeting:
            said.append(
                f"{name}: left out as false alarms: {counted(self.fleeting, 'face')} found in one frame alone"
            )
        return said


def content_of_film(path: Path) -> str:
    """Return what `row.content_key` returns, for a file of any size. ImageError where it cannot be read."""
    digest = hashlib.blake2b(digest_size=CONTENT_BYTES)
    try:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{plain_text(str(path))} cannot be opened: {getattr(error, 'strerror', '') or error}"
        ) from error
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class _Look:
    """A face in one frame. vector: its likeness; good: nothing speaks against it."""

    time_s: float
    cut: Cut
    vector: NDArray[np.float32]
    good: bool

    @property
    def quality(self) -> tuple[bool, float]:
        return self.good, self.cut.sharpness


class _Track(Protocol):
    """What tells tracks apart, and when each was seen last."""

    number: int | None
    seen_s: float


@dataclass(eq=False)
class _GivenTrack:
    """A track of a table."""

    number: int | None
    seen_s: float = 0.0


class SearchLog:
    """The faces that were found in each frame of a film, in a file beside the table until the film is done.

    So a run that was killed within a film does not search again what it had searched. Everything else about a film
    (following, choosing) is a function of these and of the frames, so both runs give the same faces. A frame is a line,
    written as soon as it is known; a last line that was cut off does not count. Safe across threads.

    known: the ids of the faces of this film that were there when it was begun, before any kill.
    """

    def __init__(self, folder: Path, content: str, search: str, known: Iterable[str]) -> None:
        self._path = folder / f".search-{content}.jsonl"
        self._lock = threading.Lock()
        self._found: dict[int, list[Detection]] = {}
        self.known = frozenset(known)
        lines = self._stored(search)
        if not lines:
            lines = [json.dumps({"search": search, "known": sorted(self.known)})]
        self.known = frozenset(json.loads(lines[0])["known"])
        try:
            # What was cut off is left out.
            with whole_file(self._path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def _stored(self, search: str) -> list[str]:
        """Read what an earlier run wrote; nothing where it searched otherwise."""
        try:
            *lines, _ = self._path.read_text(encoding="utf-8").split("\n")  # whole lines alone
            if json.loads(lines[0])["search"] != search:
                return []
            for line in lines[1:]:
                frame, faces = json.loads(line)
                self._found[frame] = [Detection.from_json(values) for values in faces]
        except (OSError, ValueError, LookupError, TypeError):
            self._found.clear()
            return []
        return lines

    def search(self, frame: Frame, detect: Callable[[], Sequence[Detection]]) -> list[Detection]:
        """Return the faces of a frame: those of the file, or those that are found now."""
        if (stored := self._found.get(frame.index)) is not None:
            return stored
        values = [face.to_json() for face in detect()]
        with self._lock:
            try:
                self._file.write(f"{json.dumps([frame.index, values])}\n")
                self._file.flush()
            except OSError as error:
                raise cannot_write(self._path, error) from error
        return [Detection.from_json(one) for one in values]  # as it would come out of the file

    def close(self, *, done: bool) -> None:
        """done: the film is, and its faces are in the table."""
        with suppress(OSError):
            self._file.close()
        if done:
            with suppress(OSError):
                self._path.unlink()


def film_faces(
    source: Source,
    detector: Detector,
    config: FacesConfig,
    report: FilmReport,
    *,
    log: SearchLog | None = None,
    progress: OnFrames | None = None,
) -> Generator[Pick]:
    """Yield the chosen faces of a film, in order of time.

    source: where a table says where its faces are, none are searched for. report: is filled in. log: of what was
    searched before. progress: told the frames that were read. Raises ImageError, before the first face, for what is no
    film.
    """
    kept: list[Pick] = []
    for picks in _by_track(source, detector, config, report, log=log, progress=progress):
        kept += picks
        if len(kept) > _OVER * config.per_film:
            kept, beyond = _shared_out(kept, config.per_film)
            report.beyond += beyond
    kept, beyond = _shared_out(kept, config.per_film)
    report.beyond += beyond
    yield from sorted(kept, key=lambda pick: (pick.time_s, pick.track))


def _shared_out(picks: list[Pick], most: int) -> tuple[list[Pick], int]:
    """Keep of every track those that were chosen first, so that each has its share; return how many are given up."""
    ranked = sorted(picks, key=lambda pick: (pick.rank, pick.track))
    return ranked[:most], max(0, len(ranked) - most)


def _by_track(
    source: Source,
    detector: Detector,
    config: FacesConfig,
    report: FilmReport,
    *,
    log: SearchLog | None,
    progress: OnFrames | None,
) -> Generator[list[Pick]]:
    known = source.frames
    settings = TrackerSettings(min_hits=_MIN_HITS, max_age_s=max(TrackerSettings.max_age_s, 2 * config.every))
    tracker = BoxTracker(settings)
    given: dict[int, _GivenTrack] = {}
    candidates: dict[_Track, _Candidates] = {}
    size = config.detect_size or VideoSettings.detect_size

    def look(frame: Frame) -> tuple[Frame, list[_Look], list[int]]:
        if known is None:
            detect = partial(detect_resized, frame.image, detector, size)
            found: Sequence[Detection] = log.search(frame, detect) if log else detect()
            numbers: list[int] = []
        else:
            found = [face for _, face in known.get(frame.index, ())]
            numbers = [number for number, _ in known.get(frame.index, ())]
        return frame, [_look(frame, face, config) for face in found], numbers

    def finished(tracks: Iterable[_Track]) -> Iterator[list[Pick]]:
        for track in tracks:
            chosen = candidates.pop(track).chosen()
            if track.number is None:
                report.fleeting += 1
                continue
            yield [Pick(one.cut, one.time_s, track.number, rank) for rank, one in enumerate(chosen)]

    with open_video(source.path) as video, ThreadPoolExecutor(workers()) as pool:
        length = round((video.length_s or 0) * video.fps)
        if progress:
            progress(0, length)
        frames = prefetch(video.frames(), _PREFETCH)
        try:
            every = config.every if known is None else 0.0
            wanted = None if known is None else known.keys()
            sampled = _sampled(frames, every, wanted)
            for (frame, looks, numbers), cut in _in_order(pool, look, sampled):
                if cut and known is None:
                    tracker.end_shot()
                    yield from finished(list(candidates))
                tracks: Sequence[_Track]
                if known is None:
                    tracks = tracker.update(frame.time_s, [one.cut.face.box for one in looks])
                else:
                    tracks = [given.setdefault(number, _GivenTrack(number)) for number in numbers]
                for track, one in zip(tracks, looks, strict=True):
                    track.seen_s = frame.time_s
                    candidates.setdefault(track, _Candidates(config)).add(one)
                if known is None:
                    yield from finished(
                        [track for track in candidates if frame.time_s - track.seen_s > settings.max_age_s]
                    )
                if progress:
                    progress(frame.index + 1, length)
        finally:
            frames.close()
        tracker.end_shot()
        yield from finished(list(candidates))
        report.problem = video.problem


def _look(frame: Frame, face: Detection, config: FacesConfig) -> _Look:
    cut = cut_out(frame.image, face, config)
    good = status_of(cut.longer_px, face.score, "", cut.sharpness, config) == SHOWN
    return _Look(frame.time_s, cut, likeness(frame.image, face), good)


def _sampled(
    frames: Iterable[Frame], every: float, wanted: Iterable[int] | None
) -> Iterator[tuple[Frame, bool]]:
    """Yield a frame every so many seconds and the first of each shot; and whether a shot begins there.

    wanted: the frames to take instead, by number.
    """
    due, numbers = 0.0, None if wanted is None else set(wanted)
    for frame, cut in with_cuts(frames):
        if frame.index in numbers if numbers is not None else cut or frame.time_s >= due:
            due = frame.time_s + every - 1e-6
            yield frame, cut


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[Frame], tuple[Frame, list[_Look], list[int]]],
    items: Iterable[tuple[Frame, bool]],
) -> Iterator[tuple[tuple[Frame, list[_Look], list[int]], bool]]:
    """Work on frames in parallel, two a thread in advance, and yield what comes out in their order."""
    waiting: deque[tuple[Future[tuple[Frame, list[_Look], list[int]]], bool]] = deque()
    for frame, cut in items:
        waiting.append((pool.submit(work, frame), cut))
        if len(waiting) > 2 * workers():
            done, was_cut = waiting.popleft()
            yield done.result(), was_cut
    while waiting:
        done, was_cut = waiting.popleft()
        yield done.result(), was_cut


class _Candidates:
    """The looks at one face from which some will be taken: of each stretch of `spacing` seconds the best."""

    def __init__(self, config: FacesConfig) -> None:
        self._config = config
        self._looks: list[_Look] = []
        self._stretch: int | None = None  # of the last look

    def add(self, look: _Look) -> None:
        stretch = int(look.time_s / self._config.spacing) if self._config.spacing else None
        if stretch is not None and stretch == self._stretch:
            if look.quality > self._looks[-1].quality:
                self._looks[-1] = look
            return
        self._stretch = stretch
        self._looks.append(look)
        if len(self._looks) > _MOST * self._config.per_track:
            self._give_one_up()

    def _give_one_up(self) -> None:
        """Drop the worse of the two that are most alike. Not the newest: its stretch of time is not over."""
        vectors = np.stack([one.vector for one in self._looks[:-1]])
        alike = vectors @ vectors.T
        np.fill_diagonal(alike, -1)
        pair = divmod(int(alike.argmax()), len(alike))
        self._looks.pop(min(pair, key=lambda place: self._looks[place].quality))

    def chosen(self) -> list[_Look]:
        """Return looks, the first the best, each next the one least like those before (farthest-point sampling).

        Of a track without a look that is good the best alone is returned, so that it is shown as set aside.
        """
        best = max(self._looks, key=lambda one: one.quality)
        taken = [best]
        rest = [one for one in self._looks if one.good and one is not best]
        nearest = [float(one.vector @ best.vector) for one in rest]
        while rest and best.good and len(taken) < self._config.per_track:
            place = int(np.argmin(nearest))
            if nearest[place] > _ALIKE:
                break
            one = rest.pop(place)
            nearest.pop(place)
            if min(abs(one.time_s - other.time_s) for other in taken) < self._config.spacing:
                continue
            taken.append(one)
            nearest = [
                max(near, float(two.vector @ one.vector)) for near, two in zip(nearest, rest, strict=True)
            ]
        return taken
