"""What `mien live` looks at and shows in: the newest frame of a camera, a stream or a file, and a window."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, ImageError
from mien.video.reader import OPTIONS_VARIABLE, Video, open_video, silenced

Picture = NDArray[np.uint8]
_WAIT_S = 5.0  # a camera that gives nothing for so long is gone
_OPEN_MS, _READ_MS = 10_000, 10_000  # for which a stream may say nothing
_ESCAPE = 27
_INSTEAD = "or record a video and use: mien video FILE"
_STREAM = re.compile(r"rtsps?://", re.IGNORECASE)
# What FFmpeg may use for a stream that the user named: nothing that reads files. TCP: UDP loses parts of frames.
_STREAM_OPTIONS = "rtsp_transport;tcp|protocol_whitelist;rtsp,rtsps,rtp,srtp,tcp,udp,tls,crypto"


class Source(Protocol):
    """frames: (time.monotonic() when it came, (height, width, 3) uint8, RGB), the newest each time."""

    def frames(self) -> Iterator[tuple[float, Picture]]: ...


class Camera:
    """Reads in a thread and keeps the newest frame only, so that what is shown does not fall behind life.

    capture: is open, and released when the thread ends: nobody else may while a camera that hangs is being read.
    """

    def __init__(self, capture: cv2.VideoCapture, name: str) -> None:
        self._capture, self._name = capture, name
        self._news = threading.Condition()
        self._newest: tuple[float, Picture] | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="mien-camera", daemon=True)
        self._thread.start()

    def frames(self) -> Iterator[tuple[float, Picture]]:
        """Yield (time.monotonic() when it came, (height, width, 3) uint8, RGB); ImageError when the camera stops."""
        while True:
            with self._news:
                if not self._news.wait_for(lambda: self._newest or self._ended, _WAIT_S) or not self._newest:
                    raise ImageError(
                        f"{self._name} gives no picture (any more); is another program using it?"
                    )
                (time_s, bgr), self._newest = self._newest, None
            yield time_s, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._ended = True
        self._thread.join(_WAIT_S)

    def _run(self) -> None:
        try:
            while not self._ended:
                done, bgr = self._capture.read()
                with self._news:
                    self._ended = self._ended or not done
                    self._newest = (time.monotonic(), bgr) if done else None
                    self._news.notify()
        finally:
            self._capture.release()


class Playback:
    """A video file as a camera: its frames at their own pace, those left out that are past when their turn comes."""

    def __init__(self, video: Video) -> None:
        self._video = video

    def frames(self) -> Iterator[tuple[float, Picture]]:
        """Yield what a camera would; ends with the file."""
        begin_s = time.monotonic()
        for frame in self._video.frames():
            early_s = begin_s + frame.time_s - time.monotonic()
            if early_s < -1 / self._video.fps:
                continue
            time.sleep(max(0.0, early_s))
            yield time.monotonic(), frame.image


@contextmanager
def open_camera(source: str) -> Iterator[Source]:
    """Open what the user named: the number of a camera, from 0, an rtsp address, or a video file.

    Raises ImageError when there is no such camera, nothing answers at that address or the file is no video, ConfigError
    for what is none of them.
    """
    if re.fullmatch(r"-?\d+", source):
        with _opened(_number(source), f"camera {source}") as camera:
            yield camera
    elif _STREAM.match(source):
        with _opened(source, source) as camera:
            yield camera
    elif Path(source).exists():
        with open_video(Path(source)) as video:
            yield Playback(video)
    else:
        raise ConfigError(
            f"a camera is a number from 0, an address that begins with rtsp://, or a video file; there is no {source}"
        )


@contextmanager
def _opened(what: int | str, name: str) -> Iterator[Camera]:
    with silenced():
        capture = _stream(what) if isinstance(what, str) else cv2.VideoCapture(what)
    if not capture.isOpened():
        raise ImageError(
            f"there is no {name} that can be opened; try another number (--camera 1), see whether another "
            f"program uses it, {_INSTEAD}"
            if isinstance(what, int)
            else f"no stream of pictures can be opened at {name}; is the address right, with name and password?"
        )
    camera = Camera(capture, name)
    try:
        yield camera
    finally:
        camera.close()


def _stream(address: str) -> cv2.VideoCapture:
    before = os.environ.get(OPTIONS_VARIABLE)
    os.environ[OPTIONS_VARIABLE] = _STREAM_OPTIONS  # OpenCV reads it when it opens something
    try:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_MS]
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
    finally:
        if before is None:
            del os.environ[OPTIONS_VARIABLE]
        else:
            os.environ[OPTIONS_VARIABLE] = before


def _number(source: str) -> int:
    if int(source) < 0:
        raise ConfigError(f"the number of a camera must be 0 or more, got {source}")
    return int(source)


class Window:
    """A window on the screen. Raises ConfigError, with the reason, where none can be shown."""

    def __init__(self, title: str) -> None:
        # Asked first: without a display, OpenCV's Qt ends the whole process.
        if not has_display():
            raise ConfigError("there is no display to show a window on")
        self._title = title
        try:
            with silenced():
                cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise ConfigError("this OpenCV has no windows") from error

    def show(self, picture: Picture) -> bool:
        """Show an RGB picture; returns False once q or Escape was pressed or the window was closed."""
        cv2.imshow(self._title, picture[:, :, ::-1])
        key = cv2.waitKey(1) & 0xFF
        return (
            key not in (ord("q"), _ESCAPE) and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        )

    def close(self) -> None:
        cv2.destroyWindow(self._title)


def has_display() -> bool:
    """Say whether a window could be shown at all."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
