"""The originals' networks, layer by layer; and a user's program that loads LeNet-5's file."""

import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest

from mien.errors import ConfigError
from mien.model.preprocess import Preprocess
from mien.train.export.onnx import count_macs, trace
from mien.train.networks import network
from mien.train.networks.spec import NetworkRequest

EXPRESSIONS = {2: ("happy", "nothappy"), 3: ("angry", "happy", "sad"), 7: tuple("abcdefg")}


def build(name, classes, preprocess=None, **settings):
    spec = network(name)
    settings.setdefault("weights", "none")
    request = NetworkRequest(
        heads={"expression": EXPRESSIONS[classes]}, preprocess=preprocess or spec.preprocess, **settings
    )
    return spec.build(request)


def shown(layer):
    """One line for a layer: its class and the settings that matter."""
    match layer:
        case keras.layers.Conv2D():
            text = f"Conv {layer.filters} {layer.kernel_size[0]}x{layer.kernel_size[1]} {layer.padding}"
        case keras.layers.Dense():
            text = f"Dense {layer.units}"
        case keras.layers.MaxPooling2D():
            text = f"MaxPool {layer.pool_size[0]} stride {layer.strides[0]}"
        case keras.layers.Dropout():
            return f"Dropout {layer.rate:g}"
        case keras.layers.Rescaling():
            return f"Rescaling 1/{1 / layer.scale:.0f}"
        case keras.layers.Resizing():
            return f"Resizing {layer.height}x{layer.width}"
        case _:
            return type(layer).__name__
    if hasattr(layer, "activation"):
        text += f" {layer.activation.__name__}"
    if getattr(layer, "kernel_regularizer", None):
        text += f" L2 {float(layer.kernel_regularizer.l2):g}"
    return text


def block(*widths, padding="valid", l2="", rate=None, norm="before"):
    """A block as the list writes it: convolutions, batch norm, pooling, dropout."""
    paddings = padding if isinstance(padding, tuple) else (padding,) * len(widths)
    lines = [f"Conv {width} 3x3 {how} relu{l2}" for width, how in zip(widths, paddings, strict=True)]
    tail = {
        "none": ["MaxPool 2 stride 2"],
        "before": ["BatchNormalization", "MaxPool 2 stride 2"],
        "after": ["MaxPool 2 stride 2", "BatchNormalization"],
    }[norm]
    return [*lines, *tail, *([] if rate is None else [f"Dropout {rate:g}"])]


