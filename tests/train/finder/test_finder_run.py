"""`mien train-finder` from end to end on drawn faces: a finder that opens, a resume that changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.cli.main import main
from mien.errors import ConfigError, ModelError
from mien.predict.finder import MienDetector
from mien.predict.finder_facts import read_finder
from mien.terminal import ProgressBar
from mien.train.finder.config import FinderConfig
from mien.train.finder.run import train_finder

from .finder_photos import write_set

TINY = {
    "epochs": 2,
    "crops": 8,
    "batch_size": 4,
    "side": 64,
    "check_every": 1,
    "ema": 0.5,
    "learning_rate": 1e-3,
}


class Killed(ProgressBar):
    """Stops the training in its second epoch, as Ctrl-C would."""

    def step(self, what: str, *_: object) -> None:
        if what.startswith("epoch 2"):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the data, and the run of a training in one go."""
    place = tmp_path_factory.mktemp("finder")
    data = write_set(place / "set")
    train_finder(FinderConfig(**TINY), data, place / "run")
    return data, place / "run"


@pytest.mark.slow
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    data, whole = trained
    config = FinderConfig(**TINY)
    with pytest.raises(KeyboardInterrupt):
        train_finder(config, data, tmp_path / "run", show=Killed(quiet=True))
    assert (tmp_path / "run" / "checkpoint" / "state.npz").is_file()
    done = train_finder(config, data, tmp_path / "run")
    assert done.trained
    assert done.progress.epoch == 2
    assert (done.finder / "finder.onnx").read_bytes() == (whole / "finder" / "finder.onnx").read_bytes()
    assert not train_finder(config, data, tmp_path / "run").trained
    with pytest.raises(ConfigError, match="crops: 8 there, 9 asked"):
        train_finder(FinderConfig(**{**TINY, "crops": 9}), data, tmp_path / "run")


def test_the_run_says_what_it_is_and_its_finder_opens(trained: tuple[Path, Path]) -> None:
    _, run = trained
    rows = (run / "epochs.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("epoch,loss,learning_rate,seconds,ap")
    assert len(rows) == 3
    facts = read_finder(run / "finder").facts
    assert facts.training["epochs"] == 2
    assert facts.training["bytes"] == (run / "finder" / "finder.onnx").stat().st_size <= 300_000
    assert "face finder" in (run / "finder" / "CARD.md").read_text(encoding="utf-8")
    finder = MienDetector(run / "finder", threshold=0.001)  # it has learnt nothing: everything may be a face
    assert finder.facts["sha256"] == facts.sha256


@pytest.mark.parametrize(
    "shape", [(0, 0, 3), (1, 1, 3), (9, 9), (10, 10_000, 3), (3000, 12), (480, 640, 3), (700, 33, 1)]
)
def test_odd_pictures_are_searched_without_an_error(
    trained: tuple[Path, Path], shape: tuple[int, ...]
) -> None:
    finder = MienDetector(trained[1] / "finder", threshold=0.01)
    for level in (0, 255):
        for face in finder.find(np.full(shape, level, np.uint8)):
            x, y, width, height = face.box
            assert 0 <= x + width / 2 <= shape[1]
            assert 0 <= y + height / 2 <= shape[0]


def test_grey_and_colour_give_the_same_faces(trained: tuple[Path, Path]) -> None:
    data, run = trained
    picture = cv2.imread(str(data / "0.png"), cv2.IMREAD_GRAYSCALE)
    finder = MienDetector(run / "finder", threshold=0.005)
    assert finder.find(picture) == finder.find(np.repeat(picture[:, :, None], 3, 2))


def test_a_finder_that_was_changed_or_is_none_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in (trained[1] / "finder").iterdir()}
    facts = json.loads(files["finder.json"])
    wrong: dict[str, dict[str, bytes]] = {
        "was changed|one of both": {**files, "finder.onnx": files["finder.onnx"] + b"x"},
        "cannot read .*finder.onnx": {name: data for name, data in files.items() if name != "finder.onnx"},
        "cannot read .*finder.json": {name: data for name, data in files.items() if name != "finder.json"},
        "it is damaged": {**files, "finder.json": b"{"},
        "of format 9": {**files, "finder.json": json.dumps({**facts, "format": 9}).encode()},
        "threshold of a face finder": {
            **files,
            "finder.json": json.dumps({**facts, "threshold": 2.0}).encode(),
        },
    }
    for number, (message, contents) in enumerate(wrong.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=message):
            MienDetector(folder)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        MienDetector(trained[1] / "finder", threshold=1.5)


def test_the_command_reports_wrong_input_in_one_line(
    tmp_path: Path, trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = trained
    calls = {
        "DATA must be a folder": ["train-finder", str(tmp_path / "none")],
        "side must be a multiple of 32": ["train-finder", str(data), "--side", "100"],
        "labels.jsonl": ["train-finder", str(tmp_path), "--out", str(tmp_path / "run")],
        "no face finder and no file": ["evaluate-finder", str(data), "--finders", "nobody"],
        "holds no report": ["evaluate-finder", str(data), "--out", str(run)],
    }
    for message, call in calls.items():
        assert main(call) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert message in error[0]


def test_several_finders_are_measured_in_one_table(
    tmp_path: Path, trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = trained
    out = tmp_path / "report"
    finders = f"{run / 'finder'},haar"
    assert main(["evaluate-finder", str(data), "--finders", finders, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "average precision, IoU 0.5" in shown
    assert "recall, 32-64 px (" in shown
    ours, haar = json.loads((out / "finders.json").read_text(encoding="utf-8"))["finders"]
    assert ours["photographs"] == haar["photographs"] == 4
    assert 0 <= ours["ap"] <= 1
    assert haar["landmarks"] is None
    assert ours["ms 320x320"] > 0
    assert (out / "2-haar-missed.png").is_file() or haar["recall 16-32 px"] == 1
