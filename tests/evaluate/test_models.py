"""Every form of a model opens by the same call and gives the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.data.dataset import Split
from mien.data.pictures import InMemoryPictures
from mien.errors import ConfigError, ModelError
from mien.evaluate import models
from mien.evaluate.config import EvaluateConfig
from mien.evaluate.models import open_as, open_model, prepared_chunks
from mien.model.preprocess import Preprocess, to_model_inputs

LABELS = ("dark", "middle", "bright")
SIZE = 8


def split_of(n: int, size: int = SIZE) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size), np.uint8)
    return Split(InMemoryPictures(pixels), np.zeros(n, np.int64), [f"picture {i}" for i in range(n)])


def by_hand(split: Split) -> NDArray[np.float64]:
    """The answers of the networks in conftest.py."""
    levels = np.array([40.0, 128.0, 215.0])
    means = np.array([split.pictures.read(i).mean() for i in range(len(split))])
    powers = np.exp((2 * levels * means[:, None] - levels**2) / 1000)
    return powers / powers.sum(axis=1, keepdims=True)


def test_onnx_file_folder_and_run_agree(
    onnx_file: Callable[..., Path], model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    split = split_of(131)  # two whole batches of 64 and a rest of 3
    run = tmp_path / "run"
    model_folder("run/model")
    for path, kind in (
        (onnx_file("a.onnx", LABELS), "onnx"),
        (model_folder("folder"), "model folder"),
        (run, "run"),
    ):
        scorer = open_model(path)
        assert scorer.kind == kind
        assert [head.labels for head in scorer.heads] == [LABELS]
        answers = scorer.probabilities(split)["expression"]
        np.testing.assert_allclose(answers, by_hand(split), atol=1e-5)
        assert (answers.dtype, scorer.size_bytes > 0, scorer.parameters) == (np.float32, True, 6)


def test_the_size_is_that_of_the_form_that_runs() -> None:
    int8, float32 = (
        open_as("mien", EvaluateConfig(precision=form)).size_bytes for form in ("auto", "float32")
    )
    assert 3 * int8 < float32 < 4 * int8


def test_no_pictures_give_no_answers(model_folder: Callable[..., Path]) -> None:
    assert open_model(model_folder()).probabilities(split_of(0))["expression"].shape == (0, 3)


def test_flip_is_a_view(model_folder: Callable[..., Path]) -> None:
    scorer, split, calls = open_model(model_folder()), split_of(5), []
    answers = scorer.probabilities(split, tta="flip", progress=lambda *told: calls.append(told))
    np.testing.assert_allclose(answers["expression"], by_hand(split), atol=1e-5)  # a mean level has no sides
    assert calls == [(5, 5)]


def test_chunks_are_whole_in_order_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_CHUNK_BYTES", 70 * SIZE * SIZE)
    split, how = split_of(150, size=11), Preprocess(size=SIZE)
    chunks = list(prepared_chunks(split.pictures, how))
    assert [len(chunk) for chunk in chunks] == [70, 70, 10]
    whole = to_model_inputs([split.pictures.read(i) for i in range(150)], how)
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


@pytest.mark.parametrize("channels_first", [False, True])
def test_a_foreign_onnx_file_needs_its_labels(onnx_file: Callable[..., Path], channels_first: bool) -> None:
    path, split = onnx_file("other.onnx", LABELS, ours=False, channels_first=channels_first), split_of(70)
    with pytest.raises(ModelError, match=r"was not saved by mien.* --labels a,b,c"):
        open_model(path)
    scorer = open_model(path, labels=LABELS)
    np.testing.assert_allclose(scorer.probabilities(split)["expression"], by_hand(split), atol=1e-5)
    assert "taken as 8x8 grey, levels from 0 to 255, labels dark, middle, bright" in scorer.note


def test_settings_of_a_foreign_network_are_checked(onnx_file: Callable[..., Path]) -> None:
    path = onnx_file("other.onnx", LABELS, ours=False)
    with pytest.raises(ModelError, match=r"answers with shape \(3,\) a picture; --labels names 2"):
        open_model(path, labels=("dark", "bright")).probabilities(split_of(1))
    with pytest.raises(ModelError, match="takes 8x8 pictures; leave --size 9 out"):
        open_as(path, EvaluateConfig(labels=LABELS, size=9))
    with pytest.raises(ModelError, match="takes 1 channel, which cannot be rgb"):
        open_as(path, EvaluateConfig(labels=LABELS, colour="rgb"))
    with pytest.raises(ConfigError, match="the lower first"):
        EvaluateConfig(input_range=(1.0, 0.0))


def test_levels_and_logits_of_a_foreign_network(onnx_file: Callable[..., Path]) -> None:
    split = split_of(3)
    scorer = open_as(
        onnx_file("other.onnx", LABELS, ours=False), EvaluateConfig(labels=LABELS, input_range=(0, 1))
    )
    np.testing.assert_allclose(scorer.probabilities(split)["expression"][:, 0] > 0.9, True)  # all looks dark
    logits = EvaluateConfig(labels=LABELS, logits=True)
    softer = open_as(onnx_file("other.onnx", LABELS, ours=False), logits).probabilities(split)["expression"]
    powers = np.exp(by_hand(split))
    np.testing.assert_allclose(softer, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "there is no model"),
        ("text.keras", "damaged or not a .keras file"),
        ("text.h5", "damaged or not a .h5 file"),
        ("text.onnx", "is not a network that ONNX Runtime opens"),
        ("text.pth", "is not a model; name a run folder"),
        ("folder", "neither a run"),
    ],
)
def test_what_is_no_model(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    if "." in name:
        (tmp_path / name).write_text("hello")
    with pytest.raises(ModelError, match=message) as caught:
        open_model(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def network() -> Any:
    """The network of conftest.py in Keras, with a second head that answers the other way round."""
    from mien.train import backend

    keras = backend.import_keras()
    levels = np.array([40.0, 128.0, 215.0], np.float32)
    faces = keras.Input((SIZE, SIZE, 1), name="faces")
    mean = keras.layers.GlobalAveragePooling2D()(faces)
    heads = [keras.layers.Dense(3, activation="softmax", name=name) for name in ("expression", "votes")]
    model = keras.Model(faces, [head(mean) for head in heads])
    for head, order in zip(heads, (levels, levels[::-1]), strict=True):
        head.set_weights([(2 * order / 1000)[None], -(order**2) / 1000])
    return model


def test_keras_files_with_facts(network: Any, tmp_path: Path) -> None:
    from mien.model.metadata import Head, Metadata
    from mien.train.export.keras_io import save_network

    heads = (Head(name="expression", labels=LABELS), Head(name="votes", labels=LABELS[::-1]))
    metadata = Metadata(name="levels", preprocess=Preprocess(size=SIZE), heads=heads)
    split = split_of(67)
    for suffix in (".keras", ".h5"):
        scorer = open_model(save_network(network, tmp_path / f"net{suffix}", metadata))
        answers = scorer.probabilities(split)
        np.testing.assert_allclose(answers["expression"], by_hand(split), atol=1e-5)
        np.testing.assert_allclose(answers["votes"], by_hand(split)[:, ::-1], atol=1e-5)
        assert (scorer.is_keras, scorer.parameters) == (True, 12)


def test_foreign_keras_files(network: Any, tmp_path: Path) -> None:
    from mien.train import backend

    keras = backend.import_keras()
    single = keras.Model(network.inputs, network.outputs[0])
    single.save(tmp_path / "other.keras")
    with pytest.raises(ModelError, match="was not saved by mien"):
        open_model(tmp_path / "other.keras")
    split = split_of(65)
    answers = open_model(tmp_path / "other.keras", labels=LABELS).probabilities(split)
    np.testing.assert_allclose(answers["expression"], by_hand(split), atol=1e-5)
    network.save(tmp_path / "two.keras")
    with pytest.raises(ModelError, match="1 input and 2 outputs"):
        open_model(tmp_path / "two.keras", labels=LABELS)
    any_size = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    any_size.save(tmp_path / "any.keras")
    with pytest.raises(ModelError, match=r"pictures of any size .* set --size"):
        open_model(tmp_path / "any.keras", labels=LABELS)
    scorer = open_as(tmp_path / "any.keras", EvaluateConfig(labels=LABELS, size=16))
    assert (scorer.metadata.preprocess.size, scorer.metadata.preprocess.colour) == (16, "rgb")
    with pytest.raises(ModelError, match="not probabilities that sum to one; are they logits"):
        scorer.probabilities(split)
