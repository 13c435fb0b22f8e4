"""Every layer that we export gives the same numbers in ONNX Runtime as in Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from mien.errors import ModelError
from mien.model.classifier import Classifier
from mien.train.export.onnx import keras_from_onnx, to_onnx

from .tiny_networks import keras_answers, levels, metadata, network, randomised

Middle = Callable[[Any], Any]


def _branches(merge: Any) -> Middle:
    return lambda x: merge([layers.Conv2D(4, 3, padding="same")(x), layers.Conv2D(4, 1)(x)])


def _squeeze_excite(x: Any) -> Any:
    """As in EfficientNet: pooled, reshaped, gated."""
    gate = layers.Reshape((1, 1, 3))(layers.GlobalAveragePooling2D()(x))
    return layers.Multiply()([x, layers.Conv2D(3, 1, activation="sigmoid")(gate)])


def _hard_swish(x: Any) -> Any:
    """As in MobileNetV3, with operators on symbolic tensors."""
    return x * (layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)) - x / 2.0


def _nested(x: Any) -> Any:
    """A functional network inside, a sequential one inside that; their layer names clash with the outer ones."""
    deep = keras.Sequential(
        [keras.Input((12, 12, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="deep"
    )
    inside = keras.Input((12, 12, 3))
    inner = keras.Model(inside, layers.BatchNormalization(name="norm")(deep(inside)), name="inner")
    return layers.Conv2D(2, 3, name="conv")(inner(x))


def _shared(x: Any) -> Any:
    """One layer that is called twice."""
    conv = layers.Conv2D(3, 3, padding="same", name="twice")
    return conv(conv(x))


def _dense_twice(x: Any) -> Any:
    """One Dense before and after another: the rows of its kernel can suit only one of the two orders."""
    shared = layers.Dense(x.shape[-1], name="shared")
    return shared(layers.Flatten()(layers.Reshape((1, -1, 3))(shared(x))))


def _mixed_orders(x: Any) -> Any:
    """A flattened map used by a Dense and, beside it, joined to other numbers: the latter needs Keras's order."""
    flat = layers.Flatten()(x)
    return layers.Concatenate()([layers.Dense(5)(flat), layers.BatchNormalization()(flat)])


