"""What the face detector's training adds to the loop that every training shares: its loss and its checks.

The loss, of score, box and landmarks, is written in `keras.ops` and runs on any backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from mien.detect.training.config import DetectorConfig
from mien.detect.training.network import with_cells_in_a_row
from mien.detect.training.sampler import BOX, POINTS, QUALITY, SHARE, WEIGHT, HardNegatives, Sampler, epoch
from mien.terminal import ProgressBar
from mien.train import backend, schedule
from mien.train.checkpoint import Progress
from mien.train.loader import Batch
from mien.train.loop import TrainingLoop

_SHARPNESS = 2.0  # beta of quality focal loss, as in its paper
_SMALLEST, _LARGEST = -4.0, 5.0  # of logarithms of sides, as when decoding
_TINY = 1e-7
# Looks at validation with the network that would be kept; returns figures for the log, and the new hard negatives.
Check = Callable[[], tuple[dict[str, float], HardNegatives]]


def detector_loss(box_weight: float, landmark_weight: float) -> Callable[[Any, Any], Any]:
    """Return loss(target, answer) -> one number a batch, for `keras.Model.compile`.

    target: (batch, cells, COLUMNS) of `targets.targets`. answer: (batch, cells, VALUES) raw values.
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
