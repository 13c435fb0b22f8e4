"""From data to a run folder: a training in one piece, in folds or on several hosts, unless it is finished already."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.files import shell_word
from mien.locks import locked
from mien.model.folder import MODEL_FOLDER
from mien.terminal import ProgressBar, counted
from mien.train import folds, hosts, run_folder, trackers
from mien.train.checkpoint import Progress
from mien.train.config import TrainConfig
from mien.train.start import (
    Faces,
    is_pretrained,
    limited,
    noting_learnt,
    opened,
    recorded_metadata,
)
from mien.train.training import Training

_GOES_ON, _FINISHED = b"goes on", b"finished"  # what the first host tells the others of the run


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
    show: ProgressBar | None = None,
) -> Run:
    """Train on `data` into the run folder `out`; go on with an unfinished run there, load a finished one.

    retrain: remove what is there and start again. command: recorded for whoever wants to reproduce it.
    Raises ConfigError when `out` holds a run with other settings or data, or when another process is training there,
    and the errors of reading and training. KeyboardInterrupt passes through after the best network so far has been
    exported.
    """
    show = show or ProgressBar(quiet=True)
    trackers.check(config.tracker)
    if config.devices not in ("all", "1"):  # before a million pictures are looked at
        from mien.train import backend

        backend.devices_for(config)
    config, faces, dealt = _prepared(config, data, show)
    settings = run_folder.described(config, faces.dataset, data)
    if hosts.several():
        hosts.check(config)
        hosts.agree(settings)
        if not hosts.is_first():
            return _help(config, faces, out, settings)
    if not retrain and (found := run_folder.finished(out, settings)):
        return _loaded(out, config, found)
    with locked(out, "being trained"):
        # Once more, now that nobody else can be at it.
        if not retrain and (found := run_folder.finished(out, settings)):
            return _loaded(out, config, found)
        if hosts.several():
            hosts.told(_GOES_ON)
        settings["command"] = command or f"mien train {shell_word(data)}"
        if dealt is not None:
            return _train_in_folds(config, faces, dealt, out, settings, show=show, replacing=retrain)
        progress = Training(config, faces, out, settings, show=show).run(replacing=retrain)
        return Run(out, config, progress, trained=True)


def _prepared(
    config: TrainConfig, data: Path, show: ProgressBar
) -> tuple[TrainConfig, Faces, NDArray[np.int64] | None]:
    """Open DATA; returns the settings as they are for it, its faces, and the fold of each with --folds."""
    config = config.cutting_like(recorded_metadata(config.init_from) if config.init_from else None)
    faces = opened(config, data, show)
    if faces.stored:  # others who use this network have photographs
        config = replace(config, faces="crop")
    dealt = None
    if config.folds:
        folds.check_folds(config)
        dataset, dealt = folds.pooled(faces.dataset, config)
    else:
        dataset = limited(faces.dataset, config)
    faces = replace(faces, dataset=noting_learnt(dataset, config))
    many = len(faces.dataset.split("train"))
    return config.for_pictures(many, pretrained=is_pretrained(config)), faces, dealt


def _loaded(out: Path, config: TrainConfig, found: Progress) -> Run:
    if hosts.several():
        hosts.told(_FINISHED)
        hosts.leave()
    return Run(out, config, found, trained=False)


def _help(config: TrainConfig, faces: Faces, out: Path, settings: dict[str, Any]) -> Run:
    """Take part in the first host's training; what would be written is thrown away."""
    if hosts.told(b"") == _FINISHED:
        hosts.leave()
        return Run(out, config, Progress(), trained=False)
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config, tracker=None)
        quiet = ProgressBar(quiet=True)
        progress = Training(config, faces, Path(folder) / out.name, settings, show=quiet).run()
    return Run(out, config, progress, trained=True)


def _train_in_folds(
    config: TrainConfig,
    faces: Faces,
    dealt: NDArray[np.int64],
    out: Path,
    settings: dict[str, Any],
    *,
    show: ProgressBar,
    replacing: bool,
) -> Run:
    """Train a network a fold, each in a run folder of its own, then one on all pictures, into `out`."""
    each = replace(folds.for_fold(config), folds=0, int8=False, h5=False, tracker=None)
    if replacing:
        # What keeps it from starting is said before anything is removed.
        first = replace(faces, dataset=folds.without(faces.dataset, dealt, 0))
        Training(each, first, out, settings, show=show)
        run_folder.clear(out)
    abouts = []
    for number in range(config.folds):
        held_out = folds.without(faces.dataset, dealt, number)
        about = run_folder.described(each, held_out, Path(settings["data"]["path"])) | {"fold": number + 1}
        run_folder.finished(folds.fold_folder(out, number), about)  # complains of other settings
        abouts.append(about)
    run_folder.begin(out, settings)
    for note in faces.dataset.notes:
        show.line(f"note      {note}")
    answers: list[NDArray[np.float32]] = []
    epochs = 0
    for number, about in enumerate(abouts):
        part = replace(faces, dataset=folds.without(faces.dataset, dealt, number))
        place = folds.fold_folder(out, number)
        found = folds.FoldAnswers.read(place / run_folder.ANSWERS_FILE)
        progress = run_folder.finished(place, about)
        if found is None or progress is None:
            show.line(f"fold {number + 1} of {config.folds}")
            training = Training(each, part, place, about, show=show, brief=number > 0)
            progress = training.run()
            found = training.answered(number)
            found.write(place / run_folder.ANSWERS_FILE)
        held = np.flatnonzero(dealt == number)
        answers = answers or [np.empty((len(dealt), head.shape[1]), np.float32) for head in found.answers]
        for whole, head in zip(answers, found.answers, strict=True):
            whole[held] = head
        epochs = progress.epoch
    pool = faces.dataset.split("train")
    judged = folds.FoldAnswers.of(pool, dealt, answers)
    judged.write(out / run_folder.ANSWERS_FILE)
    run_folder.write_mistakes(out, pool, faces.dataset.classes, answers[0], epochs)
    show.line(f"all {counted(len(pool), 'picture')}")
    final = replace(folds.for_fold(config), folds=config.folds)
    progress = Training(final, faces, out, settings, show=show, judged=judged, brief=True).run()
    return Run(out, final, progress, trained=True)
