"""mien's own networks for 48x48 faces: `small`, the default; `slim`, which ships; their teachers `wide`, `residual`."""

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
# `slim`: fewer filters in the first layers of the first two stages, so that 48x48 takes the time of `small` at 44x44;
# 66 M multiply-accumulates. It is made of a trained `small` by tools/narrow.py.
SLIM_WIDTHS = ((12, 24), (40, 48), *((width, width) for width in WIDTHS[2:]))
SMALLEST = 2 ** (len(WIDTHS) - 1)  # pixels a side that leave one after the last pooling
# 7.9 M parameters, 973 M multiply-accumulates at 44x44.
RESIDUAL_WIDTHS = (64, 128, 256, 384)
RESIDUAL_DROPOUT = 0.3
SQUEEZE = 8  # channels over the channels that decide how much of each passes


def build_small(request: NetworkRequest) -> keras.Model:
    return _plain(request, _even(WIDTHS), 0.3, "small")


def build_slim(request: NetworkRequest) -> keras.Model:
    return _plain(request, SLIM_WIDTHS, 0.3, "slim")


def build_wide(request: NetworkRequest) -> keras.Model:
    return _plain(request, _even(WIDE_WIDTHS), 0.4, "wide")


def _even(widths: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((width, width) for width in widths)


def _plain(
    request: NetworkRequest, widths: tuple[tuple[int, int], ...], dropout: float, name: str
) -> keras.Model:
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
    for stage, pair in enumerate(widths, start=1):
        for part, width in enumerate(pair, start=1):
            layer = f"stage{stage}_{part}"
            x = layers.ReLU(name=f"{layer}_relu")(_conv(x, width, layer, l2))
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


def build_residual(request: NetworkRequest) -> keras.Model:
    """Build four stages of two blocks, ResNet-18's (He et al. 2016, arXiv:1512.03385) without its first shrinking.

    Each block weighs its channels before the sum (squeeze-and-excitation, Hu et al. 2018, arXiv:1709.01507).
    """
    l2 = keras.regularizers.L2(request.l2) if request.l2 else None
    faces = keras.Input(request.preprocess.shape, name="faces")
    x = layers.ReLU(name="stem_relu")(_conv(standardise(faces), RESIDUAL_WIDTHS[0], "stem", l2))
    for stage, width in enumerate(RESIDUAL_WIDTHS, start=1):
        for block in (1, 2):
            x = _block(x, width, f"stage{stage}_{block}", 2 if stage > 1 and block == 1 else 1, l2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(RESIDUAL_DROPOUT if request.dropout is None else request.dropout, name="dropout")(x)
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
    # Momentum 0.9: with the default 0.99 the statistics lag behind in short trainings on small sets.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)


_VGG = "mien; VGG-like (Simonyan & Zisserman 2015) with batch normalisation"
_RESNET = "mien; ResNet-18 (He et al. 2016) with squeeze-and-excitation (Hu et al. 2018)"
NETWORKS = {
    name: NetworkSpec(
        name=name,
        build=build,
        preprocess=Preprocess(size=48, colour="grey"),
        several_heads=True,
        source=source,
    )
    for name, build, source in (
        ("small", build_small, _VGG),
        ("slim", build_slim, _VGG),
        ("wide", build_wide, _VGG),
        ("residual", build_residual, _RESNET),
    )
}
