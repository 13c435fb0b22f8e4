"""The int8 form: nearly the same answers, kept only when it is good enough, and hashed like the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")

from mien.data.dataset import Split  # noqa: E402
from mien.errors import ModelError  # noqa: E402
from mien.evaluate.models import open_model  # noqa: E402
from mien.model.classifier import Classifier  # noqa: E402
from mien.model.folder import INT8_FILE, MODEL_FILE, read_model_folder  # noqa: E402
from mien.model.metadata import Head, Metadata  # noqa: E402
from mien.model.preprocess import Preprocess  # noqa: E402
from mien.train.export.card import describe, record_scores  # noqa: E402
from mien.train.export.folder import export  # noqa: E402
from mien.train.export.int8 import _quantise, add_int8  # noqa: E402
from mien.train.networks import network  # noqa: E402
from mien.train.networks.small import build_small  # noqa: E402
from mien.train.networks.spec import NetworkRequest  # noqa: E402
from mien.train.transfer import open_network  # noqa: E402

LABELS = ("a", "b", "c")


class Held:
    """Pictures in memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> np.ndarray:
        return self.pixels[index]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """300 soft random pictures that differ in tone."""
    rng = np.random.default_rng(0)
    tones = rng.integers(30, 220, (300, 1, 1, 1))
    return np.clip(tones + rng.normal(0, 30, (300, 16, 16, 1)), 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """A model folder of an untrained network, its head shifted so that no class wins everywhere."""
    how = Preprocess(size=16, colour="grey")
    keras.utils.set_random_seed(1)
    network = build_small(NetworkRequest(heads={"expression": LABELS}, preprocess=how))
    head = network.get_layer("expression")
    kernel, _ = head.get_weights()
    logs = np.log(np.asarray(network.predict_on_batch(pixels.astype(np.float32))))
    head.set_weights([kernel, -logs.mean(axis=0)])
    metadata = Metadata(name="tiny", preprocess=how, heads=(Head(name="expression", labels=LABELS),))
    return export(network, tmp_path / "model", metadata)


def _split(pixels: np.ndarray, labels: np.ndarray) -> Split:
    return Split(Held(pixels), labels.astype(np.int64), [""] * len(pixels))


def test_the_int8_form_answers_nearly_alike_and_is_what_opens(folder: Path, pixels: np.ndarray) -> None:
    exact = Classifier(folder).probabilities(pixels)["expression"]
    # No answer is right in either form: nothing is lost.
    never = np.full(len(pixels), exact.argmax(axis=1).min() - 1)
    found, kept = add_int8(folder, _split(pixels, never), _split(pixels, never))
    assert kept and found.lost == 0
    coarse = Classifier(folder).probabilities(pixels)["expression"]
    assert 0 < np.abs(coarse - exact).max() < 0.1
    assert found.agreement == (coarse.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.9
    np.testing.assert_array_equal(Classifier(folder, "float32").probabilities(pixels)["expression"], exact)
    np.testing.assert_array_equal(Classifier(folder / INT8_FILE).probabilities(pixels)["expression"], coarse)
    assert found.bytes < 0.4 * read_model_folder(folder).onnx.stat().st_size
    record_scores(folder, ())
    assert read_model_folder(folder).int8 is not None


def test_the_layer_that_sees_one_channel_stays_in_float32(folder: Path, pixels: np.ndarray) -> None:
    never = np.full(len(pixels), -1)
    add_int8(folder, _split(pixels, never), _split(pixels, never))
    graph = onnx.load(folder / INT8_FILE).graph
    producers = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    coarse = [producers.get(node.input[1]) == "DequantizeLinear" for node in convolutions]
    assert coarse == [False] + [True] * 9


def test_a_changed_or_missing_int8_file_is_noticed(folder: Path, pixels: np.ndarray) -> None:
    never = np.full(len(pixels), -1)
    add_int8(folder, _split(pixels, never), _split(pixels, never))
    file = folder / INT8_FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"model-int8.onnx is not the file that model.json describes"):
        Classifier(folder)
    file.unlink()
    with pytest.raises(ModelError, match=r"SHA-256 missing"):
        Classifier(folder)


def test_the_int8_form_alone_is_enough_to_answer(folder: Path, pixels: np.ndarray) -> None:
    never = np.full(len(pixels), -1)
    add_int8(folder, _split(pixels, never), _split(pixels, never))
    both = Classifier(folder).probabilities(pixels)["expression"]
    metadata = read_model_folder(folder).metadata
    (folder / MODEL_FILE).unlink()
    with pytest.raises(ModelError, match=r"model\.onnx is not the file .*SHA-256 missing"):
        read_model_folder(folder)  # one that was lost is not one that never was there
    describe(folder, metadata)
    alone = Classifier(folder)
    assert alone.precision == "int8" and read_model_folder(folder).onnx is None
    np.testing.assert_array_equal(alone.probabilities(pixels)["expression"], both)
    assert open_model(folder).metadata == alone.metadata
    with pytest.raises(ModelError, match="no float32 form; leave the precision out, or use int8"):
        Classifier(folder, "float32")
    with pytest.raises(ModelError, match="int8 form alone: it answers, but cannot be trained on, teach"):
        open_network(str(folder))
    record_scores(folder, ())
    assert Classifier(folder).precision == "int8"


def test_an_int8_form_that_loses_too_much_is_not_kept(folder: Path, pixels: np.ndarray) -> None:
    exact = Classifier(folder).probabilities(pixels)["expression"]
    # The 2,000 steps between two pictures with different answers cross a tie; eight bits put it somewhere else.
    first = exact.argmax(axis=1)
    one, other = pixels[first == first[0]][0], pixels[first != first[0]][0]
    steps = np.linspace(0, 1, 2000)[:, None, None, None]
    between = np.round((1 - steps) * one + steps * other).astype(np.uint8)
    hard = _split(between, Classifier(folder).probabilities(between)["expression"].argmax(axis=1))
    found, kept = add_int8(folder, _split(pixels, np.zeros(len(pixels))), hard)
    assert found.float32_accuracy == 1 > found.accuracy
    assert not kept and not (folder / INT8_FILE).exists()
    with pytest.raises(ModelError, match="has no int8 form"):
        Classifier(folder, "int8")


def test_nothing_between_convolutions_stays_in_float(tmp_path: Path) -> None:
    """A float ReLU6 between two int8 convolutions would cost more than int8 saves."""
    how = Preprocess(size=32, colour="rgb")
    request = NetworkRequest(heads={"expression": LABELS}, preprocess=how, weights="none")
    metadata = Metadata(name="tiny", preprocess=how, heads=(Head(name="expression", labels=LABELS),))
    folder = export(network("efficientnet-lite0").build(request), tmp_path / "model", metadata)
    faces = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    _quantise(read_model_folder(folder).onnx, tmp_path / "int8.onnx", faces)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert {made_by[node.input[0]] for node in convolutions} == {"DequantizeLinear"}
    # The ranges of the int8 values do what ReLU6 does; a Clip that is left would work on floats.
    assert "Clip" not in made_by.values()
