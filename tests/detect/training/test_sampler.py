"""Boxes and landmarks go where their pixels go; crops are a function of their seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.detect.training.augment import AffineTransform, clip_boxes, transform_faces, warped
from mien.detect.training.config import DetectorConfig
from mien.detect.training.photos import Faces, read_photos
from mien.detect.training.sampler import SHARE, Sampler, crop, epoch, make
from mien.errors import ConfigError, DataError

from .detector_photos import COLOURS, SKIN, draw, landmarks, write_set

BOX = (60.0, 50.0, 64.0, 80.0)


def one_face(box: tuple[float, float, float, float] = BOX) -> Faces:
    return Faces(
        np.array([box], np.float32),
        np.ones(1, np.float32),
        landmarks(box)[None],
        np.array([[10, 10, 20, 20]], np.float32),
    )


def centre_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return the middle of what is of about this colour, in points."""
    near = np.abs(picture.astype(int) - colour).sum(axis=2) < 120
    ys, xs = np.nonzero(near)
    return np.array([xs.mean() + 0.5, ys.mean() + 0.5])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("scale", "angle"), [(1.0, 0.0), (1.0, 30.0), (0.5, -20.0), (1.7, 10.0)])
def test_landmarks_and_boxes_move_with_the_pixels(scale: float, angle: float, mirrored: bool) -> None:
    picture = np.full((200, 180, 3), 20, np.uint8)
    draw(picture, BOX)
    transform = AffineTransform(scale, angle, mirrored)
    matrix = transform.matrix(np.array([92.0, 90.0]), np.array([150.0, 140.0]))
    shown = warped(picture, matrix, scale, np.full((280, 300, 3), 20, np.uint8))
    faces = transform_faces(one_face(), matrix, transform)
    # Mirrored, the subject's right eye is the other one: colours of a pair change places.
    order = [1, 0, 2, 4, 3] if mirrored else [0, 1, 2, 3, 4]
    for point, place in zip(faces.landmarks[0], order, strict=True):
        np.testing.assert_allclose(centre_of(shown, COLOURS[place]), point, atol=0.8)
    face = np.abs(shown.astype(int) - SKIN).sum(axis=2) < 150
    ys, xs = np.nonzero(face)
    x, y, width, height = faces.boxes[0]
    np.testing.assert_allclose([xs.min(), ys.min()], [x, y], atol=1.6)
    np.testing.assert_allclose([xs.max() + 1, ys.max() + 1], [x + width, y + height], atol=1.6)


def test_what_is_cut_off_or_too_small_is_to_be_ignored() -> None:
    boxes = [(5, 5, 20, 20), (-12, 30, 20, 20), (-9, 60, 20, 20), (50, 50, 6, 6), (200, 5, 20, 20)]
    faces = Faces(
        np.array(boxes, np.float32),
        np.arange(5, dtype=np.float32) / 5,
        np.zeros((5, 5, 2), np.float32),
        np.array([[90, 90, 30, 30]], np.float32),
    )
    left = clip_boxes(faces, 100, 100, smallest=10)
    np.testing.assert_allclose(left.boxes, [boxes[0], boxes[2]])  # the third: its centre is inside
    np.testing.assert_allclose(left.ignore, [(0, 30, 8, 20), (50, 50, 6, 6), (90, 90, 10, 10)])


def test_crops_depend_on_the_seed_alone_and_hold_faces(tmp_path: Path) -> None:
    photos = read_photos(write_set(tmp_path / "set"), "train")
    config = DetectorConfig(side=64, crops=6, batch_size=4, smallest_px=6)
    first, again = (list(epoch(Sampler(photos, config), 3)) for _ in range(2))
    assert [len(batch.inputs) for batch in first] == [4, 2]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.targets[0], other.targets[0])
    other_epoch = next(epoch(Sampler(photos, config), 4))
    assert not np.array_equal(other_epoch.inputs, first[0].inputs)
    only_faces = Sampler(photos, replace(config, negatives=0.0, mosaic=0.0))
    batch = make(only_faces, 8, np.random.default_rng(0))
    assert (batch.targets[0][..., SHARE].sum(axis=1) > 0).mean() >= 0.75
    only_empty = Sampler(photos, replace(config, negatives=1.0))
    assert not make(only_empty, 8, np.random.default_rng(0)).targets[0][..., SHARE].any()


