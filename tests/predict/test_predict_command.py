"""`mien predict`: any mix of inputs, four forms of output, marked copies, and what happens to bad pictures."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.cli.main import main, parser
from mien.data.drawn import draw_face
from mien.detect.registry import DETECTORS
from mien.images.canvas import label_colours
from mien.labels import FER2013
from mien.terminal import percent, sure

from ..model.tiny_onnx import write_folder

# What the photos fixture holds beside pictures.
PASSED_OVER = "mien: passed over, as no pictures: 1 hidden folder, 1 text\n"


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder that has a model folder `tiny`."""
    monkeypatch.chdir(tmp_path)
    return write_folder(tmp_path / "tiny")


def write(path: Path, level: int = 120, shape: tuple[int, ...] = (40, 30, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.full(shape, level, np.uint8))[1].tobytes())
    return path


def read(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def predict(*words: str, detector: str = "whole") -> int:
    return main(["predict", *words, "--model", "tiny", "--detector", detector])


def records(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, list]:
    assert predict(*words, "--json") == code
    printed = json.loads(capsys.readouterr().out)
    found = {Path(item["path"]).as_posix(): item["faces"] for item in printed}
    assert len(found) == len(printed)  # no picture twice
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures on two levels, a hidden one, and a note."""
    write(tmp_path / "photos" / "10.png", 20)
    write(tmp_path / "photos" / "2.png", 200)
    write(tmp_path / "photos" / "trip" / "Jürgen 顔.jpg", 120)
    write(tmp_path / "photos" / ".thumbnails" / "2.png")
    (tmp_path / "photos" / "note.txt").write_text("no picture")
    return tmp_path / "photos"


def test_the_command_gives_the_numbers_of_the_other_doors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face = draw_face("happy", np.random.default_rng(1), 64)
    (tmp_path / "face.png").write_bytes(cv2.imencode(".png", face[:, :, ::-1])[1].tobytes())
    (wanted,) = mien.load("tiny", detector="whole").analyze(face)
    assert records(capsys, "face.png") == {"face.png": [wanted.to_dict()]}


def test_folders_files_and_globs_mix_and_nothing_is_read_twice(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(photos.parent / "one.gif.png")
    found = records(capsys, "one.gif.png", "photos", "photos/*.png", "photos/2.png")
    names = ["photos/2.png", "photos/10.png", "photos/trip/Jürgen 顔.jpg"]
    assert list(found) == ["one.gif.png", *names]
    assert [faces[0]["emotion"] for faces in found.values()] == ["bright", "bright", "dark", "bright"]
    assert list(records(capsys, "photos/**")) == [*names[:2], names[2]]
    assert list(records(capsys, "photos/[0-9]*")) == names[:2]


def test_a_name_with_brackets_is_a_file_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a[1].png")
    assert list(records(capsys, "a[1].png")) == ["a[1].png"]


def test_standard_input(tmp_path: Path) -> None:
    data = write(tmp_path / "a.png", 200).read_bytes()
    command = [
        sys.executable,
        "-m",
        "mien.cli.main",
        "predict",
        "-",
        "--model",
        "tiny",
        "--detector",
        "whole",
    ]
    done = subprocess.run([*command, "--jsonl"], input=data, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    (record,) = map(json.loads, done.stdout.splitlines())
    (face,) = mien.load("tiny", detector="whole").analyze_bytes(data)
    assert record == {"path": "-", "coarse": False, "faces": [face.to_dict()]}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("mien: the picture on standard input is empty (0 bytes)")


def test_closed_standard_input_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # what Python makes of `mien predict - <&-`
    assert predict("-") == 1
    assert capsys.readouterr().err.startswith("mien: standard input is closed; name a file")


def test_it_needs_no_training_library(photos: Path) -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("keras", "tensorflow", "jax", "torch", "sklearn", "matplotlib", "onnx")))
from mien.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    words = ["predict", str(photos), "--model", "tiny", "--detector", "whole", "--jsonl", "--save", "marked"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (0, f"{PASSED_OVER}mien: wrote 3 marked pictures to marked\n")
    assert len(done.stdout.splitlines()) == 3


def test_a_broken_picture_is_reported_and_the_rest_done(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "5.png").write_bytes((photos / "2.png").read_bytes()[:40])
    (photos / "7.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert predict("photos", "missing.jpg", "--jsonl") == 1
    printed = capsys.readouterr()
    records = [json.loads(line) for line in printed.out.splitlines()]
    done = [Path(record["path"]).name for record in records if "problem" not in record]
    assert done == ["2.png", "10.png", "Jürgen 顔.jpg"]
    assert {Path(record["path"]).name for record in records if "problem" in record} == {"5.png", "7.heic"}
    missing, passed_over, broken, heic = printed.err.splitlines()
    assert passed_over + "\n" == PASSED_OVER
    assert missing.startswith("mien: there is no file or folder missing.jpg; name a picture")
    assert broken.startswith(f"mien: {Path('photos/5.png')} is a PNG file that cannot be decoded")
    assert heic.startswith(f"mien: {Path('photos/7.heic')} is a HEIC picture")


def test_a_name_that_is_missing_is_one_failure_among_others(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(records(capsys, "nowhere", str(photos / "2.png"), code=1)) == [(photos / "2.png").as_posix()]


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
@pytest.mark.parametrize("save", [(), ("--save", "marked")], ids=["read", "save"])
def test_a_link_to_itself_is_reported_and_a_pipe_passed_over(
    photos: Path, capsys: pytest.CaptureFixture[str], save: tuple[str, ...]
) -> None:
    (photos / "again.png").symlink_to("again.png")
    (photos / "up").symlink_to(photos)
    os.mkfifo(photos / "pipe.png")  # nobody writes to it: reading it would never end
    assert predict("photos", *save, "--csv") == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1 + 3 + 1
    passed_over, line, *written = printed.err.splitlines()
    assert passed_over == PASSED_OVER.replace("1 text", "1 pipe, socket or device, 1 text").strip()
    assert line.startswith("mien: photos/again.png cannot be opened: Too many levels of symbolic links")
    assert written == (["mien: wrote 3 marked pictures to marked"] if save else [])


def test_a_name_with_a_line_break_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("no\nsuch.png") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mien: there is no file or folder no?such.png; name a picture")


def test_nothing_to_read_at_all_is_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert predict("empty", "*.jpg", "nowhere") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    first, second, third = printed.err.splitlines()
    assert first.startswith("mien: there is no picture in the folder empty")
    assert second.startswith("mien: no picture matches *.jpg")
    assert third.startswith("mien: there is no file or folder nowhere")


def test_the_network_that_ships_answers_unless_another_is_named(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(photos), "--detector", "whole", "--jsonl"]) == 0
    (face,) = json.loads(capsys.readouterr().out.splitlines()[0])["faces"]
    assert (face["head"], set(face["probabilities"])) == ("expression", set(FER2013))
    assert predict("photos", "--head", "votes") == 2
    assert "there is no head 'votes'" in capsys.readouterr().err


def test_no_face_is_an_answer(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(str(photos), detector="auto") == 0
    printed = capsys.readouterr()
    assert printed.out.count("-  no face found") == 3
    assert printed.err == PASSED_OVER


@pytest.mark.usefixtures("photos")
def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("photos/2.png", "photos/10.png") == 0
    assert capsys.readouterr().out.replace(os.sep, "/").splitlines() == [
        "picture        face  expression  sure",
        "photos/2.png      1  bright       98%  uncertain  (no face?)",  # one colour all over
        "photos/10.png     1  dark         96%  uncertain  (no face?)",
    ]


def test_csv_has_a_row_a_face_and_every_probability(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("photos/2.png", "--csv") == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    (face,) = mien.load("tiny", detector="whole").analyze_file(photos / "2.png")
    shares = [float(row["p_dark"]), float(row["p_bright"])]
    assert shares == [round(share, 4) for share in face.probabilities.values()]
    assert (row["emotion"], row["uncertain"], row["head"], row["face"]) == ("bright", "true", "light", "1")
    assert (row["reasons"], row["prior"]) == ("no-face?", "everyday")
    assert [float(row[name]) for name in ("x", "y", "width", "height")] == [0, 0, 30, 40]
    assert float(row["score"]) == 0
    assert predict("photos/2.png", "--csv", detector="haar") == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert {name for name, value in row.items() if value} == {"path"}


def test_marked_copies_keep_their_names_and_are_not_read_again(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(photos.parent / "2.png")
    for _ in range(2):  # the second time the folder holds the copies of the first
        assert predict("photos", "2.png", "--save", "photos/marked") == 0
        saved = sorted(path.relative_to(photos) for path in (photos / "marked").rglob("*.*"))
        names = ["10.png", "2-2.png", "2.png", "trip/Jürgen 顔.jpg"]
        assert [path.as_posix() for path in saved] == [f"marked/{name}" for name in names]
    copy = read(photos / "marked" / "2.png")
    assert copy.shape == (480, 360, 3)  # enlarged, so that letters fit
    assert tuple(copy[240, 180]) == (200, 200, 200)
    frame = {tuple(int(level) for level in pixel) for pixel in copy[:, 1]}  # broken: one colour is no face
    assert label_colours(("dark", "bright"))[1] in frame
    assert (read(photos / "2.png") == 200).all()
    capsys.readouterr()


@pytest.mark.parametrize(
    "words", [["--labels", "a,b"], ["--logits"], ["--size", "48"], ["--input-range", "0,1"]]
)
def test_a_network_of_mien_is_not_described(
    photos: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert photos.is_dir() and predict("photos", *words) == 2
    assert "describe a network that mien did not save" in capsys.readouterr().err


def test_marked_copies_write_over_nothing(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (photos / "2.png").read_bytes()
    assert predict("photos/2.png", "--save", "photos") == 2
    assert "would write over the picture" in capsys.readouterr().err
    assert predict("photos", "--save", "photos/note.txt") == 2
    assert "--save needs a folder" in capsys.readouterr().err
    assert predict("photos/2.png", "--save", "photos/2.png") == 2
    assert "would write over the picture" in capsys.readouterr().err
    for option in ("--parquet", "--resume"):
        assert predict("photos", option, "photos/2.png") == 2
        assert "photos/2.png" in capsys.readouterr().err
    assert predict("photos/2.png", "--parquet", "other.jpg") == 2
    assert "other.jpg is named like a picture; name a file that ends in .parquet" in capsys.readouterr().err
    assert (photos / "2.png").read_bytes() == before


def test_a_folder_of_marked_copies_is_not_named_like_a_file(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("marked.gif", "marked.txt"):
        assert predict("photos/2.png", "--save", name) == 2
        assert "named like a file, and a folder is written" in capsys.readouterr().err
        assert not (photos.parent / name).exists()


@pytest.mark.usefixtures("photos")
def test_what_lies_where_copies_are_saved_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("photos", "--save", "photos/trip") == 0
    printed = capsys.readouterr()
    assert "1 folder of --save" in printed.err and "trip" not in printed.out
    assert predict("photos", "--save", "elsewhere") == 0
    assert "--save" not in capsys.readouterr().err


def test_a_marked_copy_replaces_no_other_pictures() -> None:
    """Of one run and of several; the same command writes its own copies anew, and what lies there stays."""
    for name, level in {"a/x.jpg": 40, "b/x.jpg": 120, "b/x.png": 200}.items():
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, np.full((600, 500, 3), level, np.uint8))
    Path("m").mkdir()
    Path("m/x.png").write_bytes(b"somebody's own")
    wanted = {"x.jpg": 40, "x-2.jpg": 120, "x-2.png": 200}
    for words in (["a", "b"], ["a"], ["b"], ["b/x.jpg", "a/x.jpg"], ["b/x.png"]):
        assert predict(*words, "--save", "m") == 0
        levels = {path.name: cv2.imread(str(path)) for path in Path("m").iterdir()}
        assert levels.pop("x.png") is None
        # In the middle, where no frame and no label is.
        found = {name: int(picture[250, 250, 0]) for name, picture in levels.items()}
        assert found == pytest.approx(wanted, abs=3)
    assert Path("m/x.png").read_bytes() == b"somebody's own"


def test_one_picture_is_saved_as_one_file(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("photos/2.png", "--save", "new/marked.jpg") == 0
    assert read(photos.parent / "new" / "marked.jpg").shape == (480, 360, 3)
    assert predict("photos", "--save", "new/others.jpg") == 2
    assert "is one picture, and" in capsys.readouterr().err


def test_the_help_names_every_face_detector() -> None:
    (group,) = [action for action in parser()._actions if action.dest == "command"]
    (option,) = [action for action in group.choices["predict"]._actions if action.dest == "detector"]  # type: ignore[index,union-attr]
    assert all(name in str(option.help) for name in DETECTORS)


@pytest.mark.parametrize(
    ("probability", "said"),
    [
        (0.0, "<1%"),
        (0.001, "<1%"),
        (0.934, "93%"),
        (0.994, "99%"),
        (0.9961, ">99%"),
        (1.0, ">99%"),
        (0.125, "13%"),
        (0.00496, "1%"),
    ],
)
def test_people_read_neither_certainty_nor_nothing_where_there_is_none(probability: float, said: str) -> None:
    """float32 may round a probability to 1 or 0; a share of what was counted may be all or nothing."""
    assert sure(probability) == said
    assert percent(probability) == {0.0: "0%", 1.0: "100%"}.get(probability, said)


def test_what_a_picture_is_its_content_says_and_an_odd_one_is_answered_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that systems and browsers give, or none; a JPEG without its end marker."""
    folder = tmp_path / "odd"
    folder.mkdir()
    content = (Path(mien.__file__).parent / "samples" / "grace-hopper.jpg").read_bytes()
    for name in ("a.jfif", "b.jpg_large", "c.jpg.1", "d"):
        (folder / name).write_bytes(content)
    (folder / "e.jpg").write_bytes(content[:-2])
    found = list(records(capsys, str(folder), code=0))
    assert [Path(name).name for name in found] == ["a.jfif", "b.jpg_large", "c.jpg.1", "d", "e.jpg"]
    assert predict(str(folder / "e.jpg"), "--json") == 0
    assert capsys.readouterr().err == (
        f"mien: {folder / 'e.jpg'} is written oddly (its end marker is missing), but nothing "
        "of its picture is missing\n"
    )
