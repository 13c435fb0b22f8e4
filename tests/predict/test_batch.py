"""Many pictures at once: the numbers, order and complaints of one at a time, a bounded look ahead, true batches."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien.errors import ImageError, OutputError
from mien.images import decode_image
from mien.images.prefetch import _rounds
from mien.model.classifier import Classifier
from mien.predict.analyzer import Analyzer, analyze_many
from mien.predict.results import Face

from ..model.tiny_onnx import write_folder

THREADS = 3


@dataclass
class Held:
    """A picture file in memory that counts how often it was read."""

    title: str
    data: bytes
    read: list[str] = field(default_factory=list)

    def content(self) -> bytes:
        self.read.append(self.title)
        return self.data


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.images.prefetch.workers", lambda: THREADS)


@pytest.fixture
def analyzer(tmp_path: Path) -> Analyzer:
    return mien.load(write_folder(tmp_path / "tiny"), detector="whole")


def encoded(level: int, suffix: str = ".png", side: int = 20) -> bytes:
    return cv2.imencode(suffix, np.full((side, side, 3), level, np.uint8))[1].tobytes()


def damaged_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    return data[: len(data) // 2] + b"\xff\xd9"


def folder_of(count: int) -> list[Held]:
    """Pictures of all levels, so that each has probabilities of its own; all share one list of what was read."""
    read: list[str] = []
    return [Held(f"{n}.png", encoded(n * 251 % 256), read) for n in range(count)]


def test_answers_come_in_order_with_the_numbers_of_one_at_a_time(
    analyzer: Analyzer, capfd: pytest.CaptureFixture[str]
) -> None:
    files = folder_of(80)  # four rounds
    files[30] = Held("30.png", files[30].data[:40])
    files[31] = Held("31.heic", b"\0\0\0\x18ftypheic")
    files[55] = Held("55.jpg", damaged_jpeg())
    answers = list(analyze_many(analyzer, files))
    assert len(answers) == 80
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, ImageError):
            with pytest.raises(ImageError) as alone:
                decode_image(file.data, file.title)
            assert str(answer) == str(alone.value)
        else:
            np.testing.assert_allclose(
                list(answer[0].probabilities.values()),
                list(analyzer.analyze_bytes(file.data)[0].probabilities.values()),
                atol=1e-6,
            )
    assert [n for n, answer in enumerate(answers) if isinstance(answer, ImageError)] == [30, 31, 55]
    assert str(answers[55]).startswith("55.jpg is damaged (Corrupt JPEG data")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [0, 1, 2, 25])
def test_any_number_of_pictures(analyzer: Analyzer, count: int) -> None:
    assert len(list(analyze_many(analyzer, folder_of(count)))) == count


def test_faces_of_several_pictures_share_a_call_of_the_network(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(Classifier):
        def probabilities(self, inputs: NDArray[np.uint8 | np.float32]) -> dict[str, NDArray[np.float32]]:
            sizes.append(len(inputs))
            return super().probabilities(inputs)

    classifier = Counting(write_folder(tmp_path / "tiny"))
    whole = mien.load(tmp_path / "tiny", detector="whole").detector
    assert len(list(analyze_many(Analyzer(classifier, whole), folder_of(48)))) == 48
    assert sizes == [8] * 6


def test_it_looks_two_rounds_ahead_and_not_further(analyzer: Analyzer) -> None:
    files = folder_of(400)
    ahead = []
    for done, _ in enumerate(analyze_many(analyzer, files)):
        ahead.append(len(files[0].read) - done)
    # One answered, one searched, one read, and the file that began the next.
    assert max(ahead) <= 3 * 8 * THREADS + 1
    assert sorted(files[0].read) == sorted(file.title for file in files)  # each once


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(chunk[4:]))


@pytest.mark.parametrize(
    ("megapixels", "rounds"),
    [([1] * 30, [24, 6]), ([12] * 13, [6, 6, 1]), ([50, 50, 1], [1, 2]), ([150, 1, 1], [1, 2])],
)
def test_large_pictures_make_small_rounds(megapixels: list[int], rounds: list[int]) -> None:
    """72 megapixels at once for three threads; what is larger alone goes alone."""
    files = [Held(str(n), png_header(1000, 1000 * size)) for n, size in enumerate(megapixels)]
    assert [len(group) for group in _rounds(files, THREADS)] == rounds


def test_the_work_on_a_picture_is_given_its_place_and_faces(analyzer: Analyzer) -> None:
    files, seen = folder_of(60), {}

    def finish(place: int, image: NDArray[np.uint8], faces: Sequence[Face]) -> None:
        seen[place] = (int(image[0, 0, 0]), tuple(faces))

    answers = list(analyze_many(analyzer, files, finish))
    assert seen == {n: (n * 251 % 256, answer) for n, answer in enumerate(answers)}


def test_a_thread_that_fails_ends_the_call(analyzer: Analyzer) -> None:
    files = folder_of(400)

    def finish(place: int, _: NDArray[np.uint8], __: Sequence[Face]) -> None:
        if place == 30:
            raise OutputError("the disk is full")

    answers = []
    with pytest.raises(OutputError, match="the disk is full"):
        answers += list(analyze_many(analyzer, files, finish))
    assert len(files[0].read) < 100  # the rest was not even opened


def test_closing_early_drops_the_rest(analyzer: Analyzer) -> None:
    files = folder_of(400)
    answers = analyze_many(analyzer, files)
    next(answers)
    answers.close()
    assert len(files[0].read) <= 3 * 8 * THREADS + 1
