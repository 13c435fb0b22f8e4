"""`mien batch`: what it answers is what `mien predict` answers, whatever is killed on the way."""

from __future__ import annotations

import csv
import gzip
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import mien
from mien.batch.config import BatchConfig
from mien.batch.plan import VIDEO, Item, Shard, _translated, read_plan, write_plan
from mien.batch.storage import Storage, Target
from mien.cli.main import main
from mien.errors import ConfigError, DataError, ImageError, ModelError, OutputError
from mien.files import locked
from mien.terminal import ProgressBar

parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
from mien.batch import run as batch_run  # noqa: E402
from mien.batch import storage as batch_storage  # noqa: E402
from mien.batch.part import Answer, Job, Part  # noqa: E402
from mien.batch.pool import Pool, store_folder  # noqa: E402
from mien.batch.run import batch  # noqa: E402
from mien.batch.videos import VideoWork  # noqa: E402
from mien.batch.worker import Worker  # noqa: E402

from ..model.tiny_onnx import write_folder  # noqa: E402

SAMPLES = sorted((Path(mien.__file__).parent / "samples").glob("*.jpg"))


def picture(number: int) -> bytes:
    """Return a JPEG; every third shows nobody."""
    image = cv2.imread(str(SAMPLES[number % 2]))
    if number % 3 == 2:
        image = np.full((64, 64, 3), number * 5, np.uint8)
    side = 96 + 8 * (number % 7)
    return cv2.imencode(".jpg", cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))[1].tobytes()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(picture(number))
    return paths


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


OUTLINE = zlib.compress(
    b'{"fps": 25.0, "size_px": [64, 48], "length_s": 60.0, "begins_s": [0.0, 20.0, 40.0], "firsts": [0, 500, 1000]}'
)  # of a video that can be cut into three pieces


def test_answers_about_pieces_are_dropped_once_the_video_is_taken_as_one(here: Path) -> None:
    shard = Shard(0, (Item(VIDEO, 0, "film.mp4"),))
    work = VideoWork(shard, Target(here / "out"), lambda *_: None)
    first = work.next()
    assert first
    work.answered(first, Answer([OUTLINE], is_table=False))
    parts = [part for _ in range(3) if (part := work.next())]
    assert [(part.step, part.piece) for part in parts] == [("look", 0), ("look", 1), ("look", 2)]
    work.answered(parts[1], Answer([], is_table=False, unlike=True))
    assert work.next() is None, "the piece that is out has the name of what is wanted now"
    work.answered(parts[0], Answer([zlib.compress(b"{}")], is_table=False))
    work.died(parts[2], "")
    whole = work.next()
    assert whole
    assert (whole.step, whole.piece) == ("look", 0), "what was said of the first piece is not the whole video"
    assert len(json.loads(zlib.decompress(whole.given[0]))["firsts"]) == 1


