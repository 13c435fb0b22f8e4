"""The training loop: epochs, validation, the best network kept, and a state that survives a kill.

Our own loop over `train_on_batch`, the same on every Keras backend: the learning rate changes at every step, the
moving average is what gets validated, and everything that an epoch depends on is a function of (seed, epoch) and of
the stored state, so that a resumed training equals an uninterrupted one.

`TrainingLoop` is the core that every training of ours shares: phases, time limit, averaging, saving, going on, the
progress bar. `ClassifierLoop` is the training of expressions on it. Another training (the face detector's) subclasses
the core and gives it five things:

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from mien.errors import TrainingError
from mien.model.calibration import negative_log_likelihood
from mien.terminal import ProgressBar, clock
from mien.train import backend, checkpoint, hosts, schedule
from mien.train.checkpoint import MovingAverage, Progress, host
from mien.train.config import TrainConfig
from mien.train.loader import Batch, Inputs, Loader
from mien.train.transfer import Teachers

_PREDICT_BATCH = 256
_PREDICT_PIXELS = (
    _PREDICT_BATCH * 64**2
)  # of a batch: 20 pictures of 224 pixels, since VGG16 takes 40 MB for one


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
        self._limit_s = schedule.seconds_of(time_limit) if time_limit else None
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
            "learning_rate": self.learning_rate(0), "seconds": epoch_s,
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


@dataclass(frozen=True, eq=False)
class Validation:
    """What every epoch is judged on. labels: of the first head, (n,) int64."""

    inputs: Inputs
    labels: NDArray[np.int64]


class ClassifierLoop(TrainingLoop):
    """Trains a network that recognises expressions through all phases of a config."""

    phases: Sequence[TrainConfig]

    def __init__(
        self,
        network: keras.Model,
        loader: Loader,
        validation: Validation | None,
        config: TrainConfig,
        *,
        folder: Path,
        on_best: Callable[[], None],
        on_epoch: Callable[[Progress], None],
        prepare_phase: Callable[[TrainConfig], None],
        show: ProgressBar,
        devices: int = 1,
        teachers: Teachers | None = None,
    ) -> None:
        """folder: where the state is kept. on_best: called with the network holding the weights to keep.

        validation: None where all pictures are learnt; then every epoch is kept in the place of the one before, and
        nothing looks at it. prepare_phase: freezes or unfreezes layers before a phase is compiled. teachers: whose
        answers are a part of the targets.
        """
        super().__init__(
            network,
            config.in_phases(),
            folder=folder,
            on_epoch=on_epoch,
            show=show,
            time_limit=config.time_limit,
        )
        self._loader, self._validation, self._devices = loader, validation, devices
        self._teachers = teachers
        self._frozen: _FrozenBase | None = None
        self._best_file = folder / checkpoint.BEST_WEIGHTS_FILE
        self._on_best, self._prepare_phase = on_best, prepare_phase
        self.answers: NDArray[np.float32] | None = None  # of the newest epoch, (n, labels) of the first head
        self._kept = False

    @property
    def steps(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int) -> Iterator[Batch]:
        config, progress = self.phase, self.progress
        mix = progress.phase_epoch < config.mixup_until * progress.phase_epochs
        if self._frozen:
            view = epoch % config.feature_views
            return self._frozen.batches(view, epoch, lambda: self._varied(view, mix))
        return self._varied(epoch, mix)

    def _varied(self, epoch: int, mix: bool) -> Iterator[Batch]:
        for batch in self._loader.epoch(epoch, mix, self.phase.class_weights):
            yield self._teachers.soften(batch) if self._teachers else batch

    def learning_rate(self, part: float) -> float:
        return schedule.learning_rate(self.phase, self.progress, part)

    def compile(self) -> None:
        config: TrainConfig = self.phase
        self._prepare_phase(config)
        optimizer = _optimizer(config)
        self._frozen = None
        if config.feature_views:
            split = _FrozenBase.of(self.network, config)
            if isinstance(split, str):
                self.show.line(f"feature views are of no use in phase {self.progress.phase + 1}: {split}")
            else:
                self._frozen = split
        self.trained = self._frozen.top if self._frozen else self.network
        optimizer.build(self.trained.trainable_variables)
        heads = len(self.network.outputs)
        self.trained.compile(
            optimizer,
            loss=["categorical_crossentropy"] * heads if heads > 1 else "categorical_crossentropy",
            loss_weights=[1.0, config.votes_weight] if heads > 1 else None,
            metrics=[["accuracy"]] + [[]] * (heads - 1) if heads > 1 else ["accuracy"],
            jit_compile=backend.jit(),
        )

    def judge(self, last: bool) -> dict[str, float]:  # noqa: ARG002 - every epoch is judged
        if self._validation is None:
            self._keep(True)
            self.progress.best_epoch = self.progress.epoch
            return {}
        if self._frozen:
            answers = self._frozen.predict(self._validation.inputs, self._devices)[0]
        elif hosts.several():
            answers = self._predict_with_others(self._validation.inputs)
        else:
            answers = predict(self.network, self._validation.inputs, self._devices)[0]
        self.answers = answers
        targets = np.eye(answers.shape[1])[self._validation.labels]
        loss = negative_log_likelihood(answers, targets)  # nats
        accuracy = float((answers.argmax(axis=1) == self._validation.labels).mean())
        loss, accuracy = hosts.as_first((loss, accuracy))
        self.check_finite(loss, f"the validation loss of epoch {self.progress.epoch}")
        self._keep(self._is_best(accuracy, loss))
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    def _predict_with_others(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the first head's probabilities, (n, labels): each host looks at its share of the pictures."""
        epoch, parts = self.progress.epoch, [np.empty((0, self.network.outputs[0].shape[-1]), np.float32)]
        answered = hosts.own_copy(self.network)
        for number, batch in enumerate(
            inputs.in_order(_predict_batch(self.network), hosts.own_rows(len(inputs)))
        ):
            hosts.at(epoch, len(self._loader) + number, f"validation in epoch {epoch}")
            parts.append(answered(batch))
        hosts.at(epoch + 1, -1, f"the end of validation in epoch {epoch}")
        return hosts.joined_rows(np.concatenate(parts), len(inputs))

    def _keep(self, best: bool) -> None:
        self._kept = best
        if best:
            self._on_best()
            if len(self.phases) > 1:
                checkpoint.save(self._best_file, Progress(), self.network.weights)

    def stops_early(self, figures: dict[str, float]) -> str:
        if self._validation is None or not schedule.after_epoch(
            self.phase, self.progress, figures["validation_loss"]
        ):
            return ""
        return f"stopped early: no better validation loss for {self.phase.patience} epochs"

    def after_phase(self) -> None:
        if self.phase.patience or self.phase.ema:
            # The next phase starts from the weights that were judged best, as EarlyStopping(restore_best) does.
            checkpoint.assign(self.network.weights, checkpoint.load(self._best_file)[1])

    def said(self, row: dict[str, Any]) -> str:
        if self._validation is None:
            return f"loss {row['loss']:.3f}  accuracy {row['accuracy']:.3f}"
        return (
            f"loss {row['loss']:.3f}  accuracy {row['accuracy']:.3f}  "
            f"validation loss {row['validation_loss']:.3f}  accuracy {row['validation_accuracy']:.4f}"
            f"{' *' if self._kept else '  '}"
        )

    def _is_best(self, accuracy: float, loss: float) -> bool:
        progress, monitor = self.progress, self.phase.monitor
        # Equal accuracies are common on small validation splits: the loss decides then.
        figure = {"accuracy": [accuracy, -loss], "loss": [-loss], "last": [float(progress.epoch)]}[monitor]
        if progress.best is not None and figure <= progress.best:
            return False
        progress.best, progress.best_epoch = figure, progress.epoch
        return True


