"""How a training is watched: its curves and a picture of a batch, and trackers that the user asks for.

Trackers (MLflow, Weights & Biases, TensorBoard) go through their own libraries. mien sends nothing anywhere by itself:
where a tracker writes to is what its own settings say (MLFLOW_TRACKING_URI, WANDB_MODE and so on), in the current
folder unless they say otherwise. A training that goes on after a kill goes on in the same entry of the tracker.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import TrainingError, first_line, need
from mien.files import whole_file
from mien.train.run_folder import CHECKPOINT, TENSORBOARD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mien.train.loader import Batch

_ID_FILE = "tracker.txt"  # in the checkpoint folder: which entry of the tracker this run is
_TRAIN, _VALIDATION, _RATE = "#8aa0b8", "#d1495b", "#4a7c59"
_FEW = 10  # epochs up to which each is a dot: a line through one point cannot be seen
_COLUMNS, _MOST = 8, 32  # of the picture of a batch


class Tracker(Protocol):
    """What a training tells. Figures are those of a row of epochs.csv."""

    def epoch(self, row: Mapping[str, Any]) -> None: ...

    def finish(self, model: Path) -> None:
        """model: the exported model folder."""
        ...


def check(name: str | None) -> None:
    """Raise MissingExtra before a training begins, rather than after its first epoch."""
    if name:
        need(name, name, f"logging with {name}")


def open_tracker(name: str | None, out: Path, settings: Mapping[str, Any]) -> Tracker | None:
    """Open an entry for the run in the folder `out`, or the one that it has; None without a tracker."""
    if name is None:
        return None
    check(name)
    try:
        return _TRACKERS[name](out, settings)
    except Exception as error:  # whatever the library raises when it is not set up
        raise TrainingError(
            f"{name} cannot be used ({first_line(error)}); set it up, or leave --tracker out"
        ) from error


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name != "epoch"}


def _stored_id(out: Path) -> str | None:
    file = out / CHECKPOINT / _ID_FILE
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _store_id(out: Path, number: str) -> None:
    with whole_file(out / CHECKPOINT / _ID_FILE) as temporary:
        temporary.write_text(number, encoding="utf-8")


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings and data as plain names and values, as trackers show them."""
    about = settings.get("data", {})
    return {
        **settings.get("settings", {}),
        "data": about.get("path"),
        "fingerprint": about.get("fingerprint"),
    }


class _MLflow:
    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow = mlflow
        known = _stored_id(out)
        if known is None and not (
            os.environ.get("MLFLOW_EXPERIMENT_NAME") or os.environ.get("MLFLOW_EXPERIMENT_ID")
        ):
            mlflow.set_experiment("mien")
        run = mlflow.start_run(run_id=known, run_name=None if known else out.name)
        if known is None:
            _store_id(out, run.info.run_id)
            # 500 letters a value is MLflow's own limit.
            mlflow.log_params({name: str(value)[:500] for name, value in _flat(settings).items()})

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._mlflow.log_metrics(_figures(row), step=int(row["epoch"]))

    def finish(self, model: Path) -> None:
        self._mlflow.log_artifacts(str(model), "model")
        self._mlflow.end_run()


class _Wandb:
    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        known = _stored_id(out)
        self._wandb = wandb
        self._run = wandb.init(
            project="mien", name=out.name, id=known, resume="allow", config=_flat(settings), dir=str(out)
        )
        _store_id(out, self._run.id)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._run.log(_figures(row), step=int(row["epoch"]))

    def finish(self, model: Path) -> None:
        artifact = self._wandb.Artifact(f"model-{self._run.id}", type="model")
        artifact.add_dir(str(model))
        self._run.log_artifact(artifact)
        self._run.finish()


class _TensorBoard:
    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:  # noqa: ARG002 - it has no place for settings
        self._folder = out / TENSORBOARD

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Append a file an epoch: TensorBoard reads all of a folder, and a resumed training cannot reopen one."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = EventFileWriter(str(self._folder), filename_suffix=f".epoch{row['epoch']}")
        values = [
            Summary.Value(tag=f"epoch/{name}", simple_value=value) for name, value in _figures(row).items()
        ]
        writer.add_event(Event(step=int(row["epoch"]), summary=Summary(value=values)))
        writer.close()

    def finish(self, model: Path) -> None: ...


_TRACKERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "mlflow": _MLflow,
    "wandb": _Wandb,
    "tensorboard": _TensorBoard,
}


def draw_curves(history: Sequence[Mapping[str, Any]], kept: int, path: Path) -> None:
    """Write a PNG of `curves`."""
    figure = curves(history, kept)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


def curves(history: Sequence[Mapping[str, Any]], kept: int) -> Figure:
    """Draw three panels. history: one row an epoch, as in epochs.csv. kept: the epoch whose network is kept."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = loss, accuracy, rate = figure.subplots(1, 3)
    dots = {"marker": "."} if len(epochs) <= _FEW else {}
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(
            epochs, [row[name] for row in history], color=_TRAIN, label="training (varied pictures)", **dots
        )
        if validation := [row[f"validation_{name}"] for row in history if f"validation_{name}" in row]:
            axes.plot(epochs, validation, color=_VALIDATION, label="validation", **dots)
        axes.set_title(name)
        axes.legend(frameon=False, fontsize=8)
    best = next((row.get("validation_accuracy") for row in history if row["epoch"] == kept), None)
    if best is not None:
        accuracy.plot(kept, best, "o", color=_VALIDATION)
        accuracy.annotate(f"{best:.1%}, kept", (kept, best), textcoords="offset points", xytext=(0, 6), ha="center",
                          fontsize=8)  # fmt: skip
    rate.plot(epochs, [row["learning_rate"] for row in history], color=_RATE, **dots)
    rate.set_title("learning rate")
    rate.set_ylim(bottom=0)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(y=0.12)  # room for the words above the highest point
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    return figure


def draw_batch(batch: Batch, labels: Sequence[str], path: Path) -> int:
    """Write a PNG of up to 32 pictures of a batch as the network gets them, each with its target in words.

    Eight in a row; returns how many.
    """
    from matplotlib.figure import Figure

    count = min(_MOST, len(batch.inputs))
    rows = -(-count // _COLUMNS)
    figure = Figure(figsize=(1.5 * _COLUMNS, 1.85 * rows), layout="constrained")
    for place, axes in enumerate(figure.subplots(rows, _COLUMNS, squeeze=False).flat):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if place < count:
            picture = np.clip(batch.inputs[place], 0, 255).astype(np.uint8)
            axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set_xlabel(_target(batch.targets[0][place], labels), fontsize=7, parse_math=False)
    with whole_file(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(temporary, dpi=110)
    return count


def _target(target: NDArray[np.float32], labels: Sequence[str]) -> str:
    """Return the one or two labels that a picture is to be answered with, such as 'happy 70 %, sad 30 %'."""
    first, second = (-target).argsort(kind="stable")[:2]
    told = f"{labels[first]} {100 * target[first]:.0f} %"
    return f"{told}, {labels[second]} {100 * target[second]:.0f} %" if target[second] > 0.1 else told