def test_photographs_taken_for_faces_are_shown_more_often(tmp_path: Path) -> None:
    photos = read_photos(write_set(tmp_path / "set", train=16), "train")
    config = DetectorConfig(side=64, negatives=1.0, hard=1.0, mosaic=0.0, rotated=0.0)
    nothing_known = Sampler(photos, config)
    for index in (int(nothing_known.without[2]), int(nothing_known.with_faces[1])):  # beside a face as well
        hard = np.zeros((16, 3), np.float32)
        hard[index] = (0.9, 0.1, 0.1)
        sampler = Sampler(photos, config, hard)
        wanted = photos.read(index)[0, 0].astype(int)
        seen_often = 0
        for seed in range(30):
            picture, _ = crop(sampler, np.random.default_rng(seed))
            seen_often += int(np.abs(np.median(picture, axis=(0, 1)) - wanted).sum() < 60)
        assert seen_often >= 10


def test_data_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    labels = folder / "labels.jsonl"
    good = labels.read_text(encoding="utf-8")
    wrong = {
        "cannot read": None,
        "line 1 is not a label": "{",
        "needs file, split": '{"file": "0.png"}',
        "split must be one of": good.replace('"train"', '"training"'),
        "width and height must be at least 1": good.replace('"width": 96', '"width": 0'),
        "no row with split 'train'": good.replace('"train"', '"val"'),
        "there is no file": good.replace("0.png", "gone.png"),
        "its label says 90x96": good.replace('"width": 96', '"width": 90'),
        "a score must be from 0 to 1": good.replace('"score": 0.9', '"score": 9'),
    }
    for message, text in wrong.items():
        labels.unlink(missing_ok=True)
        if text is not None:
            labels.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_photos(folder, "train")
    labels.write_text(good.replace('"faces": [{', '"faces": [], "was": [{'), encoding="utf-8")
    with pytest.raises(DataError, match="none of the training photographs has a face"):
        Sampler(read_photos(folder, "train"), DetectorConfig())


def test_faces_are_turned_by_any_angle_and_made_faint_where_asked(tmp_path: Path) -> None:
    """Right eye red, left eye blue: where the labels say so the pixels do, whichever way up."""
    photos = read_photos(write_set(tmp_path / "set"), "train")
    plain = {"side": 96, "negatives": 0.0, "mosaic": 0.0, "occluded": 0.0}
    for config in (
        DetectorConfig(**plain, rotated=0.0, turned=1.0),
        DetectorConfig(**plain, rotated=0.0, turned=0.0),
    ):
        sampler, tilts = Sampler(photos, config), []
        for seed in range(60):
            _, faces = crop(sampler, np.random.default_rng(seed))
            for right_eye, left_eye in faces.landmarks[:, :2]:
                tilts.append(np.degrees(np.arctan2(*(left_eye - right_eye)[::-1])))
        upright = float(np.mean(np.abs(tilts) < 1e-3))
        upside_down = float(np.mean(np.abs(tilts) > 90))
        assert (upright, upside_down > 0.3) == ((0.0, True) if config.turned else (1.0, False))
    spans = []
    for faint in (0.0, 1.0):
        sampler = Sampler(photos, DetectorConfig(**plain, faint=faint))
        crops = [crop(sampler, np.random.default_rng(seed))[0] for seed in range(30)]
        spans.append(np.mean([np.ptp(picture[24:72, 24:72].astype(int)) for picture in crops]))
    assert spans[1] < 0.6 * spans[0]


def test_shares_that_cannot_be_are_refused() -> None:
    for wrong in ({"rotated": 0.8, "turned": 0.3}, {"turned": 1.1}, {"faint": -0.1}, {"largest": 1.5}):
        with pytest.raises(ConfigError, match=r"at most|from 0 to 1"):
            DetectorConfig(**wrong)  # type: ignore[arg-type]
