"""A recogniser answers what the network says, for any number of faces, and refuses what it was not made "
"for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from mien.errors import DataError, ModelError
from mien.predict.heads import Head
from mien.predict.recognizer import Recognizer

from .tiny_onnx import FACTS, LABELS, brightness_network, expected, write_folder


@pytest.fixture
def recognizer(tmp_path: Path) -> Recognizer:
    return Recognizer(write_folder(tmp_path / "model"))


@pytest.mark.parametrize("count", [1, 3, 63, 64, 65, 200])
def test_probabilities_are_right_at_every_batch_size(recognizer: Recognizer, count: int) -> None:
    inputs = np.random.default_rng(count).integers(0, 256, (count, 16, 16, 1)).astype(np.uint8)
    inputs[0] = 255
    found = recognizer.probabilities(inputs)["light"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(inputs), atol=1e-6)
    np.testing.assert_array_equal(found, recognizer.probabilities(inputs.astype(np.float32))["light"])
    np.testing.assert_array_equal(found, recognizer.probabilities(inputs.astype(np.float64))["light"])


def test_no_faces_give_no_rows(recognizer: Recognizer) -> None:
    assert recognizer.probabilities(np.empty((0, 16, 16, 1), np.uint8))["light"].shape == (0, len(LABELS))
    assert recognizer.recognise([])["light"].shape == (0, len(LABELS))


def test_recognise_prepares_crops_of_any_size_and_colour(recognizer: Recognizer) -> None:
    crops = [np.full(shape, 200, np.uint8) for shape in ((1, 1), (40, 30, 3), (16, 16, 1), (7, 90, 3))]
    found = recognizer.recognise(crops)["light"]
    np.testing.assert_allclose(found, np.repeat(expected(np.full((1, 16, 16, 1), 200)), 4, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((1, 16, 16, 3), np.uint8),
        np.zeros((1, 17, 16, 1), np.uint8),
        np.zeros((16, 16, 1), np.uint8),
        np.zeros((1, 16, 16, 1), np.int32),
    ],
)
def test_inputs_of_another_shape_or_type_are_refused(recognizer: Recognizer, inputs: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"takes \(n, 16, 16, 1\) uint8 or float32 levels from 0 to 255, got"):
        recognizer.probabilities(inputs)


def test_a_bare_file_with_our_facts_is_enough(tmp_path: Path, recognizer: Recognizer) -> None:
    bare = Recognizer(tmp_path / "model" / "model.onnx")
    inputs = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1)).astype(np.uint8)
    assert bare.facts == FACTS
    np.testing.assert_array_equal(
        bare.probabilities(inputs)["light"], recognizer.probabilities(inputs)["light"]
    )


def test_a_bare_file_of_others_is_refused(tmp_path: Path) -> None:
    onnx.save(brightness_network(with_facts=False), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="does not say what its labels and input are"):
        Recognizer(tmp_path / "other.onnx")


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x00" * 64])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="is not a network that ONNX Runtime opens") as caught:
        Recognizer(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_truncated_network_is_refused(tmp_path: Path) -> None:
    content = brightness_network().SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="is not a network that ONNX Runtime opens"):
        Recognizer(tmp_path / "model.onnx")


def test_facts_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    other = replace(FACTS, heads=(Head(name="mood", labels=("a", "b")),))
    with pytest.raises(ModelError, match="has no head 'mood', only light"):
        Recognizer(write_folder(tmp_path / "head", other))
    other = replace(FACTS, heads=(Head(name="light", labels=("a", "b", "c")),))
    with pytest.raises(ModelError, match="head 'light' has 3 labels, the network gives 2 numbers"):
        Recognizer(write_folder(tmp_path / "labels", other))
    other = replace(FACTS, preprocess=replace(FACTS.preprocess, colour="rgb"))
    with pytest.raises(ModelError, match=r"one \(n, height, width, 3\) input"):
        Recognizer(write_folder(tmp_path / "colour", other))