def test_a_video_that_is_given_up_while_others_look_at_its_pieces(here: Path) -> None:
    """Their answers come when its table is written already."""

    class Reference:
        def __init__(self, given: Any) -> None:
            self.given = given

    class Actor:
        def __init__(self) -> None:
            self.answer = self.open = SimpleNamespace(remote=Reference)

    class Rays:
        """A Ray in which looking at piece 0 ends an actor, and what piece 1 holds is told after the table."""

        exceptions = ray.exceptions
        is_told = False

        def put(self, job: Any) -> Any:
            return job

        def remote(self, _: type) -> Any:
            return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=Actor))

        def wait(self, references: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
            return sorted(references, key=lambda one: self._is_late(one.given) != self.is_told)[:1], []

        @staticmethod
        def _is_late(given: Any) -> bool:
            return isinstance(given, Part) and given.piece == 1

        def get(self, reference: Any) -> Any:
            part = reference.given
            step = part.step if isinstance(part, Part) else ""
            if step == "look" and part.piece == 0:
                raise ray.exceptions.RayActorError
            if step == "table":
                self.is_told = True
                return Answer([b"the table"])
            return Answer([OUTLINE if step == "outline" else zlib.compress(b"{}")], is_table=False)

        def kill(self, actor: Any) -> None:
            pass

    shards = [Shard(number, (Item(VIDEO, 0, f"{number}.mp4"),)) for number in range(2)]
    to = Target(here / "out")
    pool = Pool(
        Rays(), SimpleNamespace(has_videos=True), BatchConfig(actors=2), 2, ProgressBar(quiet=True),  # type: ignore[arg-type]
        worker=Worker, work=lambda shard: VideoWork(shard, to, lambda *_: None),
    )  # fmt: skip
    done = [shard.number for shard, content in pool.answers(iter(shards)) if content == b"the table"]
    assert done == [0, 1]


def job(here: Path, *sources: str, column: str | None = None) -> Job:
    files, options, _ = batch_run._model_files({})
    return Job(
        run="run", version=mien.__version__, files=files, digest=batch_run._digest(files), options=options,
        storage=Storage(here), sources=sources, column=column, threads=1, read_ahead=1 << 20,
    )  # fmt: skip


def shards(here: Path, *sources: str, size: int = 5, column: str | None = None) -> list[Shard]:
    write_plan(here / "plan.parquet", sources, Storage(here), size=size, column=column)
    return list(read_plan(here / "plan.parquet", lambda _: False))


def answered(here: Path, *sources: str, column: str | None = None) -> list[dict[str, Any]]:
    """Answer in this process what an actor would."""
    worker = Worker()
    worker.open(job(here, *sources, column=column))
    parts = [worker.answer(Part(shard)) for shard in shards(here, *sources, column=column)]
    return [row for part in parts for row in parquet.read_table(BytesIO(part.content[0])).to_pylist()]


def expected(name: str) -> list[dict[str, Any]]:
    """Return the rows of 12 pictures, with the paths that they have in `name`, a format of the number."""
    analyzer = mien.load()
    rows = []
    for number in range(12):
        for face in analyzer(picture(number)) or [None]:
            rows.append({"path": name.format(number), "emotion": face and face.emotion})
    return rows


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("path", "emotion")} for row in rows]


