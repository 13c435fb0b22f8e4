"""One training from data to model folder, and the run folder that explains itself."""

from __future__ import annotations

import csv
import datetime
import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.calibrate import expected_calibration_error, fit_temperature, uncertain_threshold, with_temperature
from mien.data import open_dataset
from mien.data.dataset import Dataset, Split
from mien.errors import ConfigError, ModelError
from mien.files import whole_file
from mien.labels import FER2013, FERPLUS
from mien.predict.model_folder import Head, ModelFacts
from mien.preprocess import Preprocess
from mien.settings import to_mapping
from mien.train import state
from mien.train.config import TrainConfig
from mien.train.progress_line import ProgressLine
from mien.train.state import Progress

SETTINGS_FILE, EPOCHS_FILE, CURVES_FILE = "settings.json", "epochs.csv", "curves.png"
BEST_FILE, LAST_FILE, MODEL_FOLDER, CHECKPOINT = "best.keras", "last.keras", "model", "checkpoint"

_EXPLAINED = f"""# A mien run

| file | what it is |
|---|---|
| `{SETTINGS_FILE}` | every setting as it was used, versions, what data (with its fingerprint), the command |
| `{EPOCHS_FILE}`, `{CURVES_FILE}` | loss and accuracy of every epoch, as a table and as a picture |
| `{BEST_FILE}` | the network of the best epoch on validation, for `keras.models.load_model` |
| `{LAST_FILE}` | the network of the last epoch |
| `{MODEL_FOLDER}/` | the model folder: what other mien commands and programs use, with its card |
| `report/` | how good it is: `report.html` is made to be looked at |
| `{CHECKPOINT}/` | what a training that was interrupted needs to go on; the same command does |
"""


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
        return self.folder / MODEL_FOLDER


def train(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    retrain: bool = False,
    command: str = "",
    show: ProgressLine | None = None,
) -> Run:
    """Train on `data` into the run folder `out`; go on with an unfinished run there, load a finished one.

    retrain: remove what is there and start again. command: recorded for whoever wants to reproduce it.
    Raises ConfigError when `out` holds a run with other settings or data, and the errors of reading and training.
    KeyboardInterrupt passes through after the best network so far has been exported.
    """
    show = show or ProgressLine(enabled=False)
    dataset = open_dataset(data, config)
    if config.faces == "crop":
        dataset = _cropped(dataset, show)
    dataset = _limited(dataset, config)
    config = config.for_pictures(len(dataset.split("train")))
    settings = {"settings": to_mapping(config), "data": _about(dataset, data)}
    if retrain and (out / SETTINGS_FILE).exists():
        shutil.rmtree(out)
    if found := _finished(out, settings):
        return Run(out, config, found, trained=False)
    return _Training(config, dataset, out, settings, command, show).run()


def _cropped(dataset: Dataset, show: ProgressLine) -> Dataset:
    from mien.predict.detect import detector
    from mien.train.faces import crop_faces

    finder = detector("auto")
    if finder.note:
        show.line(finder.note)
    cropped, without = crop_faces(dataset, finder, Preprocess().margin)
    for name in without:
        show.line(f"no face found, left out: {name}")
    return cropped


def _limited(dataset: Dataset, config: TrainConfig) -> Dataset:
    train_split = dataset.split("train")
    if config.limit is None or config.limit >= len(train_split):
        return dataset
    drawn = np.random.default_rng(config.seed).permutation(len(train_split))[: config.limit]
    return replace(dataset, splits={**dataset.splits, "train": train_split.take(np.sort(drawn))})


def _about(dataset: Dataset, data: Path) -> dict[str, Any]:
    counts = {
        name: dict(zip(dataset.classes, np.bincount(split.labels, minlength=len(dataset.classes)).tolist(), strict=True))
        for name, split in dataset.splits.items()
    }
    return {
        "path": str(data), "name": dataset.name, "classes": list(dataset.classes), "counts": counts,
        "fingerprint": dataset.fingerprint,
    }  # fmt: skip