L2 = " L2 0.01"
LAYERS = {
    "happy-nothappy": [
        "InputLayer", "Rescaling 1/255",
        *block(32, norm="none"), *block(64, norm="none"), *block(128, norm="none"),
        "Flatten", "Dense 128 relu", "Dropout 0.5", "Dense 2 softmax",
    ],
    "happy-sad-angry": [
        "InputLayer", "Rescaling 1/255",
        *block(16), *block(32, rate=0.3), *block(64, rate=0.3), *block(128, rate=0.3),
        "Flatten", "Dense 512 relu" + L2, "Dropout 0.5", "Dense 3 softmax",
    ],
    "lenet5": [
        "InputLayer", "Resizing 256x256", "Rescaling 1/255",
        *block(6, rate=0), *block(16), "Flatten",
        "Dense 100 relu", "BatchNormalization", "Dropout 0",
        "Dense 10 relu", "BatchNormalization", "Dropout 0", "Dense 3 softmax",
    ],
    "fer2013-cnn": [
        "InputLayer", "Rescaling 1/255",
        *block(32, 64, padding="same", rate=0.25),
        *block(128, 256, padding=("same", "valid"), l2=L2, rate=0.25),
        *block(512, 512, padding="same", l2=L2, rate=0.25),
        "Flatten", "Dense 1024 relu", "Dropout 0.5", "Dense 7 softmax",
    ],
    "face-expression": [
        "InputLayer", "Rescaling 1/255",
        *block(32, padding="same", norm="after", rate=0.25),
        *block(64, padding="same", norm="after", rate=0.25),
        *block(128, padding="same", norm="after", rate=0.25),
        *block(128, padding="same", norm="after", rate=0.25),
        "Flatten", "Dense 256 relu", "Dropout 0.5", "Dense 7 softmax",
    ],
    "happy-sad-angry-vgg16": [
        "InputLayer", "Conv 3 1x1 valid linear", "Functional",
        "Conv 256 3x3 valid relu", "MaxPool 2 stride 2", "Flatten",
        "Dense 512 relu" + L2, "BatchNormalization", "Dropout 0.5",
        "Dense 256 relu" + L2, "BatchNormalization", "Dropout 0.4", "Dense 3 softmax",
    ],
    "fer2013-vgg16": [
        "InputLayer", "Conv 3 1x1 valid linear", "Functional", "GlobalAveragePooling2D", "Dense 7 softmax",
    ],
    "fer2013-resnet50": [
        "InputLayer", "Conv 3 1x1 valid linear", "Functional", "GlobalAveragePooling2D", "Dense 7 softmax",
    ],
}  # fmt: skip
# Input shape, classes, parameters as counted in docs/explanation/five-projects.md. The fixed layer before a backbone
# has 12 (colour) or 6 (grey).
SHAPES = {
    "happy-nothappy": ((256, 256, 3), 2, 14_839_234),
    "happy-sad-angry": ((200, 200, 3), 3, 6_654_051),
    "lenet5": ((None, None, 3), 3, 6_153_119),
    "fer2013-cnn": ((48, 48, 1), 7, 17_046_535),
    "face-expression": ((48, 48, 1), 7, 538_631),
    "happy-sad-angry-vgg16": ((200, 200, 3), 3, 14_714_688 + 1_839_875 + 12),
    "fer2013-vgg16": ((48, 48, 1), 7, 14_714_688 + 512 * 7 + 7 + 6),
    "fer2013-resnet50": ((48, 48, 1), 7, 23_587_712 + 2048 * 7 + 7 + 6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_parameters_are_those_of_the_project(name):
    shape, classes, parameters = SHAPES[name]
    model = build(name, classes)
    assert [shown(layer) for layer in model.layers] == LAYERS[name]
    assert model.count_params() == parameters
    assert (model.input.name, model.input_shape) == ("faces", (None, *shape))
    assert (model.output_names, model.output.dtype) == (["expression"], "float32")
    assert model.name == name


def test_the_lenet5_network_is_fed_bgr():
    assert network("lenet5").preprocess == Preprocess(size=256, colour="bgr")


def test_fer2013_cnn_costs_670_million_multiply_accumulates():
    macs = count_macs(trace(build("fer2013-cnn", 7))[0])
    assert round(macs / 1e6) == 670


@pytest.mark.parametrize(
    "name", ["happy-nothappy", "happy-sad-angry", "lenet5", "fer2013-cnn", "face-expression"]
)
def test_a_request_overrides_dropout_and_l2(name):
    model = build(name, SHAPES[name][1], dropout=0.1, l2=0.005)
    rates = {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    regularizers = [getattr(layer, "kernel_regularizer", None) for layer in model.layers]
    assert rates == {0.1}
    assert {round(float(found.l2), 6) for found in regularizers if found} == {0.005}
    assert model.layers[-1].kernel_regularizer is None


def test_l2_of_zero_takes_the_penalty_away():
    assert build("fer2013-cnn", 7, l2=0.0).losses == []
    assert len(build("fer2013-cnn", 7).losses) == 4


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("happy-nothappy", 22), ("happy-sad-angry", 46), ("lenet5", 10), ("fer2013-cnn", 12),
        ("face-expression", 16), ("happy-sad-angry-vgg16", 128),
    ],
)  # fmt: skip
def test_the_smallest_size_works_and_a_smaller_one_says_so(name, smallest):
    colour = network(name).preprocess.colour
    assert build(name, 3, Preprocess(size=smallest, colour=colour)).output_shape == (None, 3)
    with pytest.raises(ConfigError, match=f"size {smallest - 1} is too small .* at least {smallest} pixels"):
        build(name, 3, Preprocess(size=smallest - 1, colour=colour))


# What a user of the LeNet-5 project runs, as docs/explanation/five-projects.md describes it.
PROGRAM = """
import sys
import cv2, keras, numpy as np
model = keras.models.load_model(sys.argv[1])
for path in sys.argv[2:]:
    picture = cv2.imread(path).astype(np.float32)
    answer = model.predict(np.expand_dims(picture, 0), verbose=0)
    print(["angry", "happy", "sad"][np.argmax(answer)])
"""


def coloured(rng, channel, height, width):
    """A noisy picture in BGR whose one channel is bright."""
    picture = rng.integers(0, 60, (height, width, 3), np.uint8)
    picture[..., channel] += 180
    return picture


@pytest.mark.slow
def test_the_lenet5_prediction_program_works_unchanged(tmp_path):
    # Taught that blue is angry, green happy and red sad, the program must say so of pictures of any size.
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = build("lenet5", 3, Preprocess(size=32, colour="bgr"))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5  # 20 steps are too few for 0.99
    model.compile(keras.optimizers.Adam(3e-3), "categorical_crossentropy")
    for _ in range(20):
        pictures = np.stack([coloured(rng, channel, 32, 32) for channel in (0, 1, 2) * 4]).astype(np.float32)
        model.train_on_batch(pictures, np.tile(np.eye(3), (4, 1)))
    model.save(tmp_path / "lenet5.keras", include_optimizer=False)
    paths = []
    for place, (height, width) in enumerate(
        [(256, 256), (48, 48), (101, 317), (30, 90), (32, 32), (500, 40)]
    ):
        paths.append(str(tmp_path / f"{place}.png"))
        cv2.imwrite(paths[-1], coloured(rng, place % 3, height, width))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "lenet5.keras"), *paths],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["angry", "happy", "sad"] * 2
