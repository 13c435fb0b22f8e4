"""One training from data to model folder."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mien.data import open_dataset
from mien.data.dataset import Dataset
from mien.errors import ConfigError
from mien.labels import FER2013, FERPLUS
from mien.model.heads import Head
from mien.model.metadata import Metadata
from mien.model.preprocess import Preprocess
from mien.terminal import ProgressBar
from mien.train import run_folder
from mien.train.checkpoint import Progress
from mien.train.config import TrainConfig


@dataclass(frozen=True)
class Run:
    """A training's results. trained: False where a finished run was found and loaded instead."""

    folder: Path
    config: TrainConfig
    progress: Progress
    trained: bool

    @property
    def model(self) -> Path:
        """The exported model folder."""
        return self.folder / run_folder.MODEL_FOLDER


@dataclass(frozen=True)
class _Built:
    """A network and what belongs to it. unfreeze: lets its heads and so many layers below them learn."""

    network: Any
    preprocess: Preprocess
    heads: dict[str, tuple[str, ...]]
    unfreeze: Callable[[int], None]


def train(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    retrain: bool = False,
    command: str = "",
    show: ProgressBar | None = None,
) -> Run:
    """Train on `data` into the run folder `out`; go on with an unfinished run there, load a finished one.

    retrain: remove what is there and start again. command: recorded for whoever wants to reproduce it.
    Raises ConfigError when `out` holds a run with other settings or data, and the errors of reading and training.
    KeyboardInterrupt passes through after the best network so far has been exported.
    """
    show = show or ProgressBar(quiet=True)
    dataset = _limited(_opened(config, data, show), config)
    config = config.for_pictures(len(dataset.split("train")))
    settings = run_folder.described(config, dataset, data)
    if not retrain and (found := run_folder.finished(out, settings)):
        return Run(out, config, found, trained=False)
    command = command or f"mien train {shlex.quote(str(data))}"
    training = _Training(config, dataset, out, {**settings, "command": command}, show=show)
    return training.run(replacing=retrain)


def _opened(config: TrainConfig, data: Path, show: ProgressBar) -> Dataset:
    dataset = open_dataset(data, config)
    for bad in dataset.unreadable:
        show.line(f"cannot be read, left out: {bad.name}: {bad.reason}")
    if config.faces == "whole":
        return dataset
    from mien.detect.registry import open_detector
    from mien.train.faces import crop_faces

    detector = open_detector("auto")
    cropped, without = crop_faces(dataset, detector, config.margin)
    for name in without:
        show.line(f"no face found, left out: {name}")
    return cropped


def _limited(dataset: Dataset, config: TrainConfig) -> Dataset:
    train_split = dataset.split("train")
    if config.limit is None or config.limit >= len(train_split):
        return dataset
    drawn = np.random.default_rng(config.seed).permutation(len(train_split))[: config.limit]
    return replace(dataset, splits={**dataset.splits, "train": train_split.take(np.sort(drawn))})


def _heads(dataset: Dataset, config: TrainConfig) -> dict[str, tuple[str, ...]]:
    """Name the heads: `fer2013` for its seven classes, `expression` for any others; `votes` beside the former."""
    whole_fer = dataset.name == "fer2013" and set(dataset.classes) == set(FER2013)
    heads = {"fer2013" if whole_fer else "expression": dataset.classes}
    if whole_fer and config.votes_weight and dataset.split("train").votes is not None:
        heads["votes"] = FERPLUS
    return heads


def _build(config: TrainConfig, heads: dict[str, tuple[str, ...]]) -> _Built:
    """Build the network that the settings name, or start from a trained one."""
    from mien.train.networks import backbones
    from mien.train.networks.registry import network
    from mien.train.networks.spec import NetworkRequest

    if config.init_from:
        return _from_trained(config, heads)
    spec = network(config.network)
    if not spec.several_heads:
        heads = dict(list(heads.items())[:1])
    own = spec.preprocess
    preprocess = replace(
        own,
        size=config.size or own.size,
        resize=config.resize,
        colour=config.colour or own.colour,
        margin=config.margin,
    )
    request = NetworkRequest(
        heads=heads, preprocess=preprocess, dropout=config.dropout, l2=config.l2, weights=config.weights
    )
    built = spec.build(request)
    if backbones.is_backbone(built):
        return _Built(built, preprocess, heads, lambda layers: backbones.unfreeze(built, layers))
    return _Built(built, preprocess, heads, lambda _layers: None)


def _from_trained(config: TrainConfig, heads: dict[str, tuple[str, ...]]) -> _Built:
    from mien.train import transfer

    if config.size or config.resize or config.colour:
        raise ConfigError("--size, --resize and --colour cannot change with --from: the model's own are kept")
    old, metadata = transfer.open_network(str(config.init_from))
    if config.faces == "crop" and config.margin != metadata.preprocess.margin:
        raise ConfigError(
            f"the faces must be cut out as for the model that --from names: add --margin {metadata.preprocess.margin:g}"
        )
    new = transfer.with_new_heads(old, metadata, heads, config.dropout)
    return _Built(new, metadata.preprocess, heads, lambda layers: transfer.unfreeze(new, heads, layers))


