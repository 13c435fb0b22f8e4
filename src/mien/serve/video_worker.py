"""The thread that analyses uploaded videos, one after the other: the oldest that waits, whoever took it in."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, TypeVar

from mien.errors import ImageError, MienError
from mien.files import cannot_write, shell_word
from mien.predict.analyzer import Analyzer
from mien.serve.config import MEGA, ServeConfig
from mien.serve.database import DatabaseLost
from mien.serve.jobs import ROWS, TABLE, VIDEO, JobLost, Jobs, State
from mien.serve.metrics import Metrics
from mien.serve.problems import BUG, problem, problem_of
from mien.video.analyze import VideoFrame, analyze_frames
from mien.video.reader import ONLY_CONTAINERS, OPTIONS_VARIABLE, Video, open_video
from mien.video.sinks import CsvSink

T = TypeVar("T")
_NAME = "the video"
_SHOWN = ("track", "box", "emotion", "probability", "probabilities", "uncertain", "reasons")  # of each face
_NOTE_S = 0.5  # between two notes of the progress
_LOOK_S = 0.5  # between two looks whether a job waits that another process took in
_AGAIN_S = 1.0  # between two tries to store results while the database does not answer
_STOPPED = "the server is going down; send the video to another or later"


class VideoWorker:
    """Analyses videos that wait, one after the other, whoever took them in. `stop` from any thread.

    folder: for temporary files; OpenCV wants a film to have a path for a moment.
    """

    def __init__(
        self, jobs: Jobs, analyzer: Analyzer, config: ServeConfig, metrics: Metrics, folder: Path
    ) -> None:
        os.environ[OPTIONS_VARIABLE] = ONLY_CONTAINERS
        self._jobs, self._analyzer, self._config, self._metrics = jobs, analyzer, config, metrics
        self._folder = folder
        self._news, self._stopping = threading.Event(), threading.Event()
        self._draining = False
        self._only_waiting_until = 0.0
        self.is_busy = False
        self._thread = threading.Thread(target=self._run, name="mien-videos", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look for a job that waits without delay."""
        self._news.set()

    def drain(self) -> None:
        """Go on with the running video; tell those that wait that their turn will not come, unless they can wait."""
        self._draining = True
        if not self._jobs.outlive:
            with suppress(MienError):  # the folder is lost, and the jobs with it
                self._jobs.give_up_waiting(problem(_STOPPED, 503))

    @property
    def works(self) -> bool:
        return self._thread.is_alive()

    def stop(self, patience_s: float = 5.0) -> bool:
        """Give up what is running and end the thread; False where it does not end."""
        self._draining = True
        self._stopping.set()
        self._news.set()
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            found = False
            try:
                found = not self._draining and self._next()
            except MienError:  # the database has said so in the log
                # Whoever works on a video lost it too: he is the first to go on.
                self._only_waiting_until = time.monotonic() + self._config.lease_s
            except Exception:  # the next one may fare better
                logging.getLogger("mien").exception("no video can be taken from the queue")
            if not found:
                self._news.wait(_LOOK_S)  # others that share the queue may have put a job there
                self._news.clear()

    def _next(self) -> bool:
        """Work on the oldest video that waits; False where there is none."""
        state = self._jobs.take(left=time.monotonic() > self._only_waiting_until)
        if state is None:
            return False
        self.is_busy = True
        try:
            # JobLost, _Stopped: cancelled, or another has it or will have it.
            with self._metrics.videos.track_inprogress(), suppress(JobLost, _Stopped):
                self._one(state)
        finally:
            self._jobs.forget(state.id)  # however that ended: what could not be stored is begun anew
            self.is_busy = False
        return True

    def _one(self, state: State) -> None:
        """Analyse a video and store how it ended. A bug is logged and told without details."""
        noted = time.monotonic()

        def progress(share: float) -> None:
            nonlocal noted
            if self._stopping.is_set():
                raise _Stopped
            if time.monotonic() - noted >= _NOTE_S:
                noted = time.monotonic()
                with suppress(DatabaseLost):  # it may be back before the end
                    self._jobs.progress(state.id, share)

        try:
            with (
                tempfile.TemporaryFile(dir=self._folder) as rows,
                tempfile.TemporaryFile(dir=self._folder) as table,
            ):
                path = self._until_it_answers(lambda: self._copied(state.id))
                about = analyze_upload(path, self._analyzer, self._config, progress, rows=rows, table=table)
                results: dict[str, IO[bytes]] = {ROWS: rows, TABLE: table}
                self._until_it_answers(lambda: self._jobs.finish(state.id, about, results))
                return
        except JobLost:
            raise
        except _Stopped:
            if self._jobs.outlive:
                self._jobs.put_back(state)
                return
            why = problem(_STOPPED, 503)
        except MienError as error:
            why = problem_of(error)
        except OSError as error:
            why = problem_of(cannot_write(Path("the results"), error))
        except Exception:
            logging.getLogger("mien").exception("a video could not be analysed")
            why = problem(BUG, 500)
        self._until_it_answers(lambda: self._jobs.fail(state.id, why))

    def _until_it_answers(self, what: Callable[[], T]) -> T:
        """Do what needs the database, which may be away for a while: what was computed is not to be lost."""
        while True:
            try:
                return what()
            except DatabaseLost:
                if self._stopping.wait(_AGAIN_S):
                    raise _Stopped from None

    def _copied(self, job: str) -> Path:
        """Return a file with the video, which only we know of."""
        number, name = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(number, "wb") as file:
                file.writelines(self._jobs.pieces(job, VIDEO))
        except BaseException:
            Path(name).unlink()
            raise
        return Path(name)


