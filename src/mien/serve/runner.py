"""The thread that analyses videos, one after the other."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mien.errors import MienError
from mien.files import cannot_write
from mien.predict.analyzer import Analyzer
from mien.serve.analysis import Stopped, analyse
from mien.serve.config import ServeConfig
from mien.serve.jobs import Jobs, State
from mien.serve.meter import Meter
from mien.serve.problems import BUG, problem, problem_of
from mien.video.reading import ONLY_CONTAINERS

_NOTE_S = 0.2  # between two notes of the progress
_STOPPED = "the server is going down; send the video to another or later"


class Runner:
    """Analyses queued videos of this process. `stop` from any thread."""

    def __init__(self, jobs: Jobs, analyzer: Analyzer, config: ServeConfig, meter: Meter) -> None:
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = ONLY_CONTAINERS
        self._jobs, self._analyzer, self._config, self._meter = jobs, analyzer, config, meter
        self._queue: queue.Queue[State | None] = queue.Queue()
        self._draining = self._stopping = False
        self._at_work = 0
        self._count = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="mien-videos", daemon=True)
        self._thread.start()

    def add(self, state: State) -> State:
        """Queue a job whose video has come."""
        state = self._jobs.note(state, status="queued")
        with self._count:
            self._at_work += 1
        self._queue.put(state)
        return state

    @property
    def is_busy(self) -> bool:
        return self._at_work > 0

    def drain(self) -> None:
        """Go on with the running video; tell those that wait that their turn will not come."""
        self._draining = True

    def stop(self) -> None:
        """Give up what is running and end the thread."""
        self._draining = self._stopping = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (state := self._queue.get()) is not None:
            try:
                self._one(state)
            except OSError:
                logging.getLogger("mien").exception("the state of a video cannot be written")
            finally:
                with self._count:
                    self._at_work -= 1

    def _one(self, state: State) -> None:
        if self._jobs.is_cancelled(state.id):
            return
        if self._draining:
            self._jobs.note(state, status="failed", problem=problem(_STOPPED, 503))
            return
        state = self._jobs.note(state, status="running")
        noted = time.monotonic()

        def progress(share: float) -> None:
            nonlocal noted
            if self._stopping:
                raise Stopped
            if time.monotonic() - noted < _NOTE_S:
                return
            noted = time.monotonic()
            if self._jobs.is_cancelled(state.id):
                raise Stopped
            self._jobs.note(state, progress=share)

        with self._meter.videos.track_inprogress():
            end = self._analysed(state, progress)
        self._jobs.note(end)

    def _analysed(self, state: State, progress: Callable[[float], None]) -> State:
        """Return how the job ended; a bug is logged and told without details."""
        folder = self._jobs.place(state.id)
        try:
            analyse(folder, self._analyzer, self._config, progress)
        except Stopped:
            return replace(state, status="failed", problem=problem(_STOPPED, 503))
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