MIDDLES: dict[str, Middle] = {
    "conv valid": layers.Conv2D(4, 3, activation="relu"),
    "conv same": layers.Conv2D(4, (5, 3), padding="same"),
    "conv strides same, even": layers.Conv2D(4, 3, strides=2, padding="same"),
    "conv strides same, odd": lambda x: layers.Conv2D(4, 4, strides=3, padding="same")(
        layers.Cropping2D(((1, 0), (0, 1)))(x)
    ),
    "conv strides valid": layers.Conv2D(4, (3, 2), strides=(2, 3), use_bias=False),
    "conv groups": layers.Conv2D(6, 3, groups=3),
    "conv dilation": layers.Conv2D(4, 3, dilation_rate=(2, 1), padding="same"),
    "depthwise": layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"),
    "separable": layers.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2, activation="relu"),
    "batch norm": layers.BatchNormalization(epsilon=0.01),
    "batch norm, no scale": layers.BatchNormalization(scale=False),
    "batch norm, no centre": layers.BatchNormalization(center=False),
    "batch norm on units": lambda x: layers.BatchNormalization()(layers.GlobalMaxPooling2D()(x)),
    "layer norm": layers.LayerNormalization(),
    "layer norm of the whole picture": layers.LayerNormalization(
        axis=[1, 2, 3], center=False, scale=False, epsilon=25.0
    ),
    "normalization": layers.Normalization(),
    "normalization given": layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 0.5]),
    "rescaling": layers.Rescaling([0.5, 1.0, 2.0], offset=[0.1, 0.0, -0.1]),
    "max pool": layers.MaxPooling2D(2),
    "max pool same": layers.MaxPooling2D(3, strides=2, padding="same"),
    "average pool": layers.AveragePooling2D((2, 3), strides=2),
    "average pool same": layers.AveragePooling2D(3, strides=2, padding="same"),
    "global average": layers.GlobalAveragePooling2D(),
    "global average, kept": layers.GlobalAveragePooling2D(keepdims=True),
    "global max": layers.GlobalMaxPooling2D(),
    "zero padding": lambda x: layers.Conv2D(4, 3)(layers.ZeroPadding2D(((0, 1), (2, 3)))(x)),
    "zero padding, max pool": lambda x: layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x - 2.0)),
    "zero padding, average pool": lambda x: layers.AveragePooling2D(3)(layers.ZeroPadding2D(1)(x - 2.0)),
    "cropping": layers.Cropping2D(((1, 2), (0, 3))),
    "resizing down": layers.Resizing(5, 7),
    "resizing up": layers.Resizing(17, 30),
    "resizing nearest": layers.Resizing(5, 19, interpolation="nearest"),
    "flatten, dense": lambda x: layers.Dense(5, activation="tanh")(layers.Dropout(0.5)(layers.Flatten()(x))),
    "flatten, batch norm": lambda x: layers.BatchNormalization()(layers.Flatten()(x)),
    "flatten twice": lambda x: layers.Flatten()(layers.Flatten()(x)),
    "dense on a map": layers.Dense(5, activation="relu"),
    "dense twice, flattened first": lambda x: _dense_twice(layers.Flatten()(x)),
    "dense twice, flattened last": lambda x: _dense_twice(layers.Dense(12)(layers.GlobalMaxPooling2D()(x))),
    "mixed orders": _mixed_orders,
    "reshape map to map": layers.Reshape((6, 24, 3)),
    "reshape to channels": layers.Reshape((4, -1, 12)),
    "reshape to units": layers.Reshape((-1,)),
    "reshape units to map": lambda x: layers.Conv2D(2, 2)(
        layers.Reshape((2, 3, 2))(layers.Dense(12)(layers.Flatten()(x)))
    ),
    "add": _branches(layers.Add()),
    "subtract": _branches(layers.Subtract()),
    "multiply": _branches(layers.Multiply()),
    "average": _branches(layers.Average()),
    "maximum": _branches(layers.Maximum()),
    "minimum": _branches(layers.Minimum()),
    "concatenate": _branches(layers.Concatenate()),
    "concatenate rows": _branches(layers.Concatenate(axis=1)),
    "squeeze and excite": _squeeze_excite,
    "hard swish by hand": _hard_swish,
    "nested": _nested,
    "shared": _shared,
    "relu layer": layers.ReLU(max_value=0.7, negative_slope=0.1),
    "relu6 layer": layers.ReLU(6.0),
    "leaky relu layer": layers.LeakyReLU(negative_slope=0.3),
    "prelu layer": layers.PReLU(shared_axes=[1, 2]),
    "prelu layer, every place": layers.PReLU(),
    "elu layer": layers.ELU(alpha=0.5),
    "softmax layer": layers.Softmax(),
    "silu operation": keras.activations.silu,
    "identity": layers.Identity(),
}  # fmt: skip
ACTIVATIONS = [
    "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "hard_silu", "hard_swish", "hard_sigmoid",
    "sigmoid", "tanh", "softmax", "softplus", "softsign", "mish", "exponential", "linear",
]  # fmt: skip
RESTING = [
    layers.Dropout(0.5), layers.SpatialDropout2D(0.5), layers.GaussianNoise(1.0), layers.GaussianDropout(0.5),
    layers.AlphaDropout(0.5), layers.ActivityRegularization(l2=0.1), layers.RandomFlip("horizontal"),
    layers.RandomRotation(0.1), layers.RandomZoom(0.2), layers.RandomTranslation(0.1, 0.1),
    layers.RandomContrast(0.2), layers.RandomBrightness(0.2), layers.RandomErasing(),
]  # fmt: skip


def _check(tmp_path: Path, model: keras.Model) -> onnx.ModelProto:
    """Compare Keras, the exported graph and the network rebuilt from it; return the graph."""
    file = tmp_path / "model.onnx"
    proto = to_onnx(model, metadata())
    onnx.save(proto, file)
    classifier = Classifier(file)
    rebuilt, _ = keras_from_onnx(file)
    for count in (1, 3):
        inputs = levels(count)
        wanted = keras_answers(model, inputs)
        assert wanted.min() < 0.9999, "a saturated answer would hide mistakes"
        np.testing.assert_allclose(classifier.probabilities(inputs)["expression"], wanted, atol=2e-6)
        np.testing.assert_allclose(keras_answers(rebuilt, inputs), wanted, atol=1e-6)
    for old, new in zip(model.weights, rebuilt.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new), err_msg=old.path
        )
    return proto


