"""The face detector's network: 3x3 and depthwise convolutions, three levels, one head a level.

Chosen by processor time in ONNX Runtime among six designs of 76,000 to 109,000 parameters. Plain 3x3
convolutions down to stride 8, where there are few channels and a depthwise one would save little; depthwise-separable
blocks (Howard et al. 2017, arXiv:1704.04861) with residuals below; a top-down path (Lin et al. 2017, arXiv:1612.03144);
heads without anchors, as in FCOS (Tian et al. 2019, arXiv:1904.01355).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from mien.detect.mien import STRIDES, VALUES

_PRIOR = (
    0.01  # score of every cell before training, so that the many empty ones do not drown the rest (RetinaNet)
)
_USUAL_SIDE = 3.0  # side of a usual face in strides, where the head of every level starts


@dataclass(frozen=True)
class Widths:
    """Channels at strides 2, 4, 8, 16, 32 and of the path down; blocks at strides 8, 16, 32.

    Multiples of 16, the floats that a processor with AVX-512 takes at once: ONNX Runtime was as fast with 48 channels
    as with 40.
    """

    stem: int = 16
    fine: int = 32
    levels: tuple[int, int, int] = (48, 64, 96)
    path: int = 48
    blocks: tuple[int, int, int] = (2, 2, 2)


def build(widths: Widths | None = None) -> keras.Model:
    """Return the network with fresh weights.

    Input `faces`: (batch, height, width, 3) RGB levels in [0, 255]; sides any multiple of 32. Outputs `stride8`,
    `stride16`, `stride32`: (batch, rows, columns, VALUES) raw values, see `mien.detect.base`.
    """
    widths = widths or Widths()
    picture = keras.Input((None, None, 3), name="faces")
    x = layers.Rescaling(1 / 128, offset=-1, name="levels")(picture)
    x = _plain(x, widths.stem, "stem", 2)
    x = _plain(x, widths.fine, "fine", 2)
    x = _plain(x, widths.levels[0], "stage8", 2)
    found = []
    for place, stride in enumerate(STRIDES):
        if place:
            x = _separable(x, widths.levels[place], f"stage{stride}", 2)
        for number in range(widths.blocks[place]):
            x = layers.Add(name=f"block{stride}_{number}_sum")(
                [x, _separable(x, widths.levels[place], f"block{stride}_{number}")]
            )
        found.append(x)
    outputs = [
        _head(feature, widths.path, stride)
        for feature, stride in zip(_top_down(found, widths.path), STRIDES, strict=True)
    ]
    return keras.Model(picture, outputs, name="detector")


def with_cells_in_a_row(network: keras.Model) -> keras.Model:
    """Return the same network with one output (batch, cells, VALUES): all levels, finest first, row by row."""
    rows = [layers.Reshape((-1, VALUES), name=f"{output.name}_row")(output) for output in network.outputs]
    return keras.Model(
        network.inputs[0], layers.Concatenate(axis=1, name="cells")(rows), name="detector_in_training"
    )


def _top_down(features: list[Any], path: int) -> list[Any]:
    """Add to each level what the coarser ones know."""
    *rest, coarsest = [
        _normed(layers.Conv2D(path, 1, use_bias=False, name=f"lateral{stride}")(feature), f"lateral{stride}")
        for feature, stride in zip(features, STRIDES, strict=True)
    ]
    found = [coarsest]
    for feature, stride in zip(reversed(rest), reversed(STRIDES[:-1]), strict=True):
        larger = layers.UpSampling2D(2, name=f"up{stride}")(found[0])
        found.insert(0, layers.Add(name=f"path{stride}")([feature, larger]))
    return found


def _head(x: Any, path: int, stride: int) -> Any:
    for number in range(2):
        x = _separable(x, path, f"head{stride}_{number}")
    return layers.Conv2D(
        VALUES,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=_start,
        dtype="float32",
        name=f"stride{stride}",
    )(x)


def _start(shape: Any, dtype: Any = None) -> Any:
    """Return the first biases of a head: hardly any face, of the usual side, centred on its cell."""
    values = [0.0] * shape[0]
    values[0] = -math.log((1 - _PRIOR) / _PRIOR)
    values[3] = values[4] = math.log(_USUAL_SIDE)
    return keras.ops.convert_to_tensor(values, dtype=dtype)


def _plain(x: Any, width: int, name: str, stride: int = 1) -> Any:
    return _normed(layers.Conv2D(width, 3, stride, "same", use_bias=False, name=name)(x), name)


def _separable(x: Any, width: int, name: str, stride: int = 1) -> Any:
    x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False, name=f"{name}_each")(x)
    x = layers.BatchNormalization(name=f"{name}_each_norm")(x)
    return _normed(layers.Conv2D(width, 1, use_bias=False, name=f"{name}_mix")(x), name)


def _normed(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
