"""Pixel copies, near copies with their kind, leaks and conflicts; and no false alarms."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from mien.data.dataset import Dataset, Split
from mien.data.drawn import draw_dataset
from mien.data.duplicates import (
    copies_of_training,
    find_duplicates,
    groups_of_copies,
    near_copies_of_training,
    published_copies,
)
from mien.data.near_copies import NEIGHBOURS, closest_copies, components, near_copies, near_copies_if_quick
from mien.data.opening import fingerprint
from mien.data.pictures import InMemoryPictures, fingerprint_of, fingerprints_of_all
from mien.data.split import kept_together
from mien.data.summary import summarise


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


def moved(picture, matrix):
    size = picture.shape[1::-1]
    return cv2.warpAffine(picture, np.array(matrix, np.float32), size, borderMode=cv2.BORDER_REPLICATE)


def cropped(picture, share, left=0.5, top=0.5):
    side = round(len(picture) * share)
    x, y = (round((len(picture) - side) * place) for place in (left, top))
    return cv2.resize(
        picture[y : y + side, x : x + side], picture.shape[1::-1], interpolation=cv2.INTER_CUBIC
    )


@pytest.fixture
def faces(face):
    """Pictures with fine details on them, as skin and hair have."""
    random = np.random.default_rng(7)

    def detailed(seed):
        fine = cv2.GaussianBlur(random.normal(0, 60, (96, 96)), (0, 0), 1.6)
        return np.clip(face(seed, 96).astype(float) * 0.7 + 40 + fine, 0, 255).astype(np.uint8)

    return [detailed(seed) for seed in range(12)]


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
    assert fingerprint_of(grey).keys == fingerprint_of(np.dstack([grey] * 3)).keys
    assert fingerprint_of(grey).keys != fingerprint_of(face(1, 48, colour=True)).keys
    assert fingerprint_of(grey.reshape(24, 96)).keys != fingerprint_of(grey).keys
    assert fingerprint_of(np.dstack([grey] * 3)).sizes.tolist() == [[48, 48, 3]]
    assert (fingerprint_of(grey).thumbnails[0] == grey).all()


def test_leaks_repeats_and_conflicts(faces):
    dataset = dataset_of(
        train=([*faces[:5], faces[0]], [0, 1, 0, 1, 0, 1]),
        validation=([faces[1], faces[6], as_jpeg(faces[2], 80)], [1, 0, 0]),
        test=([faces[7], faces[6][:, ::-1]], [0, 0]),
    )
    found = find_duplicates(dataset)
    assert found.leaks() == [("validation", "train", 1, 1), ("test", "validation", 0, 1)]
    assert near_copies_of_training(dataset, "validation").tolist() == [False, False, True]
    assert found.redundant("train") == 1 and found.redundant("test") == 0
    assert found.conflicts() == [[("train", 0), ("train", 5)]]
    summary = summarise(dataset)
    assert summary.conflicts == (("train 0 (happy)", "train 5 (sad)"),)
    assert vars(summary.leaks[0]) == {"split": "validation", "source": "train", "copies": 1, "near": 1}
    named = [(pair.first, pair.second, pair.kind) for pair in summary.near]
    assert named == [("train 2", "validation 2", "recompressed"), ("validation 1", "test 1", "mirrored")]


TURN = cv2.getRotationMatrix2D((47.5, 47.5), 10, 1)
CHANGES = {
    "recompressed": (lambda picture: as_jpeg(picture, 60), "recompressed"),
    "mirrored": (lambda picture: picture[:, ::-1], "mirrored"),
    "cropped": (lambda picture: cropped(picture, 0.8, 0.2, 0.7), r"cropped to (79|8[0-3])%"),
    "mirrored and cropped": (
        lambda picture: cropped(picture, 0.9)[:, ::-1],
        r"mirrored, cropped to (89|9[0-2])%",
    ),
    "shifted": (lambda picture: moved(picture, [[1, 0, 6], [0, 1, -4]]), r"shifted by [5-7]%"),
    "turned": (lambda picture: moved(picture, TURN), r"turned by (9|10|11) degrees"),
    "turned by a quarter": (np.rot90, "turned by 90 degrees"),
    "upside down": (lambda picture: picture[::-1], "mirrored, turned by 180 degrees"),
    "darker": (lambda picture: (picture * 0.6).astype(np.uint8), "other light"),
    "smaller": (lambda picture: cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA), "recompressed"),
    "framed": (
        lambda picture: cv2.copyMakeBorder(picture, 12, 12, 12, 12, cv2.BORDER_CONSTANT, value=255),
        r"^framed$",
    ),
    "framed in black": (
        lambda picture: cv2.copyMakeBorder(picture, 8, 8, 5, 5, cv2.BORDER_CONSTANT, value=0),
        r"^framed$",
    ),
    "written on": (
        lambda picture: cv2.putText(picture.copy(), "mien", (2, 90), cv2.FONT_HERSHEY_PLAIN, 2, 255, 2),
        "retouched|written on",
    ),
}


@pytest.mark.parametrize(("change", "kind"), CHANGES.values(), ids=CHANGES.keys())
def test_the_same_shot_changed_is_found_and_named(faces, change, kind):
    prints = fingerprints_of_all([*faces, np.ascontiguousarray(change(faces[3]))])
    for search in (near_copies, closest_copies):
        found = search(prints)
        if search is closest_copies and kind.startswith(("cropped", "shifted")):
            continue  # which it does not promise
        assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(3, 12)]
        assert re.search(kind, found.kind(0))


def test_different_pictures_and_empty_ones_are_no_alarm(face, faces):
    flat = [np.full((48, 48), level, np.uint8) for level in (0, 3, 250)]
    nearly = [plane.copy() for plane in flat]
    for place, plane in enumerate(nearly):
        plane[40 + place, 5] = 120  # a single bright dot: nearly all bits agree, and nothing is the same
    signs = [np.zeros((48, 48), np.uint8) for _ in range(2)]  # bright blocks in different corners
    signs[0][6:15, 6:15], signs[1][30:39, 33:42] = 255, 255
    pictures = [*(face(seed, 48) for seed in range(100, 300)), *faces, *flat, *nearly, *signs]
    assert len(near_copies(fingerprints_of_all(pictures))) == 0


def test_drawn_faces_are_mostly_different_faces(tmp_path):
    """All are drawn from one template: the hardest pictures of those that are not the same."""
    from mien.data import open_dataset

    draw_dataset(tmp_path / "drawn", per_class=40, classes=("happy", "sad"), seed=1)
    pictures = open_dataset(tmp_path / "drawn", carve_validation=False).splits["train"].pictures
    assert len(pictures) == 64 and len(np.unique(groups_of_copies(pictures))) >= 62


def test_very_many_pictures_are_kept_together_by_a_search_that_says_what_it_leaves_out(face, monkeypatch):
    pictures = [face(seed, 48) for seed in range(400)]
    pictures += [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures[:40]]
    dataset = dataset_of(train=(pictures, [row % 2 for row in range(440)]))
    expected = kept_together(dataset.splits["train"])
    assert expected.near.pairs == [(row, 400 + row) for row in range(40)]
    monkeypatch.setattr("mien.data.split._SEARCH_S", 0)
    monkeypatch.setattr("mien.data.near_copies._WORTH_CACHING", 100)
    monkeypatch.setattr("mien.data.pictures._LARGE_BYTES", 1000)  # so that thumbnails lie on disk
    monkeypatch.setattr("mien.data.candidates._COLUMNS", 64)
    monkeypatch.setattr("mien.data.candidates._CELL_QUERIES", 100)
    for _ in range(2):  # the second time from the cache
        found = kept_together(dataset.splits["train"])
        assert found.near.pairs == expected.near.pairs
        assert found.units.tolist() == expected.units.tolist()
        assert "crops to less than 90 % may lie on both sides" in found.problems[0]


def test_few_pictures(face):
    assert (
        len(closest_copies(fingerprints_of_all([])))
        == len(closest_copies(fingerprints_of_all([face(0)])))
        == 0
    )
    assert len(near_copies(fingerprints_of_all([]))) == 0
    assert len(near_copies(fingerprints_of_all([face(0)]))) == 0
    assert groups_of_copies(InMemoryPictures(np.stack([face(0), face(0), face(1)]))).tolist() == [0, 0, 2]


def test_many_frames_of_one_video_are_one_group(faces):
    """Each has more like it than are compared: the nearest of a frame are its neighbours, yet all are one group."""
    random = np.random.default_rng(0)
    frames = []
    for place in range(4 * NEIGHBOURS):
        noisy = faces[0] + random.normal(0, 2, faces[0].shape)
        if place >= 2 * NEIGHBOURS:
            noisy = noisy * 0.8 + 20  # a second take in other light
        frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
    pictures = InMemoryPictures(np.stack([*frames, *faces[1:]]))
    groups = groups_of_copies(pictures)
    assert groups.tolist() == [0] * len(frames) + list(range(len(frames), len(pictures)))


def test_the_cache_gives_what_the_search_gave(faces, monkeypatch):
    monkeypatch.setattr("mien.data.near_copies._WORTH_CACHING", 10)
    prints = fingerprints_of_all([*faces, faces[1][:, ::-1].copy()])
    first = near_copies(prints)
    monkeypatch.setattr("mien.data.near_copies._all_pairs", None)  # would fail if it were searched again
    again = near_copies(prints)
    assert again.kind(0) == first.kind(0) == "mirrored"
    assert (again.second == first.second).all() and (again.maps == first.maps).all()


def test_components():
    assert components(6, []).tolist() == list(range(6))
    assert components(6, [(5, 4), (4, 0), (1, 2)]).tolist() == [0, 1, 1, 3, 0, 0]


def test_a_long_search_is_not_begun_unasked(faces, monkeypatch):
    monkeypatch.setattr("mien.data.near_copies.estimated_s", lambda _: 100.0)
    prints = fingerprints_of_all([*faces, faces[1][:, ::-1].copy()])
    assert near_copies_if_quick(prints) is None
    assert len(near_copies_if_quick(prints, seconds=101)) == 1
    assert published_copies(prints) is None
