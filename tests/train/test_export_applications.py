"""Networks of keras.applications, whole, with weights in which every mistake would show."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from mien.model.classifier import Classifier
from mien.train.export.folder import _own_movement, export, probes
from mien.train.export.onnx import keras_from_onnx

from .tiny_networks import levels, metadata

# Smallest sides that are quick; ResNet50V2 is where ONNX Runtime merged padding into pooling, wrongly.
NAMES = [
    "MobileNetV2", "EfficientNetB0", "VGG16", "ResNet50", "ResNet50V2", "DenseNet121", "NASNetMobile", "ConvNeXtTiny"
]  # fmt: skip


def _network(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    faces = keras.Input((32, 32, 3), name="faces")
    backbone = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(32, 32, 3))
    x = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(1 / 128, offset=-1)(faces)))
    model = keras.Model(faces, layers.Dense(3, activation="softmax", name="expression")(x))
    _settle(model)
    return model


def _settle(model: keras.Model) -> None:
    """Vary scale and shift of every batch norm and give it the statistics of a batch, so that signals pass."""
    random = np.random.default_rng(0)
    norms = [one for one in model._flatten_layers() if isinstance(one, layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
        if norm.scale:
            norm.gamma.assign(random.uniform(0.8, 1.2, norm.gamma.shape))
        norm.beta.assign(random.normal(0, 0.1, norm.beta.shape))
    model(levels(16, 32).astype(np.float32), training=True)
    for norm in norms:
        norm.momentum = 0.99


def _check(tmp_path: Path, name: str) -> None:
    model = _network(name)
    export(model, tmp_path / "model", metadata(size=32))
    rebuilt, _ = keras_from_onnx(tmp_path / "model" / "model.onnx")
    for old, new in zip(model.weights, rebuilt.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new))
    classifier = Classifier(tmp_path / "model")
    difference = classifier.metadata.network["parity"]["max_abs_difference"]
    if difference >= 1e-3:  # EfficientNetB0's drawn weights, on a processor without AVX-512
        inputs = probes(64, classifier.metadata)
        assert difference <= _own_movement(model, inputs)  # of Keras, when its input moves by a millionth
    answers = classifier.probabilities(levels(8, 32))["expression"]
    assert np.ptp(answers, axis=0).max() > 1e-5, (
        "answers that do not depend on the picture would hide mistakes"
    )


def test_a_backbone(tmp_path: Path) -> None:
    _check(tmp_path, "MobileNetV3Small")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_more_backbones(tmp_path: Path, name: str) -> None:
    _check(tmp_path, name)
