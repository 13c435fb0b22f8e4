"""`mien export` from every form that a network of ours has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from mien.cli.main import main
from mien.data.drawn import draw_dataset
from mien.model.classifier import Classifier
from mien.model.folder import model_path
from mien.train.export.folder import export
from mien.train.export.keras_io import load_network, save_network

from .tiny_networks import keras_answers, levels, metadata, small_network


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """What `mien train` leaves that matters here: the raw network and the calibrated model folder."""
    folder = tmp_path / "run"
    model = small_network()
    save_network(model, folder / "best.keras", metadata())
    export(model, folder / "model", metadata(temperature=1.5, threshold=0.3))
    return folder


def test_a_run_is_exported_with_its_calibration(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run_folder), "--to", str(tmp_path / "mine"), "--name", "mine"]) == 0
    found = Classifier(tmp_path / "mine")
    assert (found.metadata.name, found.metadata.heads[0].temperature) == ("mine", 1.5)
    wanted = Classifier(run_folder / "model").probabilities(levels(3))["expression"]
    np.testing.assert_allclose(found.probabilities(levels(3))["expression"], wanted, atol=1e-6)
    printed = capsys.readouterr().out
    assert f"model    {tmp_path / 'mine'}\n" in printed
    assert "139 parameters" in printed


@pytest.mark.parametrize("source", ["best.keras", "model", "model/model.onnx"])
def test_other_forms_are_exported(tmp_path: Path, run_folder: Path, source: str) -> None:
    assert main(["export", str(run_folder / source), "--to", str(tmp_path / "mine")]) == 0
    found = Classifier(tmp_path / "mine")
    assert found.metadata.heads[0].temperature == (1.0 if source == "best.keras" else 1.5)


@pytest.mark.parametrize("option", ["--h5", "--keras"])
def test_keras_files_are_written_raw(tmp_path: Path, run_folder: Path, option: str) -> None:
    path = tmp_path / f"mine.{option[2:]}"
    assert main(["export", str(run_folder / "model"), option, str(path)]) == 0
    model, about = load_network(path)
    assert about is not None
    assert about.heads == metadata().heads
    raw = keras_answers(load_network(run_folder / "best.keras")[0], levels(2))
    np.testing.assert_allclose(keras_answers(model, levels(2)), raw, atol=1e-6)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_the_shipped_network_comes_back_from_a_keras_file(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"mine.{suffix}"
    assert main(["export", "mien", f"--{suffix}", str(file)]) == 0
    assert main(["export", str(file), "--to", str(tmp_path / "mine")]) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), np.uint8)
    found, shipped = Classifier(tmp_path / "mine"), Classifier(model_path("mien"), "float32")
    again, known = (one.predict(list(pixels))["votes"] for one in (found, shipped))
    assert (again.argmax(axis=1) == known.argmax(axis=1)).all() and len(set(again.argmax(axis=1))) >= 1
    assert np.ptp(again, axis=0).max() > 0.01, "it depends on the picture"


def test_litert_from_the_command(tmp_path: Path, run_folder: Path) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT files are written from the TensorFlow backend only")
    assert main(["export", str(run_folder), "--litert", str(tmp_path / "mine.tflite")]) == 0
    assert (tmp_path / "mine.tflite").stat().st_size > 500


def test_int8_takes_the_data_as_the_training_did_or_writes_nothing(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = metadata().heads[0].labels
    draw_dataset(tmp_path / "faces", classes=(*labels, "surprise"), per_class=8, seed=1)
    words = ["export", str(run_folder), "--to", str(tmp_path / "mine"), "--int8", str(tmp_path / "faces")]
    assert main(words) == 2
    assert "use --classes" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
    assert main([*words, "--classes", ",".join(labels)]) == 0
    assert "validation faces" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}"], "export to what? Give --to DIR"),
        (["{run}", "--h5", "mine.keras"], "--h5 must name a file that ends in .h5, got mine.keras"),
        (["nowhere", "--to", "x"], "there is no model nowhere"),
        (["{run}", "--to", "{run}"], "is there already and is not a model folder"),
        (["{run}/text.keras", "--to", "x"], "is damaged or not a .keras file"),
        (["mien", "--to", "{run}/model"], "as mien train wrote it; name another place"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    run_folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_folder / "text.keras").write_text("not a network")
    assert main(["export", *(argument.format(run=run_folder) for argument in arguments)]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_facts_of_another_name_stay(tmp_path: Path, run_folder: Path) -> None:
    save_network(small_network(), tmp_path / "b.keras", replace(metadata(), name="given"))
    assert main(["export", str(tmp_path / "b.keras"), "--to", str(tmp_path / "mine")]) == 0
    assert Classifier(tmp_path / "mine").metadata.name == "given"
    assert run_folder.exists()
