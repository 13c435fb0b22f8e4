"""`mien live` and cameras: their newest picture is shown, and a camera that hangs or is missing is told."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.cli.main import main
from mien.errors import ConfigError, ImageError
from mien.video import camera as camera_module
from mien.video.camera import Camera, open_camera

from .rtsp_server import rtsp_camera
from .video_files import scene, write_video

pytestmark = pytest.mark.usefixtures("model")  # in whose folder the commands work


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
@pytest.mark.parametrize("display", ["", ":99"], ids=["no display", "no windows"])
def test_live_without_a_window_shows_the_camera_on_the_page(display: str) -> None:
    if display and "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV has windows")
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    opened = "import os, webbrowser; webbrowser.open = lambda address: print(address, flush=True)"
    code = f"import sys\n{opened}\nfrom mien.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    running = subprocess.Popen(
        [sys.executable, "-c", code, "live", "--model", "tiny", "--detector", "whole"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | ({"DISPLAY": display} if display and sys.platform.startswith("linux") else {}),
    )
    assert running.stderr is not None
    try:
        reason, listening = running.stderr.readline(), running.stderr.readline()
        assert reason.endswith("; the page shows the camera instead\n")
        address = re.search(r"listening on (http://127\.0\.0\.1:\d+/#camera) ", listening)
        assert address, listening
        with urllib.request.urlopen(address[1]) as answer:
            assert b"camera-start" in answer.read()
    finally:
        running.send_signal(signal.SIGINT)
        printed, _ = running.communicate(timeout=60)
    assert printed == (f"{address[1]}\n" if display else "")


def test_a_file_needs_a_window(
    monkeypatch: pytest.MonkeyPatch, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("there is always a display")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for words in (["--camera", clip.name], ["--no-smoothing"]):
        assert main(["live", "--model", "tiny", *words]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("mien: there is no display to show a window on, and the page ")


def test_a_missing_camera_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no camera 97 that can be opened"), open_camera("97"):
        pass
    with pytest.raises(ConfigError, match="must be 0 or more, got -1"), open_camera("-1"):
        pass
    with (
        pytest.raises(ConfigError, match=r"a camera is a number from 0, .* there is no front"),
        open_camera("front"),
    ):
        pass
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"rtsp://127.0.0.1:{port}/stream"
    with (
        pytest.raises(ImageError, match=f"no stream of pictures can be opened at {address}"),
        open_camera(address),
    ):
        pass
    (tmp_path / "note.mp4").write_text("a note")
    with pytest.raises(ImageError, match="is a text, not a video"), open_camera(str(tmp_path / "note.mp4")):
        pass


def test_a_file_is_shown_at_its_own_pace_and_frames_that_are_late_are_left_out(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [scene([(4 * n, 0, 200)]) for n in range(20)], 40, "MJPG")
    for work_s in (0.0, 0.1):  # 0.1 s are four frames
        seen = []
        with open_camera(str(path)) as camera:
            begin_s = time.monotonic()
            for time_s, image in camera.frames():
                seen.append(time_s)
                assert image.shape == (96, 160, 3)
                time.sleep(work_s)
        assert time.monotonic() - begin_s >= 19 / 40 - 0.01  # when the last frame is due
        assert seen == sorted(seen)
        assert 1 <= len(seen) <= (20 if work_s == 0 else 10)


def test_the_newest_picture_of_a_camera_is_shown(tmp_path: Path) -> None:
    """A video stands for the camera: OpenCV reads both alike."""
    path = write_video(tmp_path / "a.avi", [scene([(4 * n, 0, 200)]) for n in range(20)], code="MJPG")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    camera = Camera(capture, "camera 0")
    seen = []
    with pytest.raises(ImageError, match="camera 0 gives no picture"):
        for time_s, image in camera.frames():
            seen.append((time_s, image.shape))
            time.sleep(0.01)
    camera.close()
    assert len(seen) <= 20 and not capture.isOpened()
    assert all(shape == (96, 160, 3) for _, shape in seen)
    assert [time_s for time_s, _ in seen] == sorted({time_s for time_s, _ in seen})


def test_a_camera_that_hangs_is_not_released_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg would end the process: it frees what is in use."""

    class Hanging:
        def __init__(self, _: int) -> None:
            self.goes_on, self.reads, self.was_released = threading.Event(), False, threading.Event()

        def isOpened(self) -> bool:
            return True

        def read(self) -> tuple[bool, None]:
            self.reads = True
            self.goes_on.wait(20)
            self.reads = False
            return False, None

        def release(self) -> None:
            assert not self.reads
            self.was_released.set()

    opened: list[Hanging] = []
    monkeypatch.setattr(camera_module, "_WAIT_S", 0.1)
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: opened.append(Hanging(number)) or opened[-1])
    with pytest.raises(ImageError, match="camera 0 gives no picture"), open_camera("0") as camera:
        next(camera.frames())
    opened[0].goes_on.set()
    assert opened[0].was_released.wait(20)


def test_a_camera_in_the_network_is_seen() -> None:
    frames = [scene([(4 * n, 32, 200)]) for n in range(8)]
    seen = []
    with rtsp_camera(frames) as address, open_camera(address) as camera:
        for _, image in camera.frames():
            seen.append(image)
            if len(seen) == 5:
                break
    for image in seen:
        assert image.shape == (96, 160, 3)
        columns = np.flatnonzero(image[44, :, 0] > 100)
        assert 20 <= len(columns) <= 28  # the square, wherever it was
    assert len({int(np.flatnonzero(image[44, :, 0] > 100)[0]) for image in seen}) > 1  # it moves
