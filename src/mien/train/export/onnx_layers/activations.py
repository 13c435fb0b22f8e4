"""Activations, as layers, as arguments of other layers and as operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from mien.errors import ModelError
from mien.train.export.onnx_layers.graph import Graph, Layout, Value

# Keras's name -> ONNX operator and attributes, where one node does it (keras.io/api/layers/activations).
_ONE_NODE: dict[str, tuple[str, dict[str, float]]] = {
    "elu": ("Elu", {}),
    "exponential": ("Exp", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "log": ("Log", {}),  # an operation, no activation: the mean of an ensemble goes through it
    "mish": ("Mish", {}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}


def activation(graph: Graph, value: Value, function: Callable[..., Any] | None, path: str) -> Value:
    """Apply an activation function of Keras. Raises ModelError for one of the user's own."""
    if function is None:
        return value
    name = getattr(function, "__name__", repr(function))
    if name not in _NAMES or keras.activations.get(name) is not function:
        raise ModelError(
            f"layer {path!r} has the activation {name!r}, which mien cannot export; "
            f"use one of {', '.join(sorted(_NAMES))}"
        )
    return named_activation(graph, value, name, path)


def named_activation(graph: Graph, value: Value, name: str, path: str) -> Value:
    """Apply the activation of this name from _NAMES."""
    if name == "linear":
        return value
    if name in _ONE_NODE:
        operator, attributes = _ONE_NODE[name]
        return _elementwise(graph, operator, path, [value], **attributes)
    return {"softmax": softmax, "relu6": _relu6, "silu": _silu, "gelu": _gelu}[name](graph, value, path)


def _elementwise(
    graph: Graph, operator: str, path: str, inputs: list[Value | str], **attributes: Any
) -> Value:
    """Add a node that keeps shape and order of its first input."""
    first = inputs[0]
    assert isinstance(first, Value)
    return replace(graph.add(operator, path, inputs, first.shape, **attributes), flattened=first.flattened)


def softmax(graph: Graph, value: Value, path: str) -> Value:
    return _elementwise(graph, "Softmax", path, [value], axis=1)  # the channels, at either rank


def clip(graph: Graph, value: Value, low: float | None, high: float | None, path: str) -> Value:
    bounds = ["" if bound is None else graph.constant(f"{path}/bound", bound) for bound in (low, high)]
    return _elementwise(graph, "Clip", path, [value, *bounds])


def _relu6(graph: Graph, value: Value, path: str) -> Value:
    return clip(graph, value, 0.0, 6.0, path)


def _silu(graph: Graph, value: Value, path: str) -> Value:
    gate = _elementwise(graph, "Sigmoid", path, [value])
    return _elementwise(graph, "Mul", path, [value, gate])


def _gelu(graph: Graph, value: Value, path: str) -> Value:
    """x/2 (1 + erf(x / sqrt 2)): the exact form (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    root = graph.constant(f"{path}/sqrt_2", np.sqrt(2.0))
    ratio = _elementwise(graph, "Div", path, [value, root])
    error = _elementwise(graph, "Erf", path, [ratio])
    share = _elementwise(graph, "Add", path, [error, graph.constant(f"{path}/one", 1.0)])
    product = _elementwise(graph, "Mul", path, [value, share])
    return _elementwise(graph, "Mul", path, [product, graph.constant(f"{path}/half", 0.5)])


def activation_layer(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    return activation(graph, value, layer.activation, path)


def relu_layer(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    if layer.threshold:
        raise ModelError(f"layer {path!r}: mien cannot export a ReLU with a threshold; use threshold=0")
    low: float | None = 0.0
    if layer.negative_slope:
        value = _elementwise(graph, "LeakyRelu", path, [value], alpha=float(layer.negative_slope))
        low = None
    if layer.max_value is not None:
        return clip(graph, value, low, float(layer.max_value), path)
    return value if layer.negative_slope else _elementwise(graph, "Relu", path, [value])


def leaky_relu_layer(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    return _elementwise(graph, "LeakyRelu", path, [value], alpha=float(layer.negative_slope))


def elu_layer(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    return _elementwise(graph, "Elu", path, [value], alpha=float(layer.alpha))


def softmax_layer(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    if layer.axis not in (-1, len(value.shape)):
        raise ModelError(
            f"layer {path!r}: mien exports a softmax over the last axis only, got axis {layer.axis}"
        )
    return softmax(graph, value, path)


def prelu_layer(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    value = graph.in_keras_order(value, path)
    layout = Layout(order=(2, 0, 1)) if len(value.shape) == 3 else Layout()
    slope = graph.weight(f"{path}/alpha", layer.alpha, layout)
    return _elementwise(graph, "PRelu", path, [value, slope])


_NAMES = {"linear", "softmax", "relu6", "silu", "gelu", *_ONE_NODE}
LAYERS = {
    "Activation": activation_layer,
    "ELU": elu_layer,
    "LeakyReLU": leaky_relu_layer,
    "PReLU": prelu_layer,
    "ReLU": relu_layer,
    "Softmax": softmax_layer,
}
# keras.ops operations, which `keras.activations.silu(x)` on a symbolic tensor becomes.
OPERATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "Tanh": "tanh",
    "Log": "log",
}
