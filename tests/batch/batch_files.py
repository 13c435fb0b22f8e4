"""Photographs for `mien batch`, and what a run says of them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mien
from mien.batch.plan import Shard, read_plan, write_plan
from mien.batch.storage import Storage

parquet = pytest.importorskip("pyarrow.parquet")
ray = pytest.importorskip("ray")
from mien.batch import run as batch_run  # noqa: E402
from mien.batch.part import Job, Part  # noqa: E402
from mien.batch.worker import Worker  # noqa: E402

SAMPLES = sorted((Path(mien.__file__).parent / "samples").glob("*.jpg"))


def picture(number: int) -> bytes:
    """Return a JPEG; every third shows nobody."""
    image = cv2.imread(str(SAMPLES[number % 2]))
    if number % 3 == 2:
        image = np.full((64, 64, 3), number * 5, np.uint8)
    side = 96 + 8 * (number % 7)
    return cv2.imencode(".jpg", cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))[1].tobytes()


def fill(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(picture(number))
    return paths


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
