"""One training: network, loader and loop are opened, the loop runs, and the best network becomes a model folder."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.data.crops import source_keys
from mien.data.pictures import fingerprints_of
from mien.errors import ModelError, need
from mien.files import whole_folder
from mien.model.folder import BEST_FILE, MODEL_FOLDER
from mien.model.metadata import Head, Metadata
from mien.terminal import ProgressBar, counted
from mien.train import hosts, run_folder, trackers
from mien.train.checkpoint import BEST_WEIGHTS_FILE, STATE_FILE, Progress
from mien.train.config import TrainConfig
from mien.train.run_folder import OUT_OF_FOLD
from mien.train.start import Faces, heads_for, learnt_before, start

if TYPE_CHECKING:
    from mien.train.folds import FoldAnswers
    from mien.train.loader import Loader
    from mien.train.transfer import Teachers

_CURVES_EVERY_S = 20.0  # between two drawings of the curves while a training runs


class Training:
    """The pieces of one training, so that each step below can be read by itself."""

    def __init__(
        self,
        config: TrainConfig,
        faces: Faces,
        out: Path,
        settings: dict[str, Any],
        *,
        show: ProgressBar,
        judged: FoldAnswers | None = None,
        brief: bool = False,
    ) -> None:
        """Open all that is needed, and write nothing: what keeps the training from starting is raised here.

        judged: what networks of the same kind said of pictures that they had not seen, where all are learnt here.
        brief: leave out what has been said of these pictures already.
        """
        from mien.train import backend

        self._judged, self._brief = judged, brief
        self._config, self._faces, self._dataset = config, faces, faces.dataset
        self._out, self._show = out, show
        backend.forget_networks()  # of an earlier fold
        self._devices = backend.prepare(config)  # before what imports Keras, which may be missing
        from mien.train.classifier_loop import Validation
        from mien.train.loader import Inputs

        for package in ("sklearn", "matplotlib", "jinja2"):  # for the report, at the end of it all
            need(package, "train", "training")
        self._built = start(config, heads_for(self._dataset, config))
        self._settings = {
            **settings,
            "detector": dict(faces.detector),
            "dtype_policy": backend.precision(config),  # what precision 'auto' came to on this machine
            "versions": backend.versions(),
        }
        self._tracker: trackers.Tracker | None = None
        self._drawn = 0.0
        valid = None if judged else self._dataset.split("validation")
        self._validation = Validation(Inputs(valid, self._built.preprocess), valid.labels) if valid else None
        self._teachers = self._opened_teachers()
        # Teachers who are asked about every variation of the pictures.
        self._varied = self._teachers if config.teacher_views == "varied" else None
        self._loader = self._opened_loader()

    def run(self, *, replacing: bool = False) -> Progress:
        """Train, or go on. replacing: remove the run that lies there."""
        from mien.train.classifier_loop import ClassifierLoop, predict

        config, built, loader = self._config, self._built, self._loader
        if replacing:
            run_folder.clear(self._out)
        self._begin()
        for line in () if self._brief else self._summary(len(loader)):
            self._show.line(line)
        if self._teachers and not self._varied:
            loader.answers = self._teachers.answers_to(
                self._dataset.split("train"), self._out, predict, self._show, cut=self._cut()
            )
        self._draw_batch()
        self._tracker = trackers.open_tracker(config.tracker, self._out, self._settings)
        loop = ClassifierLoop(
            built.network,
            loader,
            self._validation,
            config,
            folder=self._out / run_folder.CHECKPOINT,
            on_best=lambda: self._save(BEST_FILE),
            on_epoch=lambda progress: self._note_epoch(progress, loop.answers),
            prepare_phase=lambda phase: built.unfreeze(phase.unfreeze),
            show=self._show,
            devices=self._devices,
            teachers=self._varied,
        )
        try:
            progress = loop.run()
        except KeyboardInterrupt:
            if loop.progress.best_epoch and hosts.is_first():
                hosts.local()
                self._show.line(f"stopped; keeping the network of epoch {loop.progress.best_epoch}")
                self._finish(loop.progress)
            raise
        loop.hold_average()
        self._save(run_folder.LAST_FILE)
        hosts.leave()
        if hosts.is_first():
            self._finish(progress)
            if self._tracker:
                self._tracker.finish(self._out / MODEL_FOLDER)
        return progress

    def _begin(self) -> None:
        """Write what the run is about, and what its network will have learnt."""
        if hosts.several():
            place = self._out / run_folder.CHECKPOINT
            hosts.tell_files(place, place, (STATE_FILE, BEST_WEIGHTS_FILE))
        run_folder.begin(self._out, self._settings)
        before = learnt_before(self._config).values()
        sources = source_keys(self._dataset.split("train").pictures)
        run_folder.write_seen(
            self._out,
            {name: fingerprints_of(part.pictures).keys for name, part in self._dataset.splits.items()},
            {key for key in sources if key} | run_folder.seen_sources(*before),
            run_folder.learnt(*before),
        )

    def _cut(self) -> str:
        """Say what decides how faces are cut out of the pictures, whose fingerprints are those of the whole ones."""
        return f"{self._dataset.fingerprint} {self._config.faces} {self._config.margin}"

    def _opened_teachers(self) -> Teachers | None:
        from mien.train.transfer import Teachers

        config = self._config
        if not config.teacher:
            return None
        return Teachers(
            config.teacher,
            self._built.heads,
            weight=config.teacher_weight,
            temperature=config.teacher_temperature,
        )

    def _opened_loader(self) -> Loader:
        """Return what reads the training pictures."""
        from mien.train.loader import Inputs, Loader
        from mien.train.transfer import view_for

        how, split = self._built.preprocess, self._dataset.split("train")
        return Loader(
            split,
            Inputs(split, how.uncut),
            tuple(self._built.heads.values()),
            self._config,
            drop_rest=self._devices > 1,
            size=how.size,
            share=hosts.share(),
            views=[
                partial(view_for, own=how, teacher=seen)
                for seen in (self._varied.preprocesses if self._varied else ())
            ],
        )

    def _summary(self, steps: int) -> list[str]:
        """Say in a few lines what is about to be trained on what, where, and for how long."""
        config, dataset, built, faces = self._config, self._dataset, self._built, self._faces
        counts = ", ".join(f"{len(part):,} {name}" for name, part in dataset.splits.items())
        lines = [
            f"data      {dataset.name}: {counts}; {counted(len(dataset.classes), 'class', 'classes')}: "
            f"{', '.join(dataset.classes)}"
        ]
        if faces.stored:
            lines.append(f"faces     {faces.stored:,} of a face set, cut at a margin of {config.margin:g}")
        if faces.cut:
            lost = f"; {len(faces.lost):,} without a face left out" if faces.lost else ""
            lines.append(
                f"faces     {faces.cut:,} cut out by the detector {faces.detector.get('name')}{lost}"
            )
        lines += [f"note      {note}" for note in (*dataset.notes, *idle_settings(config, built.heads))]
        how = built.preprocess
        start = f", from {config.init_from}" if config.init_from else ""
        if built.kept:
            start += f", which knows {', '.join(built.kept)}"
        lines.append(
            f"network   {built.network.name}, {how.size}x{how.size} {how.colour}, "
            f"{built.network.count_params():,} parameters{start}"
        )
        if config.teacher:
            lines.append(f"teachers  {', '.join(config.teacher)}")
        lines.append(f"device    {_device(self._devices, self._settings)}")
        lines.append(f"folder    {self._out}")
        return [*lines, *_plan(config, steps)]

    def _draw_batch(self) -> None:
        loader = self._loader
        batch = next(iter(loader.epoch(0, True, self._config.class_weights)))
        if self._built.preprocess.colour == "bgr":
            batch = replace(batch, inputs=batch.inputs[..., ::-1])
        first = next(iter(self._built.heads.values()))
        shown = trackers.draw_batch(batch, first, self._out / run_folder.BATCH_FILE)
        names = self._dataset.split("train").names
        run_folder.write_batch_names(self._out, (names[row] for row in loader.order(0)[:shown].tolist()))

    def _metadata(self) -> Metadata:
        """What is known before the network has been calibrated."""
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

        if hosts.is_first():
            with hosts.alone():
                save_network(self._built.network, self._out / name, self._metadata())

    def _note_epoch(self, progress: Progress, answers: NDArray[np.float32] | None) -> None:
        if not hosts.is_first():
            return
        run_folder.note_epochs(self._out, progress.history)
        if answers is not None:
            held = self._dataset.split("validation")
            run_folder.write_mistakes(self._out, held, self._dataset.classes, answers, progress.epoch)
        if time.monotonic() - self._drawn > _CURVES_EVERY_S:
            self._draw_curves(progress)
            self._drawn = time.monotonic()
        if self._tracker:
            self._tracker.epoch(progress.history[-1])

    def _draw_curves(self, progress: Progress) -> None:
        trackers.draw_curves(progress.history, progress.best_epoch, self._out / run_folder.CURVES_FILE)

    def _add_int8(self, folder: Path) -> None:
        from mien.train.export.int8 import add_int8

        train = self._dataset.split("train")
        valid = train if self._judged else self._dataset.split("validation")
        try:
            found, kept = add_int8(folder, train, valid, seed=self._config.seed)
        except ModelError as error:  # no reason to lose the network
            self._show.line(f"int8 form: none; {error}")
            return
        verdict = "kept" if kept else "not kept: it may lose 0.3"
        where = "the training pictures" if self._judged else "validation"
        self._show.line(f"int8 form: {100 * found.lost:+.2f} points lost on {where}, {verdict}")

    def answered(self, fold: int) -> FoldAnswers:
        """Return what the network that was kept says of the pictures that were held out."""
        from mien.train.classifier_loop import predict
        from mien.train.export.keras_io import load_network
        from mien.train.folds import FoldAnswers

        assert self._validation
        best, _ = load_network(self._out / BEST_FILE)
        held = self._dataset.split("validation")
        numbers = np.full(len(held), fold, np.int64)
        return FoldAnswers.of(held, numbers, predict(best, self._validation.inputs))

    def _finish(self, progress: Progress) -> None:
        """Export the best network, calibrated on validation, and draw the curves."""
        from mien.train.calibrate import calibrated_metadata
        from mien.train.classifier_loop import predict
        from mien.train.export.folder import check_place, export
        from mien.train.export.keras_io import load_network, save_network

        best, _ = load_network(self._out / BEST_FILE)
        results = {
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "seconds": round(progress.seconds),
        }
        metadata = replace(self._metadata(), training={**self._settings, **results})
        if self._validation:
            answers, dataset, where = predict(best, self._validation.inputs), self._dataset, "validation"
        else:
            assert self._judged
            answers, where = list(self._judged.answers), OUT_OF_FOLD
            pool = self._dataset.split("train")
            dataset = replace(self._dataset, splits={"train": pool, "validation": pool})
        metadata = calibrated_metadata(
            metadata, answers, dataset, share=self._config.blend, adjustment=self._config.logit_adjustment
        )
        scores = [
            {**score, "split": score["split"].replace("validation", where)} for score in metadata.scores
        ]
        metadata = replace(metadata, scores=tuple(scores))
        if self._config.h5:
            save_network(best, self._out / run_folder.H5_FILE, self._metadata())
        if progress.history:  # once more, as a kill may have come before the last epoch was noted
            run_folder.note_epochs(self._out, progress.history)
        self._draw_curves(progress)
        # Last and whole, because a run with its model counts as finished.
        check_place(self._out / MODEL_FOLDER)
        with whole_folder(self._out / MODEL_FOLDER) as folder:
            export(best, folder, metadata)
            if self._config.int8:
                self._add_int8(folder)


def idle_settings(config: TrainConfig, heads: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return notes on settings that change nothing with these heads; recipes have some for data with votes."""
    if config.blend is not None and len(heads) < 2:
        return ["blend is of no use without a votes head, which this training has not"]
    if config.logit_adjustment and config.blend is None:
        return ["logit_adjustment is of no use without blend"]
    return []


