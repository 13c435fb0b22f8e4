"""All that `mien video` writes about one video: each file whole or not at all, and all of them or none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2

from mien.files import cannot_write, csv_writer, spreadsheet_safe, whole_file
from mien.images.listing import TIMELINE
from mien.images.marks import marked
from mien.video.analyze import VideoFrame
from mien.video.places import FORMS, Place, mark
from mien.video.reader import Video
from mien.video.timeline import Timeline, draw_timeline
from mien.video.writer import AnnotatedVideo, add_audio, ffmpeg, suffix

_COLUMNS = (
    "frame", "time_s", "track", "emotion", "probability", "uncertain", "reasons", "head", "prior",
    "x", "y", "width", "height", "score", "interpolated",
)  # fmt: skip


class CsvSink:
    """Columns p_LABEL hold the probabilities of the answer, raw_LABEL those of the frame alone.

    Frames without a face have no row: `frame` and `time_s` say which ones are there.
    """

    def __init__(self, file: TextIO, labels: Sequence[str]) -> None:
        self._writer = csv_writer(file)
        self._writer.writerow(map(spreadsheet_safe, video_columns(labels)))

    def add(self, frame: VideoFrame) -> None:
        for row in video_rows(frame):
            cells = (str(cell).lower() if isinstance(cell, bool) else cell for cell in row)
            self._writer.writerow(
                [spreadsheet_safe(cell) if isinstance(cell, str) else cell for cell in cells]
            )


def video_columns(labels: Sequence[str]) -> list[str]:
    """Return the columns of a table of a video."""
    return [*_COLUMNS, *(f"{kind}_{label}" for kind in ("p", "raw") for label in labels)]


def video_rows(frame: VideoFrame) -> Iterator[list[Any]]:
    """Yield the rows of a frame, one a face, with the columns of `video_columns`; numbers are rounded."""
    values = frame.to_dict()
    for face in values["faces"]:
        reasons = (reason.replace(" ", "-") for reason in face["reasons"])  # as mien predict --csv has them
        decision = (face["emotion"], face["probability"], face["uncertain"], " ".join(reasons))
        place = (*face["box"], face["score"], face["interpolated"])
        shares = (*face["probabilities"].values(), *face["raw_probabilities"].values())
        yield [
            values["frame"],
            values["time_s"],
            face["track"],
            *decision,
            face["head"],
            face["prior"],
            *place,
            *shares,
        ]


class JsonLinesSink:
    """`VideoFrame.to_dict()` of every frame, those without a face as well."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, frame: VideoFrame) -> None:
        self._file.write(json.dumps(frame.to_dict()) + "\n")


_NO_FFMPEG = (
    "the marked video is VP8 without sound, because there is no ffmpeg that writes H.264; install ffmpeg for a "
    "smaller file, with sound, in less time"
)


class Outputs:
    """Writes NAME-faces.csv, NAME-timeline.png and, where asked for, NAME-faces.jsonl and NAME-faces.mp4 or .webm.

    place: the folder, and NAME.
    Use it as a context. The files get their names when the block ends after `finish`; an exception leaves nothing.
    notes: after `finish`, lines for the user. timeline: what was seen of each face so far. OutputError where something
    cannot be written.
    """

    def __init__(
        self, video: Video, place: Place, labels: Sequence[str], *, jsonl: bool = False, marked: bool = True
    ) -> None:
        self.notes: list[str] = []
        self.length_s = 0.0
        self._source, self._place = video, place
        self._labels = tuple(labels)
        self._wants_jsonl, self._wants_video = jsonl, marked
        self.timeline = Timeline(labels, video.fps)
        self._tables: list[tuple[Path, CsvSink | JsonLinesSink]] = []
        self._texts: list[tuple[Path, TextIO]] = []
        self._video: AnnotatedVideo | None = None
        self._stack = ExitStack()
        self._named: list[Path] = []

    def __enter__(self) -> Outputs:
        with ExitStack() as stack:
            path = self._path("-faces.csv")
            self._tables.append((path, CsvSink(self._open(stack, path), self._labels)))
            if self._wants_jsonl:
                path = self._path("-faces.jsonl")
                self._tables.append((path, JsonLinesSink(self._open(stack, path))))
            self._image = stack.enter_context(whole_file(self._path(TIMELINE)))
            if self._wants_video:
                self._result = stack.enter_context(whole_file(self._path(f"-faces{suffix()}")))
                self._pictures = self._result.with_name(f"{self._result.stem}.pictures{suffix()}")
                stack.callback(self._pictures.unlink, missing_ok=True)
                self._video = stack.enter_context(AnnotatedVideo(self._pictures, self._source.fps))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, frame: VideoFrame) -> None:
        """Take in the next frame."""
        for path, table in self._tables:
            try:
                table.add(frame)
            except OSError as error:
                raise cannot_write(path, error) from error
        self.timeline.add(frame)
        if self._video is not None:
            self._video.add(frame)
        self.length_s = self.timeline.length_s

    def finish(self) -> list[Path]:
        """Complete every file and return what they will be called."""
        for path, text in self._texts:  # here and not on closing, when others have got their names already
            try:
                text.flush()
            except OSError as error:
                raise cannot_write(path, error) from error
        self._image.write_bytes(self._plot())
        if self._video is not None:
            self._video.finish()
            self._with_sound()
        self._note_older()
        return self._named

    def _plot(self) -> bytes:
        picture = draw_timeline(self.timeline, self._source.path.name)
        encoded = cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()
        return marked(encoded, mark(self._place.origin))

    def _with_sound(self) -> None:
        program = ffmpeg()
        if program is None:
            self._pictures.replace(self._result)
            self.notes.append(_NO_FFMPEG)
        elif said := add_audio(program, self._pictures, self._source.path, self._result, self.length_s):
            self._pictures.replace(self._result)
            self.notes.append(f"the marked video has no sound, ffmpeg could not take it over: {said[:200]}")

    def _note_older(self) -> None:
        """Say what an earlier run has left here that this one does not replace: it may show other settings' answers."""
        forms = (self._place.folder / f"{self._place.stem}{form}" for form in FORMS)
        if older := ", ".join(str(path) for path in forms if path not in self._named and path.exists()):
            self.notes.append(f"of an earlier run, and not written anew: {older}")

    def _open(self, stack: ExitStack, path: Path) -> TextIO:
        temporary = stack.enter_context(whole_file(path))
        text = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
        self._texts.append((path, text))
        return text

    def _path(self, ending: str) -> Path:
        self._named.append(self._place.folder / f"{self._place.stem}{ending}")
        return self._named[-1]
