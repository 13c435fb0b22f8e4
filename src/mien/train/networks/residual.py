"""`residual`: a residual network with squeeze-and-excitation for 48x48 faces, a teacher of `small`."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from mien.model.preprocess import Preprocess
from mien.train.networks.small import standardise
from mien.train.networks.spec import NetworkRequest, NetworkSpec, heads_on

# 7.9 M parameters, 973 M multiply-accumulates at 44x44.
WIDTHS = (64, 128, 256, 384)
DROPOUT = 0.3
SQUEEZE = 8  # channels over the channels that decide how much of each passes


def build_residual(request: NetworkRequest) -> keras.Model:
    """Build four stages of two blocks, ResNet-18's (He et al. 2016, arXiv:1512.03385) without its first shrinking.

    Each block weighs its channels before the sum (squeeze-and-excitation, Hu et al. 2018, arXiv:1709.01507).
    """
    l2 = keras.regularizers.L2(request.l2) if request.l2 else None
    faces = keras.Input(request.preprocess.shape, name="faces")
    x = layers.ReLU(name="stem_relu")(_conv(standardise(faces), WIDTHS[0], "stem", l2))
    for stage, width in enumerate(WIDTHS, start=1):
        for block in (1, 2):
            x = _block(x, width, f"stage{stage}_{block}", 2 if stage > 1 and block == 1 else 1, l2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(DROPOUT if request.dropout is None else request.dropout, name="dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name="residual")


def _block(x: Any, width: int, name: str, stride: int, l2: Any) -> Any:
    inner = layers.ReLU(name=f"{name}a_relu")(_conv(x, width, f"{name}a", l2, stride=stride))
    inner = _conv(inner, width, f"{name}b", l2)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(inner)
    squeezed = layers.Conv2D(width // SQUEEZE, 1, activation="relu", name=f"{name}_reduce")(squeezed)
    weights = layers.Conv2D(width, 1, activation="sigmoid", name=f"{name}_excite")(squeezed)
    inner = layers.Multiply(name=f"{name}_scale")([inner, weights])
    if stride > 1 or x.shape[-1] != width:
        x = _conv(x, width, f"{name}_short", l2, side=1, stride=stride)
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, inner]))


def _conv(x: Any, width: int, name: str, l2: Any, *, side: int = 3, stride: int = 1) -> Any:
    x = layers.Conv2D(
        width, side, strides=stride, padding="same", use_bias=False, kernel_regularizer=l2,
        kernel_initializer="he_normal", name=f"{name}_conv",
    )(x)  # fmt: skip
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


NETWORKS = {
    "residual": NetworkSpec(
        name="residual",
        build=build_residual,
        preprocess=Preprocess(size=48, colour="grey"),
        several_heads=True,
        source="mien; ResNet-18 (He et al. 2016) with squeeze-and-excitation (Hu et al. 2018)",
    )
}
