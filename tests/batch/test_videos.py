"""Videos in pieces: answers that come late change nothing."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mien.batch.config import BatchConfig
from mien.batch.plan import VIDEO, Item, Shard
from mien.batch.storage import Target
from mien.errors import WorkerError
from mien.terminal import ProgressBar

parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
from mien.batch.part import Answer, Part  # noqa: E402
from mien.batch.pool import Pool  # noqa: E402
from mien.batch.videos import VideoWork  # noqa: E402
from mien.batch.worker import Worker  # noqa: E402

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


def test_a_piece_that_nobody_is_at_is_looked_at_as_the_whole_video(here: Path) -> None:
    work = VideoWork(Shard(0, (Item(VIDEO, 0, "film.mp4"),)), Target(here / "out"), lambda *_: None)
    first = work.next()
    assert first
    work.answered(first, Answer([OUTLINE], is_table=False))
    parts = [part for _ in range(3) if (part := work.next())]
    work.died(parts[0], "")  # it waits for its second try
    work.answered(parts[1], Answer([], is_table=False, unlike=True))
    whole = work.next()
    assert whole and (whole.step, whole.piece) == ("look", 0)
    assert len(json.loads(zlib.decompress(whole.given[0]))["firsts"]) == 1


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


def pool_of(rays: Rays, here: Path) -> Pool:
    to = Target(here / "out")
    return Pool(
        rays, SimpleNamespace(has_videos=True), BatchConfig(actors=2), 2, ProgressBar(quiet=True),  # type: ignore[arg-type]
        worker=Worker, work=lambda shard: VideoWork(shard, to, lambda *_: None),
    )  # fmt: skip


def test_a_video_that_is_given_up_while_others_look_at_its_pieces(here: Path) -> None:
    """Their answers come when its table is written already."""

    pool = pool_of(Rays(), here)
    shards = [Shard(number, (Item(VIDEO, 0, f"{number}.mp4"),)) for number in range(2)]
    done = [shard.number for shard, content in pool.answers(iter(shards)) if content == b"the table"]
    assert done == [0, 1]


def test_a_failure_where_a_video_is_only_reported_ends_the_run(here: Path) -> None:
    class NoMemory(Rays):
        def get(self, reference: Any) -> Any:
            part = reference.given
            if isinstance(part, Part) and part.problem:
                raise ray.exceptions.RayTaskError("answer", "", MemoryError("no room"))
            return super().get(reference)

    pool = pool_of(NoMemory(), here)
    with pytest.raises(
        WorkerError, match=r"even where they look at nothing \(MemoryError: no room\); see to the"
    ):
        list(pool.answers(iter([Shard(0, (Item(VIDEO, 0, "film.mp4"),))])))
