"""The newest frame of a camera, and a window to show frames in."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, ImageError, MissingExtra
from mien.video.reader import silenced

Picture = NDArray[np.uint8]
_WAIT_S = 5.0  # a camera that gives nothing for so long is gone
_ESCAPE = 27
_INSTEAD = "or record a video and use: mien video FILE"


class Camera:
    """Reads in a thread and keeps the newest frame only, so that what is shown does not fall behind life."""

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
        while not self._ended:
            done, bgr = self._capture.read()
            with self._news:
                self._ended = self._ended or not done
                self._newest = (time.monotonic(), bgr) if done else None
                self._news.notify()


@contextmanager
def open_camera(number: int) -> Iterator[Camera]:
    """Open a camera, from 0; ImageError when there is none of that number."""
    if number < 0:
        raise ConfigError(f"the number of a camera must be 0 or more, got {number}")
    with silenced():
        capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise ImageError(
                f"there is no camera {number} that can be opened; try another number (--camera 1), see whether "
                f"another program uses it, {_INSTEAD}"
            )
        camera = Camera(capture, f"camera {number}")
        try:
            yield camera
        finally:
            camera.close()
    finally:
        capture.release()


class Window:
    """A window on the screen. Raises MissingExtra where OpenCV has none, ConfigError where no display is."""

    def __init__(self, title: str) -> None:
        # Asked first: without a display, OpenCV's Qt ends the whole process.
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise ConfigError(f"there is no display to show a window on; run it at a desktop, {_INSTEAD}")
        self._title = title
        try:
            with silenced():
                cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise MissingExtra(
                "this OpenCV has no windows, because mien installs opencv-python-headless; for a window: "
                f"pip uninstall opencv-python-headless, then pip install opencv-python; {_INSTEAD}"
            ) from error

    def show(self, picture: Picture) -> bool:
        """Show an RGB picture; returns False once q or Escape was pressed or the window was closed."""
        cv2.imshow(self._title, picture[:, :, ::-1])
        key = cv2.waitKey(1) & 0xFF
        return (
            key not in (ord("q"), _ESCAPE) and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        )

    def close(self) -> None:
        cv2.destroyWindow(self._title)
