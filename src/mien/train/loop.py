"""The loop that every training of ours shares: phases, epochs, averaging, a time limit, a state that survives a kill.

Our own loop over `train_on_batch`, the same on every Keras backend: the learning rate changes at every step, the
moving average is what gets validated, and everything that an epoch depends on is a function of (seed, epoch) and of
the stored state, so that a resumed training equals an uninterrupted one.

A training (of expressions: `ClassifierLoop`; of the face detector: `DetectorLoop`) subclasses `TrainingLoop` and gives
it five things:

- `compile()`: an optimiser and a loss on `self.trained`, the model that takes the steps. It may be another model
  around `self.network` (with its outputs reshaped for the loss); `self.network` is the one that is averaged, judged,
  and kept;
- `steps` and `batches(epoch)`: how many optimiser steps an epoch has, and its batches, a function of the epoch alone;
- `learning_rate(part)`: the rate at this share of the current epoch, mostly `schedule.cosine`;
- `judge(last)`: what validation says of the network, as figures by name for the log; it is called with the averaged
  weights in `self.network`, after `self.progress.epoch` has been counted up. {} where this epoch is not looked at;
- `own_state()` and `restore_own_state(arrays)`, where it has arrays of its own that must survive a kill.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from mien.errors import TrainingError
from mien.terminal import ProgressBar, clock
from mien.train import checkpoint, hosts, schedule
from mien.train.checkpoint import MovingAverage, Progress, host
from mien.train.config import seconds_of
from mien.train.loader import Batch


class Phase(Protocol):
    """What the core needs to know of one phase's settings: `TrainConfig` and the detector's config have it."""

    @property
    def epochs(self) -> int | None: ...
    @property
    def ema(self) -> float: ...
    @property
    def rate(self) -> float:
        """The peak learning rate, for the message when the loss is not finite."""
        ...


class TrainingLoop(ABC):
    """Trains one network through phases; see the module for what a subclass gives."""

    def __init__(
        self,
        network: keras.Model,
        phases: Sequence[Phase],
        *,
        folder: Path,
        on_epoch: Callable[[Progress], None],
        show: ProgressBar,
        time_limit: str | None = None,
        trained: keras.Model | None = None,
    ) -> None:
        """folder: where the state is kept. on_epoch: called after each epoch, when the state has been stored.

        time_limit: such as 90m; the epochs of every phase are planned to fit. trained: takes the steps; the network
        itself where it is left out.
        """
        self.network, self.trained = network, trained or network
        self.phases, self.show = phases, show
        self.progress = Progress()
        self._limit_s = seconds_of(time_limit) if time_limit else None
        self._file = folder / checkpoint.STATE_FILE
        self._on_epoch = on_epoch
        self._average: MovingAverage | None = None
        self._judging_s = 0.0

    # What a subclass gives.

    @property
    @abstractmethod
    def steps(self) -> int:
        """Optimiser steps an epoch."""

    @abstractmethod
    def compile(self) -> None:
        """Compile `self.trained` for the current phase."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; epochs count from 0 over all phases."""

    @abstractmethod
    def learning_rate(self, part: float) -> float: ...

    @abstractmethod
    def judge(self, last: bool) -> dict[str, float]:
        """last: whether the phase ends with this epoch."""

    def stops_early(self, figures: dict[str, float]) -> str:  # noqa: ARG002
        """Return, from what `judge` found, why the phase should end before its last epoch; '' to go on."""
        return ""

    def after_phase(self) -> None:  # noqa: B027 - most have nothing to do
        """Called between two phases, before the next one is compiled."""

    def own_state(self) -> list[NDArray[Any]]:
        return []

    def restore_own_state(self, arrays: list[NDArray[Any]]) -> None: ...  # noqa: B027

    def said(self, row: dict[str, Any]) -> str:
        """Return an epoch's figures for its lasting line."""
        hidden = ("epoch", "phase", "learning_rate", "seconds")
        return "  ".join(
            f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.items() if name not in hidden
        )

    # What they share.

    @property
    def phase(self) -> Any:
        """The settings of the current phase."""
        return self.phases[self.progress.phase]

    def run(self) -> Progress:
        """Train until all phases are done; KeyboardInterrupt passes through with the last whole epoch stored."""
        if self._file.exists():
            self._resume()
        else:
            self._enter_phase(0)
        while not self.progress.finished:
            self._epoch()
        return self.progress

    def hold_average(self) -> None:
        """Leave the moving average in the network for good, for saving the last epoch's network."""
        if self._average:
            checkpoint.assign(self.network.weights, self._average.values)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Let the network hold the moving average of its weights inside the block, where there is one."""
        if not self._average:
            yield
            return
        raw = [host(weight) for weight in self.network.weights]
        checkpoint.assign(self.network.weights, self._average.values)
        try:
            yield
        finally:
            checkpoint.assign(self.network.weights, raw)

    def check_finite(self, value: float, what: str) -> None:
        """Raise TrainingError with a learning rate to try where a figure is not a number."""
        if math.isfinite(value):
            return
        best, rate = self.progress.best_epoch, self.phase.rate
        kept = f"the network of epoch {best} is kept" if best else "none is kept yet"
        lower = rate / 4 if rate <= 1 else 0.01  # a quarter of a billion would be no help
        raise TrainingError(f"{what} is {value}; try --learning-rate {lower:g} (it was {rate:g}); {kept}")

    def _variables(self) -> list[Any]:
        # `variables` holds weights and the states of random generators (dropout); metrics hold nothing worth keeping.
        metrics = {id(variable) for variable in self.network.metrics_variables}
        own = [variable for variable in self.network.variables if id(variable) not in metrics]
        return [*own, *self.trained.optimizer.variables]

    def _resume(self) -> None:
        self.progress, values, others = checkpoint.load(self._file)
        self._compile()
        checkpoint.assign(self._variables(), values)
        own = len(self.own_state())
        self.restore_own_state(others[:own])
        if self._average:
            self._average.restore(others[own:])
        self.show.line(f"going on after epoch {self.progress.epoch}")

    def _save(self) -> None:
        average = self._average.stored() if self._average else []
        checkpoint.save(self._file, self.progress, self._variables(), [*self.own_state(), *average])

    def _compile(self) -> None:
        self.compile()
        self._average = MovingAverage(self.phase.ema) if self.phase.ema else None

    def _enter_phase(self, phase: int) -> None:
        progress = self.progress
        progress.phase, progress.phase_epoch = phase, 0
        progress.phase_epochs = self.phase.epochs or 1
        progress.factor, progress.plateau_wait, progress.stop_wait = 1.0, 0, 0
        progress.lowest_loss = None
        self._compile()

    def _epoch(self) -> None:
        progress, started = self.progress, time.monotonic()
        means = self._steps(started)
        rate = float(host(self.trained.optimizer.learning_rate))
        progress.epoch += 1
        progress.phase_epoch += 1
        before_s, judging = progress.seconds, time.monotonic()
        if self._limit_s:
            epoch_s = judging - started + self._judging_s
            progress.seconds += epoch_s
            share = self._epochs_of(0, 1) / self._epochs_of(0)
            progress.phase_epochs = schedule.planned_epochs(progress, self._limit_s, epoch_s, share)
        with self.averaged_weights():
            figures = self.judge(progress.phase_epoch >= progress.phase_epochs)
        self._judging_s = time.monotonic() - judging
        stop = self.stops_early(figures)
        epoch_s = time.monotonic() - started
        progress.seconds = before_s + epoch_s
        row = {
            "epoch": progress.epoch, "phase": progress.phase + 1, **means, **figures,
            "learning_rate": rate, "seconds": epoch_s,
        }  # fmt: skip
        progress.history.append(row)
        self.show.line(f"epoch {progress.epoch:>3}/{self._total()}  {self.said(row)}  {clock(epoch_s)}")
        if stop:
            self.show.line(stop)
        if stop or progress.phase_epoch >= progress.phase_epochs:
            self._leave_phase()
        self._save()
        self._on_epoch(progress)

    def _leave_phase(self) -> None:
        if self.progress.phase + 1 == len(self.phases):
            self.progress.finished = True
            return
        self.after_phase()
        self._enter_phase(self.progress.phase + 1)

    def _steps(self, started: float) -> dict[str, float]:
        """Take the steps of one epoch; return the mean loss and metrics on the (varied) training pictures."""
        progress, total, seen = self.progress, self.steps, 0
        sums: dict[str, float] = {}
        for step, batch in enumerate(self.batches(progress.epoch)):
            hosts.at(progress.epoch + 1, step, f"step {step + 1} of epoch {progress.epoch + 1}")
            rate = np.array(self.learning_rate(step / total), np.float32)
            checkpoint.assign([self.trained.optimizer.learning_rate], [rate])
            several = len(batch.targets) > 1
            logs = self.trained.train_on_batch(
                batch.inputs,
                batch.targets if several else batch.targets[0],
                sample_weight=(batch.weights if several else batch.weights[0]) if batch.weights else None,
                return_dict=True,
            )
            if self._average:
                self._average.step(self.network.weights)
            # Keras resets its metrics at every train_on_batch, so these are the batch's own figures.
            figures = {"loss": float(logs["loss"])}
            if accuracies := [value for name, value in logs.items() if name.endswith("accuracy")]:
                figures["accuracy"] = float(accuracies[0])
            self.check_finite(figures["loss"], f"the loss at step {step + 1} of epoch {progress.epoch + 1}")
            seen += len(batch.inputs)
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value * len(batch.inputs)
            self._draw(step + 1, total, sums["loss"] / seen, started)
            if self._limit_s and progress.seconds + time.monotonic() - started > self._limit_s * 0.95:
                break
        return {name: value / seen for name, value in sums.items()}

    def _epochs_of(self, first: int, end: int | None = None) -> int:
        """Return the epochs that the settings give to phases, counted from the current one (0)."""
        now = self.progress.phase
        chosen = self.phases[now + first : None if end is None else now + end]
        return sum(phase.epochs or 1 for phase in chosen)

    def _left(self) -> float:
        """Return how many epochs are still to come: the rest of this phase, and the later phases.

        A time limit changes the plan of this phase; the later ones will be changed alike.
        """
        progress = self.progress
        later = self._epochs_of(1) * (progress.phase_epochs / self._epochs_of(0, 1) if self._limit_s else 1)
        return progress.phase_epochs - progress.phase_epoch + later

    def _total(self) -> str:
        total = round(self.progress.epoch + self._left())
        return f"about {total}" if self._limit_s else str(total)

    def _draw(self, step: int, total: int, loss: float, started: float) -> None:
        spent = time.monotonic() - started
        head = f"epoch {self.progress.epoch + 1}/{self._total()}"
        left_s = spent / step * total * (self._left() - step / total)
        self.show.step(head, step / total, f"loss {loss:.3f}", left_s)
