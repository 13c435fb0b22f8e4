"""When a run counts as finished, and when it may be replaced."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the train extra")

from mien.data.dataset import Dataset, Split
from mien.data.drawn import draw_dataset
from mien.data.pictures import InMemoryPictures
from mien.errors import ConfigError, MienError
from mien.files import whole_file, whole_folder
from mien.labels import FER2013, FERPLUS
from mien.locks import locked
from mien.model.folder import MODEL_FOLDER
from mien.train import checkpoint, run_folder
from mien.train.config import TrainConfig
from mien.train.folds import FoldAnswers
from mien.train.recipes import Recipe, config_from, default_run, load_recipe
from mien.train.run import train
from mien.train.start import heads_for
from mien.train.trackers import curves

SETTINGS: dict[str, Any] = {"settings": {}, "data": {"fingerprint": "f"}}


def _a_run(out: Path, *, exported: int, trained: int = 4) -> None:
    run_folder.begin(out, SETTINGS)
    progress = checkpoint.Progress(epoch=trained, best_epoch=2, finished=True)
    (out / run_folder.CHECKPOINT).mkdir()
    checkpoint.save(out / run_folder.CHECKPOINT / checkpoint.STATE_FILE, progress, [])
    (out / MODEL_FOLDER).mkdir()
    metadata = {"training": {"epochs": exported}}
    (out / MODEL_FOLDER / "model.json").write_text(json.dumps(metadata))


def test_a_run_is_finished_when_the_model_of_its_last_epoch_lies_there(tmp_path: Path) -> None:
    _a_run(tmp_path / "run", exported=4)
    found = run_folder.finished(tmp_path / "run", SETTINGS)
    assert found is not None
    assert (found.epoch, found.best_epoch) == (4, 2)


def test_a_run_with_the_model_of_an_earlier_ctrl_c_is_not_finished(tmp_path: Path) -> None:
    _a_run(tmp_path / "run", exported=2)
    assert run_folder.finished(tmp_path / "run", SETTINGS) is None


@pytest.mark.parametrize("name", ["settings.json", "model/model.json", "checkpoint/state.npz"])
@pytest.mark.parametrize("left", [0, 0.5])
def test_a_damaged_run_is_told_in_a_line_or_exported_again(tmp_path: Path, name: str, left: float) -> None:
    """What a full disk or a power cut leaves: there were tracebacks, of an archive cut in half among them."""
    _a_run(tmp_path / "run", exported=4)
    whole = (tmp_path / "run" / name).read_bytes()
    (tmp_path / "run" / name).write_bytes(whole[: int(left * len(whole))])
    if name.startswith("model"):
        assert run_folder.finished(tmp_path / "run", SETTINGS) is None
        return
    with pytest.raises(MienError, match="--retrain to"):
        run_folder.finished(tmp_path / "run", SETTINGS)


def test_damaged_answers_out_of_fold_are_none(tmp_path: Path) -> None:
    path = tmp_path / "out-of-fold.npz"
    FoldAnswers(np.zeros((5, 16), np.uint8), np.arange(5), (np.ones((5, 2), np.float32),)).write(path)
    assert FoldAnswers.read(path) is not None
    path.write_bytes(path.read_bytes()[:-100])
    assert FoldAnswers.read(path) is None


def test_other_settings_are_told_in_the_words_of_the_help(tmp_path: Path) -> None:
    _a_run(tmp_path / "run", exported=4)
    here = {"settings": {"size": 16, "merge": ["bad=sad+angry"]}, "data": {"fingerprint": "f"}}
    run_folder.begin(tmp_path / "run", here)
    with pytest.raises(
        ConfigError, match=r"size: 16 there, unset asked; merge: bad=sad\+angry there, unset asked"
    ):
        run_folder.finished(tmp_path / "run", {**here, "settings": {"size": None, "merge": []}})


@pytest.mark.parametrize(
    ("path", "said"), [("a/faces", "the data has changed"), ("b/faces", "data: a/faces there, b/faces asked")]
)
def test_other_data_of_the_same_name_is_told_from_data_that_has_changed(
    tmp_path: Path, path: str, said: str
) -> None:
    _a_run(tmp_path / "run", exported=4)
    run_folder.begin(tmp_path / "run", {"settings": {}, "data": {"path": "a/faces", "fingerprint": "f"}})
    with pytest.raises(ConfigError, match=said):
        run_folder.finished(
            tmp_path / "run", {"settings": {}, "data": {"path": path, "fingerprint": "other"}}
        )


def test_the_run_of_an_earlier_version_may_have_been_divided_in_another_way(tmp_path: Path) -> None:
    _a_run(tmp_path / "run", exported=4)
    here = {"settings": {}, "data": {"path": "faces", "fingerprint": "f"}, "versions": {"mien": "0.1.0"}}
    run_folder.begin(tmp_path / "run", here)
    said = r"the data has changed, or mien 0\.1\.0, which made the run, read or divided it in another way\)"
    with pytest.raises(ConfigError, match=said):
        run_folder.finished(tmp_path / "run", {**here, "data": {"path": "faces", "fingerprint": "other"}})


def test_a_run_without_a_whole_epoch_gives_way_to_other_settings(tmp_path: Path) -> None:
    run_folder.begin(tmp_path / "run", {**SETTINGS, "settings": {"learning_rate": 1e30}})
    assert run_folder.finished(tmp_path / "run", {**SETTINGS, "settings": {"learning_rate": 0.1}}) is None


def test_what_a_kill_left_half_written_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    """Each kill could leave the state of the network once more, hidden, for ever."""
    out = tmp_path / "run"
    _a_run(out, exported=2)
    report = out / run_folder.REPORT_FOLDER
    begun = [
        *(whole_file(path) for path in (out / "best.keras", out / run_folder.CHECKPOINT / "state.npz")),
        *(whole_folder(path) for path in (out / MODEL_FOLDER, report.with_name("report-faces"))),
    ]
    for one in begun:  # and never left, as by a kill
        place = one.__enter__()
        (place / "model.onnx" if place.is_dir() else place).write_text("half")
    (out / ".notes.of-mine.txt").write_text("of somebody else")
    run_folder.begin(out, SETTINGS)
    hidden = sorted(path.name.partition(".")[2].partition(".")[0] for path in out.rglob(".*"))
    assert hidden == ["notes", "report-faces"]  # which mien evaluate may be writing
    assert (out / MODEL_FOLDER / "model.json").exists()
    assert checkpoint.load(out / run_folder.CHECKPOINT / checkpoint.STATE_FILE)[0].epoch == 4


def test_a_training_that_cannot_start_does_not_replace_a_run(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=8, seed=1)
    _a_run(tmp_path / "run", exported=4)
    before = (tmp_path / "run" / "settings.json").read_bytes()
    with pytest.raises(ConfigError, match="nosuch"):
        train(TrainConfig(network="nosuch"), tmp_path / "faces", tmp_path / "run", retrain=True)
    assert (tmp_path / "run" / "settings.json").read_bytes() == before
    assert (tmp_path / "run" / "checkpoint" / checkpoint.STATE_FILE).exists()


def test_a_training_in_folds_that_cannot_start_does_not_replace_a_run(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=8, seed=1)
    _a_run(tmp_path / "run", exported=4)
    before = (tmp_path / "run" / "settings.json").read_bytes()
    with pytest.raises(ConfigError, match="needs a size of 16 or more"):
        train(TrainConfig(size=8, folds=2), tmp_path / "faces", tmp_path / "run", retrain=True)
    assert (tmp_path / "run" / "settings.json").read_bytes() == before
    assert (tmp_path / "run" / "checkpoint" / checkpoint.STATE_FILE).exists()


@pytest.mark.parametrize("steps", range(4))
def test_a_run_that_was_being_removed_when_it_was_killed_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Without its settings it was 'not a mien run', with its state it went on without a network."""
    run = tmp_path / "run"
    _a_run(run, exported=4)
    (run / "best.keras").write_bytes(b"weights")
    removed: list[Path] = []

    def killed(remove: Any) -> Any:
        def step(path: Path, *rest: Any, **named: Any) -> None:
            if path.parent == run:
                if len(removed) == steps:
                    raise KeyboardInterrupt
                removed.append(path)
            remove(path, *rest, **named)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.shutil, "rmtree", killed(run_folder.shutil.rmtree))
        patch.setattr(Path, "unlink", killed(Path.unlink))
        with suppress(KeyboardInterrupt):
            run_folder.clear(run)
    assert not (removed and (run / "checkpoint" / checkpoint.STATE_FILE).exists())
    run_folder.clear(run)
    assert not list(run.iterdir())


