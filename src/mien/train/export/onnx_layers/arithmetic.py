"""Dense layers, normalisation, scaling, adding or multiplying branches; layers that only move values, or rest."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.train.export.onnx_layers.activations import activation
from mien.train.export.onnx_layers.graph import Graph, Layout, Shape, Value, units

OPERATIONS = {"Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div"}
# ONNX's settings for what Keras's image resizing does on every backend.
_RESIZE = {
    "bilinear": {"mode": "linear"},
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
}
_RESTING = (
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity",
    "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast",
    "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale",
    "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
    "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
    "SpatialDropout2D", "StochasticDepth",
)  # fmt: skip


def dense(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """A matrix product; on (height, width, channels) a 1x1 convolution."""
    inputs, outputs = layer.kernel.shape
    bias = [graph.weight(f"{path}/bias", layer.bias)] if layer.use_bias else []
    if len(value.shape) == 3:
        point = Layout(order=(1, 0), joined=(outputs, inputs, 1, 1))
        kernel = graph.weight(f"{path}/kernel", layer.kernel, point)
        height, width, _ = value.shape
        done = graph.add("Conv", path, [value, kernel, *bias], (height, width, outputs))
    else:
        value, layout = _rows(graph, layer, path, value)
        kernel = graph.weight(f"{path}/kernel", layer.kernel, layout)
        done = graph.add("Gemm", path, [value, kernel, *bias], (outputs,))
    return activation(graph, done, layer.activation, path)


def _rows(graph: Graph, layer: Any, path: str, value: Value) -> tuple[Value, Layout]:
    """Return the value and the kernel's layout: after Flatten the rows are permuted instead of the data.

    A layer that is called again shares the kernel of its first call, so then the data is turned.
    """
    known = graph.weights.get(f"{path}/kernel")
    picture = value.flattened if known is None else known.layout.split[:3]
    value = graph.flattened_like(value, picture or None, path)
    if not picture:
        return value, Layout()
    inputs, outputs = layer.kernel.shape
    return value, Layout(split=(*picture, outputs), order=(2, 0, 1, 3), joined=(inputs, outputs))


def batch_normalization(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """Stays a node of its own, so that one can train on from a model folder; the runtime fuses it."""
    _last_axis(layer.axis, value, path)
    width = layer.moving_mean.shape
    scale = (
        graph.weight(f"{path}/gamma", layer.gamma)
        if layer.scale
        else graph.constant(f"{path}/gamma", np.ones(width))
    )
    shift = (
        graph.weight(f"{path}/beta", layer.beta)
        if layer.center
        else graph.constant(f"{path}/beta", np.zeros(width))
    )
    mean = graph.weight(f"{path}/moving_mean", layer.moving_mean)
    variance = graph.weight(f"{path}/moving_variance", layer.moving_variance)
    inputs: list[Value | str] = [value, scale, shift, mean, variance]
    return graph.add("BatchNormalization", path, inputs, value.shape, epsilon=float(layer.epsilon))


def layer_normalization(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """Normalise over the channels of each place, or over the whole picture (no gamma or beta then)."""
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    whole = len(axes) == len(value.shape)
    if not whole or layer.scale or layer.center:
        _last_axis(layer.axis, value, path)
    if getattr(layer, "rms_scaling", False):
        raise ModelError(f"layer {path!r}: mien cannot export rms_scaling; use rms_scaling=False")
    # Without the batch; channels come first.
    axis = graph.constant(f"{path}/axis", range(1, len(value.shape) + 1) if whole else [1], np.int64)
    mean = graph.add("ReduceMean", path, [value, axis], value.shape)
    centred = graph.add("Sub", path, [value, mean], value.shape)
    square = graph.add("Mul", path, [centred, centred], value.shape)
    variance = graph.add("ReduceMean", path, [square, axis], value.shape)
    safe = graph.add("Add", path, [variance, graph.constant(f"{path}/epsilon", layer.epsilon)], value.shape)
    root = graph.add("Sqrt", path, [safe], value.shape)
    done = graph.add("Div", path, [centred, root], value.shape)
    if layer.scale:
        gamma = graph.weight(f"{path}/gamma", layer.gamma, _per_channel(value, layer.gamma))
        done = graph.add("Mul", path, [done, gamma], value.shape)
    if layer.center:
        beta = graph.weight(f"{path}/beta", layer.beta, _per_channel(value, layer.beta))
        done = graph.add("Add", path, [done, beta], value.shape)
    return done


def layer_scale(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """ConvNeXt's factor per channel (Touvron et al. 2021, arXiv:2103.17239)."""
    gamma = graph.weight(f"{path}/gamma", layer.gamma, _per_channel(value, layer.gamma))
    return graph.add("Mul", path, [value, gamma], value.shape)


