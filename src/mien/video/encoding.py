"""Writing frames as a video file that browsers play: H.264 where ffmpeg is installed, otherwise VP8."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import OutputError
from mien.images import damage_heard

Picture = NDArray[np.uint8]
_PROBE_BYTES = 1 << 20


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
        prove_whole(self._path)

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

    Slower than ffmpeg, and without sound.
    """

    def __init__(self, path: Path, size_px: tuple[int, int], rate: Fraction) -> None:
        self._path = path
        code = cv2.VideoWriter.fourcc(*"VP80")
        with damage_heard():  # FFmpeg complains that WebM has no four letters for a codec
            self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, float(rate), size_px)
        if not self._writer.isOpened():
            raise encoding_error("OpenCV cannot write VP8 here; install ffmpeg")

    def write(self, frame: Picture) -> None:
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()
        prove_whole(self._path)

    def abort(self) -> None:
        self._writer.release()


def prove_whole(path: Path) -> None:
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


def even(frame: Picture) -> Picture:
    """Repeat the last row and column where a side is odd: video codecs halve the colour planes."""
    down, right = frame.shape[0] % 2, frame.shape[1] % 2
    if not down and not right:
        return frame
    return np.asarray(cv2.copyMakeBorder(frame, 0, down, 0, right, cv2.BORDER_REPLICATE), np.uint8)
