"""Networks small enough to build in milliseconds, with weights in which every mistake would show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from mien.model.metadata import Head, Metadata
from mien.model.preprocess import Preprocess

LABELS = ("angry", "happy", "sad")


def metadata(size: int = 12, colour: str = "rgb", **head: Any) -> Metadata:
    """Facts of a network with one head `expression` over LABELS."""
    return Metadata(
        name="tiny",
        preprocess=Preprocess(size=size, colour=colour),
        heads=(Head(name="expression", labels=LABELS, **head),),
    )


def network(middle: Callable[[Any], Any], shape: tuple[int | None, ...] = (12, 12, 3)) -> keras.Model:
    """Rescaling, then `middle`, then (flattened if need be) a softmax named `expression`."""
    faces = keras.Input(shape, name="faces")
    x = middle(layers.Rescaling(1 / 128, offset=-1)(faces))
    if len(x.shape) > 2:
        x = layers.Flatten()(x)
    answer = layers.Dense(3, activation="softmax", dtype="float32", name="expression")(x)
    return randomised(keras.Model(faces, answer, name="tiny"))


def small_network() -> keras.Model:
    """Convolution, batch norm, ReLU, pooling, dropout: what most of our networks consist of."""

    def middle(x: Any) -> Any:
        x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(x)
        x = layers.BatchNormalization(name="norm")(x)
        x = layers.MaxPooling2D(2)(layers.ReLU()(x))
        return layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))

    return network(middle)


def randomised(model: keras.Model) -> keras.Model:
    """Give every weight, statistics of batch norm included, a value that is not its default."""
    random = np.random.default_rng(7)
    for variable in model.weights:
        if "int" in str(variable.dtype):
            continue
        if "variance" in variable.name or variable.name == "gamma":
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif "kernel" in variable.name:
            spread = 1 / np.sqrt(max(1, np.prod(variable.shape[:-1])))
            variable.assign(random.normal(0, 1.5 * spread, variable.shape))
        else:
            variable.assign(random.normal(0, 0.3, variable.shape))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def levels(count: int, size: int = 12, channels: int = 3) -> np.ndarray:
    """Random (count, size, size, channels) uint8 levels."""
    return np.random.default_rng(count).integers(0, 256, (count, size, size, channels)).astype(np.uint8)


def keras_answers(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(inputs.astype(np.float32), training=False)))
