"""The real data sets: counts, alignment of votes, copies, speed and memory of the reader."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.data import DataConfig, Dataset, duplicates, open_dataset
from mien.data.duplicates import copies_of_training, near_copies_of_training
from mien.data.near_copies import near_copies
from mien.data.pictures import fingerprints_of_all
from mien.labels import FER2013, FERPLUS

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def fer2013(shared: Path) -> Dataset:
    return open_dataset(shared / "data" / "fer2013" / "fer2013.csv.xz")


@pytest.mark.slow
def test_fer2013_is_all_there(fer2013):
    assert fer2013.name == "fer2013" and fer2013.classes == FER2013
    counts = {name: np.bincount(split.labels).tolist() for name, split in fer2013.splits.items()}
    assert counts == {
        "train": [3995, 436, 4097, 7215, 4830, 3171, 4965],
        "validation": [467, 56, 496, 895, 653, 415, 607],
    }
    (note,) = fer2013.notes
    assert note.startswith("leak: of 3,589 validation pictures 280 are pixel copies of train pictures and ")
    face = fer2013.splits["train"].pictures.read(0)
    assert face.shape == (48, 48) and face[0, :8].tolist() == [70, 80, 82, 72, 58, 58, 60, 63]


@pytest.mark.slow
def test_votes_belong_to_the_faces(fer2013):
    """Raters agree with the faces' own labels on 63 %; with those of neighbouring rows they would on 19 %."""
    own = np.array([FERPLUS.index(name) for name in fer2013.classes])
    for split in fer2013.splits.values():
        voted = split.votes.any(axis=1)
        chosen = split.votes.argmax(axis=1)
        assert 0.62 < (chosen == own[split.labels])[voted].mean() < 0.64
        assert (chosen == own[np.roll(split.labels, 1)])[voted].mean() < 0.25
        assert split.votes.sum(axis=1).max() <= 10


@pytest.mark.slow
def test_280_validation_faces_are_copies_of_training_faces(fer2013):
    copies = copies_of_training(fer2013, "validation")
    assert copies.shape == (3589,) and copies.sum() == 280
    train = fer2013.splits["train"].pictures.pixels.reshape(28709, -1)
    face = fer2013.splits["validation"].pictures.read(int(np.flatnonzero(copies)[0])).ravel()
    assert (train == face).all(axis=1).any()


@pytest.mark.slow
def test_855_validation_faces_are_near_copies_of_training_faces(fer2013):
    """They are known by their faces, whatever the file is called; every one of a sample is confirmed by the search."""
    near = near_copies_of_training(replace(fer2013, name="faces"), "validation")
    assert near.sum() == 855 and not (near & copies_of_training(fer2013, "validation")).any()
    with Path(duplicates.__file__).with_name("fer2013_copies.csv").open(encoding="ascii") as file:
        published = list(csv.DictReader(file))
    listed = [row for row in published if row["kind"] != "pixel copy"]
    rows = np.random.default_rng(0).permutation(len(listed))[:100].tolist()
    faces = [fer2013.splits["validation"].pictures.read(int(listed[row]["row"])) for row in rows]
    faces += [fer2013.splits["train"].pictures.read(int(listed[row]["training_row"])) for row in rows]
    prints = fingerprints_of_all(faces)
    pairs = near_copies(prints)
    found = {(one, other) for one, other in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}
    # Of pixel copies, of which the sample has two, the first alone is compared.
    _, first, kinds = np.unique(prints.digests, axis=0, return_index=True, return_inverse=True)
    shown = first[kinds.reshape(-1)].tolist()
    ends = [sorted((shown[row], shown[row + 100])) for row in range(100)]
    assert sum((low, high) in found for low, high in ends) >= 98
    assert fer2013.notes == (
        "leak: of 3,589 validation pictures 280 are pixel copies of train pictures and 855 near copies; "
        "scores on them say little",
    )


@pytest.mark.slow
def test_three_classes_of_the_lenet_original(shared):
    config = DataConfig(classes=("angry", "happy", "sad"))
    dataset = open_dataset(shared / "data" / "fer2013", config)
    assert dataset.classes == ("angry", "happy", "sad") and len(dataset.splits["validation"]) == 2015


_MEASURE = """
import sys
from pathlib import Path
from mien.data import open_dataset
open_dataset(sys.argv[1])
# Not ru_maxrss, which begins at the size of the process that started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_reading_is_small(shared, tmp_path):
    """The first read, which parses and compares all faces, and a later one stay under 1 GB."""
    file = shared / "data" / "fer2013" / "fer2013.csv.xz"
    environment = {**os.environ, "MIEN_CACHE": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(file)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert float(done.stdout) < 1000


def test_the_pictures_of_the_first_original(shared):
    dataset = open_dataset(shared / "data" / "happy-nothappy")
    assert dataset.classes == ("happy", "nothappy")
    assert {name: np.bincount(split.labels).tolist() for name, split in dataset.splits.items()} == {
        "train": [22, 22],
        "validation": [11, 11],
    }
    assert dataset.splits["train"].pictures.read(0).shape == (224, 224, 3) and dataset.unreadable == ()


@pytest.mark.slow
def test_photographs_with_a_table(shared):
    dataset = open_dataset(shared / "data" / "web-faces")
    assert sum(map(len, dataset.splits.values())) == 1766 and len(dataset.classes) == 8
    assert dataset.name == "web-faces" and dataset.unreadable == ()
