"""`--faces crop`: the largest face of every picture, pictures without one named, memory flat."""

from __future__ import annotations

import csv
import threading
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray

from mien.data.crops import crop_faces
from mien.data.dataset import Dataset, Split
from mien.detect.base import crop
from mien.detect.registry import open_detector
from mien.errors import DataError, ImageError


@dataclass
class Listed:
    """Pictures of different sizes that count how often they are read, and by how many threads."""

    pictures: list[NDArray[np.uint8] | None]
    reads: list[int] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> NDArray[np.uint8]:
        self.reads.append(index)
        self.threads.add(threading.get_ident())
        if (picture := self.pictures[index]) is None:
            raise ImageError("picture 3 cannot be decoded")
        return picture

    def take(self, indices: NDArray[np.intp]) -> Listed:
        return Listed([self.pictures[int(i)] for i in indices])


def _hopper() -> NDArray[np.uint8]:
    with get_sample_data("grace_hopper.jpg") as file:
        data = np.frombuffer(file.read(), np.uint8)
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])


def _dataset(**splits: list[NDArray[np.uint8] | None]) -> Dataset:
    parts = {
        name: Split(
            Listed(pictures),
            np.arange(len(pictures), dtype=np.int64) % 2,
            [f"{name}-{row}.jpg" for row in range(len(pictures))],
            np.arange(len(pictures) * 8, dtype=np.float32).reshape(-1, 8),
        )
        for name, pictures in splits.items()
    }
    return Dataset("photos", Path("photos"), ("happy", "sad"), parts, "0" * 64, notes=("read 3 files",))


def test_every_picture_becomes_its_face_and_those_without_are_named() -> None:
    hopper, wall = _hopper(), np.full((200, 300, 3), 128, np.uint8)
    small = cv2.resize(hopper, (256, 300), interpolation=cv2.INTER_AREA)
    photos = _dataset(train=[hopper, wall, small[:, :, 1]], test=[wall, hopper])
    detector = open_detector("haar")
    faces, without = crop_faces(photos, detector, 1.2)
    assert without == ("train-1.jpg", "test-0.jpg")
    train, test = faces.splits["train"], faces.splits["test"]
    assert list(train.names) == ["train-0.jpg", "train-2.jpg"]
    assert train.labels.tolist() == [0, 0]
    assert train.votes is not None
    assert train.votes[:, 0].tolist() == [0, 16]
    assert test.labels.tolist() == [1]
    box = detector.detect(hopper)[0].box
    np.testing.assert_array_equal(train.pictures.read(0), crop(hopper, box, 1.2))
    np.testing.assert_array_equal(test.pictures.read(0), crop(hopper, box, 1.2))
    assert train.pictures.read(1).shape[2] == 3  # grey in, RGB out
    assert faces.classes == photos.classes
    assert faces.notes == (
        "read 3 files",
        "cropped the largest face out of 3 of 5 pictures with the face detector 'haar'; "
        "left out: 2 without a face",
    )


def test_crops_are_cut_at_read_time_and_follow_their_pictures() -> None:
    hopper = _hopper()
    photos = _dataset(train=[hopper, hopper[:, ::-1], hopper])
    faces, _ = crop_faces(photos, open_detector("haar"), 1.0)
    source = photos.splits["train"].pictures
    assert isinstance(source, Listed)
    assert sorted(source.reads) == [0, 1, 2]  # searched once; the cutting has its own
    pictures = faces.splits["train"].pictures
    turned = pictures.take(np.array([1, 0]))
    assert len(turned) == 2
    np.testing.assert_array_equal(turned.read(0), pictures.read(1))
    np.testing.assert_array_equal(turned.read(1), pictures.read(0))


def test_the_fingerprint_knows_the_margin_and_the_detector() -> None:
    photos = _dataset(train=[_hopper(), _hopper()])
    prints = [
        crop_faces(photos, open_detector(name), margin)[0].fingerprint
        for name, margin in (("haar", 1.0), ("haar", 1.0), ("haar", 1.5), ("whole", 1.0))
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert photos.fingerprint not in prints


def test_no_face_anywhere_is_an_error_that_says_what_to_do() -> None:
    wall = np.full((90, 90), 128, np.uint8)
    with pytest.raises(DataError, match=r"found no face in any of 2 pictures of photos.*--faces whole"):
        crop_faces(_dataset(train=[wall], test=[wall]), open_detector("haar"), 1.0)


def test_a_picture_that_cannot_be_read_ends_the_search() -> None:
    with pytest.raises(ImageError, match="picture 3"):
        crop_faces(_dataset(train=[_hopper(), None, _hopper()]), open_detector("haar"), 1.0)


@pytest.mark.shared
def test_photographs_with_yunet(shared: Path) -> None:
    folder = shared / "data" / "web-faces"
    with (folder / "labels.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)][:24]
    pictures: list[NDArray[np.uint8] | None] = [
        np.ascontiguousarray(cv2.imread(str(folder / name), cv2.IMREAD_COLOR)[:, :, ::-1]) for name in names
    ]
    pictures[5] = np.zeros((350, 350, 3), np.uint8)
    detector = open_detector("yunet", shared / "models" / "yunet" / "face_detection_yunet_2026may.onnx")
    photos = _dataset(train=pictures)
    faces, without = crop_faces(photos, detector, 1.0)
    assert without == ("train-5.jpg",)
    assert len(faces.splits["train"]) == 23
    source = photos.splits["train"].pictures
    assert isinstance(source, Listed)
    assert len(source.reads) == 24
    again = crop_faces(photos, detector, 1.0)[0]  # threads do not change what is found
    assert again.fingerprint == faces.fingerprint
    for row in range(23):
        read = faces.splits["train"].pictures.read(row)
        found = detector.detect(read)
        assert found, f"no face in the crop of {faces.splits['train'].names[row]}"
        x, y, width, height = found[0].box
        assert abs(x + width / 2 - len(read) / 2) < 0.12 * len(read)  # the crop is centred on the face
        assert abs(y + height / 2 - len(read) / 2) < 0.12 * len(read)