def normalization(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """(x - mean) / max(sqrt(variance), epsilon); mean and variance may be fitted weights or settings."""
    if layer.invert:
        raise ModelError(f"layer {path!r}: mien cannot export Normalization(invert=True)")
    if layer.input_mean is None:
        mean = graph.weight(f"{path}/mean", layer.adapt_mean, _per_channel(value, layer.adapt_mean))
        variance = graph.weight(
            f"{path}/variance", layer.adapt_variance, _per_channel(value, layer.adapt_variance)
        )
    else:
        mean = graph.constant(f"{path}/mean", _stored(layer.mean))
        variance = graph.constant(f"{path}/variance", _stored(layer.variance))
    centred = graph.add("Sub", path, [value, mean], value.shape)
    root = graph.add("Sqrt", path, [variance], ())
    safe = graph.add("Max", path, [root, graph.constant(f"{path}/epsilon", keras.config.epsilon())], ())
    return graph.add("Div", path, [centred, safe], value.shape)


def rescaling(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """x * scale + offset; either may be one number or one a channel."""
    scale, offset = (
        _aligned(np.asarray(part, np.float32), value, path) for part in (layer.scale, layer.offset)
    )
    done = graph.add("Mul", path, [value, graph.constant(f"{path}/scale", scale)], value.shape)
    if not offset.any():
        return done
    return graph.add("Add", path, [done, graph.constant(f"{path}/offset", offset)], value.shape)


def _merge(operator: str) -> Any:
    def merge(graph: Graph, _layer: Any, path: str, *values: Value) -> Value:
        """Combine branches one by one."""
        done = values[0]
        for value in values[1:]:
            done = graph.add(operator, path, [done, value], _broadcast(done.shape, value.shape, path))
        return done

    return merge


def average(graph: Graph, layer: Any, path: str, *values: Value) -> Value:
    total: Value = _merge("Add")(graph, layer, path, *values)
    return graph.add("Div", path, [total, graph.constant(f"{path}/count", len(values))], total.shape)


def custom_scale(graph: Graph, layer: Any, path: str, *values: Value) -> Value:
    """Inception-ResNet's residual: first + second * scale."""
    scale = graph.constant(f"{path}/scale", layer.scale)
    scaled = graph.add("Mul", path, [values[1], scale], values[1].shape)
    return graph.add("Add", path, [values[0], scaled], values[0].shape)


def operate(graph: Graph, operator: str, path: str, left: Any, right: Any) -> Value:
    """`a + b` and the like on symbolic tensors; one side may be a number or one number a channel."""
    value = left if isinstance(left, Value) else right
    sides = [
        side
        if isinstance(side, Value)
        else graph.constant(f"{path}/constant", _aligned(_stored(side), value, path))
        for side in (left, right)
    ]
    shapes = [side.shape for side in (left, right) if isinstance(side, Value)]
    return graph.add(operator, path, sides, _broadcast(shapes[0], shapes[-1], path))


def _stored(tensor: Any) -> NDArray[np.float32]:
    """Return a fixed tensor, (1, height, width, channels) turned to channels first."""
    array = np.asarray(keras.ops.convert_to_numpy(tensor), np.float32)
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def _aligned(array: NDArray[np.float32], value: Value, path: str) -> NDArray[np.float32]:
    """Shape a number, or one number a channel, so that it broadcasts against the stored value.

    A number gets as many axes as the value: ONNX Runtime turns values to channels last, and 1.32 then takes sixty
    times as long to add a number without axes to a grey picture (19 us a face of 44x44).
    """
    if array.ndim == 4:
        return array
    if array.size == 1:
        return array.reshape((1,) * (len(value.shape) + 1))
    if array.size != value.shape[-1] or array.shape[-1] != array.size:
        raise ModelError(
            f"layer {path!r} has a constant of shape {array.shape}; mien exports one number a channel"
        )
    return array.reshape(-1, 1, 1) if len(value.shape) == 3 else array.reshape(-1)


def _per_channel(value: Value, variable: Any) -> Layout:
    """Shape a weight of one number a channel so that it broadcasts against the stored value."""
    channels = variable.shape[-1]
    return Layout(joined=(channels, 1, 1) if len(value.shape) == 3 else (channels,))


def _last_axis(axis: Any, value: Value, path: str) -> None:
    axes = list(axis) if isinstance(axis, list | tuple) else [axis]
    if [one % (len(value.shape) + 1) for one in axes] != [len(value.shape)]:
        raise ModelError(f"layer {path!r} normalises over axis {axis}; mien exports the last axis only")


def _broadcast(left: Shape, right: Shape, path: str) -> Shape:
    if len(left) != len(right):
        raise ModelError(
            f"layer {path!r} combines shapes {left} and {right}; mien exports equal numbers of axes"
        )
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


def identity(_graph: Graph, _layer: Any, _path: str, value: Value) -> Value:
    """Dropout, noise and augmentation do nothing at inference."""
    return value


def flatten(graph: Graph, _layer: Any, path: str, value: Value) -> Value:
    """Flatten channels first and leave the order to the next layer: a Dense permutes its kernel instead."""
    if len(value.shape) == 1:
        return value
    height, width, channels = value.shape
    if height is None or width is None or channels is None:
        raise ModelError(f"layer {path!r} flattens an open size; give the network a fixed input size")
    flat = graph.add("Flatten", path, [value], (units(value.shape),))
    turned = channels > 1 and height * width > 1
    return Value(flat.name, flat.shape, (height, width, channels) if turned else None)


def reshape(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    value = graph.in_keras_order(value, path)
    shape = tuple(layer.target_shape)
    if -1 in shape:
        known = units(tuple(side for side in shape if side != -1))
        shape = tuple(units(value.shape) // known if side == -1 else side for side in shape)
    if len(shape) not in (1, 3):
        raise ModelError(
            f"layer {path!r} reshapes to {shape}; mien exports one or three axes after the batch"
        )
    return graph.reshape(value, shape, path)


def resizing(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """Resize without antialiasing; the input may be of any size."""
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio or layer.interpolation not in _RESIZE:
        raise ModelError(
            f"layer {path!r}: mien exports Resizing with interpolation 'bilinear' or 'nearest' and without "
            f"cropping or padding to the aspect ratio, got {layer.interpolation!r}"
        )
    height, width = int(layer.height), int(layer.width)
    sizes = graph.constant(f"{path}/sizes", [height, width], np.int64)
    attributes = {
        "coordinate_transformation_mode": "half_pixel",
        "axes": [2, 3],
        **_RESIZE[layer.interpolation],
    }
    return graph.add("Resize", path, [value, "", "", sizes], (height, width, value.shape[2]), **attributes)


def up_sampling2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """Repeat every row and column; sides may be open, because only the factor is stored."""
    if layer.interpolation != "nearest" or layer.data_format == "channels_first":
        raise ModelError(
            f"layer {path!r}: mien exports UpSampling2D with interpolation 'nearest' and channels last only, got "
            f"{layer.interpolation!r} and {layer.data_format!r}"
        )
    factors = [int(factor) for factor in layer.size]
    scales = graph.constant(f"{path}/scales", [1, 1, *factors])
    sides = [None if side is None else side * by for side, by in zip(value.shape, factors, strict=False)]
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.add("Resize", path, [value, "", scales], (*sides, value.shape[2]), **attributes)


def concatenate(graph: Graph, layer: Any, path: str, *values: Value) -> Value:
    rank = len(values[0].shape) + 1
    axis = layer.axis % rank
    if axis == 0:
        raise ModelError(f"layer {path!r} joins along the batch axis, which mien cannot export")
    stored = {1: 1} if rank == 2 else {1: 2, 2: 3, 3: 1}
    shape = list(values[0].shape)
    sides = [value.shape[axis - 1] for value in values]
    shape[axis - 1] = None if None in sides else sum(side or 0 for side in sides)
    return graph.add("Concat", path, values, tuple(shape), axis=stored[axis])


LAYERS = {
    "Add": _merge("Add"),
    "Average": average,
    "BatchNormalization": batch_normalization,
    "CustomScaleLayer": custom_scale,
    "Dense": dense,
    "LayerNormalization": layer_normalization,
    "LayerScale": layer_scale,
    "Maximum": _merge("Max"),
    "Minimum": _merge("Min"),
    "Multiply": _merge("Mul"),
    "Normalization": normalization,
    "Rescaling": rescaling,
    "Subtract": _merge("Sub"),
    "Concatenate": concatenate,
    "Flatten": flatten,
    "Reshape": reshape,
    "Resizing": resizing,
    "UpSampling2D": up_sampling2d,
    **dict.fromkeys(_RESTING, identity),
}
