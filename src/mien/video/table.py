"""The faces of a video as text: CSV with a row a face and time, or a line of JSON a frame."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import TextIO

from mien.video.results import VideoFrame

_COLUMNS = (
    "frame", "time_s", "track", "emotion", "probability", "uncertain", "head",
    "x", "y", "width", "height", "score", "interpolated",
)  # fmt: skip


class CsvTable:
    """Columns p_LABEL hold the probabilities of the answer, raw_LABEL those of the frame alone.

    Frames without a face have no row: `frame` and `time_s` say which ones are there.
    """

    def __init__(self, file: TextIO, labels: Sequence[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        shares = [f"{kind}_{label}" for kind in ("p", "raw") for label in labels]
        self._writer.writerow([*_COLUMNS, *shares])

    def add(self, frame: VideoFrame) -> None:
        for tracked in frame.faces:
            face = tracked.face
            decision = (face.emotion, face.probability, str(face.uncertain).lower(), face.head)
            place = (*face.box, face.score, str(tracked.interpolated).lower())
            shares = (*face.probabilities.values(), *tracked.raw.values())
            self._writer.writerow([frame.index, frame.time_s, tracked.track, *decision, *place, *shares])


class JsonLines:
    """`VideoFrame.to_dict()` of every frame, those without a face as well."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, frame: VideoFrame) -> None:
        self._file.write(json.dumps(frame.to_dict()) + "\n")
