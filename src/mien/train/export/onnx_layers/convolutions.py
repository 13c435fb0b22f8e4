"""Convolutions, pooling and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.errors import ModelError
from mien.train.export.onnx_layers.activations import activation
from mien.train.export.onnx_layers.graph import Graph, Layout, Shape, Value


@dataclass(frozen=True)
class Window:
    """What slides over a picture. size, steps, gaps: (rows, columns); padding: 'same' or 'valid'."""

    size: tuple[int, int]
    steps: tuple[int, int]
    gaps: tuple[int, int]
    padding: str

    @classmethod
    def of(cls, layer: Any, size: Sequence[int] | int, path: str) -> Window:
        """Read the window of a Keras layer. Raises ModelError for a layout that we do not export."""
        if layer.data_format == "channels_first":
            raise ModelError(
                f"layer {path!r} has data_format='channels_first'; mien exports 'channels_last' only"
            )
        if layer.padding not in {"same", "valid"}:
            raise ModelError(f"layer {path!r} has padding {layer.padding!r}; mien exports 'same' and 'valid'")
        gaps = _pair(getattr(layer, "dilation_rate", 1))
        return cls(_pair(size), _pair(layer.strides), gaps, layer.padding)

    def sides(self, shape: Shape) -> tuple[int | None, int | None]:
        """Return how many places the window takes, down and across."""
        first, second = (self._places(shape[axis], axis) for axis in (0, 1))
        return first, second

    def _places(self, side: int | None, axis: int) -> int | None:
        if side is None:
            return None
        step = self.steps[axis]
        return -(-side // step) if self.padding == "same" else (side - self._reach(axis)) // step + 1

    def _reach(self, axis: int) -> int:
        return (self.size[axis] - 1) * self.gaps[axis] + 1

    def attributes(self, shape: Shape) -> dict[str, Any]:
        """Return ONNX's attributes; with 'same' the odd pixel of padding goes after, as in TensorFlow."""
        found: dict[str, Any] = {"kernel_shape": list(self.size), "strides": list(self.steps)}
        if self.padding == "valid":
            return found
        before, after = [], []
        for axis in (0, 1):
            side, places, step = shape[axis], self._places(shape[axis], axis), self.steps[axis]
            if side is None and step > 1:
                return {**found, "auto_pad": "SAME_UPPER"}  # it depends on a size that is not known yet
            covered = self._reach(axis) - 1
            total = covered if side is None else max(((places or 1) - 1) * step + covered + 1 - side, 0)
            before.append(total // 2)
            after.append(total - total // 2)
        return {**found, "pads": [*before, *after]} if any(after) else found


def conv2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """Kernel (height, width, in / groups, out) -> (out, in / groups, height, width)."""
    kernel = graph.weight(f"{path}/kernel", layer.kernel, Layout(order=(3, 2, 0, 1)))
    done = _convolve(graph, layer, path, value, [kernel, *_bias(graph, layer, path)])
    return activation(graph, done, layer.activation, path)


def depthwise_conv2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """Kernel (height, width, channels, multiplier) -> (channels * multiplier, 1, height, width)."""
    kernel = _depthwise(graph, f"{path}/kernel", layer.kernel)
    done = _convolve(graph, layer, path, value, [kernel, *_bias(graph, layer, path)])
    return activation(graph, done, layer.activation, path)


def separable_conv2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """A depthwise convolution, then a 1x1 one that carries the bias."""
    depthwise = _depthwise(graph, f"{path}/depthwise_kernel", layer.depthwise_kernel)
    spread = _convolve(graph, layer, path, value, [depthwise])
    point = graph.weight(f"{path}/pointwise_kernel", layer.pointwise_kernel, Layout(order=(3, 2, 0, 1)))
    shape = (*spread.shape[:2], layer.pointwise_kernel.shape[3])
    done = graph.add("Conv", path, [spread, point, *_bias(graph, layer, path)], shape)
    return activation(graph, done, layer.activation, path)


def _depthwise(graph: Graph, name: str, variable: Any) -> str:
    height, width, channels, multiplier = variable.shape
    layout = Layout(order=(2, 3, 0, 1), joined=(channels * multiplier, 1, height, width))
    return graph.weight(name, variable, layout)


def _convolve(graph: Graph, layer: Any, path: str, value: Value, inputs: list[str]) -> Value:
    """Add a Conv. inputs: names of the kernel and perhaps the bias."""
    outputs, part, *size = graph.weights[inputs[0]].shape
    window = Window.of(layer, size, path)
    channels = value.shape[2] or part
    return graph.add(
        "Conv", path, [value, *inputs], (*window.sides(value.shape), outputs),
        dilations=list(window.gaps), group=channels // part, **window.attributes(value.shape),
    )  # fmt: skip


def _bias(graph: Graph, layer: Any, path: str) -> list[str]:
    return [graph.weight(f"{path}/bias", layer.bias)] if layer.use_bias else []


def max_pooling2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    return _pool(graph, layer, path, value, "MaxPool")


def average_pooling2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    """Padding does not count towards the mean, as in TensorFlow."""
    return _pool(graph, layer, path, value, "AveragePool", count_include_pad=0)


def _pool(graph: Graph, layer: Any, path: str, value: Value, operator: str, **attributes: Any) -> Value:
    window = Window.of(layer, layer.pool_size, path)
    _keep_padding(graph, value)
    shape = (*window.sides(value.shape), value.shape[2])
    return graph.add(operator, path, [value], shape, **window.attributes(value.shape), **attributes)


def _keep_padding(graph: Graph, value: Value) -> None:
    """Stop ONNX Runtime from merging a zero padding into the pooling after it.

    It does so (seen in 1.31) although a MaxPool pads with minus infinity, and is wrong where the values are
    negative, as in ResNet50V2. A Pad that names its axes is left alone.
    """
    pad = next((node for node in graph.nodes if value.name in node.output and node.op_type == "Pad"), None)
    if pad is not None and len(pad.input) == 2:
        pad.input.extend(["", graph.constant(f"{pad.name}/axes", [0, 1, 2, 3], np.int64)])


def global_average_pooling2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    return _global_pool(graph, layer, path, value, "GlobalAveragePool")


def global_max_pooling2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    return _global_pool(graph, layer, path, value, "GlobalMaxPool")


def _global_pool(graph: Graph, layer: Any, path: str, value: Value, operator: str) -> Value:
    channels = value.shape[2]
    pooled = graph.add(operator, path, [value], (1, 1, channels))
    return pooled if layer.keepdims else graph.add("Flatten", path, [pooled], (channels,))


def zero_padding2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    (top, bottom), (left, right) = layer.padding
    pads = graph.constant(f"{path}/pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    shape = _grown(value.shape, top + bottom, left + right)
    return graph.add("Pad", path, [value, pads], shape)


def cropping2d(graph: Graph, layer: Any, path: str, value: Value) -> Value:
    (top, bottom), (left, right) = layer.cropping
    starts = graph.constant(f"{path}/starts", [top, left], np.int64)
    # An end of -0 would mean the first pixel, so where nothing is cut off it lies beyond every picture.
    ends = graph.constant(f"{path}/ends", [-bottom or 2**31 - 1, -right or 2**31 - 1], np.int64)
    axes = graph.constant(f"{path}/axes", [2, 3], np.int64)
    shape = _grown(value.shape, -top - bottom, -left - right)
    return graph.add("Slice", path, [value, starts, ends, axes], shape)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, second = value
    return int(first), int(second)


def _grown(shape: Shape, rows: int, columns: int) -> Shape:
    height, width, channels = shape
    return (
        None if height is None else height + rows,
        None if width is None else width + columns,
        channels,
    )


LAYERS = {
    "AveragePooling2D": average_pooling2d,
    "Conv2D": conv2d,
    "Cropping2D": cropping2d,
    "DepthwiseConv2D": depthwise_conv2d,
    "GlobalAveragePooling2D": global_average_pooling2d,
    "GlobalMaxPooling2D": global_max_pooling2d,
    "MaxPooling2D": max_pooling2d,
    "SeparableConv2D": separable_conv2d,
    "ZeroPadding2D": zero_padding2d,
}
