"""Which videos OpenCV only claims to decode: interlaced ones, as of camcorders, television and DVDs.

From 4.13 on, OpenCV returns old memory for a frame that is marked as interlaced: it does not look whether FFmpeg
refused to convert it, which is told on stderr alone. So all such frames are the same; where two are, another process,
whose stderr is ours to read, decodes the video from a little before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

READS_INTERLACED = tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13)
_ROWS_APART = 61  # between rows that are compared first, to see whether two frames are the same
_BEFORE_S, _FRAMES = 0.5, 30  # where the other process begins, before the frame in doubt; how many it decodes
_DECODE = """
import sys, cv2
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
capture = cv2.VideoCapture(sys.argv[1], cv2.CAP_FFMPEG)
if float(sys.argv[2]) > 0:
    capture.set(cv2.CAP_PROP_POS_MSEC, float(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    if not capture.read()[0]:
        break
"""
_CONVERSION_ERROR = b"[swscaler"  # FFmpeg's part that converts colours


def same_picture(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Say whether two frames are equal in every pixel."""
    return np.array_equal(one[::_ROWS_APART], other[::_ROWS_APART]) and np.array_equal(one, other)


def is_interlaced(path: Path, source: IO[bytes], at_s: float, environment: Mapping[str, str]) -> bool:
    """Say whether FFmpeg refuses to convert frames of a video around a time.

    source: its bytes. environment: that of the other process, in which FFmpeg tells errors.
    """
    with ExitStack() as stack:
        inherited: tuple[int, ...] = ()
        try:
            number = source.fileno()
        except OSError:  # no file: its bytes come from elsewhere
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-"))) / "video"
            here = source.tell()
            source.seek(0)
            with copy.open("wb") as file:
                shutil.copyfileobj(source, file)
            source.seek(here)
            path = copy
        else:
            if os.name == "posix":  # the server's file has lost its name by now
                inherited, path = (number,), Path(f"/dev/fd/{number}")
                # On a Mac the other process shares our place in the file.
                stack.callback(os.lseek, number, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
        # -P: no file of the folder that the user is in is taken for OpenCV.
        words = [sys.executable, "-P", "-c", _DECODE, str(path.absolute())]
        process = stack.enter_context(
            subprocess.Popen(
                [*words, str(1000 * (at_s - _BEFORE_S)), str(_FRAMES)],
                env=environment,
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
        stack.callback(process.kill)
        assert process.stderr is not None
        return any(_CONVERSION_ERROR in line for line in process.stderr)
