"""The TypeScript client against a real server: its own tests, built and run where npm has fetched what they need."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ..video.video_files import scene, write_video
from .conftest import Start, png

CLIENT = Path(__file__).parents[2] / "clients" / "typescript"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node: apt install nodejs npm"),
    pytest.mark.skipif(
        not (CLIENT / "node_modules").is_dir(),
        reason="needs its packages: npm install --ignore-scripts, in clients/typescript",
    ),
]


def test_the_clients_own_tests_pass(start: Start, tmp_path: Path) -> None:
    pictures = [tmp_path / "one.png", tmp_path / "two.png"]
    for file, level in zip(pictures, (90, 200), strict=True):
        file.write_bytes(png(level))
    frames = [scene([(0, 0, 40 + n)], size=(320, 240), side=200) for n in range(200)]
    clip = write_video(tmp_path / "clip.mp4", frames)
    built = subprocess.run(["npm", "run", "build"], cwd=CLIENT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    with start() as server:
        environment = {
            **os.environ,
            "MIEN_ADDRESS": f"http://localhost:{server.port}",
            "MIEN_PICTURES": ":".join(map(str, pictures)),
            "MIEN_VIDEO": str(clip),
        }
        tested = subprocess.run(
            ["npm", "test"], cwd=CLIENT, env=environment, capture_output=True, text=True, check=False
        )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "# skipped 0" in tested.stdout or "skipped 0" in tested.stdout, tested.stdout
