"""Backbones: preprocessing in the graph, weights from everywhere, freezing and unfreezing."""

import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from mien.data.drawn import draw_dataset
from mien.errors import ConfigError, ModelError
from mien.model.preprocess import Preprocess
from mien.train.config import TrainConfig
from mien.train.networks import backbones, network
from mien.train.networks.backbones import IMAGENET_DEVIATION
from mien.train.networks.spec import NetworkRequest
from mien.train.recipes import config_from, load_recipe
from mien.train.run import train
from mien.train.start import start

LABELS = ("angry", "happy", "sad")


def build(name, weights="none", *, size=32, colour="rgb", heads=None, **settings):
    request = NetworkRequest(
        heads=heads or {"expression": LABELS}, preprocess=Preprocess(size=size, colour=colour),
        weights=str(weights), **settings,
    )  # fmt: skip
    return network(name).build(request)


@pytest.fixture(scope="module")
def bare():
    """A backbone with weights of its own, as somebody might have them in a file."""
    keras.utils.set_random_seed(1)
    return keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def files(bare, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    bare.save(folder / "whole.keras")
    bare.save(folder / "whole.h5")
    bare.save_weights(folder / "own.weights.h5")
    return folder


def test_names_are_those_of_keras_applications():
    assert {"VGG16", "ResNet50", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0"} <= set(
        backbones.names()
    )
    assert list(backbones.names()) == sorted(backbones.names())


@pytest.mark.parametrize("name", ["vgg16", "VGG16", "Vgg-16"])
def test_spelling_does_not_matter(name):
    assert backbones.find(name).name == "VGG16"


def test_an_unknown_backbone_is_none_and_an_unknown_network_an_error():
    assert backbones.find("vgg17") is None
    with pytest.raises(ConfigError, match=r"no network 'vgg17'; known: small, .*happy-nothappy, .*VGG16"):
        network("vgg17")


@pytest.mark.parametrize("name", ["VGG16", "ResNet50", "DenseNet121", "MobileNetV2", "MobileNetV3Small"])
@pytest.mark.parametrize("colour", ["rgb", "bgr", "grey"])
def test_levels_become_what_keras_itself_would_make_of_them(name, colour):
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 1 if colour == "grey" else 3))
    application = backbones.application_named(name)
    kernel, bias = backbones.levels_kernel(application, colour)
    rgb = {
        "rgb": pictures,
        "bgr": pictures[..., ::-1],
        "grey": np.repeat(pictures, 3 // pictures.shape[-1], -1),
    }
    module = getattr(keras.applications, application.__module__.rpartition(".")[2])
    expected = module.preprocess_input(rgb[colour].astype(np.float32), data_format="channels_last")
    np.testing.assert_allclose(pictures @ kernel + bias, expected, atol=1e-4)


@pytest.mark.parametrize("colour", ["rgb", "bgr", "grey"])
def test_the_network_sees_the_same_picture_in_every_colour_order(files, colour):
    grey = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.float32)
    given = grey if colour == "grey" else np.repeat(grey, 3, axis=-1)
    model = build("MobileNetV3Small", files / "own.weights.h5", colour=colour)
    inner = backbones.backbone_of(model)
    seen = given if colour == "rgb" else model.get_layer(backbones.LEVELS)(given)
    np.testing.assert_allclose(seen, np.repeat(grey, 3, axis=-1), atol=1e-4)
    assert inner.input_shape == (None, 32, 32, 3)


@pytest.mark.parametrize("name", ["whole.keras", "whole.h5", "own.weights.h5"])
def test_weights_from_a_local_file_are_those_of_the_file_and_frozen(bare, files, name):
    model = build("MobileNetV3Small", files / name)
    inner = backbones.backbone_of(model)
    for mine, stored in zip(inner.get_weights(), bare.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, stored)
    assert [weight.path for weight in model.trainable_weights] == ["expression/kernel", "expression/bias"]


def test_random_weights_all_train():
    model = build("MobileNetV3Small", colour="grey")
    inner = backbones.backbone_of(model)
    assert len(model.trainable_weights) == len(inner.trainable_weights) + 2
    assert len(inner.trainable_weights) > 100
    assert not model.get_layer(backbones.LEVELS).trainable_weights


@pytest.mark.parametrize("name", ["whole.keras", "whole.h5", "own.weights.h5"])
def test_a_file_of_another_network_is_one_clear_error(files, name):
    with pytest.raises(
        ModelError, match=f"{name} does not hold the weights of VGG16 .* --weights none"
    ) as caught:
        build("VGG16", files / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["junk.keras", "junk.h5", "junk.weights.h5"])
def test_a_damaged_file_is_one_clear_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a network")
    with pytest.raises(ModelError, match=f"{name} does not hold the weights of MobileNetV3Small"):
        build("MobileNetV3Small", tmp_path / name)


def test_a_mistyped_weights_word_says_what_is_allowed(tmp_path):
    for weights in ("image-net", tmp_path / "none.h5", tmp_path):
        with pytest.raises(
            ConfigError, match="weights must be 'imagenet', 'none' or an existing weight file"
        ):
            build("VGG16", weights)


def test_too_small_a_picture_says_so():
    with pytest.raises(ConfigError, match=r"size 48 is too small for Xception .*71x71"):
        build("Xception", size=48)


