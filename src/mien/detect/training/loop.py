"""The face detector's training on the loop that every training shares: what it adds is its loss and its checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mien.detect.training.config import DetectorConfig
from mien.detect.training.losses import detector_loss
from mien.detect.training.network import with_cells_in_a_row
from mien.detect.training.sampler import HardNegatives, Sampler, epoch
from mien.terminal import ProgressBar
from mien.train import backend, schedule
from mien.train.checkpoint import Progress
from mien.train.loader import Batch
from mien.train.loop import TrainingLoop

# Looks at validation with the network that would be kept; returns figures for the log, and the new hard negatives.
Check = Callable[[], tuple[dict[str, float], HardNegatives]]


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
