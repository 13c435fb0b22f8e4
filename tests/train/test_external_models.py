"""Networks that mien did not save: described once, then used by every command like its own."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the train extra")

import keras
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from mien.cli.main import main
from mien.data.drawn import draw_dataset
from mien.errors import ConfigError, ModelError
from mien.model.classifier import Classifier
from mien.model.folder import read_model_folder
from mien.train.config import TrainConfig
from mien.train.export.onnx import to_onnx
from mien.train.external_models import Description, adopt_keras, adopt_onnx, remember, remembered
from mien.train.run import train
from mien.train.transfer import open_network, open_to_start

from .tiny_networks import LABELS, metadata, small_network

LEVELS = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3)).astype(np.float32)
ENDS: dict[str, tuple[list[Any], int, bool]] = {
    "softmax": ([layers.Dense(3, activation="softmax")], 3, False),
    "logits": ([layers.Dense(3)], 3, True),
    "softmax apart": ([layers.Dense(3), layers.Softmax()], 3, False),
    "activation apart": ([layers.Dense(3), layers.Activation("softmax")], 3, False),
    "one sigmoid": ([layers.Dense(1, activation="sigmoid")], 2, False),
    "one logit": ([layers.Dense(1)], 2, True),
}


def _network(ends: list[Any], path: Path) -> keras.Model:
    keras.utils.set_random_seed(1)
    body = [keras.Input((12, 12, 3)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten()]
    model = keras.Sequential([*body, *(type(end).from_config(end.get_config()) for end in ends)])
    model.save(path)
    return model


def _wanted(model: keras.Model, levels: np.ndarray[Any, Any], logits: bool) -> np.ndarray[Any, Any]:
    raw = np.asarray(model.predict(levels / 127.5 - 1, verbose=0))
    if raw.shape[1] == 1:
        second = 1 / (1 + np.exp(-raw)) if logits else raw
        return np.concatenate([1 - second, second], axis=1)
    return np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True) if logits else raw


@pytest.mark.parametrize("kind", ENDS)
def test_an_adopted_network_answers_as_before(tmp_path: Path, kind: str) -> None:
    ends, count, logits = ENDS[kind]
    model = _network(ends, tmp_path / "other.keras")
    labels = ("angry", "happy", "sad")[:count]
    told = Description(labels=labels, input_range=(-1.0, 1.0), logits=logits)
    network, metadata, note = adopt_keras(model, tmp_path / "other.keras", told)
    np.testing.assert_allclose(network.predict(LEVELS, verbose=0), _wanted(model, LEVELS, logits), atol=1e-5)
    assert metadata.heads[0].labels == labels
    assert "levels from -1 to 1" in note


def test_logits_that_are_not_said_to_be_are_refused(tmp_path: Path) -> None:
    model = _network([layers.Dense(3)], tmp_path / "other.keras")
    with pytest.raises(ModelError, match="are they logits"):
        adopt_keras(model, tmp_path / "other.keras", Description(labels=("a", "b", "c")))
    with pytest.raises(ModelError, match="--labels names 2"):
        adopt_keras(model, tmp_path / "other.keras", Description(labels=("a", "b"), logits=True))
    with pytest.raises(ConfigError, match=r"the lower first, such as 0,1 or -1,1; got \(1\.0, -1\.0\)"):
        Description(input_range=(1.0, -1.0))


def test_a_description_is_remembered_under_the_content_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "one.h5").write_bytes(b"network")
    told = Description(labels=("a", "b"), input_range=(0.0, 1.0))
    assert remembered(tmp_path / "one.h5", None) == Description()
    assert remembered(tmp_path / "one.h5", told) == told
    assert remembered(tmp_path / "one.h5", None) == Description()  # not yet: it may turn out not to fit
    remember(tmp_path / "one.h5", told)
    (tmp_path / "one.h5").rename(tmp_path / "copy.h5")
    assert remembered(tmp_path / "copy.h5", None) == told
    (tmp_path / "copy.h5").write_bytes(b"another network")
    assert remembered(tmp_path / "copy.h5", None) == Description()


def _onnx(path: Path, *, channels_first: bool, batch: str | int = "n", kind: int = TensorProto.FLOAT) -> Path:
    """A network with one sigmoid of the mean level in [-1, 1]. kind: of the numbers that it takes."""
    shape = [batch, 3, 12, 12] if channels_first else [batch, 12, 12, 3]
    taken, entry = ("x", []) if kind == TensorProto.FLOAT else (
        "whole", [helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.FLOAT)]
    )  # fmt: skip
    nodes = [
        *entry,
        helper.make_node("ReduceMean", [taken], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["tall"]),
        helper.make_node("Sigmoid", ["tall"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 1])],
        [numpy_helper.from_array(np.array([-1, 1], np.int64), "column")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize("channels_first", [False, True])
def test_an_onnx_file_becomes_a_model_folder(tmp_path: Path, channels_first: bool) -> None:
    path = _onnx(tmp_path / "mean.onnx", channels_first=channels_first)
    adopt_onnx(path, tmp_path / "folder", Description(labels=("dark", "bright"), input_range=(-1.0, 1.0)))
    found = Classifier(tmp_path / "folder").probabilities(LEVELS)["expression"]
    bright = 1 / (1 + np.exp(-(LEVELS / 127.5 - 1).mean(axis=(1, 2, 3))))
    np.testing.assert_allclose(found, np.stack([1 - bright, bright], axis=1), atol=1e-5)
    with pytest.raises(ModelError, match="open batch size"):
        fixed = _onnx(tmp_path / "fixed.onnx", channels_first=channels_first, batch=4)
        adopt_onnx(fixed, tmp_path / "other", Description(labels=("dark", "bright")))


def test_an_onnx_file_gets_its_int8_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--int8 was passed over without a word. Its tensors may have the names of ours; that was 'no network'."""
    draw_dataset(tmp_path / "faces", classes=LABELS, per_class=8, seed=1)
    proto = to_onnx(small_network(), metadata())
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "other.onnx")
    words = [
        "--to",
        str(tmp_path / "folder"),
        "--labels",
        ",".join(LABELS),
        "--int8",
        str(tmp_path / "faces"),
    ]
    assert main(["export", str(tmp_path / "other.onnx"), *words]) == 0
    assert "int8     " in capsys.readouterr().out


