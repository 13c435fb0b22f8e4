"""A LiteRT file answers like the model folder, calibration included."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from mien.errors import MissingExtra, ModelError
from mien.model.calibration import calibrated
from mien.train.export import litert
from mien.train.export.folder import keras_probabilities
from mien.train.export.litert import export_litert

from .tiny_networks import keras_answers, levels, metadata, small_network


def _needs_tensorflow() -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("LiteRT files are written from the TensorFlow backend only")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_litert_answers_like_keras_with_the_calibration_applied(tmp_path: Path, smoothing: float) -> None:
    _needs_tensorflow()
    model = small_network()
    file = export_litert(model, tmp_path / "model.tflite", metadata(temperature=1.8, smoothing=smoothing))
    inputs = levels(2).astype(np.float32)
    (found,) = litert._interpreted(file.read_bytes(), inputs)
    np.testing.assert_allclose(found, calibrated(keras_answers(model, inputs), 1.8, smoothing), atol=1e-5)
    np.testing.assert_array_equal(model.get_layer("expression").get_weights()[0], _head_kernel())


def _head_kernel() -> np.ndarray:
    """What the last layer had before: the export must not change the network that it is given."""
    return np.asarray(small_network().get_layer("expression").get_weights()[0])


def test_litert_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _needs_tensorflow()
    real = keras_probabilities
    monkeypatch.setattr(litert, "keras_probabilities", lambda *given: [one + 0.01 for one in real(*given)])
    with pytest.raises(ModelError, match=r"the LiteRT file differs from Keras by 0\.01"):
        export_litert(small_network(), tmp_path / "model.tflite", metadata())
    assert list(tmp_path.iterdir()) == []


def test_another_backend_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(MissingExtra, match="run the same command with KERAS_BACKEND=tensorflow"):
        export_litert(small_network(), tmp_path / "model.tflite", metadata())