def _device(devices: int, settings: Mapping[str, Any]) -> str:
    """Return what the network is trained on, in words."""
    from mien.train import backend

    what = (
        f"{devices} devices"
        if devices > 1
        else "GPU"
        if backend.has_gpu()
        else counted(os.cpu_count() or 1, "CPU core")
    )
    name = backend.import_keras().backend.backend()
    precision = "mixed precision" if settings["dtype_policy"] != "float32" else "float32"
    return f"{what}, {name} {settings['versions'][name]}, {precision}"


def _plan(config: TrainConfig, steps: int) -> list[str]:
    """Return the phases in words, a line each."""
    lines = []
    for number, phase in enumerate(config.in_phases(), start=1):
        what = "plan" if number == 1 else ""
        name = f"phase {number}: " if config.phases else ""
        stop = f", stops after {phase.patience} without a better validation loss" if phase.patience else ""
        layers = {0: "", -1: ", all layers"}.get(
            phase.unfreeze, f", top {counted(phase.unfreeze, 'layer')} unfrozen"
        )
        epochs, each = counted(phase.epochs or 0, "epoch"), counted(steps, "step")
        lines.append(
            f"{what:9} {name}{epochs} of {each} of {config.batch_size}, {phase.optimizer} at {phase.rate:g} "
            f"({phase.schedule}){layers}{stop}"
        )
    if config.time_limit:
        lines.append(f"          the epochs are planned anew to fit {config.time_limit}")
    return lines
