"""The training of a network that names expressions: its steps, what validation says, the best epoch kept, early stops.

What it shares with every other training stands in `loop.py`. A base that does not learn is run once a varied view
(`_FrozenBase`), so that a phase of its head takes seconds an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mien.model.calibration import negative_log_likelihood
from mien.terminal import ProgressBar, counted
from mien.train import backend, checkpoint, hosts, schedule
from mien.train.checkpoint import Progress
from mien.train.config import TrainConfig
from mien.train.loader import Batch, Inputs, Loader
from mien.train.loop import TrainingLoop
from mien.train.transfer import Teachers

_PREDICT_BATCH = 256
# Of a batch: 20 pictures of 224 pixels, as VGG16 takes 40 MB for one.
_PREDICT_PIXELS = _PREDICT_BATCH * 64**2


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
        views = config.feature_views if self._frozen else 0
        # Of a view that epoch counts in which it is made, also where a training that goes on makes it once more.
        made = progress.phase_epoch % views if views else progress.phase_epoch
        mix = made < config.mixup_until * progress.phase_epochs
        if self._frozen:
            view = epoch % views
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
            self._keep()
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
        monitor = self.phase.monitor
        # Equal accuracies are common on small validation splits: the loss decides then.
        figure = {"accuracy": [accuracy, -loss], "loss": [-loss], "last": [float(self.progress.epoch)]}[
            monitor
        ]
        self._kept = self.progress.best is None or figure > self.progress.best
        if self._kept:
            self._keep()
            self.progress.best = figure
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    def _predict_with_others(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the first head's probabilities, (n, labels): each host looks at its share of the pictures."""
        epoch, parts = self.progress.epoch, [np.empty((0, self.network.outputs[0].shape[-1]), np.float32)]
        answered = hosts.own_copy(self.network)
        for number, batch in enumerate(inputs.in_order(_predict_batch(inputs), hosts.own_rows(len(inputs)))):
            hosts.at(epoch, len(self._loader) + number, f"validation in epoch {epoch}")
            parts.append(answered(batch))
        hosts.at(epoch + 1, -1, f"the end of validation in epoch {epoch}")
        return hosts.joined_rows(np.concatenate(parts), len(inputs))

    def _keep(self) -> None:
        """Keep this epoch's network as the best one; only then is it called so, as Ctrl-C may come in between."""
        self._on_best()
        if len(self.phases) > 1:
            checkpoint.save(self._best_file, Progress(), self.network.weights)
        self.progress.best_epoch = self.progress.epoch

    def stops_early(self, figures: dict[str, float]) -> str:
        if self._validation is None or not schedule.after_epoch(
            self.phase, self.progress, figures["validation_loss"]
        ):
            return ""
        return f"stopped early: no better validation loss for {counted(self.phase.patience, 'epoch')}"

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


def _predict_batch(inputs: Inputs) -> int:
    return max(1, min(_PREDICT_BATCH, _PREDICT_PIXELS // inputs.side**2))


def predict(
    network: keras.Model, inputs: Inputs, devices: int = 1, *, mirrored: bool = False
) -> list[NDArray[np.float32]]:
    """Return the probabilities of each head for all pictures, in order: a list of (n, labels) arrays.

    mirrored: look at their mirror images instead.
    """
    parts: list[list[NDArray[np.float32]]] = []
    for batch in inputs.in_order(_predict_batch(inputs)):
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
    if config.weight_decay:
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
