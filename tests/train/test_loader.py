"""Loader: reproducible, balanced as said, and mixed without inventing labels."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mien.data.dataset import Split
from mien.data.pictures import InMemoryPictures
from mien.errors import ConfigError, DataError
from mien.model.preprocess import Preprocess, to_model_inputs
from mien.train.augment import augment
from mien.train.config import TrainConfig
from mien.train.loader import Inputs, Loader, weights_of_classes


class Held:
    """Pictures in memory, for tests that need no file."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def read(self, index):
        return self.pixels[index]

    def take(self, indices):
        return Held(self.pixels[indices])


def a_split(count=50, classes=3, votes=False):
    rng = np.random.default_rng(1)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 256, (count, 48, 48), dtype=np.uint8)
    counts = np.eye(8, dtype=np.float32)[labels] * 10 if votes else None
    return Split(Held(pixels), labels, [str(i) for i in range(count)], counts)


def batches_of(split, share=(0, 1), **settings):
    config = TrainConfig(batch_size=16, **settings)
    heads = (("a", "b", "c"),) + ((tuple("abcdefgh"),) if split.votes is not None else ())
    return Loader(split, Inputs(split, Preprocess()), heads, config, share=share)


def test_an_epoch_is_a_function_of_seed_and_number():
    split = a_split()
    first, again = (list(batches_of(split).epoch(3, True, "sqrt")) for _ in range(2))
    other = list(batches_of(split).epoch(4, True, "sqrt"))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.inputs, two.inputs)
        np.testing.assert_array_equal(one.targets[0], two.targets[0])
    assert not np.array_equal(first[0].inputs, other[0].inputs)


def test_an_epoch_shows_every_picture_once_and_the_rest_last():
    split = a_split(50)
    batches = batches_of(split, augment=False, mixup=0.0, label_smoothing=0.0)
    seen = np.concatenate([batch.inputs for batch in batches.epoch(0, True, "none")])
    assert len(batches) == 4
    assert seen.shape == (50, 48, 48, 1)
    assert sorted(seen.sum(axis=(1, 2, 3))) == sorted(split.pictures.pixels.reshape(50, -1).sum(axis=1))


def test_the_rest_is_left_out_where_devices_share_batches():
    split = a_split(50)
    batches = Loader(
        split, Inputs(split, Preprocess()), (("a", "b", "c"),), TrainConfig(batch_size=16), drop_rest=True
    )
    assert len(batches) == 3
    assert [len(batch.inputs) for batch in batches.epoch(0, False, "none")] == [16, 16, 16]


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"mixup": 0.0, "cutmix": 1.0}])
def test_mixed_targets_stay_distributions(settings):
    batches = batches_of(a_split(votes=True), mixup_prob=1.0, **settings)
    epoch = list(batches.epoch(0, True, "sqrt"))
    for batch in epoch:
        for target in batch.targets:
            np.testing.assert_allclose(target.sum(axis=1), 1, atol=1e-5)
    assert (epoch[0].targets[0].max(axis=1) < 0.93).any()  # something was mixed; 0.93 is a smoothed label


def test_cutmix_shares_follow_the_pasted_area():
    split = a_split(48)
    split.pictures.pixels[:] = (split.labels * 100)[:, None, None]  # a class is a grey level
    batches = batches_of(split, augment=False, mixup=0.0, cutmix=1.0, mixup_prob=1.0, label_smoothing=0.0)
    batch = next(batches.epoch(0, True, "none"))
    for picture, target in zip(batch.inputs, batch.targets[0], strict=True):
        shares = [(picture == level * 100).mean() for level in range(3)]
        np.testing.assert_allclose(target, shares, atol=1e-5)


def test_faces_without_votes_do_not_teach_the_votes_head():
    split = a_split(votes=True)
    split.votes[:7] = 0
    batches = batches_of(split, mixup=0.0)
    weights = np.concatenate([batch.weights[1] for batch in batches.epoch(0, False, "none")])
    assert weights.sum() == 43


VARIATIONS = (
    "blur",
    "gamma",
    "contrast",
    "brightness",
    "side_light",
    "sharpen",
    "low_contrast",
    "noise",
    "erasing",
)


