"""`mien predict --resume FILE`: a run that was killed anywhere goes on to exactly the file of an uninterrupted one."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.cli.main import main

parquet = pytest.importorskip("pyarrow.parquet")
SAMPLE = Path(mien.__file__).parent / "samples" / "grace-hopper.jpg"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with nine pictures: two faces, one face, nobody, and one that is cut short."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    face = cv2.resize(cv2.imread(str(SAMPLE)), (160, 160), interpolation=cv2.INTER_AREA)
    for number in range(9):
        image = (np.hstack([face, face]), face, np.full((60, 60, 3), 9 * number, np.uint8))[number % 3]
        cv2.imwrite(str(folder / f"{number}.png"), image)
    (folder / "=7.png").write_bytes((folder / "7.png").read_bytes()[:90])  # a name that a table must escape
    return folder


def whole(name: str) -> bytes:
    """Return what an uninterrupted run writes."""
    assert main(["predict", "photos", "--resume", name]) == 1
    return Path(name).read_bytes()


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_wherever_it_was_cut_the_file_is_that_of_one_run(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = whole(f"whole.{form}")
    capsys.readouterr()
    assert main(["predict", "photos", f"--{form}"]) == 1
    assert capsys.readouterr().out.encode() == expected
    cut = Path(f"cut.{form}")
    for place in (0, len(expected) // 3, len(expected) - 2, len(expected)):
        cut.write_bytes(expected[:place])
        main(["predict", "photos", "--resume", str(cut)])
        assert cut.read_bytes() == expected, place


def test_only_what_is_left_is_looked_at(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    rows = whole("faces.csv").decode().splitlines(keepends=True)
    Path("faces.csv").write_text("".join(rows[:5]), encoding="utf-8")
    cv2.imwrite(str(photos / "5.png"), np.full((60, 60, 3), 0, np.uint8))
    capsys.readouterr()
    main(["predict", "photos", "--resume", "faces.csv"])
    # The header, then 0.png twice, 1.png, 2.png: the last one could lack faces, so it is done again.
    assert capsys.readouterr().err.splitlines()[0] == "mien: 2 pictures are in faces.csv already, 8 left"


@pytest.mark.skipif(
    sys.platform != "linux", reason="needs a process on one processor, which works one by one"
)
def test_a_killed_parquet_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "photos", "--parquet", "whole.parquet"]) == 1
    assert not Path("whole.parquet.settings.json").exists()
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from mien.cli.main import main; "
        "main(['predict', 'photos', '-', '--parquet', 'cut.parquet'])"
    )
    journal = Path("cut.parquet.partial")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        deadline = time.monotonic() + 60
        while (
            not journal.exists() or journal.read_bytes().count(b"\n") < 10
        ):  # then it waits for standard input
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.kill()
    assert not Path("cut.parquet").exists()
    kept = journal.read_bytes().splitlines(keepends=True)[:4]
    journal.write_bytes(b"".join(kept) + b'[["pho')  # as a kill in the middle of a line leaves it
    capsys.readouterr()
    assert main(["predict", "photos", "--resume", "cut.parquet", "--min-score", "0.6"]) == 2
    assert capsys.readouterr().err.startswith(
        "mien: cut.parquet was begun with min_score 0.0, this is 0.6: answers"
    )
    assert main(["predict", "photos", "--resume", "cut.parquet"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("mien: 4 pictures are in cut.parquet.partial already, 6 left\n")
    assert printed.out == "wrote cut.parquet: 9 pictures, 9 faces\n"
    assert not journal.exists()
    assert parquet.read_table("cut.parquet").equals(parquet.read_table("whole.parquet"))
    assert main(["predict", "photos", "--resume", "cut.parquet"]) == 2
    assert capsys.readouterr().err.startswith("mien: cut.parquet is whole: nothing is left to do")


@pytest.mark.parametrize("words", [["--resume", "faces.csv"], ["--parquet", "faces.parquet"]])
def test_two_at_once_do_not_write_into_one_file(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "mien", "predict", "photos", "-", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        lock = Path(f".{words[1]}.lock")
        deadline = time.monotonic() + 60
        while not lock.exists() or not lock.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert main(["predict", "photos", *words]) == 2
        said = f"mien: {words[1]} is being written by another process (process {first.pid} on "
        assert capsys.readouterr().err.startswith(said)
        first.communicate(b"no picture")
        assert first.returncode == 1
    assert not lock.exists()


def test_what_does_not_fit_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    whole("faces.csv")
    before = Path("faces.csv").read_bytes()
    Path("other.csv").write_text("path,emotion\nphotos/0.png,happy\n")
    Path("other.json").write_text('{"a": 1}\n')
    Path("faces.jsonl").write_text('{"path": "x"}\n')
    capsys.readouterr()
    for words, said in (
        (["--resume", "faces.csv", "--head", "votes"], "mien: faces.csv was begun with head expression, this is votes"),
        (["--resume", "faces.csv", "--prior", "balanced"], "mien: faces.csv was begun with prior everyday"),
        (["--resume", "faces.csv", "--tta", "flip"], "mien: faces.csv was begun with tta adaptive, this is flip: "),
        (["--resume", "faces.csv", "--precision", "float32"], "mien: faces.csv was begun with precision int8, this is"),
        (["--resume", "faces.csv", "--detector", "whole"], "mien: faces.csv was begun with detector mien "),
        (["--resume", "faces.csv", "--min-face", "30"], "mien: faces.csv was begun with min_face 0.0, this is 30.0"),
        (["--resume", "other.csv"], "mien: other.csv has other columns"),
        (["--resume", "other.json"], "mien: other.json is not what mien predict --json writes"),
        (["--resume", "faces.jsonl"], "mien: faces.jsonl is not what mien predict --jsonl writes"),
        (["--resume", "faces.txt"], "mien: in which form is faces.txt?"),
        (["--resume", "photos", "--csv"], "mien: --resume needs a file, photos is a folder"),
        (["--resume", "a.parquet", "--parquet", "b.parquet"], "mien: --parquet b.parquet and --resume a.parquet name"),
    ):  # fmt: skip
        assert main(["predict", "photos", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(said)
    assert Path("faces.csv").read_bytes() == before
    Path("faces.csv.settings.json").unlink()  # as behind `mien predict --csv > faces.csv`
    assert main(["predict", "photos", "--resume", "faces.csv", "--prior", "balanced"]) == 2
    assert capsys.readouterr().err.startswith(
        "mien: faces.csv was begun with prior everyday, this is balanced: ans"
    )
    assert main(["predict", "photos", "--resume", "faces.csv"]) == 1
    assert capsys.readouterr().err.startswith(
        "mien: without faces.csv.settings.json only head and prior could be"
    )
    assert Path("faces.csv").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_name_with_line_breaks_is_in_every_form_what_the_file_is_called(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It was `a?b.png`, a file that is not there. Messages and the table stay on one line."""
    name = 'a\nb\r"c".png'
    for file in photos.rglob("*.*"):
        file.unlink()
    (photos / name).write_bytes(SAMPLE.read_bytes())
    (photos / "x\n.png").write_bytes(b"no picture")
    expected = [f"photos/{name}", "photos/x\n.png"]
    assert main(["predict", "photos"]) == 1
    printed = capfd.readouterr()
    assert 'photos/a?b?"c".png' in printed.out and "mien: photos/x?.png is not a picture" in printed.err
    assert main(["predict", "photos", "--resume", "out.csv"]) == 1
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == expected
    assert main(["predict", "photos", "--resume", "out.csv"]) == 1
    assert "1 picture is in out.csv already, 1 left" in capfd.readouterr().err  # the last one is done anew
    assert main(["predict", "photos", "--resume", "out.jsonl"]) == 1
    assert [json.loads(line)["path"] for line in Path("out.jsonl").read_text().splitlines()] == expected
    assert main(["predict", "photos", "--parquet", "out.parquet"]) == 1
    assert parquet.read_table("out.parquet")["path"].to_pylist() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes there")
def test_a_table_is_written_to_a_path_that_is_no_utf8() -> None:
    assert main(["predict", "photos/0.png", "--parquet", "out\udcff.parquet"]) == 0
    with Path("out\udcff.parquet").open("rb") as file:
        assert parquet.read_table(file)["path"].to_pylist() == ["photos/0.png"] * 2