def _rows(count: int) -> list[dict[str, Any]]:
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")
    figures = np.linspace(0.1, 0.9, count)
    return [{"epoch": n + 1, **dict.fromkeys(names, float(figures[n]))} for n in range(count)]


def test_the_curves_mark_the_epoch_that_is_kept_and_show_a_single_one() -> None:
    accuracy = curves(_rows(20), kept=7).axes[1]
    assert accuracy.lines[-1].get_xdata()[0] == 7
    assert accuracy.lines[0].get_marker() == "None"
    (single,) = (axes for axes in curves(_rows(1), kept=1).axes if axes.get_title() == "loss")
    assert {line.get_marker() for line in single.lines} == {"."}
    assert all(float(tick).is_integer() for tick in single.get_xticks())


def test_other_settings_have_another_default_folder_and_the_same_ones_the_same() -> None:
    data = Path("sets/faces")
    assert run_folder.default_folder(data, "small") == Path("runs/faces-small")
    assert run_folder.default_folder(data, "small", settings={"seed": 7}) == Path("runs/faces-small-seed-7")
    many = {"seed": 7, "epochs": 3, "size": 16}
    found = run_folder.default_folder(data, "small", settings=many)
    assert found == run_folder.default_folder(data, "small", settings=dict(reversed(many.items())))
    assert found != run_folder.default_folder(data, "small", settings={**many, "seed": 8})
    assert run_folder.default_folder(data, "small", settings={"tracker": "mlflow"}) == Path(
        "runs/faces-small"
    )


