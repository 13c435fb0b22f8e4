"""The loop of the face detector's training: epochs, looks at validation, and a state that survives a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from mien.detect.training import batches
from mien.detect.training.config import DetectorConfig
from mien.detect.training.crops import Alarms, Supply
from mien.detect.training.losses import detector_loss
from mien.detect.training.network import with_cells_in_a_row
from mien.errors import TrainingError
from mien.terminal import ProgressBar, clock
from mien.train import backend, checkpoint, schedule
from mien.train.ema import MovingAverage, host

# Looks at validation with the network that would be kept; returns figures for the log, and the new alarms.
Check = Callable[[], tuple[dict[str, float], Alarms]]


class DetectorLoop:
    """Trains a network; everything that an epoch depends on is a function of (seed, epoch) and of the stored state."""

    def __init__(
        self,
        network: keras.Model,
        supply: Supply,
        *,
        folder: Path,
        check: Check,
        on_epoch: Callable[[checkpoint.Progress], None],
        show: ProgressBar,
    ) -> None:
        """folder: where the state is kept. check: called with the averaged weights in the network."""
        self._network, self._supply, self._config = network, supply, supply.config
        self._in_training = with_cells_in_a_row(network)
        self._average = MovingAverage(self._config.ema)
        self._file = folder / checkpoint.STATE_FILE
        self._check, self._on_epoch, self._show = check, on_epoch, show
        self._limit_s = schedule.seconds_of(self._config.time_limit) if self._config.time_limit else None
        self.progress = checkpoint.Progress(phase_epochs=self._config.epochs)
        _compile(self._in_training, self._config)

    def run(self) -> checkpoint.Progress:
        """Train until all epochs are done; KeyboardInterrupt passes through with the last whole epoch stored."""
        if self._file.exists():
            self._resume()
        while not self.progress.finished:
            self._epoch()
        return self.progress

    def hold_average(self) -> None:
        """Leave the moving average in the network for good."""
        checkpoint.assign(self._network.weights, self._average.values)

    def _resume(self) -> None:
        self.progress, values, (alarms, *average) = checkpoint.load(self._file)
        checkpoint.assign(self._variables(), values)
        self._average.restore(average)
        self._supply.alarms = alarms
        self._show.line(f"going on after epoch {self.progress.epoch}")

    def _save(self) -> None:
        checkpoint.save(
            self._file, self.progress, self._variables(), [self._supply.alarms, *self._average.stored()]
        )

    def _variables(self) -> list[Any]:
        return [*self._network.weights, *self._in_training.optimizer.variables]

    def _epoch(self) -> None:
        progress, started = self.progress, time.monotonic()
        loss = self._steps(started)
        progress.epoch += 1
        progress.phase_epoch += 1
        epoch_s = time.monotonic() - started
        progress.seconds += epoch_s
        if self._limit_s:
            progress.phase_epochs = schedule.planned_epochs(progress, self._limit_s, epoch_s)
        progress.finished = progress.phase_epoch >= progress.phase_epochs
        figures = self._figures()
        progress.seconds += time.monotonic() - started - epoch_s
        rate = schedule.cosine(self._config.learning_rate, self._config.warmup, progress, 0)
        progress.history.append(
            {"epoch": progress.epoch, "loss": loss, "learning_rate": rate, "seconds": epoch_s, **figures}
        )
        self._say(progress.history[-1])
        self._save()
        self._on_epoch(progress)

    def _figures(self) -> dict[str, float]:
        if not self.progress.finished and self.progress.epoch % self._config.check_every:
            return {}
        with self._averaged_weights():
            figures, self._supply.alarms = self._check()
        return figures

    def _steps(self, started: float) -> float:
        """Take the steps of one epoch; return the mean loss."""
        config, progress, network = self._config, self.progress, self._in_training
        total, losses = config.steps, 0.0
        for step, batch in enumerate(batches.epoch(self._supply, progress.epoch)):
            network.optimizer.learning_rate = schedule.cosine(
                config.learning_rate, config.warmup, progress, step / total
            )
            loss = float(network.train_on_batch(batch.crops, batch.targets, return_dict=True)["loss"])
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss at step {step + 1} of epoch {progress.epoch + 1} is {loss}; try --learning-rate "
                    f"{config.learning_rate / 4:g} (it was {config.learning_rate:g})"
                )
            self._average.step(self._network.weights)
            losses += loss
            self._draw(step + 1, total, losses / (step + 1), started)
        return losses / total

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        raw = [host(weight) for weight in self._network.weights]
        self.hold_average()
        try:
            yield
        finally:
            checkpoint.assign(self._network.weights, raw)

    def _draw(self, step: int, total: int, loss: float, started: float) -> None:
        progress, spent = self.progress, time.monotonic() - started
        left = progress.phase_epochs - progress.phase_epoch - step / total
        head = f"epoch {progress.epoch + 1}/{progress.phase_epochs}"
        self._show.step(head, step / total, f"loss {loss:.3f}", spent / step * total * left)

    def _say(self, row: dict[str, Any]) -> None:
        shown = {
            name: value for name, value in row.items() if name not in ("epoch", "learning_rate", "seconds")
        }
        figures = "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in shown.items())
        self._show.line(
            f"epoch {row['epoch']:>3}/{self.progress.phase_epochs}  {figures}  {clock(row['seconds'])}"
        )


def _compile(network: keras.Model, config: DetectorConfig) -> None:
    optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(network.trainable_variables)
    network.compile(
        optimizer, loss=detector_loss(config.box_weight, config.landmark_weight), jit_compile=backend.jit()
    )