def _finished(out: Path, settings: Mapping[str, Any]) -> Progress | None:
    """Return the progress of a finished run with these settings, None where there is none or it is unfinished."""
    if not (out / SETTINGS_FILE).exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} is there and is not a mien run; name another place with --out")
        return None
    stored = json.loads((out / SETTINGS_FILE).read_text(encoding="utf-8"))
    if differing := _differences(stored, settings):
        raise ConfigError(
            f"{out} holds a run with other settings ({'; '.join(differing)}); "
            "name another place with --out, or use --retrain to replace it"
        )
    file = out / CHECKPOINT / state.STATE_FILE
    if not file.exists():
        return None
    progress, _, _ = state.load(file)
    complete = progress.finished and (out / MODEL_FOLDER / "model.json").exists()
    return progress if complete else None


def _differences(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    old, new = stored.get("settings", {}), settings["settings"]
    found = [f"{name}: {old.get(name)} there, {value} asked" for name, value in new.items() if old.get(name) != value]
    if stored.get("data", {}).get("fingerprint") != settings["data"]["fingerprint"]:
        found.append("the data has changed")
    return found


class _Training:
    """The pieces of one training, so that each step below can be read by itself."""

    def __init__(
        self, config: TrainConfig, dataset: Dataset, out: Path, settings: dict[str, Any], command: str, show: ProgressLine
    ) -> None:
        from mien.train import backend

        self.config, self.dataset, self.out, self.show = config, dataset, out, show
        self.devices = backend.prepare(config)
        self.heads = _heads(dataset, config)
        self.network, self.preprocess, self.unfreeze = self._build()
        if len(self.network.outputs) < len(self.heads):
            raise ConfigError(f"network {config.network!r} has one head only; set --votes-weight 0")
        self.command = command or f"mien train {shlex.quote(str(settings['data']['path']))}"
        self.settings = {**settings, "versions": backend.versions(), "command": self.command}

    def _build(self) -> tuple[Any, Preprocess, Any]:
        """Return the network, how its input is prepared, and what freezes its layers before a phase."""
        from mien.train.networks import backbones
        from mien.train.networks.registry import NetworkRequest, network

        config = self.config
        if config.from_model:
            from mien.train import transfer

            old, facts = transfer.open_network(config.from_model)
            if config.size or config.colour:
                raise ConfigError("--size and --colour cannot change with --from: the model's own are kept")
            new = transfer.with_new_heads(old, facts, self.heads, config.dropout)
            return new, facts.preprocess, lambda layers: transfer.unfreeze(new, self.heads, layers)
        spec = network(config.network)
        if not spec.several_heads:
            self.heads = dict(list(self.heads.items())[:1])
        changes = {"size": config.size, "colour": config.colour}
        preprocess = replace(spec.preprocess, **{key: value for key, value in changes.items() if value is not None})
        request = NetworkRequest(
            heads=self.heads, preprocess=preprocess, dropout=config.dropout, l2=config.l2, weights=config.weights
        )
        built = spec.build(request)
        is_backbone = backbones.is_backbone(built)
        return built, preprocess, (lambda layers: backbones.unfreeze(built, layers)) if is_backbone else _nothing

    def run(self) -> Run:
        from mien.train.batches import Batches, Inputs
        from mien.train.loop import Loop, Validation

        config, train_split, valid = self.config, self.dataset.split("train"), self.dataset.split("validation")
        inputs = Inputs(train_split, self.preprocess)
        self.validation = Validation(Inputs(valid, self.preprocess), valid.labels)
        batches = Batches(train_split, inputs, tuple(self.heads.values()), config, drop_rest=self.devices > 1)
        with whole_file(self.out / SETTINGS_FILE) as temporary:
            temporary.write_text(json.dumps(self.settings, indent=2, ensure_ascii=False), encoding="utf-8")
        with whole_file(self.out / "README.md") as temporary:
            temporary.write_text(_EXPLAINED, encoding="utf-8")
        loop = Loop(
            self.network, batches, self.validation, config,
            folder=self.out / CHECKPOINT, on_best=self._save_best, on_epoch=self._note_epoch,
            prepare_phase=lambda phase: self.unfreeze(phase.unfreeze), show=self.show, devices=self.devices,
        )  # fmt: skip
        try:
            progress = loop.run()
        except KeyboardInterrupt:
            if loop.progress.best_epoch:
                self.show.line(f"stopped; keeping the network of epoch {loop.progress.best_epoch}")
                self._finish(loop.progress)
            raise
        loop.hold_average()
        self._save(LAST_FILE)
        self._finish(progress)
        return Run(self.out, config, progress, trained=True)

    def _facts(self) -> ModelFacts:
        return ModelFacts(
            name=self.out.name,
            preprocess=self.preprocess,
            heads=tuple(Head(name=name, labels=labels) for name, labels in self.heads.items()),
            network={"name": self.network.name},
            training=self.settings,
            licences={"model": "MIT", "data": "as the data's owners state; the pictures are not part of this model"},
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    def _save(self, name: str) -> None:
        from mien.train.saved import save_network

        save_network(self.network, self.out / name, self._facts())

    def _save_best(self) -> None:
        self._save(BEST_FILE)

    def _note_epoch(self, progress: Progress) -> None:
        with whole_file(self.out / EPOCHS_FILE) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(progress.history[0]))
            writer.writeheader()
            writer.writerows(progress.history)
        if self.config.tensorboard:
            from mien.train.tensorboard_log import write

            write(self.out / "tensorboard", progress.history[-1])

    def _finish(self, progress: Progress) -> None:
        """Export the best network, calibrated on validation, and draw the curves."""
        from mien.train.curves import draw_curves
        from mien.train.export import export
        from mien.train.loop import predict
        from mien.train.saved import load_network, save_network

        best, _ = load_network(self.out / BEST_FILE)
        answers = predict(best, self.validation.inputs)
        heads, scores = [], []
        split = self.dataset.split("validation")
        for (name, labels), answer in zip(self.heads.items(), answers, strict=True):
            head, score = _calibrated(name, labels, answer, split, self.dataset.name)
            heads.append(head)
            scores.append(score)
        training = {**self.settings, "epochs": progress.epoch, "best_epoch": progress.best_epoch,
                    "seconds": round(progress.seconds)}  # fmt: skip
        facts = replace(self._facts(), heads=tuple(heads), scores=tuple(scores), training=training)
        export(best, self.out / MODEL_FOLDER, facts)
        if self.config.h5:
            save_network(best, self.out / "best.h5", self._facts())
        draw_curves(progress.history, self.out / CURVES_FILE)


def _nothing(_layers: int) -> None:
    """Leave all layers as they were built."""


def _heads(dataset: Dataset, config: TrainConfig) -> dict[str, tuple[str, ...]]:
    """Name the heads: `fer2013` for its seven classes, `expression` for any others; `votes` beside the former."""
    whole_fer = dataset.name == "fer2013" and set(dataset.classes) == set(FER2013)
    heads = {"fer2013" if whole_fer else "expression": dataset.classes}
    if whole_fer and config.votes_weight and dataset.split("train").votes is not None:
        heads["votes"] = FERPLUS
    return heads


def _calibrated(
    name: str, labels: tuple[str, ...], answers: NDArray[np.float32], split: Split, data: str
) -> tuple[Head, dict[str, Any]]:
    """Fit a head's temperature and threshold on validation; return the head and its scores there."""
    if name == "votes":
        if split.votes is None:
            return Head(name=name, labels=labels), {"data": data, "split": "validation", "head": name, "n": 0}
        known = split.votes.sum(axis=1) > 0
        answers, votes = answers[known], split.votes[known]
        targets = votes / votes.sum(axis=1, keepdims=True)
        truth = votes.argmax(axis=1)
    else:
        targets, truth = np.eye(len(labels))[split.labels], split.labels
    temperature = fit_temperature(answers, targets)
    calibrated = with_temperature(answers, temperature)
    head = Head(
        name=name, labels=labels, temperature=temperature, threshold=uncertain_threshold(calibrated, truth)
    )
    accuracy = float((answers.argmax(axis=1) == truth).mean())
    score = {"data": data, "split": "validation", "head": name, "n": len(truth), "accuracy": accuracy,
             "ece": expected_calibration_error(calibrated, truth)}  # fmt: skip
    return head, score
