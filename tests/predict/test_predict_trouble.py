"""`mien predict` on a large folder, into Parquet, and where disk, streams or the user put an end to it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest

import mien
from mien.cli.main import main
from mien.terminal import ProgressBar

from ..model.tiny_onnx import write_folder

COMMAND = (sys.executable, "-m", "mien.cli.main", "predict", "--model", "tiny", "--detector", "whole")
parquet = pytest.importorskip("pyarrow.parquet")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX limits, signals and streams")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a model `tiny` and 120 pictures in `many`, of which number 60 is cut short."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "tiny")
    many = tmp_path / "many"
    many.mkdir()
    for n in range(120):
        (many / f"{n}.png").write_bytes(
            cv2.imencode(".png", np.full((40, 30, 3), 2 * n, np.uint8))[1].tobytes()
        )
    (many / "60.png").write_bytes((many / "60.png").read_bytes()[:50])
    return many


def predict(*words: str) -> int:
    return main(["predict", *words, "--model", "tiny", "--detector", "whole"])


def child(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run([*COMMAND, *words], stderr=subprocess.PIPE, text=True, check=False, **options)


def test_a_table_without_a_row_has_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("many/60.png") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("mien: many/60.png ") and printed.err.count("\n") == 1
    assert predict("many/60.png", "many/61.png", "many/62.png") == 1
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["picture", "face", "expression", "sure"]
    assert [row.split()[0] for row in rows] == ["many/61.png", "many/62.png"]


def test_one_broken_picture_in_the_middle_is_reported_and_the_order_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict("many", "--json", "--save", "marked") == 1
    printed = capsys.readouterr()
    records = json.loads(printed.out)
    assert [int(Path(record["path"]).stem) for record in records] == list(range(120))
    broken = records.pop(60)
    assert broken["faces"] == []
    assert broken["problem"].startswith(f"{Path('many/60.png')} is cut short")
    line, written = printed.err.splitlines()
    assert written == "mien: wrote 119 marked pictures to marked"
    assert line.startswith(f"mien: {Path('many/60.png')} is cut short: one part of it claims")
    analyzer = mien.load("tiny", detector="whole")
    for record in records[::17]:
        (face,) = analyzer.analyze_file(record["path"])
        assert record["faces"] == [face.to_dict()]
        copy = cv2.imread(str(Path("marked", Path(record["path"]).name)))
        assert copy[160, 120].tolist() == [2 * int(Path(record["path"]).stem)] * 3
    assert len(list(Path("marked").iterdir())) == 119


def test_json_of_nothing_but_trouble_is_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("many/60.png", "--json") == 1
    (record,) = json.loads(capsys.readouterr().out)
    assert sorted(record) == ["faces", "path", "problem"]


def test_parquet_holds_the_rows_of_csv_with_types(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("many", "--csv") == 1
    wanted = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert predict("many", "--parquet", "out/faces.parquet") == 1
    assert capsys.readouterr().out == f"wrote {Path('out/faces.parquet')}: 119 pictures, 119 faces\n"
    table = parquet.read_table("out/faces.parquet")
    assert table.column_names == list(wanted[0])
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == [row["path"] for row in wanted]
    assert rows.pop(60)["problem"] == wanted.pop(60)["problem"] != ""
    for row, text in zip(rows, wanted, strict=True):
        assert (row["face"], row["uncertain"], row["score"]) == (1, text["uncertain"] == "true", 0.0)
        assert [row[name] for name in ("probability", "width", "p_dark", "p_bright")] == [
            float(text[name]) for name in ("probability", "width", "p_dark", "p_bright")
        ]
    assert (
        main(["predict", "many/1.png", "--model", "tiny", "--detector", "haar", "--parquet", "no.parquet"])
        == 0
    )
    (row,) = parquet.read_table("no.parquet").to_pylist()
    assert {name for name, value in row.items() if value is not None} == {"path"}


def test_parquet_says_what_is_missing_before_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("many", "--parquet", "many") == 2
    assert capsys.readouterr().err == "mien: --parquet needs a file, many is a folder; name a file in it\n"
    code = "import sys; sys.modules['pyarrow'] = None; from mien.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["predict", "many", "--model", "tiny", "--parquet", "x.parquet"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("mien: writing Parquet needs pyarrow")
    assert 'pip install "mien[parquet]"' in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("x.parquet").exists()


def test_a_marked_copy_replaces_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    there = Path("many/1.png")
    for place, reason in (
        (there, f"--save {there} is there already; delete it or name another place"),
        (there / "marked", f"--save needs a folder, {there} is a file; name another place"),
    ):
        before = there.read_bytes()
        assert predict("many/2.png", "--save", str(place)) == 2
        assert capsys.readouterr().err.splitlines() == [f"mien: {reason}"]
        assert there.read_bytes() == before


def limited_to(size: int) -> Callable[[], None]:
    """Return what lets a child write no file larger than this, as on a full disk."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@posix
