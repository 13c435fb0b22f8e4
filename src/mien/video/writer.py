"""The annotated video: frames in, at any times and of any size; out comes a file that browsers play."""

from __future__ import annotations

import math
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import OutputError
from mien.files import is_utf8
from mien.predict.annotate import annotated_frame
from mien.video.analyze import VideoFrame

Picture = NDArray[np.uint8]
_PROBE_BYTES = 1 << 20
_MATROSKA, _HEAD_BYTES = b"matroska", 256  # the word stands at the beginning of the file
_WAIT_S = 0.05  # how often a waiting thread looks whether it should end


class Encoder(Protocol):
    """Writes RGB frames (height, width, 3) of one even size; `close` makes the file whole, `abort` gives it up."""

    def write(self, frame: Picture) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


@cache
def ffmpeg() -> str | None:
    """Return the ffmpeg program on PATH if it can write H.264; None otherwise."""
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    done = subprocess.run(
        [program, "-hide_banner", "-encoders"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return program if b" libx264 " in done.stdout else None


def suffix() -> str:
    """Return the suffix of the video files that this machine writes."""
    return ".mp4" if ffmpeg() else ".webm"


def encoder(path: Path, size_px: tuple[int, int], rate: Fraction) -> Encoder:
    """Begin a video file with `suffix()`. size_px: (width, height), even. rate: frames a second."""
    program = ffmpeg()
    return FfmpegEncoder(program, path, size_px, rate) if program else OpenCVEncoder(path, size_px, rate)


class FfmpegEncoder:
    """H.264 in MP4, through a pipe to ffmpeg. What goes wrong there is an OutputError with its last line."""

    def __init__(self, program: str, path: Path, size_px: tuple[int, int], rate: Fraction) -> None:
        self._path = path
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        width, height = size_px
        command = [
            *(program, "-v", "error", "-y"),
            *(
                "-f",
                "rawvideo",
                "-pix_fmt",
                "rgb24",
                "-s",
                f"{width}x{height}",
                "-r",
                str(rate),
                "-i",
                "pipe:0",
            ),
            # Players take untagged video above 576 lines for BT.709, while ffmpeg converts with BT.601.
            *("-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"),
            *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
            *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20"),
            *("-movflags", "+faststart", f"file:{path}"),
        ]
        # A group of its own, because Ctrl-C goes to all of the terminal's group; ffmpeg must live on and finish.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=os.name != "nt",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        assert self._process.stdin is not None  # a pipe was asked for
        self._pipe = self._process.stdin

    def write(self, frame: Picture) -> None:
        try:
            self._pipe.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            self._process.kill()
            raise self._failure() from error

    def close(self) -> None:
        try:
            self._pipe.close()
        except OSError as error:
            raise self._failure() from error
        if self._process.wait() != 0:
            raise self._failure()
        self._said.close()
        check_complete(self._path)

    def abort(self) -> None:
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _failure(self) -> OutputError:
        self._process.wait()
        self._said.seek(0)
        with self._said:
            return encoding_error(self._said.read().decode(errors="replace"))


class OpenCVEncoder:
    """VP8 in WebM, which OpenCV's own wheel can write and browsers play.

    Slower than ffmpeg, and without sound. WebM is Matroska with another word in its head. OpenCV is let write Matroska,
    because for WebM it prints a line on stderr, which nothing keeps it from, and the word is changed afterwards.
    """

    def __init__(self, path: Path, size_px: tuple[int, int], rate: Fraction) -> None:
        self._path, self._matroska = path, path.with_suffix(".mkv")
        if not is_utf8(self._matroska):
            raise OutputError(
                f"cannot write a video to {path.parent}: OpenCV takes no path that is not UTF-8; name another folder, "
                "install ffmpeg, or leave the marked video out (--no-video)"
            )
        code = cv2.VideoWriter.fourcc(*"VP80")
        self._writer = cv2.VideoWriter(str(self._matroska), cv2.CAP_FFMPEG, code, float(rate), size_px)
        if not self._writer.isOpened():
            raise encoding_error("OpenCV cannot write VP8 here; install ffmpeg")

    def write(self, frame: Picture) -> None:
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()
        try:
            check_complete(self._matroska)
            _name_webm(self._matroska)
            self._matroska.replace(self._path)
        finally:
            self._matroska.unlink(missing_ok=True)

    def abort(self) -> None:
        self._writer.release()
        self._matroska.unlink(missing_ok=True)


def _name_webm(path: Path) -> None:
    """Change the document type in the head of a Matroska file. Such words may end in zeros (RFC 8794, section 7.4)."""
    with path.open("r+b") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(head.index(_MATROSKA))
        file.write(b"webm".ljust(len(_MATROSKA), b"\0"))


def check_complete(path: Path) -> None:
    """Raise OSError where a file that others wrote may lack its end, because the disk was full.

    OpenCV never says so, and ffmpeg 5 ends with 0 when the index at the end of an MP4 did not fit. Where there is room
    for a little more, there was room for the file.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(bytes(_PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())
        file.truncate(size)


def encoding_error(said: str) -> OutputError:
    """Return the error for what an encoder said last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    full = next((line for line in lines if "No space left" in line), None)
    reason = "no space left on the disk" if full else lines[-1] if lines else "ffmpeg ended without a word"
    return OutputError(
        f"cannot write the video: {reason[:200]}; free some space or name another place, nothing was lost"
    )


def pad_to_even(frame: Picture) -> Picture:
    """Repeat the last row and column where a side is odd: video codecs halve the colour planes."""
    down, right = frame.shape[0] % 2, frame.shape[1] % 2
    if not down and not right:
        return frame
    return np.asarray(cv2.copyMakeBorder(frame, 0, down, 0, right, cv2.BORDER_REPLICATE), np.uint8)


_QUIET = ("-v", "error", "-nostdin", "-y")


def add_audio(program: str, pictures: Path, original: Path, result: Path, length_s: float) -> str:
    """Write `result`: the pictures as they are, and the sound of the original, in step with its first frame.

    length_s: where the sound ends as well, because the pictures may have been stopped early. Returns an empty string,
    or what ffmpeg said when it failed; a file without sound is no failure, the result has none then.
    """
    said = _run(
        program,
        *(
            "-i",
            f"file:{pictures}",
            "-ss",
            f"{_first_frame_s(program, original):.6f}",
            "-i",
            f"file:{original}",
        ),
        *("-map", "0:v:0", "-map", "1:a?", "-c:v", "copy", "-c:a", "aac", "-b:a", "160k", "-sn", "-dn"),
        *("-t", f"{length_s:.6f}", "-movflags", "+faststart", f"file:{result}"),
    )[1]
    if not said:
        try:
            check_complete(result)
        except OSError as error:
            return str(error.strerror or error)
    return said


def _first_frame_s(program: str, original: Path) -> float:
    """Return how long after the beginning of the file (where sound may begin) its first frame is shown."""
    said = _run(
        program,
        *("-i", f"file:{original}", "-map", "0:v:0", "-c", "copy", "-frames:v", "1", "-f", "framecrc", "-"),
    )[0]
    base = re.search(r"^#tb 0: (\d+)/(\d+)", said, re.M)
    packet = re.search(r"^0, *-?\d+, *(-?\d+),", said, re.M)
    if not base or not packet:
        return 0.0
    return max(0.0, int(packet[1]) * int(base[1]) / int(base[2]))


def _run(program: str, *words: str) -> tuple[str, str]:
    done = subprocess.run([program, *_QUIET, *words], capture_output=True, check=False)
    said = done.stderr.decode(errors="replace").strip()
    return done.stdout.decode(errors="replace"), "" if done.returncode == 0 else said or "ffmpeg failed"


T = TypeVar("T")
_SLOWEST, _FASTEST = 24, 60  # frames a second of what is written
_SLACK = 0.03  # so that 23.976 and a telephone's 60.02 stay what they are


def constant_rate(fps: float) -> Fraction:
    """Return the frame rate to write: the video's own, or a multiple or part of it, from about 24 to 60 a second.

    A multiple, because the average of a variable rate hides faster stretches. 29.97 becomes 30000/1001.
    """
    more, less = math.ceil(_SLOWEST / fps - _SLACK), math.ceil(fps / _FASTEST - _SLACK)
    factor = more if more > 1 else 1 / less
    return Fraction(fps * factor).limit_denominator(1001)


class ConstantFrameRate(Generic[T]):
    """Says how often each frame is to be written, so that the clock of the result is right to half a frame."""

    def __init__(self, rate: Fraction) -> None:
        self._rate = rate
        self._last: T | None = None
        self._written = 0

    def next(self, time_s: float, frame: T) -> tuple[T | None, int]:
        """Take in a frame; return the one before it, and how often that is to be written (0: not at all)."""
        due = max(self._written, math.floor(time_s * self._rate + 0.5))
        before, times = self._last, due - self._written
        self._last, self._written = frame, due
        return (before, times) if before is not None else (None, 0)

    def end(self, end_s: float) -> tuple[T | None, int]:
        """Return the last frame, and how often it is to be written until the video ends: at least once."""
        return self._last, max(1, math.floor(end_s * self._rate + 0.5) - self._written)


_QUEUE, _BYTES = 8, 1 << 25  # frames that wait, fewer of them where they are large


class BackgroundWriter(Generic[T]):
    """Hands items to `work` in a thread, in order. What `work` raises is raised by the next `add` or `close`."""

    def __init__(self, work: Callable[[T], None], size: int) -> None:
        self._work = work
        self._waiting: queue.Queue[T | None] = queue.Queue(size)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mien-write-behind", daemon=True)
        self._thread.start()

    def add(self, item: T) -> None:
        """Queue an item; waits while the queue is full."""
        while True:
            self._complain()
            try:
                return self._waiting.put(item, timeout=_WAIT_S)
            except queue.Full:
                continue

    def close(self) -> None:
        """Wait until everything that was added is done."""
        self._end()
        self._complain()

    def cancel(self) -> None:
        """Drop what waits, and wait for what is being done; raises nothing."""
        self._error = self._error or RuntimeError("cancelled")
        self._end()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._error is None:  # after an error the queue is only emptied, so that nobody waits for ever
                try:
                    self._work(item)
                except BaseException as error:
                    self._error = error

    def _complain(self) -> None:
        if self._error is not None:
            raise self._error


class AnnotatedVideo:
    """Draws and encodes frames. path: its suffix is `suffix()`. fps: of the video that is read.

    Use it as a context: leaving it by an exception gives the file up. OutputError where it cannot be written.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._step_s = 1 / fps
        self._rate = constant_rate(fps)
        self._pacer: ConstantFrameRate[NDArray[np.uint8]] = ConstantFrameRate(self._rate)
        self._encoder: Encoder | None = None
        self._size_px = (0, 0)
        self._thread: BackgroundWriter[VideoFrame] | None = None
        self._whole = False
        self.length_s = 0.0

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        if self._whole:
            return
        if self._thread is not None:
            self._thread.cancel()
        if self._encoder is not None:
            self._encoder.abort()

    def add(self, frame: VideoFrame) -> None:
        """Take in the next frame; waits while the encoder is behind."""
        if self._thread is None:
            self._thread = BackgroundWriter(
                self._write, max(2, min(_QUEUE, _BYTES // max(1, frame.image.nbytes)))
            )
        self._thread.add(frame)
        self.length_s = frame.time_s + self._step_s

    def finish(self) -> None:
        """Write what waits and make the file whole."""
        if self._thread is not None:
            self._thread.close()
        self._encode(*self._pacer.end(self.length_s))
        if self._encoder is not None:
            self._encoder.close()
        self._whole = True

    def _write(self, frame: VideoFrame) -> None:
        self._encode(*self._pacer.next(frame.time_s, pad_to_even(drawn(frame))))

    def _encode(self, picture: NDArray[np.uint8] | None, times: int) -> None:
        if picture is None:
            return
        if self._encoder is None:
            self._size_px = (picture.shape[1], picture.shape[0])
            self._encoder = encoder(self._path, self._size_px, self._rate)
        if (picture.shape[1], picture.shape[0]) != self._size_px:  # a video file has one size
            picture = np.asarray(cv2.resize(picture, self._size_px, interpolation=cv2.INTER_AREA), np.uint8)
        for _ in range(times):
            self._encoder.write(picture)


def drawn(frame: VideoFrame) -> Picture:
    """Return a frame with its faces marked, each with the number that it keeps: RGB uint8."""
    return annotated_frame(
        frame.image, [face.face for face in frame.faces], [face.track for face in frame.faces]
    )
