"""`mien video` and `mien live`: what they write, and what they say when something is wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.cli.main import main
from mien.errors import ConfigError, ImageError
from mien.video import camera as camera_module
from mien.video import writer
from mien.video.camera import Camera, open_camera
from mien.video.places import results_place
from mien.video.reader import open_video

from ..model.tiny_onnx import write_folder
from .rtsp_server import rtsp_camera
from .video_files import scene, write_video

FPS = 30000 / 1001


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder that has a model folder `tiny`."""
    monkeypatch.chdir(tmp_path)
    return write_folder(tmp_path / "tiny")


@pytest.fixture
def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "which", lambda _: None)
    writer.ffmpeg.cache_clear()
    yield
    writer.ffmpeg.cache_clear()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = [scene([(0, 0, 40 + 15 * n)], size=(64, 48), side=48) for n in range(12)]
    return write_video(tmp_path / "clip.mp4", frames, FPS)


def video(*words: str) -> int:
    return main(["video", *words, "--model", "tiny", "--detector", "whole"])


def count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def check_results(folder: Path, suffix: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [f"clip-faces{suffix}", "clip-faces.csv", "clip-faces.jsonl", "clip-timeline.png"]
    )
    with (folder / "clip-faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (folder / "clip-faces.jsonl").read_text().splitlines()]
    assert [int(row["frame"]) for row in rows] == [line["frame"] for line in lines] == list(range(12))
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], np.arange(12) / FPS, atol=2e-4)
    for row, line in zip(rows, lines, strict=True):
        (face,) = line["faces"]
        assert (row["track"], face["track"], row["emotion"]) == ("1", 1, face["emotion"])
        assert row["reasons"] == " ".join(reason.replace(" ", "-") for reason in face["reasons"])
        assert (row["head"], row["prior"]) == (face["head"], face["prior"])
        assert float(row["p_dark"]) == face["probabilities"]["dark"]
        assert float(row["raw_bright"]) == face["raw_probabilities"]["bright"]
        assert [float(row[key]) for key in ("x", "y", "width", "height")] == face["box"] == [0, 0, 64, 48]
    assert cv2.imread(str(folder / "clip-timeline.png")).shape == (352, 1600, 3)
    assert count_frames(folder / f"clip-faces{suffix}") == 12


