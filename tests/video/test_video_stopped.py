"""`mien video` that is stopped, or whose disk is full: what was written is whole, or nothing is there."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.video import writer

from .conftest import FPS, count_frames, run_command
from .video_files import scene, write_video

pytestmark = pytest.mark.usefixtures("model")  # in whose folder the commands work


def rows_written(folder: Path) -> int:
    """Count the whole rows of a table that is being written, which has its header and then some of them at a time."""
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in folder.glob(".*.csv"))


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_keep_what_was_written(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    # Long enough that nobody's machine is through with it before it is stopped.
    write_video(
        tmp_path / "long.avi", [scene([(n % 100, 20, 200)], (160, 96)) for n in range(1500)], FPS, "MJPG"
    )
    running = run_command("long.avi")
    folder = tmp_path / "long-faces"
    while running.poll() is None and not (seen := rows_written(folder)):
        time.sleep(0.05)
    os.killpg(running.pid, sent)  # as a terminal does it: to ffmpeg as well
    _, said = running.communicate(timeout=120)
    assert running.returncode == code, said
    assert "mien: stopped after" in said
    assert "Traceback" not in said
    with (folder / "long-faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (marked,) = (path for path in folder.iterdir() if path.suffix in (".mp4", ".webm"))
    assert seen <= len(rows) < 1500
    assert count_frames(marked) == pytest.approx(len(rows), abs=2)
    assert not list(folder.glob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_what_a_killed_run_leaves_goes_with_the_next_one(tmp_path: Path) -> None:
    """Half a marked video, of gigabytes maybe, lay hidden in the folder for ever. A second Ctrl-C kills, too."""
    write_video(
        tmp_path / "long.avi", [scene([(n % 100, 20, 200)], (160, 96)) for n in range(300)], FPS, "MJPG"
    )
    folder = tmp_path / "long-faces"
    running = run_command("long.avi")
    while running.poll() is None and not rows_written(folder):
        time.sleep(0.05)
    running.kill()
    running.communicate(timeout=120)
    (folder / ".long-faces.of-mine.csv").write_text("of somebody else")
    assert len(list(folder.glob(".long-faces.*"))) > 2
    again = run_command("long.avi", "--no-video")
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert [path.name for path in folder.glob(".long-*")] == [".long-faces.of-mine.csv"]


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
@pytest.mark.parametrize("hidden", [True, False], ids=["without ffmpeg", "as it is"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, clip: Path, hidden: bool) -> None:
    random = np.random.default_rng(0)
    noise = [cv2.resize(random.integers(0, 255, (60, 80, 3), np.uint8), (320, 240)) for _ in range(12)]
    write_video(clip, noise, FPS)
    # A limit on the size of files stands for the full disk: not all of the results fit below it.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))"
    hide = "\nimport shutil; shutil.which = lambda _: None" if hidden else ""
    running = run_command("clip.mp4", before=limit + hide)
    printed, said = running.communicate(timeout=120)
    assert (running.returncode, printed) == (2, ""), said
    (line,) = said.splitlines()
    assert line.startswith("mien: cannot write")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "tiny"]


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
@pytest.mark.usefixtures("clip")
def test_a_table_whose_end_does_not_fit_takes_the_others_with_it(tmp_path: Path) -> None:
    """Its last lines are written when all else is done."""
    write_video(tmp_path / "long.mp4", [scene([], size=(64, 48), side=48)] * 500, FPS)
    whole = run_command("long.mp4", "--no-video")
    _, said = whole.communicate(timeout=120)
    assert whole.returncode == 0, said
    sizes = {path.suffix: path.stat().st_size for path in Path("long-faces").iterdir()}
    assert sizes[".png"] < sizes[".csv"] - 10  # so only the table meets the limit
    shutil.rmtree("long-faces")
    most = sizes[".csv"] - 10
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))"
    running = run_command("long.mp4", "--no-video", before=limit)
    printed, said = running.communicate(timeout=120)
    assert (running.returncode, printed) == (2, ""), said
    (line,) = said.splitlines()
    assert line.startswith(f"mien: cannot write {Path('long-faces/long-faces.csv')}: File too large")
    assert not Path("long-faces").exists()


@pytest.mark.skipif(not writer.ffmpeg() or os.name == "nt", reason="needs ffmpeg and resource limits")
@pytest.mark.parametrize("what", ["pictures", "sound"])
def test_an_index_that_does_not_fit_is_no_whole_video(tmp_path: Path, clip: Path, what: str) -> None:
    """ffmpeg 5 ends with 0 when the disk is full in the end."""
    code = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from mien.video.writer import FfmpegEncoder
from mien.video.writer import add_audio
program, path, clip, what = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
if what == "sound":
    print(add_audio(program, Path(clip), Path(clip), Path(path), 0.4))
else:
    encoder = FfmpegEncoder(program, Path(path), (64, 48), Fraction(30))
    encoder.write(np.zeros((48, 64, 3), np.uint8))
    try:
        encoder.close()
    except OSError as error:
        print(error.strerror)
"""
    program = tmp_path / "ffmpeg"  # the real one, told by an error and not by a signal, as on a full disk
    program.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec '{writer.ffmpeg()}' \"$@\"\n")
    program.chmod(0o755)
    words = [str(program), str(tmp_path / "a.mp4"), str(clip), what]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "File too large\n"


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
@pytest.mark.parametrize("program", [None, writer.ffmpeg()], ids=["OpenCV", "ffmpeg"])
def test_an_encoder_says_that_the_disk_is_full(tmp_path: Path, program: str | None) -> None:
    """OpenCV itself does not."""
    code = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from mien.video import writer
from mien.video.reader import configure_ffmpeg
configure_ffmpeg()
writer.ffmpeg = lambda: sys.argv[2] or None
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
encoder = writer.encoder(Path(sys.argv[1]), (160, 96), Fraction(30))
random = np.random.default_rng(0)
try:
    for _ in range(40):
        encoder.write(random.integers(0, 255, (96, 160, 3), np.uint8))
    encoder.close()
except OSError as error:
    print(type(error).__name__)
"""
    path = tmp_path / f"a{'.mp4' if program else '.webm'}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), program or ""], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("OutputError\n" if program else "OSError\n")
