"""Grad-CAM on networks set by hand: the heat lies where the evidence is, under TensorFlow and under JAX."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from mien.detect.registry import WholePicture
from mien.errors import ModelError
from mien.explain.explain import ExplainConfig, explain_face, open_explainer
from mien.explain.grad_cam import GradCam, KerasNetwork
from mien.model.metadata import Head, Metadata
from mien.model.preprocess import Preprocess
from mien.train.export.keras_io import save_network

from ..train.tiny_networks import network, small_network

pytestmark = pytest.mark.backend
SIZE, LABELS = 16, ("dark", "bright")
HEAD = Head(name="light", labels=LABELS)
METADATA = Metadata(name="spots", preprocess=Preprocess(size=SIZE, colour="grey"), heads=(HEAD,))


def spot_network(bright: float = 1.0) -> keras.Model:
    """Two maps at half the size, what is brighter and what is darker than 128; each label takes the mean of its own,
    and what is dark speaks against `bright`."""
    faces = keras.Input((SIZE, SIZE, 1), name="faces")
    x = layers.Rescaling(1 / 128, offset=-1)(faces)
    x = layers.Conv2D(2, 1, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x))
    model = keras.Model(faces, layers.Dense(2, activation="softmax", name="light")(x))
    model.get_layer("conv").set_weights([np.array([[[[-1.0, 1.0]]]]), np.zeros(2)])
    model.get_layer("light").set_weights([np.array([[8.0, -8.0 * bright], [0.0, 8.0 * bright]]), np.zeros(2)])
    return model


def spots() -> np.ndarray:
    """A grey face with a bright upper right quarter and a dark lower left one: (16, 16, 1) uint8."""
    face = np.full((SIZE, SIZE, 1), 128, np.uint8)
    face[:8, 8:], face[8:, :8] = 250, 20
    return face


@pytest.mark.parametrize(
    ("label", "rows", "columns"), [(1, slice(0, 8), slice(8, 16)), (0, slice(8, 16), slice(0, 8))]
)
def test_the_heat_lies_on_the_evidence_for_each_label(label: int, rows: slice, columns: slice) -> None:
    values = GradCam(spot_network(), HEAD)(spots(), label)
    assert values.shape == (SIZE, SIZE)
    assert (values.min(), values.max()) == (0, 1)
    assert values[rows, columns].sum() > 0.8 * values.sum()
    assert values[rows, columns][2:-2, 2:-2].min() == pytest.approx(1)


def test_it_follows_the_equations_of_the_paper() -> None:
    """Equations 1 and 2, worked out by hand: the weight of a map is its share in the label's logit."""
    model, face = spot_network(), spots()
    camera = GradCam(model, HEAD)
    maps = np.maximum(np.stack([-(face[::2, ::2, 0] / 128 - 1), face[::2, ::2, 0] / 128 - 1], axis=-1), 0)
    wanted = np.maximum(maps @ np.array([-8.0, 8.0]) / 64, 0)
    np.testing.assert_allclose(camera(face, 1)[1::2, 1::2] > 0.5, wanted / wanted.max() > 0.5)


def test_a_label_without_evidence_has_a_flat_map() -> None:
    values = GradCam(spot_network(bright=0.0), HEAD)(spots(), 1)
    assert (values == 0).all()


def test_one_head_of_several_is_explained() -> None:
    faces = keras.Input((SIZE, SIZE, 1), name="faces")
    x = layers.Conv2D(2, 1, activation="relu", name="conv")(layers.Rescaling(1 / 128, offset=-1)(faces))
    x = layers.GlobalAveragePooling2D()(x)
    heads = [layers.Dense(2, activation="softmax", name=name)(x) for name in ("first", "light")]
    model = keras.Model(faces, heads)
    model.get_layer("conv").set_weights([np.array([[[[-1.0, 1.0]]]]), np.zeros(2)])
    model.get_layer("first").set_weights([np.eye(2)[::-1], np.zeros(2)])
    model.get_layer("light").set_weights([np.eye(2), np.zeros(2)])
    other = Head(name="first", labels=LABELS)
    bright, dark = GradCam(model, HEAD)(spots(), 1), GradCam(model, other)(spots(), 1)
    for values, hot, cold in (
        (bright, (slice(8), slice(8, 16)), (slice(8, 16), slice(8))),
        (dark, (slice(8, 16), slice(8)), (slice(8), slice(8, 16))),
    ):
        assert values[hot].mean() > 0.9
        assert values[cold].mean() < 0.1
    np.testing.assert_array_equal(bright, GradCam(model, HEAD)(spots(), 1))


def test_what_our_networks_consist_of_is_understood() -> None:
    """Batch norm, pooling and dropout; the same map twice, because dropout is off."""
    model, head = small_network(), Head(name="expression", labels=("angry", "happy", "sad"))
    face = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    first, again = (GradCam(model, head)(face, 1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all()


def test_a_network_without_convolutions_is_refused() -> None:
    dense = network(layers.Flatten())
    with pytest.raises(ModelError, match=r"needs a network with convolutions .* --method rise"):
        GradCam(dense, Head(name="expression", labels=("angry", "happy", "sad")))


def test_a_head_that_is_no_softmax_is_refused() -> None:
    faces = keras.Input((SIZE, SIZE, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(faces))
    model = keras.Model(faces, layers.Dense(2, activation="sigmoid", name="light")(x))
    with pytest.raises(ModelError, match="'light' is a Dense that does not"):
        GradCam(model, HEAD)


def test_a_keras_file_is_explained_by_grad_cam_unasked(tmp_path: Path) -> None:
    file = save_network(spot_network(), tmp_path / "spots.keras", METADATA)
    analyzer, explainer = open_explainer(str(file), ExplainConfig(), detector="whole")
    assert isinstance(analyzer.detector, WholePicture)
    image = spots()[:, :, 0]
    saliency = explain_face(analyzer, explainer, image, analyzer.detector.detect(image)[0], "bright")
    assert (saliency.method, saliency.label) == ("grad-cam", "bright")
    assert saliency.values[:8, 8:].sum() > 0.8 * saliency.values.sum()
    assert saliency.faithfulness.holds
    assert analyzer.analyze(image)[0].probabilities["bright"] == pytest.approx(saliency.probability)


def test_keras_answers_in_batches_of_any_size() -> None:
    faces = np.random.default_rng(1).integers(0, 256, (70, SIZE, SIZE, 1), dtype=np.uint8)
    answers = KerasNetwork(spot_network(), METADATA)
    whole = answers.probabilities(faces)["light"]
    assert whole.shape == (70, 2)
    np.testing.assert_allclose(answers.probabilities(faces[66:])["light"], whole[66:], atol=1e-6)
    assert answers.probabilities(faces[:0])["light"].shape == (0, 2)
