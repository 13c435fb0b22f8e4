"""`mien batch` on Ray: what it answers is what `mien predict` answers, whatever is killed on the way."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mien
from mien.batch.config import BatchConfig
from mien.cli.main import main
from mien.errors import ConfigError, DataError, ModelError, OutputError
from mien.locks import locked

parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
from mien.batch import storage as batch_storage  # noqa: E402
from mien.batch.part import Job  # noqa: E402
from mien.batch.pool import store_folder  # noqa: E402
from mien.batch.run import batch  # noqa: E402
from mien.batch.worker import Worker  # noqa: E402

from ..model.tiny_onnx import write_folder  # noqa: E402
from .batch_files import SAMPLES, fill, job, picture  # noqa: E402


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of a run, in the order of its shards."""
    return [
        row for path in sorted((folder / "shards").iterdir()) for row in parquet.read_table(path).to_pylist()
    ]


def without_source(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in ("source", "error")} for row in rows]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray of this process with two processors; its address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    store = {"object_store_memory": 100 << 20, "_plasma_directory": store_folder()}
    ray.init(address="local", num_cpus=2, **store, **quiet)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


class Trap(threading.Thread):
    """A picture that is a pipe: whoever reads it is known, and killed as often as the trap says; then it is served."""

    def __init__(self, path: Path, content: bytes, kills: int, victim: int | None = None) -> None:
        super().__init__(daemon=True)
        os.mkfifo(path)
        self.path, self.content, self.kills, self.victim = path, content, kills, victim
        self.killed: list[int] = []
        self.start()

    def run(self) -> None:
        while True:
            with suppress(BrokenPipeError), self.path.open("wb") as pipe:  # waits for a reader
                reader = self._reader()
                if reader is None:
                    continue
                if len(self.killed) == self.kills:
                    pipe.write(self.content)
                    pipe.flush()
                    return
                self.killed.append(self.victim or reader)
                os.kill(self.killed[-1], signal.SIGKILL)
                while self._reads(reader):
                    time.sleep(0.01)

    def _reader(self) -> int | None:
        """Return who reads; None where it was a process that is dying: its last threads hold files for a while."""
        for _ in range(50):
            for entry in Path("/proc").glob("[0-9]*"):
                if int(entry.name) != os.getpid() and self._reads(int(entry.name)):
                    return int(entry.name)
            time.sleep(0.02)
        return None

    def _reads(self, process: int) -> bool:
        try:
            return str(self.path) in [str(one.readlink()) for one in Path(f"/proc/{process}/fd").iterdir()]
        except OSError:
            return False


