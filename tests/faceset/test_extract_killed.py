"""A run that is killed, stopped or out of space goes on, and two at once are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.detect.base import Detection
from mien.detect.registry import open_detector
from mien.errors import ConfigError
from mien.faceset import extract
from mien.faceset.crops import write_crop
from mien.faceset.extract import extract_faces
from mien.faceset.table import FaceSet
from mien.images import read_image
from mien.images.canvas import write_picture

from .conftest import COLLINS, Picture, hashes, picture


class Counting:
    """The shipped detector, which counts the frames that it is given, and is killed at one of them."""

    def __init__(self, dies_at: int = -1) -> None:
        self._detector = open_detector("mien", None)
        self.name, self.searches, self.metadata = self._detector.name, True, self._detector.metadata
        self.count, self._dies_at = 0, dies_at

    def detect(self, image: Picture) -> tuple[Detection, ...]:
        self.count += 1
        if self.count == self._dies_at:
            raise KeyboardInterrupt
        return self._detector.detect(image)


def test_a_film_goes_on_where_the_run_was_killed(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the search, then while crops are written: no frame is searched twice, and the same faces come."""
    whole = Counting()
    wanted = extract_faces([film], tmp_path / "whole" / "faces", detector=whole, spacing=0.5)
    killed = Counting(dies_at=9)
    folder = tmp_path / "killed" / "faces"
    with pytest.raises(KeyboardInterrupt):
        extract_faces([film], folder, detector=killed, spacing=0.5)
    (log,) = folder.glob(".search-*.jsonl")
    kept = log.read_text(encoding="utf-8")
    log.write_text(f"{kept}[17, [[[1.0", encoding="utf-8")  # a line that was cut off
    second = Counting()
    written: list[str] = []

    def dying(*parts: Any) -> None:
        written.append(parts[1].id)
        if len(written) == 2:
            raise KeyboardInterrupt
        write_crop(*parts)

    monkeypatch.setattr(extract, "write_crop", dying)
    with pytest.raises(KeyboardInterrupt):
        extract_faces([film], folder, detector=second, spacing=0.5)
    assert second.count == whole.count - (len(kept.splitlines()) - 1)
    monkeypatch.undo()
    third = Counting()
    done = extract_faces([film], folder, detector=third, spacing=0.5)
    assert third.count == 0
    assert [face.cells() for face in done.faces] == [face.cells() for face in wanted.faces]
    for name in ("faces.csv", "sources.csv"):
        assert (folder / name).read_bytes() == (wanted.faces.folder / name).read_bytes()
    crops, others = (hashes(one / "crops") for one in (folder, wanted.faces.folder))
    assert {Path(name).name: what for name, what in crops.items()} == {
        Path(name).name: what for name, what in others.items()
    }
    assert not list(folder.glob(".search-*")), "nothing is left of it"


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed without warning in the middle, it leaves nothing half written, and the next run ends as one run would."""
    many = tmp_path / "many"
    base = picture(COLLINS, 300)
    for number in range(40):
        write_picture(many / f"{number}.png", np.ascontiguousarray(base[: 200 + number]))
    command = [sys.executable, "-m", "mien.cli.main", "faces", str(many), "--to", str(tmp_path / "faces")]
    begun = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    crops = tmp_path / "faces" / "crops"
    until = time.monotonic() + 60
    while time.monotonic() < until and (not crops.is_dir() or len(list(crops.glob("*.png"))) < 5):
        time.sleep(0.02)
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    done = extract_faces([many], tmp_path / "faces")
    fresh = extract_faces([many], tmp_path / "fresh")
    assert done.faces.faces == fresh.faces.faces
    assert len(done.faces) == 40
    for face in done.faces:
        assert read_image(done.faces.crop_path(face)).shape[2] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs the limits of a POSIX shell")
def test_a_full_disk_leaves_nothing_that_the_next_run_trips_over(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mien.cli.main", "faces", str(photos), "--to", str(tmp_path / "faces")]
    full = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command], capture_output=True, text=True, check=False
    )
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].startswith(f"mien: cannot write {tmp_path / 'faces'}")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "neither a half file nor a lock"
    (tmp_path / "faces" / ".lock").touch()  # of one that was killed before it had written anything
    assert len(extract_faces([photos], tmp_path / "faces").faces) == 6


def test_a_stopped_run_keeps_what_is_done(photos: Path, tmp_path: Path) -> None:
    def stop(_: str, done: int, __: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_faces([photos], tmp_path / "faces", progress=stop)
    assert len(FaceSet.open(tmp_path / "faces")) >= 1
    again = extract_faces([photos], tmp_path / "faces")
    assert again.known in {2, 3}  # the broken one is tried again
    assert len(again.faces) == 6


def test_two_runs_at_once_on_one_folder_are_refused(photos: Path, tmp_path: Path) -> None:
    def again(*_: object) -> None:
        with pytest.raises(ConfigError, match=r"being filled with faces by another process.*--to"):
            extract_faces([photos / "ben-1.png"], tmp_path / "faces")

    extract_faces([photos / "anna-1.png"], tmp_path / "faces", progress=again)