@pytest.mark.parametrize("mixed", [{"mixup": 0.0}, {"mixup": 0.4}, {"mixup": 0.0, "cutmix": 1.0}])
def test_hosts_prepare_their_own_rows_of_what_one_host_would_prepare(mixed, monkeypatch):
    settings = {
        **dict.fromkeys(VARIATIONS, 0.3),
        "jpeg_quality": 50,
        "wide_rotation": 90.0,
        "mixup_prob": 1.0,
        **mixed,
    }
    whole = list(batches_of(a_split(votes=True), **settings).epoch(1, True, "sqrt"))
    read = []
    taken = Inputs.__call__
    monkeypatch.setattr(Inputs, "__call__", lambda own, rows: read.append(len(rows)) or taken(own, rows))
    hosts = [
        batches_of(a_split(votes=True), share=(host, 4), **settings).epoch(1, True, "sqrt")
        for host in range(4)
    ]
    parts = list(zip(*hosts, strict=True))
    for one, batch in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(np.concatenate([part.inputs for part in one]), batch.inputs)
        for head in range(2):
            np.testing.assert_array_equal(
                np.concatenate([part.targets[head] for part in one]), batch.targets[head]
            )
            np.testing.assert_array_equal(
                np.concatenate([part.weights[head] for part in one]), batch.weights[head]
            )
    own_and_partners = 2 if mixed["mixup"] or "cutmix" in mixed else 1
    assert max(read) <= own_and_partners * 4, "a host reads a quarter of 16, and what they are mixed with"


@pytest.mark.parametrize(("class_weights", "ratio"), [("none", 1), ("sqrt", 3), ("full", 9)])
def test_class_weights(class_weights, ratio):
    labels = np.repeat([0, 1], [90, 10])
    weights = weights_of_classes(np.eye(2, dtype=np.float32)[labels], ("a", "b"), class_weights)
    assert weights[1] / weights[0] == pytest.approx(ratio, rel=1e-5)
    assert weights[labels].mean() == pytest.approx(1, rel=1e-5)


def test_shares_are_targets_and_weigh_a_picture():
    """Also of a class that no picture shows most of."""
    shares = np.array([[0.9, 0.1, 0], [0.8, 0, 0.2], [0.4, 0.6, 0], [1, 0, 0]], np.float32)
    split = replace(a_split(4), labels=shares.argmax(axis=1), shares=shares)
    loader = batches_of(split, label_smoothing=0.0, augment=False)
    (batch,) = loader.epoch(0, False, "full")
    np.testing.assert_array_equal(batch.targets[0], shares[loader.order(0)])
    wanted = shares @ (4 / 3 / shares.sum(axis=0))  # every class has a third of all weight
    np.testing.assert_allclose(batch.weights[0], wanted[loader.order(0)], rtol=1e-5)
    assert batch.weights[0].mean() == pytest.approx(1, rel=1e-5)


def test_a_class_without_pictures_is_named_an_error():
    with pytest.raises(DataError, match="no training pictures for c; add some"):
        weights_of_classes(np.eye(3, dtype=np.float32)[[0, 1, 1]], ("a", "b", "c"), "sqrt")


WHOLE = {"contrast": 0.0, "brightness": 0.0, "noise": 0.0, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (WHOLE, np.uint8),
        ({**WHOLE, "augment": False, "contrast": 0.5}, np.uint8),  # nothing is varied, so nothing is toned
        *(({**WHOLE, name: 0.5}, np.float32) for name in WHOLE),
        ({**WHOLE, "augment": False, "mixup": 0.5}, np.float32),
    ],
)
def test_all_batches_of_a_training_have_one_type(settings, kind):
    batches = batches_of(a_split(), mixup_prob=0.5, **settings)
    assert {batch.inputs.dtype for number in range(3) for batch in batches.epoch(number, True, "none")} == {
        np.dtype(kind)
    }


@pytest.mark.parametrize("colour", ["grey", "rgb", "bgr"])
@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 3), (40, 40)])
def test_decoded_pictures_are_held_without_a_copy_where_they_are_ready(shape, colour):
    rng = np.random.default_rng(0)
    pictures = InMemoryPictures(rng.integers(0, 256, (7, *shape), dtype=np.uint8))
    how = Preprocess(colour=colour)
    inputs = Inputs(Split(pictures, np.zeros(7, np.int64), [""] * 7), how)
    places = np.array([4, 0, 5])
    expected = to_model_inputs([pictures.read(int(place)) for place in places], how)
    np.testing.assert_array_equal(inputs(places), expected)
    ready = (shape, colour) in {((48, 48), "grey"), ((48, 48, 3), "rgb")}
    assert np.shares_memory(next(inputs.in_order(7)), pictures.pixels) is False  # a batch is always its own
    assert (inputs._held is not None and np.shares_memory(inputs._held, pictures.pixels)) is ready


def test_augmentation_without_settings_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)
    still = TrainConfig(
        flip=False, rotation=0.0, shift=0.0, zoom=0.0, contrast=0.0, brightness=0.0, blur=0.0, erasing=0.0
    )
    np.testing.assert_array_equal(augment(pixels, np.random.default_rng(0), still), pixels)