def listed_in(table: Path, paths: list[Path]) -> Path:
    table.write_text("path\n" + "".join(f"{path}\n" for path in paths), encoding="utf-8")
    return table


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.usefixtures("cluster")
def test_actors_are_killed_and_the_union_is_what_predict_says(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = fill(here / "photos", 40)
    bystander, poison = here / "photos" / "7.jpg", here / "photos" / "23.jpg"
    once, always = (bystander, 1), (poison, 99)
    traps = []
    for path, kills in (once, always):
        path.unlink()
        traps.append(Trap(path, picture(int(path.stem)), kills))
    table = listed_in(here / "list.csv", paths)
    words = ["batch", str(table), "--to", "out", "--shard-size", "6", "--actors", "2"]
    assert main(words) == 1
    assert "40 pictures" in capsys.readouterr().out
    assert [len(trap.killed) for trap in traps] == [1, 3]  # in its shard, then twice alone
    rows = rows_of(here / "out")
    (crashed,) = [row for row in rows if row["error"]]
    assert (crashed["path"], crashed["error"]) == (str(poison), "crash")
    assert "ended the process that looked at it, 2 times" in crashed["problem"]

    for path in (bystander, poison):
        path.unlink()
        path.write_bytes(picture(int(path.stem)))
    answered = [str(path) for path in paths if path != poison]
    assert main(["predict", *answered, "--parquet", "predict.parquet"]) == 0
    expected = parquet.read_table("predict.parquet").to_pylist()
    assert without_source([row for row in rows if row is not crashed]) == expected
    summary = json.loads((here / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["pictures"] == 40
    assert summary["faces"] == sum(row["face"] is not None for row in expected) > 20
    assert summary["failed_by_error"] == {"crash": 1}
    failures = (here / "out" / "failures.csv").read_text(encoding="utf-8").splitlines()
    assert failures[0] == "path,source,error,problem"
    assert failures[1].startswith(f"{poison},{table},crash,")
    assert len(failures) == 2

    assert main(words) == 1  # nothing is left to do, and nothing changes
    assert "0 now, 40 before" in capsys.readouterr().out
    assert rows_of(here / "out") == rows
    table.write_text(table.read_text(encoding="utf-8") + "more.jpg\n", encoding="utf-8")
    assert main(words) == 2
    assert "list.csv has changed since out was begun: answers would mix" in capsys.readouterr().err
    table.unlink()  # which is needed no more
    assert main(words) == 1
    assert "0 now, 40 before" in capsys.readouterr().out
    (here / "out" / "shards" / "0000000.parquet").unlink()
    assert main(words) == 2
    assert re.fullmatch(r"mien: cannot read the table \S*list.csv: No such file.*\n", capsys.readouterr().err)


@pytest.mark.skipif(sys.platform != "linux", reason="needs pipes and signals")
def test_a_killed_driver_is_gone_on_with(cluster: str, here: Path) -> None:
    paths = fill(here / "photos", 12)
    late = paths[9]
    late.unlink()
    listed_in(here / "list.csv", paths)
    words = ["batch", "list.csv", "--to", "out", "--shard-size", "3", "--actors", "1"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "mien.cli.main", *words, "--address", cluster], stderr=subprocess.DEVNULL
    )
    trap = Trap(late, picture(9), 1, victim=driver.pid)
    assert driver.wait(timeout=120) == -signal.SIGKILL
    shards = here / "out" / "shards"
    first = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert sorted(first) == ["0000000.parquet", "0000001.parquet", "0000002.parquet"]
    done = batch(["list.csv"], "out", BatchConfig(shard_size=3, actors=1), quiet=True)
    trap.join(timeout=30)
    assert (done.answered, done.counts["pictures"], done.counts["failed"]) == (3, 12, 0)
    assert {name: (shards / name).stat().st_mtime_ns for name in first} == first
    assert [row["path"] for row in rows_of(here / "out") if row["face"] in (1, None)] == list(map(str, paths))


def film(path: Path, count: int) -> Path:
    """Write a video of two portraits that move, one after the other, at two frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 2, (144, 112))
    for number in range(count):
        face = cv2.resize(cv2.imread(str(SAMPLES[number * 2 // count])), (96, 96))
        frame = np.full((112, 144, 3), 60 + number * 2 // count * 90, np.uint8)
        left = 4 + abs(20 - number % 40)
        frame[8:104, left : left + 96] = face
        writer.write(frame)
    writer.release()
    return path


def cell(value: Any) -> str:
    """Return a value as the table of `mien video` has it."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.usefixtures("cluster")
def test_a_video_in_pieces_of_which_one_is_lost_is_what_video_says(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "films").mkdir()
    path = film(here / "films" / "talk.mp4", 150)  # 75 s: three pieces
    (here / "films" / "cut.mp4").write_bytes(path.read_bytes()[:3000])
    (here / "films" / "portrait.jpg").write_bytes(picture(0))
    killed: list[int] = []
    done = threading.Event()

    def kill_one() -> None:
        while not killed and not done.is_set():
            if list((here / "out" / "pieces").glob("*/look-*")):  # then both actors are at others
                for entry in Path("/proc").glob("[0-9]*/cmdline"):
                    with suppress(OSError):
                        if entry.read_bytes().startswith(b"ray::Worker.answer"):
                            os.kill(int(entry.parent.name), signal.SIGKILL)
                            killed.append(int(entry.parent.name))
                            return
            time.sleep(0.002)

    killer = threading.Thread(target=kill_one)
    killer.start()
    words = ["batch", "films", "--to", "out", "--actors", "2"]
    try:
        assert main(words) == 1
    finally:
        done.set()
        killer.join()
    assert killed
    assert "1 picture, 1 face, 2 videos (2 now), 1 failed" in capsys.readouterr().out
    assert main(["video", str(path), "--no-video", "--to", "alone"]) == 0
    with (here / "alone" / "talk-faces.csv").open(encoding="utf-8") as stream:
        expected = list(csv.DictReader(stream))
    rows = parquet.read_table(here / "out" / "videos" / "0000002.parquet").to_pylist()
    ours = [{name: cell(row[name]) for name in expected[0]} for row in rows]
    assert ours == expected
    assert len(expected) == 150
    assert {row["track"] for row in rows} == {1, 2}
    assert {row["path"] for row in rows} == {"films/talk.mp4"}
    (row,) = parquet.read_table(here / "out" / "videos" / "0000001.parquet").to_pylist()
    assert (row["path"], row["error"], row["frame"]) == ("films/cut.mp4", "damaged", None)
    assert row["problem"].startswith("films/cut.mp4 is not a video that can be decoded")
    summary = json.loads((here / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["videos"], summary["video_frames"], summary["faces_in_videos"]) == (2, 150, 2)
    assert not (here / "out" / "pieces").exists()
    assert main(words) == 1
    assert "2 videos (0 now)" in capsys.readouterr().out


def test_actors_that_start_at_once_leave_one_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(here / "cache"))
    given = job(here)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Worker().open(given), range(4)))
    assert len(opened) == 4
    assert [one.name for one in (here / "cache" / "batch").iterdir()] == [given.digest]
    kept = here / "cache" / "batch" / given.digest / "model" / "model.onnx"
    whole = kept.read_bytes()
    kept.write_bytes(whole[:1000])  # as after a loss of power
    Worker().open(given)
    assert kept.read_bytes() == whole
    assert [one.name for one in (here / "cache" / "batch").iterdir()] == [given.digest]
    monkeypatch.setenv("MIEN_CACHE", "/proc/none")
    with pytest.raises(OutputError, match=r"^machine .*: cannot write /proc/none.*: MIEN_CACHE, set before"):
        Worker().open(given)


