"""Archives that lie together in a folder: a class each, or parts of one download."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError

from .conftest import labels, read, said, sizes, smooth_picture


def pack(archive: Path, names: list[str], first: int) -> None:
    archive.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w") as stored:
        for place, name in enumerate(names, start=first):
            stored.writestr(name, cv2.imencode(".png", smooth_picture(place))[1].tobytes())


@pytest.mark.parametrize("inside", ["", "pictures/"])
def test_an_archive_for_each_class(tmp_path, inside):
    for place, name in enumerate(("happy", "sad", "0angry")):
        pack(tmp_path / "set" / f"{name}.zip", [f"{inside}1.png", f"{inside}2.png"], 10 * place)
    dataset = read(tmp_path / "set")
    assert labels(dataset)[f"sad.zip/{inside}2.png"] == "sad"
    assert sizes(dataset) == {"train": 6}
    assert said(dataset, "the names of the archives are the classes: 0angry.zip, happy.zip, sad.zip")
    two = open_dataset(tmp_path / "set", DataConfig(classes=("happy", "sad")), carve_validation=False)
    assert two.classes == ("happy", "sad")


def test_parts_of_a_download(tmp_path):
    """As services for files send a large folder: in pieces, or one archive for each folder in it."""
    for place, name in enumerate(("happy", "sad")):
        pack(
            tmp_path / "pieces" / f"faces-2026-00{place}.zip",
            [f"faces/{own}/{place}.png" for own in ("happy", "sad")],
            10 * place,
        )
        pack(tmp_path / "folders" / f"{name}-2026T10-001.zip", [f"{name}/1.png", f"{name}/2.png"], 10 * place)
    for folder in ("pieces", "folders"):
        dataset = read(tmp_path / folder)
        assert dataset.classes == ("happy", "sad")
        assert sizes(dataset) == {"train": 4}
        assert len(labels(dataset)) == 4
        assert said(dataset, "read from the archives ")


@pytest.mark.parametrize("inside", ["test/", "sad/train/", "angry/"])
def test_folders_in_an_archive_of_a_class_that_say_something_else(tmp_path, inside):
    """Pictures of a folder test/ were trained on, and those of angry/ were sad."""
    pack(tmp_path / "set" / "happy.zip", ["happy/1.png"], 0)
    pack(tmp_path / "set" / "sad.zip", ["1.png", f"{inside}2.png"], 10)
    with pytest.raises(DataError, match=r"in sad\.zip there is a folder (test|train|angry); unpack them"):
        read(tmp_path / "set")


def test_archives_without_pictures_and_archives_of_own_classes(tmp_path):
    for place, name in enumerate(("happy", "sad", "bored")):
        pack(tmp_path / "set" / f"{name}.zip", ["1.png", "2.png"], 10 * place)
    pack(tmp_path / "set" / "code.zip", [], 0)
    dataset = read(tmp_path / "set")
    assert said(dataset, "the names of the archives are the classes: bored.zip, happy.zip, sad.zip")
    assert said(dataset, "code.zip holds no pictures; it is not taken for a class")
    (tmp_path / "set" / "happy.zip").rename(tmp_path / "set" / "tired.zip")
    (tmp_path / "set" / "sad.zip").unlink()
    own = open_dataset(tmp_path / "set", DataConfig(classes=("bored", "tired")), carve_validation=False)
    assert own.classes == ("bored", "tired")


def test_archives_of_two_data_sets_are_refused_as_their_folders_are(tmp_path):
    for place, name in enumerate(("fer", "ck")):
        pack(tmp_path / "set" / f"{name}.zip", [f"{own}/1.png" for own in ("happy", "sad")], 10 * place)
    with pytest.raises(
        DataError, match=r"2 archives \(ck\.zip, fer\.zip\), each with classes of its own; if they"
    ):
        read(tmp_path / "set")