def test_sigmoids_that_do_not_sum_to_one_are_refused(tmp_path: Path) -> None:
    """A softmax took their place, which answers otherwise."""
    model = _network([layers.Dense(3, activation="sigmoid")], tmp_path / "other.keras")
    with pytest.raises(ModelError, match="ends in 3 sigmoids, whose outputs do not sum to one"):
        adopt_keras(model, tmp_path / "other.keras", Description(labels=LABELS))


@pytest.mark.parametrize("kind", ["UINT8", "FLOAT16", "DOUBLE"])
def test_an_onnx_file_that_takes_other_numbers(tmp_path: Path, kind: str) -> None:
    path = _onnx(tmp_path / "x.onnx", channels_first=True, kind=getattr(TensorProto, kind))
    adopt_onnx(path, tmp_path / "model", Description(labels=("a", "b")))
    levels = np.full((2, 12, 12, 3), 3, np.float32)
    found = Classifier(tmp_path / "model" / "model.onnx").probabilities(levels)["expression"]
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-3.0)), atol=1e-5)
    with pytest.raises(ModelError, match="takes INT64 numbers; mien feeds float, float16, double and uint8"):
        adopt_onnx(
            _onnx(path, channels_first=True, kind=TensorProto.INT64),
            tmp_path / "m",
            Description(labels=("a", "b")),
        )


