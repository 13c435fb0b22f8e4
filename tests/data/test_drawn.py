"""Drawn faces: repeatable, varied, whole or not at all, and with expressions that can be learnt."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.data.drawn import draw_dataset, draw_face
from mien.data.drawn.person import EXPRESSIONS, random_look, random_pose
from mien.errors import ConfigError, OutputError
from mien.labels import FER2013, FERPLUS


def _files(folder: Path) -> dict[str, str]:
    """Path below the folder -> SHA-256 of the content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_expression_of_the_label_lists_can_be_drawn() -> None:
    assert set(EXPRESSIONS) == set(FER2013) | set(FERPLUS)
    for place, name in enumerate(EXPRESSIONS):
        face = draw_face(name, np.random.default_rng(place), 48)
        assert face.shape == (48, 48, 3)
        assert face.dtype == np.uint8
        assert face.std() > 15  # a picture, not a plain area


def test_the_same_seed_draws_the_same_face_and_another_seed_another() -> None:
    first, again, other = (draw_face("sad", np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 10


def test_faces_are_smooth_because_they_are_shrunk_by_area() -> None:
    """A jagged drawing would hold the drawn colours only; levels between them come from the shrinking."""
    small = draw_face("happy", np.random.default_rng(1), 24)
    large = draw_face("happy", np.random.default_rng(1), 192)
    shrunk = cv2.resize(large, (24, 24), interpolation=cv2.INTER_AREA)
    # Only grain differs: the person does not depend on the size.
    assert np.abs(small.astype(int) - shrunk).mean() < 6


def test_skin_goes_from_very_dark_to_very_light_and_shows() -> None:
    skins = [np.mean(random_look(np.random.default_rng(seed)).skin) for seed in range(60)]
    shown = [
        np.median(draw_face("neutral", np.random.default_rng(seed), 48)[26:32, 18:32]) for seed in range(60)
    ]  # around the nose: neither hair nor beard
    assert min(skins) < 60
    assert max(skins) > 210
    assert np.corrcoef(skins, shown)[0, 1] > 0.85


def test_a_pose_stays_between_rest_and_its_expression() -> None:
    lifts = {
        name: np.mean([random_pose(name, np.random.default_rng(seed)).mouth_lift for seed in range(80)])
        for name in ("happy", "sad", "neutral")
    }
    assert -0.12 < lifts["sad"] < -0.05
    assert abs(lifts["neutral"]) < 0.02
    assert 0.07 < lifts["happy"] < 0.15


@pytest.mark.parametrize(("name", "size"), [("joyful", 96), ("happy", 8), ("happy", 5000)])
def test_what_cannot_be_drawn_is_said(name: str, size: int) -> None:
    wrong = "'joyful'.*can draw: angry, contempt" if name == "joyful" else f"16 to 2048 pixels, got {size}"
    with pytest.raises(ConfigError, match=wrong):
        draw_face(name, np.random.default_rng(0), size)


def test_a_dataset_has_four_fifths_to_train_on_and_repeats_to_the_byte(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw_dataset(tmp_path / name, classes=("happy", "fear"), per_class=10, seed=5)
    draw_dataset(tmp_path / "three", classes=("happy", "fear"), per_class=10, seed=6)
    one, two, three = (_files(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert set(one) == set(three)
    assert not set(one.values()) & set(three.values())
    assert len(set(one.values())) == 20  # no face twice
    for kind in ("happy", "fear"):
        assert sum(path.startswith(f"train/{kind}/") for path in one) == 8
        assert sum(path.startswith(f"test/{kind}/") for path in one) == 2
    data = np.frombuffer((tmp_path / "one" / next(iter(one))).read_bytes(), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (96, 96, 3)


def test_colours_are_stored_the_right_way_round(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=5, seed=0)
    stored = (tmp_path / "faces/train/sad/sad-0000.png").read_bytes()
    picture = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    np.testing.assert_array_equal(picture, draw_face("sad", np.random.default_rng((0, 1, 0))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("happy",)}, "two or more different expressions, got happy"),
        ({"classes": ("happy", "happy")}, "two or more different expressions"),
        ({"classes": ()}, "got none"),
        ({"classes": ("happy", "bored")}, "cannot draw 'bored'"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"per_class": 4}, "per_class must be at least 5.*got 4"),
    ],
)
def test_a_dataset_that_makes_no_sense_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        draw_dataset(tmp_path / "faces", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"irreplaceable")
    with pytest.raises(OutputError, match="exists already and is not overwritten; name a new folder"):
        draw_dataset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    (tmp_path / "empty").mkdir()
    draw_dataset(tmp_path / "empty", classes=("happy", "sad"), per_class=5)
    assert len(_files(tmp_path / "empty")) == 10


def _grey_inputs(count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    names = ("happy", "surprise")
    faces = [
        cv2.cvtColor(draw_face(name, np.random.default_rng((place, seed)), 48), cv2.COLOR_RGB2GRAY)[
            28:42, 12:36
        ]
        for place, name in enumerate(names)
        for seed in range(count)
    ]
    inputs = np.stack(faces).reshape(len(faces), -1).astype(np.float64)
    inputs -= inputs.mean(axis=1, keepdims=True)
    return inputs / (inputs.std(axis=1, keepdims=True) + 1), np.repeat([0, 1], count)


def test_expressions_can_be_told_apart_but_not_by_a_glance() -> None:
    """Nearest class mean of the mouth region: far above chance, far below perfect. A small network does better."""
    inputs, labels = _grey_inputs(60)
    train = np.arange(len(labels)) % 60 < 40
    means = np.stack([inputs[train & (labels == kind)].mean(axis=0) for kind in (0, 1)])
    distance = ((inputs[~train][:, None] - means[None]) ** 2).sum(axis=2)
    accuracy = (distance.argmin(axis=1) == labels[~train]).mean()
    assert 0.7 <= accuracy <= 0.98
