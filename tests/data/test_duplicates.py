"""Pixel copies, near-duplicates, leaks and conflicts; and no false alarms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mien.data.dataset import Dataset, Split
from mien.data.duplicates import copies_of_training, find_duplicates
from mien.data.index import InMemoryPictures
from mien.data.likeness import near_pairs
from mien.data.opening import fingerprint
from mien.data.summary import summarise
from mien.data.traits import measure, measure_all


def dataset_of(**splits):
    """Build a Dataset from split=(pictures, labels)."""
    made = {
        name: Split(
            InMemoryPictures(np.stack(pictures)),
            np.array(labels, np.int64),
            [f"{name} {row}" for row in range(len(labels))],
        )
        for name, (pictures, labels) in splits.items()
    }
    classes = ("happy", "sad")
    return Dataset("made", "nowhere", classes, made, fingerprint(classes, made))  # type: ignore[arg-type]


def as_jpeg(picture, quality):
    return cv2.imdecode(
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_UNCHANGED
    )


@pytest.fixture
def faces(face):
    return [face(seed, 48) for seed in range(12)]


def test_copies_of_training(faces):
    dataset = dataset_of(
        train=(faces[:6], [0, 1] * 3), test=([faces[8], faces[2], faces[9], faces[2]], [0, 0, 1, 1])
    )
    assert copies_of_training(dataset, "test").tolist() == [False, True, False, True]
    assert copies_of_training(dataset, "train").all()
    without = dataset_of(test=(faces[:2], [0, 1]))
    assert copies_of_training(without, "test").tolist() == [False, False]


def test_colour_that_is_grey_is_a_copy_of_grey(face):
    grey = face(1, 48)
    assert measure(grey).keys == measure(np.dstack([grey] * 3)).keys
    assert measure(grey).keys != measure(face(1, 48, colour=True)).keys
    assert measure(grey.reshape(24, 96)).keys != measure(grey).keys
    assert measure(np.dstack([grey] * 3)).sizes.tolist() == [[48, 48, 3]]


def test_leaks_repeats_and_conflicts(faces):
    dataset = dataset_of(
        train=([*faces[:5], faces[0]], [0, 1, 0, 1, 0, 1]),
        validation=([faces[1], faces[6], as_jpeg(faces[2], 80)], [1, 0, 0]),
        test=([faces[7], faces[6]], [0, 0]),
    )
    found = find_duplicates(dataset)
    assert found.leaks() == [("validation", "train", 1, 1), ("test", "validation", 1, 0)]
    assert found.redundant("train") == 1 and found.redundant("test") == 0
    assert found.conflicts() == [[("train", 0), ("train", 5)]]
    summary = summarise(dataset)
    assert summary.conflicts == (("train 0 (happy)", "train 5 (sad)"),)
    assert vars(summary.leaks[0]) == {
        "split": "validation",
        "source": "train",
        "copies": 1,
        "near": 1,
    }


CHANGES = {
    "recompressed": lambda picture: as_jpeg(picture, 50),
    "lighter": lambda picture: np.clip(picture.astype(float) * 0.8 + 30, 0, 255).astype(np.uint8),
    "smaller": lambda picture: cv2.resize(picture, (40, 40), interpolation=cv2.INTER_AREA),
    "noisy": lambda picture: np.clip(
        picture.astype(int) + np.random.default_rng(0).integers(-3, 4, picture.shape), 0, 255
    ).astype(np.uint8),
    "written on": lambda picture: cv2.putText(picture.copy(), "x", (2, 46), cv2.FONT_HERSHEY_PLAIN, 0.6, 255),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_same_shot_changed_is_found(faces, change):
    traits = measure_all([*faces, change(faces[3])])
    assert near_pairs(traits)[:, :2].tolist() == [[3, 12]]


def test_different_pictures_and_empty_ones_are_no_alarm(face):
    flat = [np.full((48, 48), level, np.uint8) for level in (0, 3, 250)]
    nearly = [plane.copy() for plane in flat]
    for place, plane in enumerate(nearly):
        plane[40 + place, 5] = 120  # a single bright dot: nearly all bits agree, and nothing is the same
    signs = [np.zeros((48, 48), np.uint8) for _ in range(2)]  # bright blocks in different corners
    signs[0][6:15, 6:15], signs[1][30:39, 33:42] = 255, 255
    traits = measure_all([*(face(seed, 48) for seed in range(300)), *flat, *nearly, *signs])
    assert len(near_pairs(traits)) == 0


def test_few_pictures(face):
    assert near_pairs(measure_all([])).shape == (0, 3)
    assert near_pairs(measure_all([face(0)])).shape == (0, 3)


def test_the_search_finds_what_comparing_all_with_all_finds(face):
    random = np.random.default_rng(0)
    base = [face(seed, 48) for seed in range(20)]
    blended = [
        cv2.addWeighted(base[a], 1 - weight, base[b], weight, 0)
        for a, b, weight in zip(*random.integers(0, 20, (2, 120)), random.uniform(0, 0.12, 120), strict=True)
    ]
    traits = measure_all(blended)
    hashes = np.unpackbits(traits.differences(), axis=1).astype(int)
    distances = np.abs(hashes[:, None] - hashes[None]).sum(axis=2)
    expected = {(a, b) for a, b in np.argwhere(distances <= 20) if a < b}
    found = {(a, b) for a, b, _ in near_pairs(traits)}
    assert len(expected) > 50 and found == expected