class _FrozenBase:
    """A network whose base does not learn: its features are computed once a varied view, and the top learns from them.

    A phase with a frozen base then takes seconds an epoch. What is left out is variety: there are as many variations of
    a picture as views.
    """

    def __init__(self, base: keras.Model, top: keras.Model, seed: int) -> None:
        self.base, self.top, self._seed = base, top, seed
        self._views: dict[int, list[Batch]] = {}
        self._validation: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, network: keras.Model, config: TrainConfig) -> _FrozenBase | str:
        """Split a network where learning begins; why not, where less than half is frozen or layers branch above."""
        heads = [network.get_layer(name) for name in network.output_names]
        trunk = [layer for layer in network.layers if layer not in heads]
        start = next((at for at, layer in enumerate(trunk) if layer.trainable_variables), len(trunk))
        while start and isinstance(trunk[start - 1], keras.layers.Dropout):
            start -= 1  # it varies from step to step, so it belongs to what learns
        above = trunk[start:]
        seam = (above[0] if above else heads[0]).input
        ends = [seam, *(layer.output for layer in above)]
        onwards = [*zip(above, ends, strict=False), *((head, ends[-1]) for head in heads)]
        if any(layer.input is not end for layer, end in onwards):
            return "the layers that learn are no chain, so they cannot be parted from the frozen ones"
        base = keras.Model(network.inputs[0], seam)
        if 2 * base.count_params() < network.count_params():
            return "less than half of the network is frozen"
        features = keras.Input(seam.shape[1:], name="features")
        x = features
        for layer in above:
            x = layer(x)
        outputs = [head(x) for head in heads]
        return cls(base, keras.Model(features, outputs[0] if len(outputs) == 1 else outputs), config.seed)

    def batches(self, view: int, epoch: int, varied: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        """Yield the batches of a view, in an order that depends on the epoch. varied: makes them, the first time."""
        if view not in self._views:
            self._views[view] = [
                replace(batch, inputs=np.asarray(self.base.predict_on_batch(batch.inputs)))
                for batch in varied()
            ]
        made = self._views[view]
        for place in np.random.default_rng((self._seed, epoch)).permutation(len(made)):
            yield made[place]

    def predict(self, inputs: Inputs, devices: int = 1) -> list[NDArray[np.float32]]:
        """Return what `predict` does for the whole network; the features are kept."""
        if self._validation is None:
            self._validation = predict(self.base, inputs, devices)[0]
        answers = self.top.predict(self._validation, batch_size=_PREDICT_BATCH, verbose=0)
        return answers if isinstance(answers, list) else [answers]


def _predict_batch(network: keras.Model) -> int:
    height, width = (int(side) for side in network.input_shape[1:3])
    return max(1, min(_PREDICT_BATCH, _PREDICT_PIXELS // (height * width)))


def predict(
    network: keras.Model, inputs: Inputs, devices: int = 1, *, mirrored: bool = False
) -> list[NDArray[np.float32]]:
    """Return the probabilities of each head for all pictures, in order: a list of (n, labels) arrays.

    mirrored: look at their mirror images instead.
    """
    parts: list[list[NDArray[np.float32]]] = []
    for batch in inputs.in_order(_predict_batch(network)):
        missing = -len(batch) % devices
        padded = np.concatenate([batch, batch[:1].repeat(missing, 0)]) if missing else batch
        if mirrored:
            padded = np.ascontiguousarray(padded[:, :, ::-1])
        answers = network.predict_on_batch(padded)
        heads = answers if isinstance(answers, list) else [answers]
        parts.append([np.asarray(head)[: len(batch)] for head in heads])
    return [np.concatenate(head) for head in zip(*parts, strict=True)]


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
