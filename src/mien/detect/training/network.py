"""The face detector's network, its loss, and the loop that trains it.

The network: 3x3 and depthwise convolutions, three levels, one head a level. Chosen by processor time in ONNX Runtime
among six designs of 76,000 to 109,000 parameters. Plain 3x3 convolutions down to stride 8, where there are few channels
and a depthwise one would save little; depthwise-separable blocks (Howard et al. 2017, arXiv:1704.04861) with residuals
below; a top-down path (Lin et al. 2017, arXiv:1612.03144); heads without anchors, as in FCOS (Tian et al. 2019,
arXiv:1904.01355).

The loss, of score, box and landmarks, is written in `keras.ops` and runs on any backend. `DetectorLoop` is what the
training adds to the loop that every training shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from mien.detect.mien import STRIDES, VALUES
from mien.detect.training.config import DetectorConfig
from mien.detect.training.sampler import BOX, POINTS, QUALITY, SHARE, WEIGHT, HardNegatives, Sampler, epoch
from mien.terminal import ProgressBar
from mien.train import backend, schedule
from mien.train.checkpoint import Progress
from mien.train.loader import Batch
from mien.train.loop import TrainingLoop

# Score of every cell before training, so that the many empty ones do not drown the rest (RetinaNet).
_PRIOR = 0.01
_USUAL_SIDE = 3.0  # side of a usual face in strides, where the head of every level starts
_SHARPNESS = 2.0  # beta of quality focal loss, as in its paper
_SMALLEST, _LARGEST = -4.0, 5.0  # of logarithms of sides, as when decoding
_TINY = 1e-7
# Looks at validation with the network that would be kept; returns figures for the log, and the new hard negatives.
Check = Callable[[], tuple[dict[str, float], HardNegatives]]


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
    `stride16`, `stride32`: (batch, rows, columns, VALUES) raw values, see `mien.detect.mien`.
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


def detector_loss(box_weight: float, landmark_weight: float) -> Callable[[Any, Any], Any]:
    """Return loss(target, answer) -> one number a batch, for `keras.Model.compile`.

    target: (batch, cells, COLUMNS) of `sampler.targets`. answer: (batch, cells, VALUES) raw values.
    """

    def loss(target: Any, answer: Any) -> Any:
        score, box, points = parts(target, answer)
        return score + box_weight * box + landmark_weight * points

    return loss


def parts(target: Any, answer: Any) -> tuple[Any, Any, Any]:
    """Return the losses of score, box and landmarks, each a mean over the faces of the batch.

    Score: quality focal loss (Li et al. 2020, arXiv:2006.04388); its target is the IoU that the cell's box reaches
    times how sure the teacher is, so that the score says both and the teacher's doubt is learnt (distillation: Hinton
    et al. 2015, arXiv:1503.02531). Box: EIoU (Zhang et al. 2021, arXiv:2101.08158). Landmarks: mean absolute distance
    in sides of the face. Cells with weight 0 have no say.
    """
    share = target[..., SHARE]
    positive = ops.cast(share > 0, "float32")
    faces = ops.maximum(ops.sum(share), 1.0)
    iou, penalty = _overlap(target[..., BOX], answer[..., 1:5])
    wanted = positive * target[..., QUALITY] * ops.stop_gradient(iou)
    score = _quality_focal(wanted, answer[..., 0]) * target[..., WEIGHT]
    points = ops.mean(ops.abs(target[..., POINTS] - answer[..., 5:15]), axis=-1)
    return (
        ops.sum(score) / ops.maximum(ops.sum(positive), 1.0),
        ops.sum(share * (1 - iou + penalty)) / faces,
        ops.sum(share * points) / faces,
    )


def _quality_focal(wanted: Any, logit: Any) -> Any:
    entropy = ops.maximum(logit, 0.0) - logit * wanted + ops.log1p(ops.exp(-ops.abs(logit)))
    return ops.abs(wanted - ops.sigmoid(logit)) ** _SHARPNESS * entropy


def _overlap(target: Any, answer: Any) -> tuple[Any, Any]:
    """Return IoU and EIoU's penalty for distance and shape; both boxes: centre and log size in strides."""
    middle, other = target[..., :2], answer[..., :2]
    size = ops.exp(target[..., 2:])
    guess = ops.exp(ops.clip(answer[..., 2:], _SMALLEST, _LARGEST))
    low, high = (
        ops.maximum(middle - size / 2, other - guess / 2),
        ops.minimum(middle + size / 2, other + guess / 2),
    )
    shared = ops.prod(ops.maximum(high - low, 0.0), axis=-1)
    union = ops.prod(size, axis=-1) + ops.prod(guess, axis=-1) - shared
    hull = ops.maximum(middle + size / 2, other + guess / 2) - ops.minimum(
        middle - size / 2, other - guess / 2
    )
    distance = ops.sum((middle - other) ** 2, axis=-1) / (ops.sum(hull**2, axis=-1) + _TINY)
    shape = ops.sum((size - guess) ** 2 / (hull**2 + _TINY), axis=-1)
    return shared / (union + _TINY), distance + shape


class DetectorLoop(TrainingLoop):
    """Trains a detector; everything an epoch depends on is a function of (seed, epoch) and of the stored state."""

    def __init__(
        self,
        network: keras.Model,
        sampler: Sampler,
        *,
        folder: Path,
        check: Check,
        on_epoch: Callable[[Progress], None],
        show: ProgressBar,
    ) -> None:
        """folder: where the state is kept. check: called with the averaged weights in the network."""
        config = sampler.config
        super().__init__(
            network,
            [config],
            folder=folder,
            on_epoch=on_epoch,
            show=show,
            time_limit=config.time_limit,
            trained=with_cells_in_a_row(network),
        )
        self._sampler, self._check = sampler, check

    @property
    def _config(self) -> DetectorConfig:
        return self._sampler.config

    @property
    def steps(self) -> int:
        return self._config.steps

    def compile(self) -> None:
        config = self._config
        optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        optimizer.build(self.trained.trainable_variables)
        self.trained.compile(
            optimizer,
            loss=detector_loss(config.box_weight, config.landmark_weight),
            jit_compile=backend.jit(),
        )

    def batches(self, number: int) -> Iterator[Batch]:
        return epoch(self._sampler, number)

    def learning_rate(self, part: float) -> float:
        return schedule.cosine(self._config.learning_rate, self._config.warmup, self.progress, part)

    def judge(self, last: bool) -> dict[str, float]:
        if not last and self.progress.epoch % self._config.check_every:
            return {}
        figures, self._sampler.hard_negatives = self._check()
        return figures

    def own_state(self) -> list[NDArray[Any]]:
        return [self._sampler.hard_negatives]

    def restore_own_state(self, arrays: list[NDArray[Any]]) -> None:
        self._sampler.hard_negatives = arrays[0].astype(np.float32)
