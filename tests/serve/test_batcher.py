"""Batches of pictures: every client gets its own answer, nothing grows, and what fails ends the wait."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest

from mien.detect.base import Detection
from mien.errors import ImageError
from mien.predict.analyzer import Analyzer
from mien.serve.batcher import Batcher, Seen
from mien.serve.config import ServeConfig
from mien.serve.fair_queue import Picture, picture
from mien.serve.problems import ApiError, Busy
from mien.serve.temporary import held, private_folder, sweep
from mien.serve.uploads import Budget

from .conftest import png


class Batches(list):
    """Remembers the size of every batch."""

    def batch(self, pictures: int, waiting: int) -> None:  # noqa: ARG002 - see BatchMetrics
        self.append(pictures)


class Slow:
    """A face detector that waits until it may go on; a picture is one face."""

    name, searches, note, metadata = "slow", True, "", {"name": "slow"}

    def __init__(self) -> None:
        self.may_go, self.asked = threading.Event(), threading.Event()

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        self.asked.set()
        assert self.may_go.wait(20)
        time.sleep(0.05)  # longer than decoding takes, as with real detectors
        return (Detection((0.0, 0.0, float(image.shape[1]), float(image.shape[0]))),)


def looked(level: int) -> Picture:
    return picture(png(level), "x", ServeConfig())


def test_what_comes_during_a_batch_makes_the_next_one(analyzer: Analyzer) -> None:
    slow, batches = Slow(), Batches()
    batcher = Batcher(Analyzer(analyzer._classifier, slow), ServeConfig(queue=32, batch=8), batches)
    first = batcher.submit([looked(0)])
    assert slow.asked.wait(20)
    rest = [batcher.submit([looked(level)]) for level in range(10, 120, 10)]
    given_up = rest.pop()[0]
    assert given_up.cancel()
    slow.may_go.set()
    found = [part[0].result(20) for part in (first, *rest)]
    for level, answer in zip(range(0, 110, 10), found, strict=True):
        (face,) = analyzer.analyze_bytes(png(level))
        assert answer == Seen(24, 16, answer.faces)
        assert answer.faces[0].probabilities["dark"] == pytest.approx(face.probabilities["dark"], abs=1e-6)
    batcher.close()
    assert batches[0] == 1 and sum(batches) == 11, "the one that was given up is not looked at"
    assert len(batches) < 11 and max(batches) <= 8, "none was shared"


def test_a_full_queue_takes_no_more_and_nothing_in_part(analyzer: Analyzer) -> None:
    slow = Slow()
    config = ServeConfig(queue=4, max_pictures=4, batch=1)
    batcher = Batcher(Analyzer(analyzer._classifier, slow), config, Batches())
    batcher.submit([looked(0)])
    assert slow.asked.wait(20)
    ends = time.monotonic() + 20
    while batcher.waiting:
        assert time.monotonic() < ends
    batcher.submit([looked(1)] * 2)
    with pytest.raises(Busy, match="pictures are waiting already; try again in a second"):
        batcher.submit([looked(2)] * 4)
    slow.may_go.set()
    batcher.close()
    with pytest.raises(Busy):
        batcher.submit([looked(3)])


def test_a_bug_ends_the_wait(analyzer: Analyzer) -> None:
    class Broken:
        name, searches, note, metadata = "broken", True, "", {"name": "broken"}

        def detect(self, _: np.ndarray) -> tuple[Detection, ...]:
            raise RuntimeError("a bug")

    batcher = Batcher(Analyzer(analyzer._classifier, Broken()), ServeConfig(), Batches())
    for _ in range(2):  # and the batcher goes on
        with pytest.raises(RuntimeError, match="a bug"):
            batcher.submit([looked(0)])[0].result(20)
    batcher.close()


def test_damage_and_large_pictures_in_a_batch(analyzer: Analyzer) -> None:
    batcher = Batcher(analyzer, ServeConfig(max_megapixels=1), Batches())
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    damaged = whole[: len(whole) // 2] + b"\xff\xd9"
    large = picture(png(200, (1000, 900)), "large", ServeConfig(max_megapixels=1))
    futures = batcher.submit([looked(5), picture(damaged, "damaged", ServeConfig()), large, large])
    good, bad, *others = [future.result(20) for future in futures]
    assert (good.width, good.height) == (24, 16)
    assert isinstance(bad, ImageError) and str(bad).startswith("damaged is ")
    assert [(seen.width, seen.faces[0].emotion) for seen in others] == [(1000, "bright")] * 2
    batcher.close()
    with pytest.raises(ImageError, match=r"1000x1900 pixels, more than the 1 megapixels that this server"):
        picture(png(200, (1000, 1900)), "large", ServeConfig(max_megapixels=1))


def test_memory_is_given_back() -> None:
    budget = Budget(100)
    with budget.share() as take:
        take(60)
        with pytest.raises(ApiError), budget.share() as other:
            other(60)
    with budget.share() as take:
        take(100)


def test_a_folder_goes_with_its_server(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with private_folder() as folder, held(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        sweep(tmp_path)
        assert folder.is_dir(), "it is in use"
        being_made = tmp_path / "mien-serve-new"
        being_made.mkdir()
        sweep(tmp_path)
        assert being_made.is_dir()
        (being_made / "lock").touch()
        (being_made / "video").touch()
        sweep(tmp_path)
        assert not being_made.exists(), "its server is gone"
    assert list(tmp_path.iterdir()) == []
