"""What goes to an actor of a run and comes back: a job once, then parts and answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mien.batch.plan import Shard
from mien.batch.storage import WHAT, Storage
from mien.errors import need

UNREADABLE, DAMAGED, CRASH = "unreadable", "damaged", "crash"  # the words of the column `error`
METADATA_KEY = b"mien"  # of a shard's Parquet file: its `Counts` as JSON, and the run that it belongs to
DEATHS_ALONE = 2  # of actors, before what they had is named
Counts = Counter[str]


@dataclass(frozen=True)
class Job:
    """What is the same for every shard of a run.

    run: its mark. files: those of model and detector, by the place that they get on the other machine. options: of
    `mien.load`. sources: as results call them. threads: of one actor. read_ahead: bytes of picture files in memory.
    """

    run: str
    version: str
    files: Mapping[str, bytes]
    digest: str
    options: Mapping[str, Any]
    storage: Storage
    sources: Sequence[str]
    column: str | None
    threads: int
    read_ahead: int
    has_videos: bool = False


@dataclass(frozen=True)
class Part:
    """What one call answers: the pictures of a shard from first to last (not included; None: to the end).

    problem: with words, the pictures are not looked at but reported so. deaths: of the actors that tried it alone.
    Of a video: one step, with the piece that it is for and what steps before have said (see `mien.batch.videos`).
    """

    shard: Shard
    first: int = 0
    last: int | None = None
    problem: str = ""
    deaths: int = 0
    step: str = ""
    piece: int = 0
    given: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What an actor says. content: of pictures a Parquet file; of a step of a video what it found, a file a piece.

    is_table: whether it is the Parquet file. unlike: the pieces of a video do not fit, it must be taken as one.
    """

    content: list[bytes]
    is_table: bool = True
    unlike: bool = False


def encoded(table: Any, counts: Mapping[str, int], run: str) -> bytes:
    """Return a table as the bytes of a Parquet file that says what it holds."""
    arrow = need("pyarrow", "ray", WHAT)
    parquet = need("pyarrow.parquet", "ray", WHAT)
    stated = json.dumps({"run": run, "counts": dict(counts)})
    stream = arrow.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata({METADATA_KEY: stated}), stream, compression="zstd")
    content: bytes = stream.getvalue().to_pybytes()
    return content


def what_died(why: str) -> str:
    """Return what is said of a file that ended those who looked at it."""
    what = why or "(damaged or hostile, or too large for the memory of its machine)"
    return (
        f"ended the process that looked at it, {DEATHS_ALONE} times {what}; look at the file, or leave it out"
    )