def test_every_command_takes_the_same_description_and_remembers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    _network([layers.Dense(1, activation="sigmoid")], tmp_path / "other.h5")
    rng = np.random.default_rng(0)
    for part, label in [(part, label) for part in ("train", "test") for label in ("happy", "sad")]:
        (tmp_path / "faces" / part / label).mkdir(parents=True)
        for row in range(6):
            picture = rng.integers(0, 256, (12, 12, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "faces" / part / label / f"{part}{row}.png"), picture)
    assert main(["evaluate", "other.h5", "faces", "--resamples", "200"]) == 2
    assert "name them in order with --labels" in capsys.readouterr().err
    refused = ["--labels", "sad,happy", "--colour", "grey"]
    assert main(["evaluate", "other.h5", "faces", *refused]) == 2
    assert "takes 3 channels, which cannot be grey; set --colour" in capsys.readouterr().err
    assert main(["evaluate", "other.h5", "faces"]) == 2  # what was refused is not remembered
    assert "name them in order with --labels" in capsys.readouterr().err
    words = ["--labels", "sad,happy", "--input-range", "-1,1"]
    assert main(["evaluate", "other.h5", "faces", "--resamples", "200", *words, "--to", "first"]) == 0
    assert main(["evaluate", "other.h5", "faces", "--resamples", "200", "--to", "second"]) == 0
    scores = [
        json.loads((tmp_path / name / "report.json").read_text())["scores"] for name in ("first", "second")
    ]
    assert scores[0] == scores[1]
    assert main(["export", "other.h5", "--to", "folder", "--name", "mine"]) == 0
    metadata = read_model_folder(tmp_path / "folder").metadata
    assert (metadata.name, metadata.heads[0].labels) == ("mine", ("sad", "happy"))
    capsys.readouterr()
    picture = "faces/test/happy/test0.png"
    assert main(["predict", picture, "--model", "other.h5", "--detector", "whole", "--json"]) == 0
    face = json.loads(capsys.readouterr().out)
    assert "sad" in json.dumps(face)


def test_from_takes_a_network_of_which_only_the_input_is_known(tmp_path: Path) -> None:
    _network([layers.Dense(3, activation="softmax")], tmp_path / "other.h5")
    with pytest.raises(ModelError, match="--input-range"):
        open_to_start(str(tmp_path / "other.h5"), (), None)
    network, metadata = open_to_start(str(tmp_path / "other.h5"), (-1.0, 1.0), None)
    assert metadata.preprocess.size == 12
    np.testing.assert_allclose(
        keras.Model(network.inputs, network.get_layer("to_input_range").output).predict(LEVELS, verbose=0),
        LEVELS / 127.5 - 1,
        atol=1e-5,
    )


@pytest.mark.slow
def test_a_foreign_network_is_fine_tuned(tmp_path: Path) -> None:
    from mien.data.drawn import draw_dataset

    _network([layers.Dense(3, activation="softmax")], tmp_path / "other.h5")
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=8, seed=1)
    config = TrainConfig(
        init_from=str(tmp_path / "other.h5"), input_range=(-1.0, 1.0), epochs=1, batch_size=8
    )
    done = train(config, tmp_path / "faces", tmp_path / "run")
    _, metadata = open_network(str(done.folder))
    assert metadata.heads[0].labels == ("happy", "sad")


def test_a_one_output_network_of_the_cases(shared: Path) -> None:
    path = shared / "cases" / "training" / "one-output.h5"
    if not path.is_file():
        pytest.skip("needs ../shared/cases")
    network, metadata = open_network(str(path), Description(labels=("sad", "happy"), input_range=(0.0, 1.0)))
    answers = network.predict(np.zeros((2, *metadata.preprocess.shape), np.float32), verbose=0)
    assert answers.shape == (2, 2)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_a_litert_file_carries_its_labels(tmp_path: Path) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT files are written from the TensorFlow backend only")
    from mien.train.export.litert import export_litert

    model = _network([layers.Dense(3, activation="softmax")], tmp_path / "other.keras")
    network, metadata, _ = adopt_keras(model, tmp_path / "other.keras", Description(labels=("a", "b", "c")))
    export_litert(network, tmp_path / "phone.tflite", metadata)
    with zipfile.ZipFile(tmp_path / "phone.tflite") as archive:
        assert archive.read("labels_expression.txt").decode().split() == ["a", "b", "c"]
        assert json.loads(archive.read("mien.json"))["name"] == "other"
