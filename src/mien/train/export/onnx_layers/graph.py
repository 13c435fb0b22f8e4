"""The ONNX graph while it grows: nodes, values with Keras shapes, weights that know their way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from mien.errors import ModelError

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    shape: Keras's shape without the batch axis, (height, width, channels) or (units,); None for an open side.
    Rank-3 values lie channels first in the graph, (batch, channels, height, width), from input to end.
    flattened: the (height, width, channels) of which this is the flattened form, still channels first; None
    once the elements are in Keras's order.
    """

    name: str
    shape: Shape
    flattened: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Layout:
    """How a Keras weight becomes an ONNX initialiser: reshape, permute, reshape. It can be undone."""

    split: tuple[int, ...] = ()  # (): keep the variable's shape
    order: tuple[int, ...] = ()  # (): keep the order of the axes
    joined: tuple[int, ...] = ()  # (): keep what the permutation gives

    def to_onnx(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        array = weight.reshape(self.split) if self.split else weight
        array = array.transpose(self.order) if self.order else array
        return np.ascontiguousarray(array.reshape(self.joined) if self.joined else array)

    def to_keras(self, array: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
        """Undo `to_onnx` for a variable of this shape."""
        split = self.split or tuple(shape)
        order = self.order or tuple(range(len(split)))
        permuted = array.reshape([split[axis] for axis in order])
        return np.ascontiguousarray(permuted.transpose(np.argsort(order)).reshape(shape))


@dataclass(frozen=True)
class Weight:
    """A Keras variable that stays a weight of the graph. shape: of the initialiser."""

    variable: Any
    layout: Layout
    shape: tuple[int, ...]

    def array(self) -> NDArray[np.float32]:
        return self.layout.to_onnx(np.asarray(keras.ops.convert_to_numpy(self.variable), np.float32))


@dataclass
class Graph:
    """Nodes in order of execution. Everything is named after the layer that it comes from."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def add(
        self, operator: str, path: str, inputs: Sequence[Value | str], shape: Shape, **attributes: Any
    ) -> Value:
        """Append one node with one output of this Keras shape. inputs: values, or names of tensors."""
        name = base = f"{path}/{operator}"
        number = 1
        while name in self.shapes:
            number += 1
            name = f"{base}_{number}"
        names = [value.name if isinstance(value, Value) else value for value in inputs]
        self.nodes.append(onnx.helper.make_node(operator, names, [name], name=name, **attributes))
        self.shapes[name] = shape
        return Value(name, shape)

    def weight(self, name: str, variable: Any, layout: Layout | None = None) -> str:
        """Register a variable as initialiser `name`; a layer that is called twice shares it."""
        layout = layout or Layout()
        if name not in self.weights:
            shape = layout.to_onnx(np.empty(variable.shape, np.float32)).shape
            self.weights[name] = Weight(variable, layout, shape)
        return name

    def constant(self, name: str, array: Any, dtype: type = np.float32) -> str:
        """Register a fixed tensor under a name that starts like `name`."""
        array = np.asarray(array, dtype)
        free, number = name, 1
        while free in self.weights or (
            free in self.constants and not np.array_equal(self.constants[free], array)
        ):
            number += 1
            free = f"{name}_{number}"
        self.constants[free] = array
        return free

    def in_keras_order(self, value: Value, path: str) -> Value:
        """Return a flattened value with its elements ordered (height, width, channels), as Keras flattens."""
        return self.flattened_like(value, None, path)

    def flattened_like(self, value: Value, picture: tuple[int, ...] | None, path: str) -> Value:
        """Return a flattened value ordered as `picture`, (height, width, channels), flattened channels first.

        None: in Keras's order. What is in the right order already stays as it is.
        """
        if value.flattened == picture:
            return value
        if value.flattened:
            height, width, channels = value.flattened
            value = self._turned(value, (channels, height, width), [0, 2, 3, 1], path)
        if picture is None:
            return value
        height, width, channels = picture
        value = self._turned(value, (height, width, channels), [0, 3, 1, 2], path)
        return replace(value, flattened=(height, width, channels))

    def _turned(self, value: Value, sides: Shape, order: list[int], path: str) -> Value:
        """Unflatten to `sides`, permute the axes and flatten again."""
        whole = self.add("Reshape", path, [value, self._shape(path, sides)], value.shape)
        turned = self.add("Transpose", path, [whole], value.shape, perm=order)
        return self.add("Reshape", path, [turned, self._shape(path, value.shape)], value.shape)

    def reshape(self, value: Value, shape: Shape, path: str) -> Value:
        """Reshape in Keras's order of the axes; turns them only where that matters."""
        channels_last = self.add_transpose(value, [0, 2, 3, 1], path) if _turns(value.shape) else value
        if _turns(shape):
            whole = self.add("Reshape", path, [channels_last, self._shape(path, shape)], shape)
            return replace(self.add_transpose(whole, [0, 3, 1, 2], path), shape=shape)
        stored = shape if len(shape) < 3 else (shape[2], shape[0], shape[1])
        return self.add("Reshape", path, [channels_last, self._shape(path, stored)], shape)

    def add_transpose(self, value: Value, order: list[int], path: str) -> Value:
        return self.add("Transpose", path, [value], value.shape, perm=order)

    def _shape(self, path: str, shape: Shape) -> str:
        """Register the target of a Reshape that leaves the batch axis alone."""
        if any(side is None for side in shape):
            raise ModelError(f"layer {path!r} reshapes an open size; give the network a fixed input size")
        return self.constant(f"{path}/shape", [0, *shape], np.int64)


def _turns(shape: Shape) -> bool:
    """Say whether channels first and channels last differ in memory for a value of this shape."""
    if len(shape) != 3:
        return False
    height, width, channels = shape
    return channels != 1 and not (height == 1 and width == 1)


def units(shape: Shape) -> int:
    """Return the number of elements of one example; an open side counts as 0."""
    return math.prod(side or 0 for side in shape)
