"""`mien video`: what it writes, and what it says when something is wrong."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.cli.main import main
from mien.errors import ImageError
from mien.video import writer
from mien.video.places import results_place
from mien.video.reader import open_video

from .conftest import FPS, count_frames, run_command
from .video_files import scene, write_video

pytestmark = pytest.mark.usefixtures("model")  # in whose folder the commands work


@pytest.fixture
def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "which", lambda _: None)
    writer.ffmpeg.cache_clear()
    yield
    writer.ffmpeg.cache_clear()


def video(*words: str) -> int:
    return main(["video", *words, "--model", "tiny", "--detector", "whole"])


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


@pytest.mark.usefixtures("clip")
def test_the_command_needs_no_training_library() -> None:
    block = "sys.modules.update(dict.fromkeys(('keras', 'tensorflow', 'sklearn', 'matplotlib', 'onnx')))"
    running = run_command("clip.mp4", "--no-video", before=block)
    _, said = running.communicate(timeout=120)
    assert (running.returncode, said) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="needs shell scripts as programs")
@pytest.mark.parametrize(("encoders", "used"), [("libvpx-vp9", False), ("libx264", True)])
def test_ffmpeg_is_used_where_it_can_write_h264(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoders: str, used: bool
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\necho ' V....D {encoders}  an encoder'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    writer.ffmpeg.cache_clear()
    try:
        assert writer.ffmpeg() == (str(program) if used else None)
        assert writer.suffix() == (".mp4" if used else ".webm")
    finally:
        writer.ffmpeg.cache_clear()


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
