"""Where a run may lie: other file systems, buckets and addresses where nobody listens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mien.batch.plan import write_plan
from mien.batch.storage import Storage, Target
from mien.errors import ConfigError, DataError, ImageError, OutputError

parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
from mien.batch import storage as batch_storage  # noqa: E402

from .batch_files import answered, expected, fill, picture, shards, told  # noqa: E402


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


def test_an_address_where_nobody_listens_is_one_line_at_once(here: Path) -> None:
    fill(here / "photos", 1)
    command = [sys.executable, "-m", "mien", "batch", "photos", "--to", "out", "--address", "127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"mien: Ray cannot be reached at 127.0.0.1:9: .*refused; see that .*\n", done.stderr)
    assert not Path("out").exists()


def test_of_two_runs_that_begin_at_once_one_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find the bucket free before either has written its lock."""
    pytest.importorskip("fsspec")
    both, ended = threading.Barrier(2), threading.Event()
    looked = threading.local()
    look = Target._check_free

    def look_together(target: Target, mine: Mapping[str, Any]) -> None:
        look(target, mine)
        if not hasattr(looked, "once"):
            looked.once = True
            both.wait()

    monkeypatch.setattr(Target, "_check_free", look_together)
    writing: list[int] = []
    refused: list[str] = []

    def run(number: int) -> None:
        with ExitStack() as stack:
            try:
                stack.enter_context(Target("memory://both/run").held())
            except ConfigError as error:
                refused.append(str(error))
                ended.set()
            else:
                writing.append(number)
                ended.wait(30)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writing) == 1
    assert len(refused) == 1 and refused[0].startswith(
        "memory://both/run is being written by another process"
    )
    assert Target("memory://both/run").names() == []
