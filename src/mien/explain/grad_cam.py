"""Grad-CAM: which places of the last feature map of a Keras network raise a label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, ModelError
from mien.model.metadata import Head, Metadata

_BATCH = 64


class KerasNetwork:
    """A Keras network with the doors of `mien.model.classifier.Classifier` that an Analyzer uses.

    metadata: of the network; its probabilities are not calibrated.
    """

    def __init__(self, model: Any, metadata: Metadata) -> None:
        self.metadata = metadata.uncalibrated()
        self._model = model

    def probabilities(self, inputs: NDArray[np.uint8 | np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return each head's distributions, (n, labels) float32, for (n, size, size, channels) levels."""
        parts = [self._run(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)]
        return {
            head.name: np.concatenate(
                [np.empty((0, len(head.labels)), np.float32), *(p[place] for p in parts)]
            )
            for place, head in enumerate(self.metadata.heads)
        }

    def probabilities_and_cover(
        self, inputs: NDArray[np.uint8 | np.float32]
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
        """Return `probabilities`, and that nothing is known to hide a part of a face: zeros, (n,)."""
        return self.probabilities(inputs), np.zeros(len(inputs), np.float32)

    def _run(self, batch: NDArray[np.uint8 | np.float32]) -> list[NDArray[np.float32]]:
        """Answer a batch, filled up to 64: JAX compiles once for each size of batch."""
        missing = _BATCH - len(batch)
        filled = np.concatenate([batch, batch[:1].repeat(missing, axis=0)]).astype(np.float32)
        answers = self._model.predict_on_batch(filled)
        listed = answers if isinstance(answers, list | tuple) else [answers]
        return [np.asarray(answer, np.float32)[: len(batch)] for answer in listed]


class GradCam:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, section 3) of one head of a Keras network.

    Raises ModelError for a network without convolutions or with a head that is no softmax, ConfigError under a
    backend other than TensorFlow and JAX.
    """

    def __init__(self, model: Any, head: Head) -> None:
        import keras

        from mien.train.export.keras_io import computes_in_float32, float32_clone

        backend = keras.backend.backend()
        if backend not in _GRADIENTS:
            raise ConfigError(
                f"Grad-CAM runs under the Keras backends {' and '.join(_GRADIENTS)}, this is {backend}; set "
                "KERAS_BACKEND, or explain the exported model with --method rise"
            )
        if not computes_in_float32(model):
            model = float32_clone(model)
        features = _last_features(model)
        self._front = keras.Model(model.inputs[0], features)
        self._back = keras.Model(features, _logits(model, head))
        self._gradient = _GRADIENTS[backend]

    def __call__(self, face: NDArray[np.uint8], target: int) -> NDArray[np.float32]:
        """Return the map of one face, (size, size) float32, 0 to 1 in shares of the largest value; flat if none.

        face: (size, size, channels) uint8, prepared. target: place of the label in the head.
        """
        import keras

        features = self._front(face[None].astype(np.float32), training=False)
        slope = self._gradient(lambda at: self._back(at, training=False)[0, target], features)
        maps = np.asarray(keras.ops.convert_to_numpy(features), np.float32)[0]
        weights = slope[0].mean(axis=(0, 1))  # equation 1
        coarse = np.maximum(maps @ weights, 0)  # equation 2
        fine = cv2.resize(coarse.astype(np.float32), face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        most = float(fine.max())
        return np.asarray(fine / most if most > 0 else np.zeros_like(fine), np.float32)


def _last_features(model: Any) -> Any:
    """Return the last tensor of the trunk that still has places, (batch, height, width, channels)."""
    import keras

    found, convolved = None, False
    for layer in model.layers:
        convolved = convolved or isinstance(layer, keras.Model) or "Conv" in type(layer).__name__
        shape: Any = getattr(layer.output, "shape", ())
        if convolved and len(shape) == 4 and (shape[1] is None or min(shape[1:3]) > 1):
            found = layer.output
    if found is None:
        raise ModelError(
            "Grad-CAM needs a network with convolutions that end in more than one place, and this one has none; "
            "explain the exported model with --method rise"
        )
    return found


def _logits(model: Any, head: Head) -> Any:
    """Return what goes into a head's softmax, with the head's own weights."""
    import keras

    layer = next((layer for layer in model.layers if layer.name == head.name), None)
    if layer is None:
        layer = model.layers[-1]  # a network of one head may call its last layer otherwise
    if isinstance(layer, keras.layers.Softmax) or _is_softmax(layer, keras.layers.Activation):
        return layer.input
    if not _is_softmax(layer, keras.layers.Dense):
        raise ModelError(
            f"Grad-CAM needs a head that ends in a softmax, and {layer.name!r} is a {type(layer).__name__} that does "
            "not; explain the exported model with --method rise"
        )
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear", "name": "logits"})
    logits = linear(layer.input)
    linear.set_weights(layer.get_weights())
    return logits


def _is_softmax(layer: Any, kind: Any) -> bool:
    import keras

    return bool(isinstance(layer, kind) and layer.activation is keras.activations.softmax)


def _with_tensorflow(function: Callable[[Any], Any], at: Any) -> NDArray[np.float32]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(at)
        value = function(at)
    return np.asarray(tape.gradient(value, at), np.float32)


def _with_jax(function: Callable[[Any], Any], at: Any) -> NDArray[np.float32]:
    import jax

    return np.asarray(jax.grad(function)(at), np.float32)


# No function of Keras gives a gradient on every backend.
_GRADIENTS: dict[str, Callable[[Callable[[Any], Any], Any], NDArray[np.float32]]] = {
    "tensorflow": _with_tensorflow,
    "jax": _with_jax,
}
