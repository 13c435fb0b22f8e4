"""Outputs are whole or not there, and what stood before survives every failure."""

from __future__ import annotations

import csv
import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mien import files
from mien.errors import DataError, OutputError
from mien.files import (
    cache_folder,
    cannot_write,
    check_writable,
    csv_writer,
    given_paths,
    joined_paths,
    plain_name,
    spreadsheet_safe,
    whole_file,
    whole_folder,
    without_spreadsheet_guard,
)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_folder_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    if not in_one_step:
        monkeypatch.setattr(files, "_swapped", lambda *_: False)
    for text in "abc":
        with whole_folder(tmp_path / "out") as folder:
            (folder / text).write_text(text)
        assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [
            Path("out"),
            Path("out", text),
        ]


@pytest.mark.skipif(sys.platform != "linux", reason="needs renameat2 of Linux")
def test_folders_change_places_in_one_step(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name / name).mkdir(parents=True)
    assert files._swapped(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").is_dir() and (tmp_path / "b" / "a").is_dir()
    assert not files._swapped(tmp_path / "a", tmp_path / "none")


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "result.json"
    with whole_file(path) as temporary:
        assert temporary.suffix == ".json"  # writers that go by the suffix (cv2, numpy) do the right thing
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"cannot write .*result\.json: No such file"), whole_file(path):
        pass
    assert path.read_text() == "old"


def test_a_link_to_itself_is_replaced_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.symlink_to(path)
    with whole_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("old")
    said = r"cannot write .*a\.json: .*results is a file, not a folder"
    with pytest.raises(OutputError, match=said), whole_file(tmp_path / "results" / "a.json") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "results").read_text() == "old"


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + ".txt")  # 254 bytes
    with whole_file(path) as temporary:
        temporary.write_text("fits")
    assert path.read_text() == "fits"
    with whole_folder(tmp_path / ("文" * 85)) as folder:
        (folder / "a").write_text("fits")
    assert (tmp_path / ("文" * 85) / "a").read_text() == "fits"


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "model"
    for content, names in (("first", {"a", "b"}), ("second", {"b", "c"})):
        with whole_folder(path) as folder:
            for name in names:
                (folder / name).write_text(content)
        assert {file.name for file in path.iterdir()} == names
        assert (path / "b").read_text() == content
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_the_old_folder_alone(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "a").write_text("old")
    with pytest.raises(Stopped), whole_folder(path) as folder:
        (folder / "a").write_text("half")
        raise Stopped
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way_of_a_folder_stays(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("mine")
    with (
        pytest.raises(OutputError, match=r"cannot write .*model: a file of that name is in the way"),
        whole_folder(path),
    ):
        pytest.fail("the block must not run")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "a").write_text("old")
    with pytest.raises(OutputError, match="cannot write"), whole_folder(path) as folder:
        folder.rmdir()
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.txt").write_text("old")
    (tmp_path / "a.txt").symlink_to(tmp_path / "disk" / "a.txt")
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "disk" / "a.txt").read_text() == "new"
    with whole_folder(tmp_path / "runs") as folder:
        (folder / "b.txt").write_text("b")
    assert (tmp_path / "runs").is_symlink()
    assert [file.name for file in (tmp_path / "disk").iterdir()] == ["b.txt"]
    assert {file.name for file in tmp_path.iterdir()} == {"a.txt", "runs", "disk"}


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the file rights of a POSIX system")
def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for make, reason in ((whole_file, ".*file is a file, not a folder"), (whole_folder, "Not a directory")):
        with (
            pytest.raises(
                OutputError, match=f"cannot write .*inside: {reason}; name another place"
            ) as caught,
            make(tmp_path / "file" / "inside"),
        ):
            pytest.fail("the block must not run")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the file rights of a POSIX system")
def test_where_nothing_can_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "not" / "yet" / "there")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*report: .*file is a file, not a folder"):
        check_writable(tmp_path / "file" / "report")
    (tmp_path / "locked").mkdir(mode=0o555)
    child = os.fork()
    if not child:  # nobody is refused where root may write
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            check_writable(tmp_path / "locked" / "report")
        except OutputError as error:
            os._exit(7 if "Permission denied; allow writing there or name" in str(error) else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_an_output_error_keeps_its_own_words(tmp_path: Path) -> None:
    own = OutputError("the disk of the camera is full")
    assert cannot_write(tmp_path, own) is own
    with pytest.raises(OutputError, match=r"^the disk of the camera is full$"), whole_file(tmp_path / "a"):
        raise own


@pytest.mark.parametrize(
    ("number", "todo"),
    [
        (errno.ENOSPC, "free some space or name"),
        (errno.EACCES, "allow writing there or name"),
        (errno.EIO, "name"),
    ],
)
def test_what_to_do_fits_what_is_wrong(tmp_path: Path, number: int, todo: str) -> None:
    error = OSError(number, os.strerror(number))
    assert f"{os.strerror(number)}; {todo} another place" in str(cannot_write(tmp_path, error))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(OutputError, match="No space left on device"), whole_file(path):
        Path("/dev/full").write_text("x" * 100_000)
    assert path.read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from mien.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_the_cache_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("MIEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / "xdg" / "mien"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "mien"


def test_results_are_named_after_what_they_are_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain_name(Path("sets/fer2013.csv.xz")) == "fer2013"
    assert plain_name(Path("/")) == plain_name(Path(".hidden")) == "data"
    (tmp_path / "faces").mkdir()
    monkeypatch.chdir(tmp_path / "faces")
    assert plain_name(Path()) == "faces"
    (tmp_path / "loop").symlink_to("loop")
    assert plain_name(tmp_path / "loop") == "loop"


def test_what_is_named_twice_counts_once(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "faces")
    same = [tmp_path / "faces", f"{tmp_path}/faces/", tmp_path / "link"]
    assert joined_paths(same) == tmp_path / "faces"
    with pytest.raises(DataError, match="no path is given"):
        joined_paths([])


def test_an_address_is_no_path(tmp_path: Path) -> None:
    for address in ("https://x.org/a.zip", "S3://bucket/faces", Path("https://x.org/a.zip")):
        with pytest.raises(DataError, match="is an address, and mien fetches nothing"):
            given_paths([tmp_path, address])
    drive = "C:/faces", "web:/data/web"
    assert given_paths(drive) == [Path(one) for one in drive]
    for wrong in (3, None, b"faces", {"a": 1}):
        with pytest.raises(DataError, match="a path must be a str or Path"):
            given_paths(wrong)


def test_csv_is_read_as_it_was_written() -> None:
    rows = [
        ["path", "problem"],
        ["a\rb.jpg", ""],
        ["a\nb.jpg", 'a "quote", a comma'],
        ["\r\n", "ends in\r\n"],
    ]
    file = io.StringIO()
    csv_writer(file).writerows(rows)
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == rows
    assert file.getvalue().startswith("path,problem\n")  # no carriage returns but those of the cells


@pytest.mark.parametrize(
    "text", ["=1+1", "'=1+1", "''-x", "'tis", "-0.5", "'", "''", "'-", "", "happy", "'happy'"]
)
def test_what_is_made_safe_for_spreadsheets_comes_back(text: str) -> None:
    safe = spreadsheet_safe(text)
    assert not safe.startswith(("=", "-x"))
    assert without_spreadsheet_guard(safe) == text
