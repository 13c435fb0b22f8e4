"""Plain convolutional networks for 48x48 faces: `small`, the default, and `wide`, which teaches it."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from mien.errors import ConfigError
from mien.model.preprocess import Preprocess
from mien.train.networks.spec import NetworkRequest, NetworkSpec, heads_on

# Filters of each stage of `small`. Plain 3x3 convolutions: on a CPU they train and predict faster than separable
# ones for the same accuracy; 1.7 M parameters, 75.5 M multiply-accumulates at 48x48.
WIDTHS = (24, 48, 96, 192, 256)
# `wide`: 7.5 M parameters, 358 M multiply-accumulates at 44x44.
WIDE_WIDTHS = (64, 128, 256, 384, 512)
SMALLEST = 2 ** (len(WIDTHS) - 1)  # pixels a side that leave one after the last pooling


def build_small(request: NetworkRequest) -> keras.Model:
    return _plain(request, WIDTHS, 0.3, "small")


def build_wide(request: NetworkRequest) -> keras.Model:
    return _plain(request, WIDE_WIDTHS, 0.4, "wide")


def _plain(request: NetworkRequest, widths: tuple[int, ...], dropout: float, name: str) -> keras.Model:
    """Build stages of two Conv-BatchNorm-ReLU each, global average pooling, dropout and a softmax per head.

    The trunk is that of VGG with batch normalisation (Simonyan & Zisserman 2015, arXiv:1409.1556).
    """
    if request.preprocess.size < SMALLEST:
        raise ConfigError(
            f"network {name!r} needs a size of {SMALLEST} or more, got {request.preprocess.size}"
        )
    l2 = keras.regularizers.L2(request.l2) if request.l2 else None
    faces = keras.Input(request.preprocess.shape, name="faces")
    x = standardise(faces)
    for stage, width in enumerate(widths, start=1):
        for part in (1, 2):
            layer = f"stage{stage}_{part}"
            x = layers.Conv2D(
                width, 3, padding="same", use_bias=False, kernel_regularizer=l2,
                kernel_initializer="he_normal", name=f"{layer}_conv",
            )(x)  # fmt: skip
            # Momentum 0.9: with the default 0.99 the statistics lag behind in short trainings on small sets.
            x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{layer}_norm")(x)
            x = layers.ReLU(name=f"{layer}_relu")(x)
        if stage < len(widths):
            x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout if request.dropout is None else request.dropout, name="dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name=name)


def standardise(faces: Any) -> Any:
    """Take each picture's own mean from its levels and divide by its own deviation, over all places and channels.

    So light and contrast of a photograph make no difference, down to the rounding of its levels. epsilon: variance in
    squared levels below which a picture counts as flat (a deviation of 5), so that noise is not blown up to a face.
    """
    return layers.LayerNormalization(
        axis=[1, 2, 3], center=False, scale=False, epsilon=25.0, dtype="float32", name="standardise"
    )(faces)


NETWORKS = {
    name: NetworkSpec(
        name=name,
        build=build,
        preprocess=Preprocess(size=48, colour="grey"),
        several_heads=True,
        source="mien; VGG-like (Simonyan & Zisserman 2015) with batch normalisation",
    )
    for name, build in (("small", build_small), ("wide", build_wide))
}
