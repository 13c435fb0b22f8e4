"""A recogniser answers what the network says, for any number of faces, and refuses what it was not made "
"for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from mien.errors import DataError, ModelError
from mien.model.classifier import Classifier
from mien.model.folder import MODEL_FILE, SHIPPED, write_metadata
from mien.model.metadata import Features, Head

from .tiny_onnx import LABELS, METADATA, brightness_network, expected, write_folder


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    return Classifier(write_folder(tmp_path / "model"))


@pytest.mark.parametrize("count", [1, 3, 63, 64, 65, 200])
def test_probabilities_are_right_at_every_batch_size(classifier: Classifier, count: int) -> None:
    inputs = np.random.default_rng(count).integers(0, 256, (count, 16, 16, 1)).astype(np.uint8)
    inputs[0] = 255
    found = classifier.probabilities(inputs)["light"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(inputs), atol=1e-6)
    np.testing.assert_array_equal(found, classifier.probabilities(inputs.astype(np.float32))["light"])
    np.testing.assert_array_equal(found, classifier.probabilities(inputs.astype(np.float64))["light"])


def test_no_faces_give_no_rows(classifier: Classifier) -> None:
    assert classifier.probabilities(np.empty((0, 16, 16, 1), np.uint8))["light"].shape == (0, len(LABELS))
    assert classifier.predict([])["light"].shape == (0, len(LABELS))


def test_recognise_prepares_crops_of_any_size_and_colour(classifier: Classifier) -> None:
    crops = [np.full(shape, 200, np.uint8) for shape in ((1, 1), (40, 30, 3), (16, 16, 1), (7, 90, 3))]
    found = classifier.predict(crops)["light"]
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
def test_inputs_of_another_shape_or_type_are_refused(classifier: Classifier, inputs: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"takes \(n, 16, 16, 1\) uint8 or float32 levels from 0 to 255, got"):
        classifier.probabilities(inputs)


def test_a_bare_file_with_our_facts_is_enough(tmp_path: Path, classifier: Classifier) -> None:
    bare = Classifier(tmp_path / "model" / "model.onnx")
    inputs = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1)).astype(np.uint8)
    assert bare.metadata == METADATA
    np.testing.assert_array_equal(
        bare.probabilities(inputs)["light"], classifier.probabilities(inputs)["light"]
    )


def test_a_bare_file_of_others_is_refused(tmp_path: Path) -> None:
    onnx.save(brightness_network(with_metadata=False), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="does not say what its labels and input are"):
        Classifier(tmp_path / "other.onnx")


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x00" * 64])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="is not a network that ONNX Runtime opens") as caught:
        Classifier(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    packed = Path(
        shutil.make_archive(str(tmp_path / "run"), "zip", write_folder(tmp_path / "model", METADATA))
    )
    with pytest.raises(ModelError, match=r"run\.zip is not a network .*; unpack it and name the folder$"):
        Classifier(packed)


def test_a_truncated_network_is_refused(tmp_path: Path) -> None:
    content = brightness_network().SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="is not a network that ONNX Runtime opens"):
        Classifier(tmp_path / "model.onnx")


def test_facts_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    other = replace(METADATA, heads=(Head(name="mood", labels=("a", "b")),))
    with pytest.raises(ModelError, match="has no head 'mood', only light"):
        Classifier(write_folder(tmp_path / "head", other))
    other = replace(METADATA, heads=(Head(name="light", labels=("a", "b", "c")),))
    with pytest.raises(ModelError, match="head 'light' has 3 labels, the network gives 2 numbers"):
        Classifier(write_folder(tmp_path / "labels", other))
    other = replace(METADATA, preprocess=replace(METADATA.preprocess, colour="rgb"))
    with pytest.raises(ModelError, match=r"one \(n, height, width, 3\) input"):
        Classifier(write_folder(tmp_path / "colour", other))


def with_features(folder: Path) -> Path:
    """Write the network by hand with its mean level as its one feature."""
    metadata = replace(METADATA, features=Features(tensor="means", size=1))
    proto = brightness_network(metadata)
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info("means", onnx.TensorProto.FLOAT, ["batch", 1])
    )
    folder.mkdir()
    onnx.save(proto, folder / MODEL_FILE)
    write_metadata(folder, metadata)
    return folder


@pytest.mark.parametrize("count", [0, 1, 65])
def test_features_are_what_the_last_layer_answers_from(tmp_path: Path, count: int) -> None:
    classifier = Classifier(with_features(tmp_path / "with"))
    inputs = np.random.default_rng(count).integers(0, 256, (count, 16, 16, 1)).astype(np.uint8)
    found = classifier.features(inputs)
    assert found.shape == (count, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], inputs.mean(axis=(1, 2, 3)), rtol=1e-5)
    both = classifier.features_and_probabilities(inputs)
    np.testing.assert_array_equal(both[0], found)
    np.testing.assert_array_equal(both[1]["light"], classifier.probabilities(inputs)["light"])


def test_a_folder_without_features_says_how_to_get_them(classifier: Classifier) -> None:
    with pytest.raises(ModelError, match=r"gives no features: .*; write it again: mien export .* --to NEW"):
        classifier.features(np.zeros((1, 16, 16, 1), np.uint8))


@pytest.mark.parametrize("said", [{"tensor": "logits", "size": 2}, {"tensor": "means", "size": 3}])
def test_features_that_the_network_does_not_give_are_refused(tmp_path: Path, said: dict[str, object]) -> None:
    folder = with_features(tmp_path / "with")
    write_metadata(folder, replace(METADATA, features=Features.from_dict(said)))
    with pytest.raises(ModelError, match=r"has no output .* features a face; export the model again"):
        Classifier(folder)


@pytest.mark.parametrize(
    "said", [7, {"tensor": "means"}, {"tensor": 3, "size": 1}, {"tensor": "means", "size": 0}]
)
def test_features_in_another_form_are_refused(said: object) -> None:
    with pytest.raises(ModelError, match="features of the model"):
        Features.from_dict(said)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_shipped_network_gives_features(precision: str) -> None:
    """Another linear layer of the folder, the votes head, answers from them what the network answers."""
    classifier = Classifier(SHIPPED / "mien", precision)
    inputs = (
        np.random.default_rng(0).integers(0, 256, (8, *classifier.metadata.preprocess.shape)).astype(np.uint8)
    )
    features, answers = classifier.features_and_probabilities(inputs)
    weights = {
        one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(classifier.file).graph.initializer
    }
    logits = (features @ weights["votes/kernel"] + weights["votes/bias"]) / weights["votes/temperature"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert features.shape == (8, classifier.metadata.features.size) == (8, 256)
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), answers["votes"], atol=1e-5)