def test_pictures_in_a_tar_file(here: Path) -> None:
    with tarfile.open("set.tar", "w") as tar:
        for number in range(12):
            for name, content in ((f"{number:03}.jpg", picture(number)), (f"{number:03}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
    assert told(answered(here, "set.tar")) == expected("set.tar#{:03}.jpg")
    whole = Path("set.tar").read_bytes()
    Path("cut.tar").write_bytes(whole[: len(whole) // 2])
    *rows, last = answered(here, "cut.tar")
    assert told(rows) == expected("cut.tar#{:03}.jpg")[: len(rows)]
    assert (last["path"], last["error"]) == ("cut.tar", "unreadable")
    # Python takes what is no header for the end, and what follows would be lost without a word.
    header = whole.index(b"003.jpg")
    for name, content, problem in (
        ("wrong.tar", whole[:header] + b"x" * 512 + whole[header + 512 :], "bad checksum|invalid header"),
        ("in-header.tar", whole[: header + 100], "truncated header"),
        ("between.tar", whole[:header], "no mark of its end"),
    ):
        Path(name).write_bytes(content)
        *rows, last = answered(here, name)
        assert told(rows) == expected(name + "#{:03}.jpg")[: len(rows)]
        assert {row["path"] for row in rows} == {f"{name}#{number:03}.jpg" for number in range(3)}
        assert re.fullmatch(
            rf"{name} cannot be read on: ({problem}) at byte {header:,}; what follows is lost",
            last["problem"],
        )
    # A hole that a disk left looks like the mark of the end; so does what stands between two that were joined.
    Path("hole.tar").write_bytes(whole[:header] + bytes(1024) + whole[header + 1024 :])
    *rows, last = answered(here, "hole.tar")
    assert (len({row["path"] for row in rows}), last["error"]) == (3, "unreadable")
    Path("joined.tar").write_bytes(whole + whole)
    assert told(answered(here, "joined.tar")) == expected("joined.tar#{:03}.jpg") * 2
    packed = bytearray(
        gzip.compress(whole, 0)
    )  # stored, so that a wrong byte of a picture is seen by the sum alone
    packed[header - 200] ^= 1
    Path("sum.tar.gz").write_bytes(packed)
    assert "CRC check failed" in answered(here, "sum.tar.gz")[-1]["problem"]
    import pyarrow as arrow

    Path("set.tar.zst").write_bytes(arrow.compress(whole, "zstd", asbytes=True))
    assert told(answered(here, "set.tar.zst")) == expected("set.tar.zst#{:03}.jpg")
    # What lies before the cut is answered, but for the block of up to 128 KB that zstd itself cannot read.
    parts = [arrow.compress(part, "zstd", asbytes=True) for part in (whole[:header], whole[header:])]
    Path("cut.tar.zst").write_bytes(parts[0] + parts[1][:-9])
    *rows, last = answered(here, "cut.tar.zst")
    assert {row["path"] for row in rows} == {f"cut.tar.zst#{number:03}.jpg" for number in range(3)}
    assert last["problem"] == "cut.tar.zst cannot be read on: Truncated compressed stream"


def test_a_damaged_tar_file_in_pieces_is_told_once(here: Path) -> None:
    with tarfile.open("set.tar", "w") as tar:
        for path in fill(here / "photos", 12):
            tar.add(path, path.name)
    whole = Path("set.tar").read_bytes()
    Path("set.tar").write_bytes(whole[: whole.index(b"7.jpg")])
    worker = Worker()
    worker.open(job(here, "set.tar"))
    (shard,) = shards(here, "set.tar")
    for ends in ((0, 3, 256, None), (0, 7, None), (0, 1, 7, 8, 9, None), (0, 11, None)):
        parts = [Part(shard, first or 0, last) for first, last in pairwise(ends)]
        rows = [
            row
            for part in parts
            for row in parquet.read_table(BytesIO(worker.answer(part).content[0])).to_pylist()
        ]
        assert list(dict.fromkeys(row["path"] for row in rows)) == [
            *(f"set.tar#{n}.jpg" for n in range(7)),
            "set.tar",
        ]
        assert [row["error"] for row in rows if row["error"]] == ["unreadable"]
    # An actor that dies where the damage lies is told without the damage being looked at again.
    part = Part(shard, 7, 8, problem="ended the process")
    (row,) = parquet.read_table(BytesIO(worker.answer(part).content[0])).to_pylist()
    assert (row["path"], row["problem"], row["error"]) == ("set.tar", "set.tar ended the process", "crash")


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_pictures_in_a_parquet_table(here: Path, form: str) -> None:
    import pyarrow as arrow

    cells = [
        picture(number) if form == "bytes" else {"bytes": picture(number), "path": ""} for number in range(12)
    ]
    parquet.write_table(arrow.table({"label": [0] * 12, "image": cells}), "set.parquet", row_group_size=7)
    assert told(answered(here, "set.parquet")) == expected("set.parquet#{}")
    damaged = bytearray(Path("set.parquet").read_bytes())
    start = parquet.read_metadata("set.parquet").row_group(1).column(1).data_page_offset
    damaged[start : start + 40] = b"\xff" * 40
    Path("damaged.parquet").write_bytes(damaged)
    rows = answered(here, "damaged.parquet")
    lost = [f"damaged.parquet#{row}" for row in range(7, 12)]
    assert told([row for row in rows if not row["error"]]) == expected("damaged.parquet#{}")[: len(rows) - 5]
    assert [row["path"] for row in rows if row["error"] == "unreadable"] == lost
    found = shards(here, "set.parquet", size=5)
    assert [(shard.items[0].first, shard.items[0].last) for shard in found] == [(0, 5), (5, 7), (7, 12)]
    assert shards(here, "set.parquet", column="image") == found
    with pytest.raises(DataError, match="has no column 'photo'; it has label, image"):
        shards(here, "set.parquet", column="photo")


@pytest.mark.parametrize(
    ("pattern", "fits", "not_fits"),
    [
        ("s3://b/[!x]*.jpg", "s3://b/y1.jpg", "s3://b/x1.jpg"),
        ("s3://b/[a-c].jpg", "s3://b/b.jpg", "s3://b/d.jpg"),
        ("s3://b/[^a].jpg", "s3://b/^.jpg", "s3://b/b.jpg"),
        ("s3://b/**/1.jpg", "s3://b/c/d/1.jpg", "s3://b/c/d/2.jpg"),
        ("s3://b/1?.jpg", "s3://b/12.jpg", "s3://b/1/.jpg"),
    ],
)
def test_a_glob_of_addresses_is_that_of_a_shell(pattern: str, fits: str, not_fits: str) -> None:
    found = re.compile(_translated(pattern))
    assert found.fullmatch(fits)
    assert not found.fullmatch(not_fits)


def test_every_picture_once_whatever_names_it(here: Path) -> None:
    fill(here / "photos" / "a", 3)
    fill(here / "photos" / "b", 3)  # the same names
    (here / "photos" / "b" / "link.jpg").symlink_to(here / "photos" / "a" / "0.jpg")
    (here / "photos" / "notes.txt").write_text("none")
    (here / "photos" / "list.csv").write_text('id,path\n1,a/1.jpg\n2,\n3,"no, such.jpg"\n')
    for name, mark in (("semicolons.csv", ";"), ("tabs.csv", "\t")):
        Path(name).write_text(f"id{mark}path\n1{mark}photos/a/1.jpg\n")
        assert [one.items[0].file for one in shards(here, name)] == ["photos/a/1.jpg"]
    text = "id,path\n1,photos/a/1.jpg\n"
    Path("excel.csv").write_text(text, encoding="utf-16")
    assert [one.items[0].file for one in shards(here, "excel.csv")] == ["photos/a/1.jpg"]
    Path("unmarked.csv").write_text(text, encoding="utf-16-le")
    with pytest.raises(
        DataError, match=r"unmarked\.csv has zero bytes: it is damaged, or UTF-16 without its mark"
    ):
        shards(here, "unmarked.csv")
    Path("latin.csv").write_text("path\nä.jpg\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"latin\.csv: .*invalid UTF8 data; save it as UTF-8 \(in Excel"):
        shards(here, "latin.csv")
    Path("twice.csv").write_text("path,path\na.jpg,b.jpg\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"twice\.csv has several columns 'path'; give each a name of its own"
    ):
        shards(here, "twice.csv")
    Path("films.csv").write_text("path\nphotos/a/1.jpg\nfilm.mp4\n", encoding="utf-8")
    found = write_plan(here / "plan.parquet", ["films.csv"], Storage(here), size=4, videos=False)
    assert (found.pictures, found.videos, dict(found.passed_over)) == (1, 0, {"video": 1})
    Path("excel.csv").write_text("\nsep=;\nname;path\nx,y;photos/a/1.jpg\n", encoding="utf-8")
    assert [item.file for item in shards(here, "excel.csv")[0].items] == ["photos/a/1.jpg"]
    Path("empty.csv").touch()
    with pytest.raises(DataError, match=r"the table empty\.csv is empty"):
        shards(here, "empty.csv")
    found = write_plan(
        here / "plan.parquet",
        ["photos", "photos/a/*.jpg", "photos/list.csv", "none/*.jpg"],
        Storage(here),
        size=4,
    )
    plan = list(read_plan(here / "plan.parquet", lambda number: number == 0))
    assert [[item.file for item in shard.items] for shard in plan] == [
        ["photos/b/1.jpg", "photos/b/2.jpg", "photos/list.csv#2", "photos/no, such.jpg"]
    ]
    assert (found.pictures, found.shards, found.named_twice) == (8, 2, 5)
    assert dict(found.passed_over) == {"text": 2}
    assert found.problems == ["no picture, table or tar file matches none/*.jpg"]


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


def test_other_file_systems(here: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    fill(here / "photos", 12)
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {f"/bucket/deep/{n}.jpg": picture(n) for n in range(12)} | {"/bucket/a b#?.png": b"no picture"}
    )
    rows = answered(here, "memory://bucket")
    assert told(sorted(rows[1:], key=lambda row: int(row["path"].split("/")[-1][:-4]))) == expected(
        "memory://bucket/deep/{}.jpg"
    )
    assert (rows[0]["path"], rows[0]["error"]) == ("memory://bucket/a b#?.png", "damaged")
    assert [len(shard.items) for shard in shards(here, "memory://bucket/**/1*.jpg")] == [3]
    address = f"file://{here}/photos"
    assert len(shards(here, address)) == len(shards(here, f"local://{here}/photos")) == 3
    assert sorted(map(str, told(answered(here, address)))) == sorted(map(str, expected(address + "/{}.jpg")))
    found = write_plan(here / "plan.parquet", ["file:///no/such?a=b"], Storage(here), size=5)
    assert found.problems[0].startswith("there is no picture in file:///no/such; name a folder")
    with pytest.raises(DataError, match="there is no way to read bogus://x"):
        shards(here, "bogus://x")
    with pytest.raises(DataError, match="s3:// names no bucket; write s3://BUCKET/FOLDER"):
        shards(here, "s3://")


def test_whatever_a_cloud_raises_is_one_line_and_soon(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")

    class Broken(fsspec.AbstractFileSystem):  # each cloud's package has errors of its own
        def info(self, path: str, **_: Any) -> dict[str, Any]:
            raise RuntimeError(f"no token for {path}")

        ls = _open = info

        def isfile(self, path: str) -> bool:
            return bool(path)

    fsspec.register_implementation("broken", Broken, clobber=True)
    with pytest.raises(DataError, match="cannot list broken://b/x: RuntimeError: no token for b/x; check"):
        shards(here, "broken://b/x")
    with pytest.raises(ImageError, match=r"b/1.jpg cannot be opened: RuntimeError: no token for b/1.jpg"):
        Storage(here).read("broken://b/1.jpg", "b/1.jpg")
    with (
        pytest.raises(OutputError, match=r"broken://b/.lock: RuntimeError: no token"),
        Target("broken://b").held(),
    ):
        pass
    # Google's client alone would try for a quarter of an hour.
    monkeypatch.setattr(batch_storage, "_CONTACT_RETRY_S", 1)
    nobody = "gs://anonymous@b/x?scheme=http&endpoint_override=127.0.0.1:9"
    with pytest.raises(DataError, match=r"cannot list gs://anonymous@b/x: .*Retry policy exhausted"):
        shards(here, nobody)
    monkeypatch.setattr(batch_storage, "_CONTACT_S", 0.0)
    with pytest.raises(DataError, match="gs://anonymous@b does not answer within 0 s"):
        shards(here, nobody)


def test_a_folder_of_a_run_in_a_bucket(here: Path) -> None:
    pytest.importorskip("fsspec")
    to, other = Target("memory://answers/run?a=b"), Target("memory://answers/run")
    with pytest.raises(FileNotFoundError):
        to.read("run.json")
    with to.held():
        to.write("run.json", b"{}")
        to.write("shards/0000001.parquet", b"one")
        to.write("pieces/7/look-0", b"seen")
        with (
            pytest.raises(ConfigError, match=r"^memory://answers/run is being written by another process \("),
            other.held(),
        ):
            pass
        lock = json.loads(to.read(".lock"))
        # Nobody renews it any more.
        to.write(".lock", json.dumps({**lock, "at_s": time.time() - 500}).encode())
        with other.held():
            assert other.read("shards/0000001.parquet") == b"one"
    for lock in (
        b"{}",
        b"[1]",
        b'{"process": 1, "mach',
        b'{"process": 1, "machine": "a", "here": "", "at_s": "b"}',
    ):
        to.write(".lock", lock)
        with (
            pytest.raises(
                ConfigError, match=r"\(.lock does not say which\); remove memory://answers/run/.lock if"
            ),
            to.held(),
        ):
            pass
    to.remove(".lock")
    assert to.contents() == ["pieces", "run.json", "shards"]
    assert to.names("shards") == ["0000001.parquet"]
    to.remove_folder("pieces/7")
    assert to.names("pieces/7") == []
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe({"/answers/run/photos/1.jpg": picture(1), "/answers/2.jpg": picture(2)})
    found = write_plan(here / "plan.parquet", ["memory://answers"], Storage(here), size=5, skip=to.word)
    assert (found.pictures, found.passed_over) == (1, {})  # what lies in the folder of the run is no source


def test_how_old_the_lock_in_a_bucket_is_says_the_clock_of_the_storage(here: Path) -> None:
    pytest.importorskip("fsspec")
    to, lock = Target(f"local://{here}/answers"), here / "answers" / ".lock"
    for ahead_s in (-7200, 7200):  # of the clock of the machine that wrote it
        said = {"process": 1, "machine": "another", "here": "", "at_s": time.time() + ahead_s}
        for content in (json.dumps(said), "{}"):
            to.write(".lock", content.encode())
            os.utime(lock, (time.time() - 60,) * 2)
            with pytest.raises(ConfigError, match=r"seen 6\d s ago\); wait for it"), to.held():
                pass
            assert lock.read_text(encoding="utf-8") == content
            os.utime(lock, (time.time() - 180,) * 2)
            with to.held():
                assert json.loads(lock.read_bytes())["process"] == os.getpid()
            assert to.contents() == []


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


def test_an_address_where_nobody_listens_is_one_line_at_once(here: Path) -> None:
    fill(here / "photos", 1)
    command = [sys.executable, "-m", "mien", "batch", "photos", "--to", "out", "--address", "127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"mien: Ray cannot be reached at 127.0.0.1:9: .*refused; see that .*\n", done.stderr)
    assert not Path("out").exists()


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