def test_flip_mirrors_about_half_and_exactly():
    pixels = np.random.default_rng(0).integers(0, 256, (200, 12, 12, 1), dtype=np.uint8)
    only = TrainConfig(rotation=0.0, shift=0.0, zoom=0.0, contrast=0.0, brightness=0.0, blur=0.0, erasing=0.0)
    varied = augment(pixels, np.random.default_rng(0), only)
    mirrored = (varied == pixels[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((varied == pixels).all(axis=(1, 2, 3)) | mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_a_warp_keeps_the_centre_and_the_range():
    pixels = np.zeros((40, 49, 49, 1), np.uint8)
    pixels[:, 22:27, 22:27] = 255  # a dot in the middle, which rotation, zoom and shear leave there
    turned = augment(
        pixels,
        np.random.default_rng(0),
        TrainConfig(shift=0.0, shear=0.2, contrast=0.0, brightness=0.0, blur=0.0, erasing=0.0),
    )
    assert (turned[:, 24, 24, 0] > 200).all()
    varied = augment(pixels, np.random.default_rng(0), TrainConfig(noise=20.0, blur=1.0))
    assert varied.min() >= 0
    assert varied.max() <= 255
    assert varied.dtype == np.float32


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fill", ["reflect", "nearest", "zero"])
@pytest.mark.parametrize("settings", [{}, {"rotation": 90.0, "zoom": 0.8, "shift": 0.9}])
def test_large_pictures_are_warped_to_the_same_levels_as_small_ones(monkeypatch, channels, fill, settings):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 100, 100, channels), np.uint8)
    config = TrainConfig(fill=fill, **settings)
    with_border = augment(pixels, np.random.default_rng(0), config, 90)
    monkeypatch.setattr("mien.train.augment._BORDERED_PX", 1000)
    np.testing.assert_array_equal(with_border, augment(pixels, np.random.default_rng(0), config, 90))


def test_a_centre_cut_keeps_the_scale_and_takes_real_pixels_for_the_border() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), np.uint8)
    still = TrainConfig(
        flip=False, rotation=0.0, shift=0.0, zoom=0.0, contrast=0.0, brightness=0.0, blur=0.0, erasing=0.0
    )
    cut = augment(pixels, np.random.default_rng(0), still, 44)
    np.testing.assert_array_equal(cut, pixels[:, 2:46, 2:46])
    np.testing.assert_array_equal(cut, to_model_inputs(list(pixels), Preprocess(size=44, resize=48)))
    moved = augment(pixels, np.random.default_rng(0), replace(still, shift=1 / 48), 44)
    assert moved.shape == (3, 44, 44, 1)
    # A shift of less than two pixels never reaches the border that a picture without spare pixels would mirror.
    assert np.abs(moved - cut).max() > 20


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 0.7}, {"side_light": 0.7}, {"low_contrast": 0.1}, {"sharpen": 1.5}, {"jpeg_quality": 12},
        {"wide_rotation": 40.0},
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_each_damage_changes_its_share_of_the_pictures_and_no_other(settings, channels):
    blobs = np.random.default_rng(0).integers(40, 200, (200, 6, 6, channels), dtype=np.uint8)
    pixels = np.stack([cv2.resize(blob, (48, 48)).reshape(48, 48, channels) for blob in blobs])
    still = TrainConfig(
        flip=False, rotation=0.0, shift=0.0, zoom=0.0, contrast=0.0, brightness=0.0, blur=0.0, erasing=0.0
    )
    varied = augment(pixels, np.random.default_rng(0), replace(still, **settings))
    changed = (np.abs(varied.astype(float) - pixels) > 1).any(axis=(1, 2, 3)).mean()
    expected = {"wide_rotation": 1 / 7, "sharpen": 0.6}.get(next(iter(settings)), 0.3)
    assert expected - 0.1 < changed < expected + 0.1
    assert varied.min() >= 0 and varied.max() <= 255


def test_fewer_pictures_than_devices_share_is_one_line():
    """There was no step at all, and a traceback."""
    split, config = a_split(12), TrainConfig(batch_size=16)
    with pytest.raises(ConfigError, match="batch_size must be at most the 12 training pictures"):
        Loader(split, Inputs(split, Preprocess(size=48)), (tuple("abc"),), config, drop_rest=True)


def test_contrast_is_lowered_by_half_at_least():
    """A share above one half ended in the first batch, with a traceback."""
    with pytest.raises(ConfigError, match=r"low_contrast must be from 0 to 0\.5, got 0\.7"):
        TrainConfig(low_contrast=0.7)