def test_videos_of_one_name_keep_their_results(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """a/clip.mp4, b/clip.mp4 and a/clip.avi, into folders of their own and into one; a second run replaces its own."""
    films = {"a/clip.mp4": 12, "b/clip.mp4": 11, "a/clip.avi": 5}
    for name, frames in films.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture = scene([(0, 0, 40)], size=(64, 48), side=48)
        write_video(tmp_path / name, [picture] * frames, FPS, "MJPG" if name.endswith("avi") else "mp4v")
    for to in ([], ["--to", "results"]):
        tables = {
            name: f"results/{stem}-faces.csv" if to else f"{stem}-faces/{stem}-faces.csv"
            for name, stem in zip(films, ("clip", "clip-2", "clip-3"), strict=True)
        }
        capfd.readouterr()
        for _ in range(2):
            for name, table in tables.items():
                assert video(name, "--no-video", *to) == 0
                out, err = capfd.readouterr()
                assert f"wrote  {table}\n" in out
                first = tables["a/clip.mp4"]
                stem = Path(table).name.removesuffix("-faces.csv")
                note = (
                    f"mien: {first} is not known to be of this video, and stays; its own are called {stem}\n"
                )
                assert err == ("" if table == first else note)
            rows = {name: len(Path(table).read_text().splitlines()) - 1 for name, table in tables.items()}
            assert rows == films  # a row a frame
    assert sorted(path.name for path in Path("results").iterdir()) == sorted(
        f"{stem}{form}" for stem in ("clip", "clip-2", "clip-3") for form in ("-faces.csv", "-timeline.png")
    )


def test_videos_of_one_name_may_be_analysed_at_the_same_time(clip: Path) -> None:
    with results_place(clip, Path("results")) as one, results_place(clip, Path("results")) as other:
        assert (one.stem, other.stem) == ("clip", "clip-2")
    assert not Path("results").exists()


@pytest.mark.usefixtures("without_ffmpeg")
def test_what_an_earlier_run_has_left_is_told(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert video(str(clip), "--jsonl") == 0
    assert "earlier run" not in capfd.readouterr().err
    assert video(str(clip), "--no-video") == 0
    left = "clip-faces/clip-faces.jsonl, clip-faces/clip-faces.webm"
    assert f"mien: of an earlier run, and not written anew: {left}\n" in capfd.readouterr().err
    assert video(str(clip), "--jsonl") == 0
    assert "earlier run" not in capfd.readouterr().err


@pytest.mark.usefixtures("clip", "without_ffmpeg")
def test_all_results_without_ffmpeg(capfd: pytest.CaptureFixture[str]) -> None:
    assert video("clip.mp4", "--jsonl") == 0
    check_results(Path("clip-faces"), ".webm")
    printed = capfd.readouterr()
    heading, *lines = printed.out.splitlines()
    assert heading.split() == ["face", "from", "to", "expressions"]
    faces = [line for line in lines if not line.startswith("wrote  ")]
    assert [line.split()[0] for line in faces] == [str(number) for number in range(1, len(faces) + 1)]
    assert faces[0].split()[1:3] == ["0:00.0", "0:00.4"]
    assert "dark 83%, bright 17%" in faces[0]  # a frame late, by hysteresis
    assert [Path(line).name for line in lines[len(faces) :]] == [
        "clip-faces.csv", "clip-faces.jsonl", "clip-timeline.png", "clip-faces.webm",
    ]  # fmt: skip
    (note,) = printed.err.splitlines()
    assert note.startswith("mien: the marked video is VP8 without sound")


@pytest.mark.skipif(not writer.ffmpeg(), reason="needs ffmpeg with libx264")
def test_ffmpeg_keeps_the_sound(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = writer.ffmpeg()
    assert program
    tone = ("-f", "lavfi", "-i", "sine=d=5", "-map", "0:v", "-map", "1:a", "-c:v", "copy")
    made = [program, "-v", "error", "-i", "clip.mp4", *tone, "with.mkv"]
    subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    clip.unlink()
    Path("with.mkv").rename("clip.mkv")
    assert video("clip.mkv", "--jsonl", "--to", "deep/results") == 1  # five seconds were promised
    (note,) = capfd.readouterr().err.splitlines()
    assert note.startswith("mien: clip.mkv ends after 0.4 of 5.0 seconds")
    result = Path("deep/results/clip-faces.mp4")
    assert count_frames(result) == 12
    sound = subprocess.run(
        [program, "-v", "error", "-i", str(result), "-vn", "-f", "s16le", "-ac", "1", "-ar", "8000", "-"],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    ).stdout
    assert len(sound) / 2 / 8000 == pytest.approx(12 / FPS, abs=0.06)  # ends with the pictures
    assert np.frombuffer(sound, np.int16)[400:].std() > 500


@pytest.mark.usefixtures("clip")
def test_settings_reach_the_analysis(capfd: pytest.CaptureFixture[str]) -> None:
    assert video("clip.mp4", "--no-video", "--no-smoothing", "--stride", "3") == 0
    assert capfd.readouterr().err == ""
    assert not list(Path("clip-faces").glob("*.mp4"))
    with Path("clip-faces/clip-faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["p_dark"] == row["raw_dark"] for row in rows)
    assert [row["interpolated"] for row in rows[:5]] == ["false", "true", "true", "false", "true"]
    assert video("clip.mp4", "--half-life-s", "0") == 2
    assert capfd.readouterr().err.startswith("mien: half_life_s must be above 0")


@pytest.mark.usefixtures("clip")
def test_wrong_places_are_one_line_and_change_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("mine")
    Path("words.mp4").write_text("no video\n" * 99)
    before = sorted(path.name for path in Path().iterdir())
    for words, said in (
        (("clip.mp4", "--to", "taken"), "the results need a folder, taken is a file"),
        (("words.mp4",), "words.mp4 is a text, not a video"),
        (("nothing.mp4",), "cannot read nothing.mp4"),
        ((".",), ". is a folder"),
    ):
        assert video(*words) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"mien: {said}")
    assert sorted(path.name for path in Path().iterdir()) == before


def test_a_video_without_a_frame_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "a.avi", [scene([])] * 3, code="MJPG")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])
    assert video("a.avi") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("mien: a.avi ")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.avi", "tiny"]


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


