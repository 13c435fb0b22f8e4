"""Experiment trackers, on request and through their own libraries: MLflow, Weights & Biases, TensorBoard.

mien sends nothing anywhere by itself: where a tracker writes to is what its own settings say (MLFLOW_TRACKING_URI,
WANDB_MODE and so on), in the current folder unless they say otherwise. A training that goes on after a kill goes on in
the same entry of the tracker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from mien.errors import TrainingError, need
from mien.train.run_folder import CHECKPOINT, TENSORBOARD

_ID_FILE = "tracker.txt"  # in the checkpoint folder: which entry of the tracker this run is


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
            f"{name} cannot be used ({str(error).splitlines()[0] if str(error) else type(error).__name__}); set it up, "
            "or leave --tracker out"
        ) from error


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name != "epoch"}


def _stored_id(out: Path) -> str | None:
    file = out / CHECKPOINT / _ID_FILE
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _store_id(out: Path, number: str) -> None:
    (out / CHECKPOINT).mkdir(parents=True, exist_ok=True)
    (out / CHECKPOINT / _ID_FILE).write_text(number, encoding="utf-8")


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