def test_the_folder_of_the_command_is_no_folder_of_modules_and_may_have_any_name(
    cluster: str, here: Path
) -> None:
    place = here / os.fsdecode(b"caf\xe9")
    fill(place / "photos", 2)
    (place / "cv2.py").write_text("raise SystemExit('run by an actor')")
    photos = os.fsdecode(b"../caf\xe9/photos")
    words = ["batch", photos, "--to", "../out", "--actors", "1", "--address", cluster]
    command = [sys.executable, "-P", "-m", "mien", *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stderr
    assert [row["path"] for row in rows_of(here / "out")] == [f"../caf\ufffd/photos/{n}.jpg" for n in (0, 1)]
    assert {row["source"] for row in rows_of(here / "out")} == {"../caf\ufffd/photos"}


@pytest.mark.usefixtures("cluster")
def test_what_systems_and_people_leave_beside_the_shards_is_left_alone(here: Path) -> None:
    fill(here / "photos", 2)
    (here / "photos" / "2.jpg").write_bytes(b"no picture")
    assert batch(["photos"], "out", quiet=True).counts["failed"] == 1
    shards = here / "out" / "shards"
    (shards / "Thumbs.db").write_bytes(b"of a system")
    (shards / "0000000 (conflicted copy).parquet").write_bytes((shards / "0000000.parquet").read_bytes())
    found = batch(["photos"], "out", quiet=True)
    assert (found.answered, found.counts["pictures"], found.counts["failed"]) == (0, 3, 1)
    assert len((here / "out" / "failures.csv").read_text().splitlines()) == 2


@pytest.mark.usefixtures("cluster")
def test_what_was_added_to_a_folder_since_is_said_to_be_left_out(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(here / "photos", 2)
    told = "mien: the pictures are those that were there when out was begun; for what was added since, name another"
    for line in (False, True):
        assert main(["batch", "photos", "--to", "out"]) == 0
        out, err = capfd.readouterr()
        assert (told in err) is line
        assert "out: 2 pictures" in out
        (here / "photos" / "new.jpg").write_bytes((here / "photos" / "0.jpg").read_bytes())


@pytest.mark.usefixtures("cluster")
def test_another_run_is_refused_in_one_line(here: Path) -> None:
    fill(here / "photos", 4)
    batch(["photos"], "out", quiet=True)
    with pytest.raises(
        ConfigError, match=r"^out was begun with head expression, this is votes: answers would mix; name"
    ):
        batch(["photos"], "out", quiet=True, head="votes")
    with pytest.raises(
        ConfigError, match=r"^out was begun for .*photos, this is .*photos/0.jpg: answers would mix"
    ):
        batch(["photos/0.jpg"], "out", quiet=True)
    write_folder(here / "tiny")
    with pytest.raises(
        ConfigError, match=r"^out was begun with model mien \w{12}, this is brightness \w{12}: a"
    ):
        batch(["photos"], "out", quiet=True, model="tiny")
    for name, content in (
        ("run.json", b"{}"),
        ("run.json", b'{"asked": '),
        ("plan.parquet", b"PAR1"),
        ("plan.parquet", b""),
    ):
        kept = (here / "out" / name).read_bytes()
        (here / "out" / name).write_bytes(content)
        with pytest.raises(
            ConfigError, match=r"^run.json and plan.parquet of out cannot be read \(.*name another"
        ):
            batch(["photos"], "out", quiet=True)
        (here / "out" / name).write_bytes(kept)
    with (
        locked(here / "out", "being written"),
        pytest.raises(ConfigError, match="by another process"),
    ):
        batch(["photos"], "out", quiet=True)
    with pytest.raises(ConfigError, match=r"^photos holds other things \(0.jpg"):
        batch(["photos"], "photos", quiet=True)
    with pytest.raises(DataError, match="there is no picture in nothing"):
        batch(["nothing"], "out2", quiet=True)
    assert not (here / "out2").exists()
    with pytest.raises(ConfigError, match="actors must be 1 or more, got 0"):
        BatchConfig(actors=0)
    other = job(here, "photos")
    with pytest.raises(ModelError, match=r"this run is of mien 0\.0, the machine .* has mien"):
        Worker().open(Job(**{**vars(other), "version": "0.0"}))


@pytest.mark.usefixtures("cluster")
def test_a_disk_that_is_full_is_one_line_and_the_rest_is_done_later(here: Path) -> None:
    fill(here / "photos", 9)
    config = BatchConfig(shard_size=3, actors=1)

    full_at = "0000001.parquet"

    def full(path: Path) -> Any:
        if path.name == full_at:
            raise OutputError(
                f"cannot write {path}: No space left on device; free some space or name another place"
            )
        return whole(path)

    whole, batch_storage.whole_file = batch_storage.whole_file, full
    try:
        with pytest.raises(OutputError, match="No space left on device"):
            batch(["photos"], "out", config, quiet=True)
    finally:
        batch_storage.whole_file = whole
    assert [path.name for path in (here / "out" / "shards").iterdir()] == ["0000000.parquet"]
    (here / "out" / "shards" / "0000000.parquet").write_bytes(b"PAR1")  # as after a loss of power
    # As after a kill while it wrote.
    (here / "out" / "shards" / ".0000001.1a2b3c4d.parquet").write_bytes(b"PAR1")
    batch_storage.whole_file, full_at = full, "summary.json"
    try:  # what a kill there would leave as well
        with pytest.raises(OutputError, match="No space left on device"):
            batch(["photos"], "out", config, quiet=True)
    finally:
        batch_storage.whole_file = whole
    assert sorted(path.name for path in (here / "out").iterdir() if path.name[0] != ".") == [
        "failures.csv", "plan.parquet", "run.json", "shards",
    ]  # fmt: skip
    done = batch(["photos"], "out", config, quiet=True)
    assert (done.answered, done.counts["pictures"]) == (0, 9)
    summary = json.loads((here / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["pictures"], summary["failed"]) == (9, 0)
    names = [f"{number:07}.parquet" for number in range(3)]
    assert sorted(path.name for path in (here / "out" / "shards").iterdir()) == names


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")
@pytest.mark.parametrize(
    "name", [pytest.param("ray data", marks=pytest.mark.slow), "multiprocessing", "joblib"]
)
def test_the_examples_for_other_engines(
    name: str, here: Path, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    if name == "multiprocessing":
        try:
            multiprocessing.Lock()
        except OSError as error:
            pytest.skip(
                f"Python's own pool cannot run on this machine, whose /dev/shm is not writable: {error}"
            )
    page = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
    code = page.read_text(encoding="utf-8").split(f"<!-- {name} -->\n```py\n")[1].split("```")[0]
    (here / "example.py").write_text(code, encoding="utf-8")
    fill(here / "photos", 6)
    analyzer = mien.load()
    truth = [[face.emotion for face in analyzer(picture(number))] for number in range(6)]
    if name == "ray data":  # in the Ray that runs already
        request.getfixturevalue("cluster")
        # Its processes stand where the test stood that started it, so that a path must be whole.
        code = code.replace('"photos"', repr(str(here / "photos"))).replace(
            '"answers"', repr(str(here / "answers"))
        )
        exec(compile(code, "example.py", "exec"), {"__name__": "__main__"})
        answers = parquet.read_table(here / "answers").to_pylist()
        assert [row["emotions"] for row in sorted(answers, key=lambda row: row["path"])] == truth
        return
    subprocess.run([sys.executable, "example.py"], check=True)
    printed = capfd.readouterr().out
    if name == "joblib":
        assert sorted(map(str, truth)) == sorted(str(one) for part in eval(printed) for one in part)
    else:
        assert [eval(line.partition(" ")[2]) for line in printed.splitlines()] == truth