class _Stopped(Exception):
    """The server is going down."""


def analyze_upload(
    path: Path,
    analyzer: Analyzer,
    config: ServeConfig,
    progress: Callable[[float], None],
    *,
    rows: IO[bytes],
    table: IO[bytes],
) -> dict[str, Any]:
    """Analyse a video and remove its file; return what the results say before their rows.

    progress: called with the share that is done, 0 to 1; what it raises ends the analysis. rows: gets a line of JSON a
    frame. table: gets CSV. Raises ImageError for what is no video, is cut off, or takes longer than is allowed.
    """
    try:
        with open_video(path) as video:
            with suppress(OSError):  # Windows keeps an open file; elsewhere it is gone, even after a crash
                path.unlink()
            _check(video, config)
            return _write(_in_time(video, analyzer, config, progress), video, analyzer, rows, table)
    except ImageError as error:
        told = str(error).replace(f"-i {shell_word(path)}", "-i FILE")
        raise ImageError(told.replace(str(path), _NAME)) from error
    finally:
        path.unlink(missing_ok=True)


def _check(video: Video, config: ServeConfig) -> None:
    width, height = video.size_px
    if width * height > config.max_pixels:
        raise ImageError(
            f"{_NAME} has {width}x{height} pixels, more than the {config.max_pixels / MEGA:g} megapixels that this "
            "server takes; make it smaller first"
        )


def _in_time(
    video: Video, analyzer: Analyzer, config: ServeConfig, progress: Callable[[float], None]
) -> Iterator[VideoFrame]:
    ends = time.monotonic() + 60 * config.max_video_minutes
    with closing(analyze_frames(video, analyzer)) as frames:
        for frame in frames:
            if time.monotonic() > ends:
                raise ImageError(
                    f"{_NAME} takes longer than the {config.max_video_minutes:g} minutes that this server gives; cut it"
                )
            progress(min(frame.time_s / video.length_s, 1.0) if video.length_s else 0.0)
            yield frame


def _write(
    frames: Iterator[VideoFrame], video: Video, analyzer: Analyzer, rows: IO[bytes], table: IO[bytes]
) -> dict[str, Any]:
    end_s = 0.0
    text = TextIOWrapper(table, encoding="utf-8", newline="", write_through=True)
    try:
        sink = CsvSink(text, analyzer.head.labels)
        for frame in frames:
            rows.write(json.dumps(_row(frame)).encode() + b"\n")
            sink.add(frame)
            end_s = frame.time_s + 1 / video.fps
    finally:
        text.detach()  # the file stays open
    return {
        "fps": video.fps,
        "width": video.size_px[0],
        "height": video.size_px[1],
        "duration_s": end_s,
        "head": analyzer.head.name,
        "labels": list(analyzer.head.labels),
        "note": video.problem.replace(str(video.path), _NAME),
    }


def _row(frame: VideoFrame) -> dict[str, Any]:
    faces = [{"track": one.track, **one.face.to_dict()} for one in frame.faces]
    return {
        "time_s": frame.time_s,
        "frame": frame.index,
        "faces": [{key: face[key] for key in _SHOWN} for face in faces],
    }
