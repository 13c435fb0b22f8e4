"""Experiment trackers through their own libraries, writing to the disk only."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.errors import MissingExtra, TrainingError
from mien.train import trackers

SETTINGS = {"settings": {"epochs": 2, "size": None}, "data": {"path": "faces", "fingerprint": "f"}}
ROWS = [{"epoch": 1, "loss": 0.5, "validation_loss": 0.7}, {"epoch": 2, "loss": 0.4, "validation_loss": 0.6}]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    return tmp_path / "model"


def _killed_after_an_epoch(name: str, out: Path, model: Path) -> str:
    """Log as a training that was killed after an epoch and went on; returns the entry's id."""
    out.mkdir(exist_ok=True)
    for row in ROWS:
        tracker = trackers.open_tracker(name, out, SETTINGS)
        assert tracker is not None
        tracker.epoch(row)
    tracker.finish(model)
    return (out / "checkpoint" / "tracker.txt").read_text()


@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}/mlruns")
    out = tmp_path / "run"
    out.mkdir()
    first = trackers.open_tracker("mlflow", out, SETTINGS)
    assert first is not None
    first.epoch(ROWS[0])
    mlflow.end_run("KILLED")
    again = trackers.open_tracker("mlflow", out, SETTINGS)
    assert again is not None
    again.epoch(ROWS[1])
    again.finish(model)
    number = (out / "checkpoint" / "tracker.txt").read_text()
    client = MlflowClient()
    assert [(found.step, found.value) for found in client.get_metric_history(number, "loss")] == [
        (1, 0.5),
        (2, 0.4),
    ]
    run = client.get_run(number)
    assert run.data.params == {"epochs": "2", "size": "None", "data": "faces", "fingerprint": "f"}
    assert run.info.status == "FINISHED"
    assert [found.path for found in client.list_artifacts(number, "model")] == ["model/model.json"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    number = _killed_after_an_epoch("wandb", tmp_path / "run", model)
    logs = [
        path.name for path in (tmp_path / "run" / "wandb").iterdir() if path.name.startswith("offline-run")
    ]
    assert logs and all(name.endswith(number) for name in logs)


@pytest.mark.filterwarnings("ignore")
def test_tensorboard(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    tracker = trackers.open_tracker("tensorboard", tmp_path, SETTINGS)
    assert tracker is not None
    for row in ROWS:
        tracker.epoch(row)
    tracker.finish(model)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_a_tracker_that_is_missing_or_not_set_up_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r'pip install "mien\[wandb\]"'):
        trackers.check("wandb")
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")

    def broken(_out: Path, _settings: object) -> trackers.Tracker:
        raise ValueError("no server at localhost\nmore")

    monkeypatch.setitem(trackers._TRACKERS, "tensorboard", broken)
    with pytest.raises(TrainingError, match=r"tensorboard cannot be used \(no server at localhost\)"):
        trackers.open_tracker("tensorboard", tmp_path, SETTINGS)
