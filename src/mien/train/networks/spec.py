"""What a network is to mien: what a builder is asked for, what it returns, and the heads that all of them end in.

Keras is imported where heads are built, so that names and settings can be looked up without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mien.model.preprocess import Preprocess


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """What a builder is asked for.

    heads: name of each output -> its labels, in order; the output layer carries the head's name and ends in a
    float32 softmax. preprocess: the input is (size, size, channels) float32 in [0, 255], named `faces`.
    """

    heads: Mapping[str, tuple[str, ...]]
    preprocess: Preprocess
    dropout: float | None = None  # None: the network's own
    l2: float | None = None  # None: the network's own
    weights: str = "imagenet"  # backbones only: imagenet, none, or the path of a weight file


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A builder and what it wants to be fed with unless the user says otherwise."""

    name: str
    build: Callable[[NetworkRequest], Any]  # returns a keras.Model
    preprocess: Preprocess
    several_heads: bool = False  # whether it can carry a second head (the reference models cannot)
    pretrained: bool = False  # whether it stands on a trained base, unless the request's weights are 'none'
    mixed_pays: bool = True  # whether bfloat16 pays where processors have it: not with depthwise layers
    source: str = ""  # paper or project, one line


def heads_on(features: Any, heads: Mapping[str, tuple[str, ...]], l2: float | None = None) -> Any:
    """Put one softmax a head on the features; returns a tensor for one head and a list for several.

    l2: penalty on the kernels of the heads; None: none.
    """
    import keras
    from keras import layers

    penalty = keras.regularizers.L2(l2) if l2 else None
    outputs = [
        layers.Dense(
            len(labels), activation="softmax", dtype="float32", kernel_regularizer=penalty, name=name
        )(features)
        for name, labels in heads.items()
    ]
    return outputs[0] if len(outputs) == 1 else outputs
