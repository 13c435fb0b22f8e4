"""Layers that move values: flatten, reshape, resize, join; and those that rest at inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from mien.errors import ModelError
from mien.train.export.onnx_layers.graph import Graph, Value, units

# ONNX's settings for what Keras's image resizing does on every backend.
_RESIZE = {
    "bilinear": {"mode": "linear"},
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
}


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


_RESTING = (
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity",
    "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast",
    "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale",
    "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
    "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
    "SpatialDropout2D", "StochasticDepth",
)  # fmt: skip
LAYERS = {
    "Concatenate": concatenate,
    "Flatten": flatten,
    "Reshape": reshape,
    "Resizing": resizing,
    "UpSampling2D": up_sampling2d,
    **dict.fromkeys(_RESTING, identity),
}
