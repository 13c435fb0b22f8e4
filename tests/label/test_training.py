"""The button that trains: what it runs, what it refuses, what it tells, and that it can be stopped."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from mien.cli.main import parser
from mien.errors import ConfigError, DataError
from mien.label import training as training_module
from mien.label.history import LABEL
from mien.label.training import Training
from mien.label.wall import Wall
from mien.settings import to_mapping
from mien.train import run_folder
from mien.train.config import TrainConfig

from .conftest import write_face_set


@pytest.fixture
def wall(tmp_path: Path):
    ids = write_face_set(tmp_path / "set")
    wall = Wall.open(tmp_path / "set", [], "ann")
    wall.answer(ids[:10], "ann", LABEL, "calm", "")
    yield wall
    wall.close()


def test_files_have_the_names_that_training_gives_them() -> None:
    assert training_module.EPOCHS_FILE == run_folder.EPOCHS_FILE
    assert training_module.BATCH_FILE == run_folder.BATCH_FILE
    assert training_module.BATCH_NAMES_FILE == run_folder.BATCH_NAMES_FILE
    assert training_module.MISTAKES_FILE == run_folder.MISTAKES_FILE
    assert training_module.SEEN_FILE == run_folder.SEEN_FILE
    assert training_module.FOLDS_FOLDER == run_folder.FOLDS_FOLDER
    assert training_module.REPORT.split("/")[0] == run_folder.REPORT_FOLDER


def test_what_cannot_be_trained_is_refused(wall: Wall) -> None:
    training = Training(wall)
    with pytest.raises(
        ConfigError, match="a network needs two classes with 2 or more faces each, there is 1; label"
    ):
        training.start(None)
    with pytest.raises(ConfigError, match="epochs must be from 1 to 10000, got 0"):
        training.start(0)
    with pytest.raises(ConfigError, match="folds must be from 2 to 10, or 0 for none, got 1"):
        training.start(1, 1)
    assert training.told() == {"state": "none"}


def test_the_command_and_that_it_can_be_cancelled(wall: Wall, tmp_path: Path) -> None:
    ids = [face.id for face in wall.faces]
    wall.answer(ids[10:20], "ann", LABEL, "bored", "")
    wall.answer(ids[20:21], "ann", LABEL, "amused", "")
    command = training_module.command_of(
        wall.folder, wall.folder / "network-1", ["calm, 平静", "bored"], 3, 5
    )
    options = parser().parse_args(command[command.index("train") :])
    assert (options.init_from, options.classes) == ("mien", ("calm, 平静", "bored")), "a comma in a name"
    assert (options.epochs, options.folds) == (3, 5)
    command = training_module.command_of(Path("-y"), Path("-y/network-1"), [], None)
    options = parser().parse_args(command[command.index("train") :])
    assert (options.data, options.to) == ([Path("-y")], Path("-y/network-1"))
    training = Training(wall)
    training.start(3)
    assert training.state == "running" and training.told()["left_out"] == ["amused"]
    with pytest.raises(ConfigError, match="a training runs already"):
        training.start(3)
    training.cancel()
    training.close()
    ends = time.monotonic() + 30
    while training.state == "running":
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert training.state == "stopped"
    (wall.folder / "network-1").mkdir(exist_ok=True)  # a moment later the training would have made it
    (wall.folder / "faces.csv").rename(tmp_path / "faces.csv")
    with pytest.raises(DataError, match="is no face set"):
        training.start(3)
    (tmp_path / "faces.csv").rename(wall.folder / "faces.csv")
    assert training.told()["folder"] == str(wall.folder / "network-1"), "where one was, and not where none is"


def test_the_fold_and_the_epochs_come_from_the_files_of_the_run(wall: Wall, tmp_path: Path) -> None:
    training = Training(wall)
    training.state, training._folder, training._folds = "running", tmp_path / "run", 2

    def said() -> tuple[int, int]:
        told = training.told()
        return told["fold"], told["epochs"]

    settings = to_mapping(TrainConfig(epochs=4, phases=({"epochs": 3, "unfreeze": -1}, {"unfreeze": 0})))
    assert said() == (1, 0), "nothing is there yet"
    run_folder.begin(tmp_path / "run", {"settings": settings})
    assert said() == (1, 0)
    for number in (1, 2):
        run_folder.begin(tmp_path / "run" / "folds" / str(number), {"settings": settings})
        assert said() == (number, 4 + 3 + 3)
    run_folder.write_seen(tmp_path / "run", {"train": [bytes(16)]})
    assert said() == (3, 10), "all faces"
    (tmp_path / "run" / "settings.json").write_text('{"settings": 3}')
    assert said() == (3, 0)


def test_what_is_told_of_a_run_comes_from_its_files(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in the place of `mien train`, which takes half a minute: it writes what a run writes."""
    script = (
        "import pathlib, sys; run = pathlib.Path(sys.argv[1]); (run / 'model').mkdir(parents=True);"
        "(run / 'mistakes.csv').write_text('epoch,name,label,answer,probability\\n"
        "2,crops/003.png,calm,bored,0.999\\n2,crops/gone.png,calm,bored,0.5\\n');"
        "(run / 'batch.csv').write_text('name\\ncrops/001.png\\ncrops/gone.png\\n');"
        "(run / 'epochs.csv').write_text('epoch,loss,accuracy,validation_loss,validation_accuracy,seconds\\n"
        "1,1.5,0.5,1.2,0.6,2\\n2,1.1,0.7,nan,0.8,1\\n');"
        '(run / \'settings.json\').write_text(\'{"settings": {"epochs": 1, "phases": [{"epochs": 3}]}}\');'
        "print('epoch   2/9  loss 1.1'); print('accuracy 81.5% on 27 validation pictures')"
    )
    python = shutil.which("python3") or "python3"
    monkeypatch.setattr(training_module, "command_of", lambda _, run, *__: [python, "-c", script, str(run)])
    wall.answer([face.id for face in wall.faces[10:20]], "ann", LABEL, "bored", "")
    training = Training(wall)
    training.start(None)
    ends = time.monotonic() + 30
    while training.state == "running":
        assert time.monotonic() < ends
        time.sleep(0.05)
    told = training.told()
    assert (told["state"], told["epochs"], told["headline"]) == (
        "done",
        4,
        "accuracy 81.5% on 27 validation pictures",
    )
    assert told["curve"]["accuracy"] == [0.5, 0.7] and told["curve"]["validation_loss"] == [1.2, None]
    assert told["mistakes"] == [[3, "calm", "bored", 99]], "by the places of the faces that are there"
    assert told["batch_faces"] == [1, -1]
    assert told["use"][0] == f"mien predict holiday.jpg --model {wall.folder / 'network-1'}"

    class Line(str):
        """One that makes another come while it is looked at."""

        def startswith(self, *_: object) -> bool:  # type: ignore[override]
            training._lines.append("further")
            return False

    training._lines.appendleft(Line("a line"))
    assert training.told()["lines"][0] == "a line"
    training.start(None)
    training.close()
    assert training.told()["folder"].endswith("network-2"), "an earlier network is never overwritten"


def test_a_table_of_a_run_that_a_spreadsheet_has_saved_otherwise_shows_nothing(
    wall: Wall, tmp_path: Path
) -> None:
    training = Training(wall)
    training.state, training._folder = "done", tmp_path
    (tmp_path / run_folder.MISTAKES_FILE).write_bytes("name,label,answer\nzoé.png,a,b\n".encode("latin-1"))
    (tmp_path / run_folder.EPOCHS_FILE).write_bytes(b"epoch,seconds\n1," + bytes(3) + b"\n")
    told = training.told()
    assert (told["mistakes"], told["curve"]["loss"]) == ([], [None])
