"""A clip, and a model folder for the commands on videos."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from ..model.tiny_onnx import write_folder
from .video_files import scene, write_video

FPS = 30000 / 1001


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder that has a model folder `tiny`."""
    monkeypatch.chdir(tmp_path)
    return write_folder(tmp_path / "tiny")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = [scene([(0, 0, 40 + 15 * n)], size=(64, 48), side=48) for n in range(12)]
    return write_video(tmp_path / "clip.mp4", frames, FPS)


def count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def run_command(*words: str, before: str = "") -> subprocess.Popen[str]:
    code = f"import sys\n{before}\nfrom mien.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, "video", *words, "--model", "tiny", "--detector", "whole"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=os.name != "nt",  # a group of its own, as a terminal gives it
    )