@pytest.mark.parametrize("words", [("--save", "marked"), ("--parquet", "faces.parquet")])
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_half_done(words: tuple[str, str]) -> None:
    done = child("many/1.png", "many/2.png", *words, preexec_fn=limited_to(500))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"mien: cannot write {words[1]}")
    assert "File too large" in line
    left = [path for path in Path().rglob("*") if path.is_file() and path.parts[0] not in ("many", "tiny")]
    # From which --resume goes on.
    assert set(map(str, left)) <= {"faces.parquet.partial", "faces.parquet.settings.json"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["--csv", "--jsonl", "--json"])
def test_results_that_do_not_fit_are_one_line(form: str) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = child("many/1.png", form, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "mien: cannot write the output: No space left on device; free some space\n"


@posix
@pytest.mark.parametrize(("closed", "code"), [("<&-", 1), (">&-", 0), ("2>&-", 0)])
def test_closed_streams(closed: str, code: int) -> None:
    picture = "-" if closed == "<&-" else "many/1.png"
    line = f'exec "$@" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", line, "sh", *COMMAND, picture, "--csv"], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stderr.startswith("mien: standard input is closed") == (closed == "<&-")
    assert done.stderr.count("\n") == (closed == "<&-")
    assert ("bright" in done.stdout) == (closed != ">&-")


@posix
def test_a_folder_that_was_deleted_meanwhile_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["data", "."]) == 2
    assert capsys.readouterr().err == (
        "mien: the folder in which this was started is gone; cd to another one and give the command again\n"
    )
    monkeypatch.chdir(folder)


@posix
def test_ctrl_c_ends_it_with_one_line(folder: Path) -> None:
    for n in range(120, 3000):
        os.link(folder / f"{n % 50}.png", folder / f"{n}.png")
    # What a shell starts in the background ignores Ctrl-C, and so would this child of such a test run.
    heard: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*COMMAND, "many", "--jsonl", "--save", "marked"], **streams, **heard) as process:
        stream: IO[str] = process.stdout  # type: ignore[assignment]
        first = stream.readline()
        process.send_signal(signal.SIGINT)
        rest, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint == "mien: stopped\n"
    assert json.loads(first)["path"] == str(Path("many/0.png"))
    assert len(rest.splitlines()) < 2900
    assert all(cv2.imread(str(path)) is not None for path in Path("marked").iterdir())  # none is half written


@posix
def test_a_stopped_run_into_a_file_says_how_it_goes_on(folder: Path) -> None:
    for n in range(120, 3000):
        os.link(folder / f"{n % 50}.png", folder / f"{n}.png")
    command = [*COMMAND, "many", "--resume", "faces.jsonl"]
    heard: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **heard) as process:
        until = time.monotonic() + 60
        while not (Path("faces.jsonl").is_file() and Path("faces.jsonl").stat().st_size):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("mien: what is done is kept; the same command goes on\nmien: stopped\n")


@posix
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_it_at_once_and_in_order(folder: Path, sent: signal.Signals) -> None:
    """It was Aborted, where it came while the first one waited for threads."""
    for n in range(120, 3000):
        os.link(folder / f"{n % 50}.png", folder / f"{n}.png")
    heard: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    for pause_s in (0.0, 0.02, 0.1):
        with subprocess.Popen([*COMMAND, "many", "--jsonl"], **streams, **heard) as process:
            process.stdout.readline()  # type: ignore[union-attr]
            process.send_signal(sent)
            time.sleep(pause_s)
            process.send_signal(sent)
            _, complaint = process.communicate(timeout=60)
        assert process.returncode in (128 + sent, -sent)  # -sent: after Python had put its own handlers away
        assert complaint in ("", "mien: stopped\n")


def test_the_bar_counts_and_says_how_long_still(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, now = Terminal(), [100.0]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = ProgressBar("pictures", 5000)
    for done in range(1, 1001):
        now[0] += 0.0625
        bar.show(done)
    bar.line("mien: a picture is broken")
    bar.end()
    drawn = terminal.getvalue().split("\r\x1b[K")
    assert drawn[-3] == "pictures  ━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  1,000 of 5,000  16/s  4m 10s left"
    assert drawn[-2:] == ["mien: a picture is broken\n", ""]
    assert len(drawn) == 1 + 250 + 2  # every 0.25 s: at most five times a second
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    ProgressBar("pictures", 5000, shown=False).show(1)
    ProgressBar("pictures", 1).show(1)
    assert quiet.getvalue() == ""


def test_a_picture_that_cannot_be_read_has_its_place_in_what_programs_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever goes on with a bulk run can tell what failed from what was not done yet."""

    monkeypatch.chdir(tmp_path)
    Path("=1+1.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    assert main(["predict", "=1+1.jpg", "--jsonl"]) == 1
    (record,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert record["path"] == "=1+1.jpg"
    assert record["faces"] == []
    assert record["problem"].startswith("=1+1.jpg ")
    assert main(["predict", "=1+1.jpg", "--csv"]) == 1
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["path"] == "'=1+1.jpg"  # text to a spreadsheet, not a formula
    assert row["emotion"] == ""
    assert row["problem"].startswith("'=1+1.jpg ")