@pytest.mark.backend
@pytest.mark.parametrize("name", MIDDLES)
def test_layer(tmp_path: Path, name: str) -> None:
    _check(tmp_path, network(MIDDLES[name]))


@pytest.mark.backend
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_on_maps_and_units(tmp_path: Path, name: str) -> None:
    def middle(x: Any) -> Any:
        x = layers.Activation(name)(layers.Conv2D(4, 3)(x))
        return layers.Dense(4, activation=name)(layers.Flatten()(x))

    _check(tmp_path, network(middle))


@pytest.mark.backend
@pytest.mark.parametrize("layer", RESTING, ids=lambda layer: type(layer).__name__)
def test_what_only_training_does_leaves_no_node(tmp_path: Path, layer: layers.Layer) -> None:
    plain = [node.op_type for node in _check(tmp_path, network(lambda x: x)).graph.node]
    assert [node.op_type for node in _check(tmp_path, network(layer)).graph.node] == plain


def test_sequential_network(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Rescaling(1 / 128, offset=-1),
            keras.Sequential([layers.Conv2D(4, 3), layers.MaxPooling2D()]),
            layers.Flatten(),
            layers.Dense(3),
            layers.Softmax(),
        ]
    )
    _check(tmp_path, randomised(model))


def test_the_graph_turns_the_picture_once_and_keeps_batch_norm(tmp_path: Path) -> None:
    def middle(x: Any) -> Any:
        x = layers.Conv2D(4, 3, name="conv", use_bias=False)(x)
        x = layers.MaxPooling2D(2)(layers.ReLU()(layers.BatchNormalization(name="norm")(x)))
        return layers.Dense(6, activation="relu", name="dense")(layers.Flatten()(x))

    graph = _check(tmp_path, network(middle)).graph
    assert [node.op_type for node in graph.node] == [
        "Transpose", "Mul", "Add", "Conv", "BatchNormalization", "Relu", "MaxPool", "Flatten", "Gemm", "Relu",
        "Gemm", "Softmax",
    ]  # fmt: skip
    names = {tensor.name for tensor in graph.initializer}
    assert {"conv/kernel", "norm/gamma", "norm/moving_mean", "dense/kernel", "expression/bias"} <= names
    assert [entry.name for entry in graph.input] == ["faces"]
    assert [entry.name for entry in graph.output] == ["expression"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_weights_of_nested_networks_do_not_collide(tmp_path: Path) -> None:
    names = {tensor.name for tensor in _check(tmp_path, network(_nested)).graph.initializer}
    assert {"inner/deep/conv/kernel", "inner/norm/gamma", "conv/kernel"} <= names


class Strange(layers.Layer):
    """A layer of the user's own."""

    def call(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (Strange(name="mine"), "layer 'mine' is a Strange, which mien cannot export"),
        (layers.Conv2DTranspose(4, 2, name="up"), "layer 'up' is a Conv2DTranspose, which mien cannot export"),
        (keras.ops.cos, "is a Cos, which mien cannot export"),
        (layers.BatchNormalization(axis=1, name="rows"), "layer 'rows' normalises over axis 1"),
        (layers.Resizing(4, 6, crop_to_aspect_ratio=True, name="fit"), "layer 'fit': mien exports Resizing"),
        (layers.ReLU(threshold=1.0, name="late"), "layer 'late': mien cannot export a ReLU with a threshold"),
        (layers.Activation(keras.activations.log_softmax, name="log"), "layer 'log' has the activation 'log_softmax'"),
        (layers.Reshape((2, 2, 2, 54), name="deep"), "layer 'deep' reshapes to"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_named(middle: Middle, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        to_onnx(network(middle), metadata())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_that_is_not_functional_is_refused() -> None:
    class Mine(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ModelError, match="must be functional or sequential"):
        to_onnx(Mine(), metadata())
