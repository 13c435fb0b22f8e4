"""The training loop: epochs, validation, the best network kept, and a state that survives a kill.

Our own loop over `train_on_batch`, the same on every Keras backend: the learning rate changes at every step, the
moving average is what gets validated, and everything that an epoch depends on is a function of (seed, epoch) and of
the stored state, so that a resumed training equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mien.calibrate import negative_log_likelihood
from mien.errors import TrainingError
from mien.terminal import ProgressLine, clock
from mien.train import backend, checkpoint, schedule
from mien.train.config import TrainConfig
from mien.train.ema import MovingAverage, host
from mien.train.loader import Batches, Inputs

_PREDICT_BATCH = 256


@dataclass(frozen=True, eq=False)
class Validation:
    """What every epoch is judged on. targets: labels of the first head, (n,) int64."""

    inputs: Inputs
    labels: NDArray[np.int64]


def predict(network: keras.Model, inputs: Inputs, devices: int = 1) -> list[NDArray[np.float32]]:
    """Return the probabilities of each head for all pictures, in order: a list of (n, labels) arrays."""
    parts: list[list[NDArray[np.float32]]] = []
    for batch in inputs.in_order(_PREDICT_BATCH):
        missing = -len(batch) % devices
        padded = np.concatenate([batch, batch[:1].repeat(missing, 0)]) if missing else batch
        answers = network.predict_on_batch(padded)
        heads = answers if isinstance(answers, list) else [answers]
        parts.append([np.asarray(head)[: len(batch)] for head in heads])
    return [np.concatenate(head) for head in zip(*parts, strict=True)]


class Loop:
    """Trains one network through all phases of a config."""

    def __init__(
        self,
        network: keras.Model,
        batches: Batches,
        validation: Validation,
        config: TrainConfig,
        *,
        folder: Path,
        on_best: Callable[[], None],
        on_epoch: Callable[[checkpoint.Progress], None],
        prepare_phase: Callable[[TrainConfig], None],
        show: ProgressLine,
        devices: int = 1,
    ) -> None:
        """folder: where the state is kept. on_best: called with the network holding the weights to keep.

        on_epoch: called after each epoch. prepare_phase: freezes or unfreezes layers before a phase is compiled.
        """
        self._network, self._batches, self._validation = network, batches, validation
        self._average: MovingAverage | None = None
        self._phases = config.in_phases()
        self._limit_s = schedule.seconds_of(config.time_limit) if config.time_limit else None
        self._file = folder / checkpoint.STATE_FILE
        self._best_file = folder / "best-weights.npz"
        self._on_best, self._on_epoch, self._prepare_phase = on_best, on_epoch, prepare_phase
        self._show, self._devices = show, devices
        self.progress = checkpoint.Progress()

    def run(self) -> checkpoint.Progress:
        """Train until all phases are done; KeyboardInterrupt passes through with the last whole epoch stored."""
        if self._file.exists():
            self._resume()
        else:
            self._enter_phase(0)
        while not self.progress.finished:
            self._epoch()
        return self.progress

    @property
    def _config(self) -> TrainConfig:
        return self._phases[self.progress.phase]

    def _resume(self) -> None:
        self.progress, values, average = checkpoint.load(self._file)
        self._compile()
        checkpoint.assign(self._variables(), values)
        if self._average:
            self._average.restore(average)
        self._show.line(f"going on after epoch {self.progress.epoch}")

    def _variables(self) -> list[Any]:
        # `variables` holds weights and the states of random generators (dropout); metrics hold nothing worth keeping.
        metrics = {id(variable) for variable in self._network.metrics_variables}
        own = [variable for variable in self._network.variables if id(variable) not in metrics]
        return [*own, *self._network.optimizer.variables]

    def _save(self) -> None:
        average = self._average.stored() if self._average else []
        checkpoint.save(self._file, self.progress, self._variables(), average)

    def _enter_phase(self, phase: int) -> None:
        progress = self.progress
        progress.phase, progress.phase_epoch = phase, 0
        progress.phase_epochs = self._config.epochs or 1
        progress.factor, progress.plateau_wait, progress.stop_wait = 1.0, 0, 0
        progress.lowest_loss = None
        self._compile()

    def _compile(self) -> None:
        config = self._config
        self._prepare_phase(config)
        optimizer = _optimizer(config)
        self._average = MovingAverage(config.ema) if config.ema else None
        optimizer.build(self._network.trainable_variables)
        heads = len(self._network.outputs)
        self._network.compile(
            optimizer,
            loss=["categorical_crossentropy"] * heads if heads > 1 else "categorical_crossentropy",
            loss_weights=[1.0, config.votes_weight] if heads > 1 else None,
            metrics=[["accuracy"]] + [[]] * (heads - 1) if heads > 1 else ["accuracy"],
            jit_compile=backend.jit(),
        )

    def _epoch(self) -> None:
        progress, started = self.progress, time.monotonic()
        batch_loss, accuracy = self._steps(started)
        with self._averaged_weights():
            answers = predict(self._network, self._validation.inputs, self._devices)[0]
            loss, right = _judge(answers, self._validation.labels)
            self._finite(loss, "validation loss")
            progress.epoch += 1
            progress.phase_epoch += 1
            if kept := self._is_best(right, loss):
                self._on_best()
                self._keep_best()
        stop = schedule.after_epoch(self._config, progress, loss)
        epoch_s = time.monotonic() - started
        progress.seconds += epoch_s
        rate = schedule.learning_rate(self._config, progress, 0)
        row = {
            "epoch": progress.epoch, "phase": progress.phase + 1, "loss": batch_loss, "accuracy": accuracy,
            "validation_loss": loss, "validation_accuracy": right, "learning_rate": rate, "seconds": epoch_s,
        }  # fmt: skip
        if self._limit_s:
            progress.phase_epochs = schedule.planned_epochs(progress, self._limit_s, epoch_s)
        progress.history.append(row)
        self._say(row, kept)
        if stop or progress.phase_epoch >= progress.phase_epochs:
            self._leave_phase(stop)
        self._save()
        self._on_epoch(progress)

    def _leave_phase(self, stopped_early: bool) -> None:
        if stopped_early:
            self._show.line(f"stopped early: no better validation loss for {self._config.patience} epochs")
        if self.progress.phase + 1 == len(self._phases):
            self.progress.finished = True
            return
        if self._config.patience or self._average:
            # The next phase starts from the weights that were judged best, as EarlyStopping(restore_best) does.
            checkpoint.assign(self._network.weights, self._stored_best())
        self._enter_phase(self.progress.phase + 1)

    def _steps(self, started: float) -> tuple[float, float]:
        """Take the steps of one epoch; return the mean loss and accuracy on the (varied) training pictures."""
        config, progress, network = self._config, self.progress, self._network
        mix = progress.phase_epoch < config.mix_until * progress.phase_epochs
        total, seen, sums = len(self._batches), 0, np.zeros(2)
        for step, batch in enumerate(self._batches.epoch(progress.epoch, mix, config.balance)):
            network.optimizer.learning_rate = schedule.learning_rate(config, progress, step / total)
            several = len(batch.targets) > 1
            logs = network.train_on_batch(
                batch.inputs,
                batch.targets if several else batch.targets[0],
                sample_weight=batch.weights if several else batch.weights[0],
                return_dict=True,
            )
            if self._average:
                self._average.step(network.weights)
            # Keras resets its metrics at every train_on_batch, so these are the batch's own figures.
            loss = float(logs["loss"])
            self._finite(loss, f"loss at step {step + 1}")
            right = next(float(value) for name, value in logs.items() if name.endswith("accuracy"))
            seen += len(batch.inputs)
            sums += np.array([loss, right]) * len(batch.inputs)
            self._draw(step + 1, total, sums[0] / seen, started)
            if self._limit_s and progress.seconds + time.monotonic() - started > self._limit_s * 0.95:
                break
        return float(sums[0] / seen), float(sums[1] / seen)

    def _finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            progress = self.progress
            kept = (
                f"the network of epoch {progress.best_epoch} is kept"
                if progress.best_epoch
                else "none is kept yet"
            )
            rate = self._config.rate
            lower = rate / 4 if rate <= 1 else 0.01  # a quarter of a billion would be no help
            raise TrainingError(
                f"the {what} of epoch {progress.epoch + 1} is {value}; try --learning-rate "
                f"{lower:g} (it was {rate:g}); {kept}"
            )

    def _is_best(self, accuracy: float, loss: float) -> bool:
        progress, monitor = self.progress, self._config.monitor
        # Equal accuracies are common on small validation splits: the loss decides then.
        figure = {"accuracy": [accuracy, -loss], "loss": [-loss], "last": [float(progress.epoch)]}[monitor]
        if progress.best is not None and figure <= progress.best:
            return False
        progress.best, progress.best_epoch = figure, progress.epoch
        return True

    def _keep_best(self) -> None:
        if len(self._phases) > 1:
            checkpoint.save(self._best_file, checkpoint.Progress(), self._network.weights)

    def _stored_best(self) -> list[NDArray[Any]]:
        return checkpoint.load(self._best_file)[1]

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Let the network hold the moving average of its weights inside the block, where there is one."""
        if not self._average:
            yield
            return
        raw = [host(weight) for weight in self._network.weights]
        checkpoint.assign(self._network.weights, self._average.values)
        try:
            yield
        finally:
            checkpoint.assign(self._network.weights, raw)

    def hold_average(self) -> None:
        """Leave the moving average in the network for good, for saving the last epoch's network."""
        if self._average:
            checkpoint.assign(self._network.weights, self._average.values)

    def _draw(self, step: int, total: int, loss: float, started: float) -> None:
        progress, spent = self.progress, time.monotonic() - started
        epochs_left = progress.phase_epochs - progress.phase_epoch - step / total
        epochs_left += sum(phase.epochs or 1 for phase in self._phases[progress.phase + 1 :])
        head = f"epoch {progress.epoch + 1}/{progress.epoch + math.ceil(epochs_left)}"
        self._show.step(head, step / total, spent / step * total * epochs_left, loss)

    def _say(self, row: dict[str, Any], kept: bool) -> None:
        left = self.progress.phase_epochs - self.progress.phase_epoch
        left += sum(phase.epochs or 1 for phase in self._phases[self.progress.phase + 1 :])
        self._show.line(
            f"epoch {row['epoch']:>3}/{row['epoch'] + left}  loss {row['loss']:.3f}  accuracy {row['accuracy']:.3f}  "
            f"validation loss {row['validation_loss']:.3f}  accuracy {row['validation_accuracy']:.4f}"
            f"{' *' if kept else '  '}  {clock(row['seconds'])}"
        )


def _judge(answers: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return cross-entropy in nats and accuracy."""
    targets = np.eye(answers.shape[1])[labels]
    return negative_log_likelihood(answers, targets), float((answers.argmax(axis=1) == labels).mean())


def _optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    options: dict[str, Any] = {"learning_rate": config.rate}
    if config.weight_decay and config.optimizer != "adam":
        options["weight_decay"] = config.weight_decay
    optimizer: keras.optimizers.Optimizer
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **options)
    else:
        kind = keras.optimizers.Adam if config.optimizer == "adam" else keras.optimizers.AdamW
        optimizer = kind(**options)
    if "weight_decay" in options:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