@pytest.mark.usefixtures("clip")
def test_the_command_needs_no_training_library() -> None:
    block = "sys.modules.update(dict.fromkeys(('keras', 'tensorflow', 'sklearn', 'matplotlib', 'onnx')))"
    running = run_command("clip.mp4", "--no-video", before=block)
    _, said = running.communicate(timeout=120)
    assert (running.returncode, said) == (0, "")


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


def test_ffmpeg_is_used_where_it_can_write_h264() -> None:
    assert writer.suffix() == (".mp4" if writer.ffmpeg() else ".webm")
    assert writer.ffmpeg() is None or writer.ffmpeg() == shutil.which("ffmpeg")


def test_a_list_of_other_files_is_no_video(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file for FFmpeg's concat reader, with a zero byte that hides that it is text."""
    Path("list.mp4").write_bytes(b"ffconcat version 1.0\nfile clip.mp4\n#\0\n")
    assert video(clip.name, "--no-video") == 0
    capsys.readouterr()
    assert video("list.mp4") == 2
    assert "list.mp4 is not a video that can be decoded" in capsys.readouterr().err
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    assert video("photo.jpg") == 2
    assert "it is for mien predict" in capsys.readouterr().err


def box(kind: bytes, *parts: bytes) -> bytes:
    inside = b"".join(parts)
    return (8 + len(inside)).to_bytes(4, "big") + kind + inside


def track(handler: bytes) -> bytes:
    return box(b"trak", box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(13))))


def test_a_file_with_only_sound_is_told_from_a_broken_video(capsys: pytest.CaptureFixture[str]) -> None:
    with wave.open("voice.wav", "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    begin, data = box(b"ftyp", b"isom", bytes(4)), box(b"mdat", bytes(3000))
    Path("voice.mp4").write_bytes(begin + data + box(b"moov", track(b"soun")))
    Path("film.mp4").write_bytes(begin + data + box(b"moov", track(b"soun"), track(b"vide")))
    Path("cut.mp4").write_bytes(begin + data[:2000])
    matroska = b"\x1a\x45\xdf\xa3" + bytes(40) + b"\x86\x86A_OPUS" + bytes(40)
    Path("voice.webm").write_bytes(matroska)
    Path("film.webm").write_bytes(matroska + b"\x86\x85V_VP9" + bytes(40))
    for name in ("voice.wav", "voice.mp4", "voice.webm"):
        assert video(name) == 2
        assert f"{name} holds sound and no picture; name a video file" in capsys.readouterr().err
        with (
            pytest.raises(ImageError, match="the video holds sound and no picture"),
            Path(name).open("rb") as file,
            open_video(Path("the video"), file),
        ):
            pass
    for name in ("film.mp4", "cut.mp4", "film.webm"):
        assert video(name) == 2
        assert f"ffmpeg -i {name} converted.mp4" in capsys.readouterr().err


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


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes there")
@pytest.mark.usefixtures("without_ffmpeg")
def test_a_name_that_is_no_utf8_ends_nothing(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV ended the process (SIGSEGV) at such a name of a video, and at such a folder for the marked one."""
    odd = clip.rename(clip.with_name("old\udcff.mp4"))
    assert video(str(odd)) == 0
    assert sorted(path.name for path in Path("old\ufffd-faces").iterdir()) == [
        "old\ufffd-faces.csv",
        "old\ufffd-faces.webm",
        "old\ufffd-timeline.png",
    ]
    assert video(str(odd), "--to", "to\udcff") == 2
    assert "OpenCV takes no path that is not UTF-8; name another folder" in capfd.readouterr().err
    assert video(str(odd), "--to", "to\udcff", "--no-video") == 0
    Path("tiny").rename("tiny\udcff")
    assert main(["video", str(odd), "--no-video", "--detector", "whole", "--model", "tiny\udcff"]) == 0