def test_a_recipe_with_another_network_has_a_folder_of_its_own() -> None:
    recipe = load_recipe("mien")

    def place(recipe: Recipe | None, **asked: Any) -> str:
        return str(default_run(Path("faces"), config_from(recipe, asked), recipe, asked))

    assert place(recipe) == "runs/faces-mien"
    assert place(recipe, network="wide") == "runs/faces-mien-network-wide"
    assert place(None, network="wide") == "runs/faces-wide"
    assert place(None, epochs=3, classes=("a", "b")) == place(None, epochs=3, classes=["a", "b"])


def test_a_run_of_an_earlier_version_has_the_defaults_of_its_own_kind(tmp_path: Path) -> None:
    _a_run(tmp_path / "run", exported=4)
    now = {**SETTINGS, "settings": {**SETTINGS["settings"], "rotated": 0.5}}
    assert run_folder.finished(tmp_path / "run", now, {"rotated": 0.5})
    with pytest.raises(ConfigError, match=r"rotated: unset there, 0\.5 asked"):
        run_folder.finished(tmp_path / "run", now)


def test_a_second_training_of_one_folder_is_told_to_wait(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=8, seed=1)
    out = tmp_path / "run"
    with (
        locked(out, "being trained"),
        pytest.raises(ConfigError, match=r"is being trained by another process .*--to"),
    ):
        train(TrainConfig(), tmp_path / "faces", out)
    assert not out.exists()  # nothing was trained, so nothing is left


def test_a_lock_that_a_killed_training_left_is_none(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    with locked(tmp_path, "being trained"):
        assert "elsewhere" not in (tmp_path / ".lock").read_text()
    assert not (tmp_path / ".lock").exists()


def test_fingerprints_of_what_was_trained_on_are_kept(tmp_path: Path) -> None:
    keys = {"train": [b"a" * 16, b"b" * 16], "validation": [b"c" * 16]}
    run_folder.write_seen(tmp_path, keys)
    assert run_folder.seen(tmp_path) == {b"a" * 16, b"b" * 16}
    assert run_folder.seen(tmp_path / "nothing") == frozenset()


def test_what_a_run_says_of_soft_labels_are_their_shares() -> None:
    pictures = InMemoryPictures(np.zeros((2, 8, 8), np.uint8))
    soft = np.array([[0.8, 0.2, 0], [0.5, 0.4, 0.1]], np.float32)
    train_split = Split(pictures, np.array([0, 0]), ["a", "b"], shares=soft)
    hard_split = Split(pictures, np.array([0, 1]), ["c", "d"])
    dataset = Dataset(
        "d", Path("d"), ("calm", "sad", "shy"), {"train": train_split, "test": hard_split}, "f00"
    )
    about = run_folder.described(TrainConfig(), dataset, Path("d"))["data"]
    assert about["counts"]["train"] == {"calm": 2, "sad": 0, "shy": 0}
    assert about["shares"] == {"train": pytest.approx({"calm": 0.65, "sad": 0.3, "shy": 0.05})}


def _votes(rows: int) -> Any:
    return np.ones((rows, 8), np.float32)


@pytest.mark.parametrize("name", ["fer2013", "kaggle-faces"])
def test_content_decides_the_heads_and_no_file_name(name: str) -> None:
    """A copy of fer2013.csv under another name is the same data, so it trains the same network."""
    pictures = InMemoryPictures(np.zeros((7, 48, 48), np.uint8))
    names = [str(row) for row in range(7)]

    def heads(classes: tuple[str, ...], votes: Any, **settings: Any) -> dict[str, tuple[str, ...]]:
        split = Split(pictures, np.arange(7) % len(classes), names, votes)
        dataset = Dataset(name, Path(f"{name}.csv"), classes, {"train": split}, "f")
        return heads_for(dataset, TrainConfig(**settings))

    assert heads(FER2013, _votes(7)) == {"fer2013": FER2013, "votes": FERPLUS}
    assert heads(FER2013, _votes(7), votes_weight=0.0) == {"fer2013": FER2013}
    assert heads(FER2013, None) == {"expression": FER2013}
    assert heads(("happy", "sad"), _votes(7)) == {"expression": ("happy", "sad")}
