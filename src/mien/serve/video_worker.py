"""The thread that analyses uploaded videos, one after the other: rows and a table in each job's folder."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mien.errors import ImageError, MienError
from mien.files import cannot_write
from mien.predict.analyzer import Analyzer
from mien.serve.config import MEGA, ServeConfig
from mien.serve.jobs import ABOUT, ROWS, TABLE, VIDEO, Jobs, State
from mien.serve.metrics import Metrics
from mien.serve.problems import BUG, problem, problem_of
from mien.video.analyze import VideoFrame, analyze_frames
from mien.video.reader import ONLY_CONTAINERS, Video, open_video
from mien.video.sinks import CsvSink

_NAME = "the video"
_SHOWN = ("track", "box", "emotion", "probability", "probabilities", "uncertain")  # of each face
_NOTE_S = 0.2  # between two notes of the progress
_LOOK_S = 0.5  # between two looks whether a job waits that another process took in
_STOPPED = "the server is going down; send the video to another or later"


class VideoWorker:
    """Analyses videos that wait, one after the other, whoever took them in. `stop` from any thread."""

    def __init__(self, jobs: Jobs, analyzer: Analyzer, config: ServeConfig, metrics: Metrics) -> None:
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = ONLY_CONTAINERS
        self._jobs, self._analyzer, self._config, self._metrics = jobs, analyzer, config, metrics
        self._news = threading.Event()
        self._draining = self._stopping = False
        self.is_busy = False
        self._thread = threading.Thread(target=self._run, name="mien-videos", daemon=True)
        self._thread.start()

    def add(self, state: State) -> State:
        """Queue a job whose video has come."""
        state = self._jobs.note(state, status="queued")
        self._news.set()
        return state

    def drain(self) -> None:
        """Go on with the running video; tell those that wait that their turn will not come, unless they can wait."""
        self._draining = True
        if not self._jobs.durable:
            self._jobs.give_up_waiting(problem(_STOPPED, 503))

    @property
    def works(self) -> bool:
        return self._thread.is_alive()

    def stop(self, patience_s: float = 5.0) -> bool:
        """Give up what is running and end the thread; False where it does not end."""
        self._draining = self._stopping = True
        self._news.set()
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            try:
                found = not self._draining and self._next()
            except Exception:  # such as a full disk; the next one may fare better
                logging.getLogger("mien").exception("the state of a video cannot be written")
                found = False
            if not found:
                self._news.wait(_LOOK_S)  # others that share the folder may have put a job there
                self._news.clear()

    def _next(self) -> bool:
        """Work on the oldest video that waits; False where there is none."""
        self.is_busy = True
        try:
            with self._jobs.taken() as state:
                if state is not None:
                    self._one(state)
            return state is not None
        finally:
            self.is_busy = False

    def _one(self, state: State) -> None:
        noted = time.monotonic()

        def progress(share: float) -> None:
            nonlocal noted
            if self._stopping:
                raise _Stopped
            if time.monotonic() - noted < _NOTE_S:
                return
            noted = time.monotonic()
            if self._jobs.is_cancelled(state.id):
                raise _Stopped
            self._jobs.note(state, progress=share)

        with self._metrics.videos.track_inprogress():
            try:
                end = self._analysed(state, progress)
            except _Stopped:
                if self._jobs.durable and not self._jobs.is_cancelled(state.id):
                    self._jobs.put_back(state)
                    return
                end = replace(state, status="failed", problem=problem(_STOPPED, 503))
        self._jobs.note(end)
        self._jobs.place(state.id, VIDEO).unlink(missing_ok=True)

    def _analysed(self, state: State, progress: Callable[[float], None]) -> State:
        """Return how the job ended; a bug is logged and told without details."""
        folder = self._jobs.place(state.id)
        try:
            analyze_upload(folder, self._analyzer, self._config, progress, keep=self._jobs.durable)
        except _Stopped:
            raise
        except MienError as error:
            return replace(state, status="failed", problem=problem_of(error))
        except OSError as error:
            return replace(
                state, status="failed", problem=problem_of(cannot_write(Path("the results"), error))
            )
        except Exception:
            logging.getLogger("mien").exception("a video could not be analysed")
            return replace(state, status="failed", problem=problem(BUG, 500))
        return replace(state, status="done", progress=1.0)


class _Stopped(Exception):
    """The client has cancelled, or the server is going down."""


def analyze_upload(
    folder: Path,
    analyzer: Analyzer,
    config: ServeConfig,
    progress: Callable[[float], None],
    *,
    keep: bool = False,
) -> None:
    """Analyse the video in a job's folder and remove it. keep: leave it there, so that another can begin anew.

    progress: called with the share that is done, 0 to 1; what it raises ends the analysis. Raises ImageError for
    what is no video, is cut off, or takes longer than is allowed.
    """
    path = folder / VIDEO
    try:
        with open_video(path) as video:
            if not keep:
                with suppress(
                    OSError
                ):  # Windows keeps an open file; elsewhere it is gone, even after a crash
                    path.unlink()
            _check(video, config)
            _write(folder, _in_time(video, analyzer, config, progress), video, analyzer)
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), _NAME)) from error
    finally:
        if not keep:
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


def _write(folder: Path, frames: Iterator[VideoFrame], video: Video, analyzer: Analyzer) -> None:
    end_s = 0.0
    with (folder / ROWS).open("w") as rows, (folder / TABLE).open("w", newline="", encoding="utf-8") as text:
        table = CsvSink(text, analyzer.head.labels)
        for frame in frames:
            rows.write(json.dumps(_row(frame)) + "\n")
            table.add(frame)
            end_s = frame.time_s + 1 / video.fps
    about = {
        "fps": video.fps,
        "width": video.size_px[0],
        "height": video.size_px[1],
        "duration_s": end_s,
        "head": analyzer.head.name,
        "labels": list(analyzer.head.labels),
        "note": video.problem.replace(str(video.path), _NAME),
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _row(frame: VideoFrame) -> dict[str, Any]:
    faces = [{"track": one.track, **one.face.to_dict()} for one in frame.faces]
    return {
        "time_s": frame.time_s,
        "frame": frame.index,
        "faces": [{key: face[key] for key in _SHOWN} for face in faces],
    }
