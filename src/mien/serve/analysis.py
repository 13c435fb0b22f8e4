"""The analysis of one video that a client sent: rows and a table in its folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from mien.errors import ImageError
from mien.predict.analyzer import Analyzer
from mien.serve.config import MEGA, ServeConfig
from mien.serve.jobs import ABOUT, ROWS, TABLE, VIDEO
from mien.video.analyze import analyze_frames
from mien.video.reading import Video, open_video
from mien.video.results import VideoFrame
from mien.video.table import CsvTable

NAME = "the video"


class Stopped(Exception):
    """The client has cancelled, or the server is going down."""


def analyse(folder: Path, analyzer: Analyzer, config: ServeConfig, progress: Callable[[float], None]) -> None:
    """Analyse the video in a job's folder and remove it.

    progress: called with the share that is done, 0 to 1; what it raises ends the analysis. Raises ImageError for
    what is no video, is cut off, or takes longer than is allowed.
    """
    path = folder / VIDEO
    try:
        with open_video(path) as video:
            with suppress(
                OSError
            ):  # Windows keeps an open file; elsewhere it is gone from here on, even after a crash
                path.unlink()
            _check(video, config)
            _write(folder, _in_time(video, analyzer, config, progress), video, analyzer)
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), NAME)) from error
    finally:
        path.unlink(missing_ok=True)


def _check(video: Video, config: ServeConfig) -> None:
    width, height = video.size_px
    if width * height > config.max_pixels:
        raise ImageError(
            f"{NAME} has {width}x{height} pixels, more than the {config.max_pixels / MEGA:g} megapixels that this "
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
                    f"{NAME} takes longer than the {config.max_video_minutes:g} minutes that this server gives; cut it"
                )
            progress(min(frame.time_s / video.length_s, 1.0) if video.length_s else 0.0)
            yield frame


def _write(folder: Path, frames: Iterator[VideoFrame], video: Video, analyzer: Analyzer) -> None:
    end_s = 0.0
    with (folder / ROWS).open("w") as rows, (folder / TABLE).open("w", newline="", encoding="utf-8") as text:
        table = CsvTable(text, analyzer.head.labels)
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
        "note": video.problem.replace(str(video.path), NAME),
    }
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")


def _row(frame: VideoFrame) -> dict[str, Any]:
    return {
        "time_s": frame.time_s,
        "frame": frame.index,
        "faces": [
            {
                "track": tracked.track,
                "box": list(tracked.face.box),
                "emotion": tracked.face.emotion,
                "probability": tracked.face.probability,
                "probabilities": dict(tracked.face.probabilities),
                "uncertain": tracked.face.uncertain,
            }
            for tracked in frame.faces
        ],
    }