class _Training:
    """The pieces of one training, so that each step below can be read by itself."""

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        out: Path,
        settings: dict[str, Any],
        *,
        show: ProgressBar,
    ) -> None:
        from mien.train import backend, tensorboard_log

        if config.tensorboard:
            tensorboard_log.check()
        self._config, self._dataset, self._out, self._show = config, dataset, out, show
        self._devices = backend.prepare(config)
        self._built = _build(config, _heads(dataset, config))
        self._settings = {
            **settings,
            "dtype_policy": backend.precision(config),  # what precision 'auto' came to on this machine
            "versions": backend.versions(),
        }

    def run(self, *, replacing: bool = False) -> Run:
        """Train, or go on. replacing: remove the run that lies there, once nothing can keep this one from starting."""
        from mien.train.loader import Inputs, Loader
        from mien.train.loop import ClassifierLoop, Validation

        config, built = self._config, self._built
        train_split, valid = self._dataset.split("train"), self._dataset.split("validation")
        self._validation = Validation(Inputs(valid, built.preprocess), valid.labels)
        how, labels = built.preprocess, tuple(built.heads.values())
        inputs = Inputs(train_split, how.uncut)
        loader = Loader(train_split, inputs, labels, config, drop_rest=self._devices > 1, size=how.size)
        if replacing:
            run_folder.clear(self._out)
        run_folder.begin(self._out, self._settings)
        loop = ClassifierLoop(
            built.network,
            loader,
            self._validation,
            config,
            folder=self._out / run_folder.CHECKPOINT,
            on_best=lambda: self._save(run_folder.BEST_FILE),
            on_epoch=self._note_epoch,
            prepare_phase=lambda phase: built.unfreeze(phase.unfreeze),
            show=self._show,
            devices=self._devices,
        )
        try:
            progress = loop.run()
        except KeyboardInterrupt:
            if loop.progress.best_epoch:
                self._show.line(f"stopped; keeping the network of epoch {loop.progress.best_epoch}")
                self._finish(loop.progress)
            raise
        loop.hold_average()
        self._save(run_folder.LAST_FILE)
        self._finish(progress)
        return Run(self._out, config, progress, trained=True)

    def _metadata(self) -> Metadata:
        """What is known before the network has been judged."""
        return Metadata(
            name=self._out.name,
            preprocess=self._built.preprocess,
            heads=tuple(Head(name=name, labels=labels) for name, labels in self._built.heads.items()),
            network={"name": self._built.network.name},
            training=self._settings,
            licences={"data": "as its owners state; no picture is part of this model"},
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def _save(self, name: str) -> None:
        from mien.train.export.keras_io import save_network

        save_network(self._built.network, self._out / name, self._metadata())

    def _note_epoch(self, progress: Progress) -> None:
        run_folder.note_epochs(self._out, progress.history)
        if self._config.tensorboard:
            from mien.train.tensorboard_log import write

            write(self._out / run_folder.TENSORBOARD, progress.history[-1])

    def _add_int8(self) -> None:
        from mien.train.export.int8 import add_int8

        train, valid = self._dataset.split("train"), self._dataset.split("validation")
        found, kept = add_int8(self._out / run_folder.MODEL_FOLDER, train, valid, seed=self._config.seed)
        verdict = "kept" if kept else "not kept: it may lose 0.3"
        self._show.line(f"int8 form: {100 * found.lost:+.2f} points lost on validation, {verdict}")

    def _finish(self, progress: Progress) -> None:
        """Export the best network, calibrated on validation, and draw the curves."""
        from mien.train.calibrate import blended, calibrated_heads, planned
        from mien.train.curves import draw_curves
        from mien.train.export.folder import export
        from mien.train.export.keras_io import load_network, save_network
        from mien.train.loop import predict

        best, _ = load_network(self._out / run_folder.BEST_FILE)
        answers = predict(best, self._validation.inputs)
        split = self._dataset.split("validation")
        heads, scores = calibrated_heads(self._built.heads, answers, split, self._dataset.name)
        results = {
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "seconds": round(progress.seconds),
        }
        share, adjustment = self._config.blend, self._config.logit_adjustment
        plan = planned(self._built.heads, share, adjustment, self._dataset.split("train"))
        blend, blend_scores = blended(heads, answers, split, plan, self._dataset.name)
        metadata = replace(
            self._metadata(),
            heads=heads,
            blend=blend,
            scores=scores + blend_scores,
            training={**self._settings, **results},
        )
        if self._config.h5:
            save_network(best, self._out / run_folder.H5_FILE, self._metadata())
        draw_curves(progress.history, progress.best_epoch, self._out / run_folder.CURVES_FILE)
        # Last, because a run with its model counts as finished.
        export(best, self._out / run_folder.MODEL_FOLDER, metadata)
        if self._config.int8:
            self._add_int8()