@pytest.mark.slow
def test_offline_the_error_says_which_file_to_fetch(tmp_path):
    program = (
        "from mien.errors import TrainingError\n"
        "from mien.model.preprocess import Preprocess\n"
        "from mien.train.networks import network\n"
        "from mien.train.networks.spec import NetworkRequest\n"
        "how = Preprocess(size=32, colour='rgb')\n"
        "try:\n"
        "    network('vgg16').build(NetworkRequest(heads={'expression': ('a', 'b')}, preprocess=how))\n"
        "except TrainingError as error:\n"
        "    print(error)\n"
    )
    nowhere = "http://127.0.0.1:9"  # the discard port: the connection is refused at once
    blocked = {"https_proxy": nowhere, "http_proxy": nowhere, "no_proxy": "", "KERAS_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **blocked},
    )
    message = done.stdout.strip().splitlines()[-1]
    file = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert message.startswith("the ImageNet weights of VGG16 cannot be downloaded (")
    assert f"fetch {file} from https://" in message
    assert f"--weights PATH/{file}" in message
    assert message.endswith("or start from random weights with --weights none")


def test_unfreezing_counts_from_the_top_and_never_freezes(files):
    model = build("MobileNetV3Small", files / "own.weights.h5")
    parts = backbones.backbone_of(model).layers
    backbones.unfreeze(model, 0)
    assert not any(layer.trainable for layer in parts)
    backbones.unfreeze(model, 5)
    assert not any(layer.trainable for layer in parts[:-5])
    assert [layer.trainable for layer in parts[-5:]] == [not is_norm(layer) for layer in parts[-5:]]
    backbones.unfreeze(model, 2)
    assert [layer.trainable for layer in parts[-5:]] == [not is_norm(layer) for layer in parts[-5:]]
    backbones.unfreeze(model, -1)
    assert [layer.trainable for layer in parts] == [not is_norm(layer) for layer in parts]


def is_norm(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def test_unfreezing_keeps_what_began_with_random_weights_whole():
    model = build("MobileNetV3Small")
    before = len(model.trainable_weights)
    backbones.unfreeze(model, 3)
    assert len(model.trainable_weights) == before


def test_unfreezing_a_network_without_backbone_is_an_error():
    small = build("small", size=48, colour="grey")
    assert backbones.backbone_of(small) is None
    heads = {"expression": ("happy", "sad")}
    for idle in ({"unfreeze": 5}, {"weights": "other.h5"}, {"phases": ({"unfreeze": -1},)}):
        with pytest.raises(ConfigError, match="but network 'small' has no backbone"):
            start(TrainConfig(**idle), heads)
    start(TrainConfig(weights="none"), heads)  # as it is
    with pytest.raises(ConfigError, match="unfreeze must be -1 or more, got -2"):
        TrainConfig(unfreeze=-2)


def test_unfrozen_batch_norm_keeps_its_statistics_while_its_layers_learn(files):
    model = build("MobileNetV3Small", files / "own.weights.h5")
    backbones.unfreeze(model, -1)
    inner = backbones.backbone_of(model)
    before = values_of(inner)
    model.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy", run_eagerly=True)
    pictures = np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)
    model.train_on_batch(pictures, np.tile(np.eye(3), (2, 1)))
    after = values_of(inner)
    moved = {path for path, old in before.items() if not np.array_equal(old, after[path])}
    assert not [path for path in moved if "_bn/" in path]
    assert "conv/kernel" in moved  # the first layer
    assert moved <= {weight.path for weight in inner.trainable_weights}


def values_of(model):
    return {weight.path: keras.ops.convert_to_numpy(weight).copy() for weight in model.weights}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_plain_keras_loads_what_was_saved(tmp_path, suffix):
    model = build("MobileNetV2", colour="grey")  # its preprocessing is a fixed layer
    if suffix == ".h5":
        model.save(tmp_path / "network.h5", include_optimizer=False)
    else:
        model.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / f"network{suffix}", compile=False)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    np.testing.assert_allclose(loaded(pictures), model(pictures), atol=1e-6)
    assert not loaded.get_layer(backbones.LEVELS).trainable


def test_heads_dropout_and_l2_follow_the_request():
    heads = {"expression": LABELS, "votes": tuple("abcdefgh")}
    model = build("MobileNetV3Small", heads=heads, dropout=0.4, l2=0.002)
    assert model.output_names == ["expression", "votes"]
    assert [shape[-1] for shape in model.output_shape] == [3, 8]
    assert model.get_layer("dropout").rate == 0.4
    assert float(model.get_layer("votes").kernel_regularizer.l2) == pytest.approx(0.002)


def test_efficientnet_from_a_file_sees_levels_as_from_the_download(tmp_path):
    bare = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    mean, variance = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2
    for layer in bare.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.set_weights([mean, variance, np.array(1)])
    bare.save_weights(tmp_path / "own.weights.h5")
    inner = backbones.backbone_of(build("EfficientNetB0", tmp_path / "own.weights.h5"))
    normalise = next(layer for layer in inner.layers if isinstance(layer, keras.layers.Normalization))
    levels = np.random.default_rng(0).uniform(0, 1, (1, 2, 2, 3)).astype(np.float32)
    # keras.applications.efficientnet: Normalization, then a Rescaling by 1 / sqrt(deviation).
    expected = (levels - mean) / np.sqrt(variance) / np.sqrt(IMAGENET_DEVIATION)
    np.testing.assert_allclose(normalise(levels), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "weights"), [("fer2013-resnet50", "none"), ("fer2013-vgg16", "own.weights.h5")]
)
def test_the_recipes_with_imagenet_weights_train_without_a_download(tmp_path, recipe, weights):
    if weights != "none":
        weights = str(tmp_path / weights)
        keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(
            weights
        )
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=12, seed=1)
    config = config_from(load_recipe(recipe), {"weights": weights, "epochs": 1, "size": 32})
    if weights == "none":  # nothing to unfreeze, and ResNet50 is slow to compile a second time
        config = replace(config, phases=())
    run = train(config, tmp_path / "faces", tmp_path / "run")
    assert [row["phase"] for row in run.progress.history] == ([1] if weights == "none" else [1, 2])
    assert (run.model / "model.onnx").is_file()
