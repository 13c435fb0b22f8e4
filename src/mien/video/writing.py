"""The marked video: frames in, at any times and of any size; a file with a steady rate out, in a thread of its own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.video.encoding import Encoder, encoder, even
from mien.video.marking import marked
from mien.video.pacing import Pacer, steady_rate
from mien.video.results import VideoFrame
from mien.video.threads import Behind

_QUEUE, _BYTES = 8, 1 << 25  # frames that wait, fewer of them where they are large


class MarkedVideo:
    """Draws and encodes frames. path: its suffix is `encoding.suffix()`. fps: of the video that is read.

    Use it as a context: leaving it by an exception gives the file up. OutputError where it cannot be written.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._step_s = 1 / fps
        self._rate = steady_rate(fps)
        self._pacer: Pacer[NDArray[np.uint8]] = Pacer(self._rate)
        self._encoder: Encoder | None = None
        self._size_px = (0, 0)
        self._thread: Behind[VideoFrame] | None = None
        self._whole = False
        self.length_s = 0.0

    def __enter__(self) -> MarkedVideo:
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
            self._thread = Behind(self._write, max(2, min(_QUEUE, _BYTES // max(1, frame.image.nbytes))))
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
        self._encode(*self._pacer.next(frame.time_s, even(marked(frame.image, frame.faces))))

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
