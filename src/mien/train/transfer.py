"""`--from MODEL`: start from a trained network, fit a new head, then the trunk."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from mien.errors import ModelError
from mien.model.folder import MODEL_FILE, model_path
from mien.model.metadata import Metadata
from mien.train.export.keras_io import load_network
from mien.train.export.onnx import keras_from_onnx
from mien.train.networks.backbones import LEVELS
from mien.train.networks.spec import heads_on
from mien.train.run_folder import BEST_FILE


def open_network(model: str) -> tuple[keras.Model, Metadata]:
    """Load a run folder, a model folder, the name of a shipped model, or a `.keras`, `.h5` or `.onnx` file.

    Raises ModelError for anything else, and for a file that says nothing about its labels and input.
    """
    path = model_path(model)
    if (path / BEST_FILE).is_file():
        path = path / BEST_FILE
    elif (path / MODEL_FILE).is_file():
        path = path / MODEL_FILE
    if path.suffix == ".onnx":
        return keras_from_onnx(path)
    network, metadata = load_network(path)
    if metadata is None:
        raise ModelError(
            f"{path} was not saved by mien and does not say how its input is prepared; use a mien model"
        )
    return network, metadata


def with_new_heads(
    network: keras.Model, metadata: Metadata, heads: Mapping[str, tuple[str, ...]], dropout: float | None
) -> keras.Model:
    """Return the network with its heads replaced; trunk layers keep their names and weights.

    The features are what the first old head looked at; class names need have nothing in common.
    dropout: rate of the trunk's last dropout layer, None to leave it.
    """
    features = network.get_layer(metadata.heads[0].name).input
    if dropout is not None:
        for layer in network.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = dropout
    return keras.Model(network.inputs[0], heads_on(features, heads), name=network.name)


def unfreeze(network: keras.Model, heads: Mapping[str, tuple[str, ...]], count: int) -> None:
    """Let the heads and the top `count` layers of the trunk learn; -1 means the whole trunk, 0 none of it.

    Batch normalisation keeps the statistics of the first training: a small set cannot estimate them. The fixed
    layer that turns levels into those of a backbone stays fixed.
    """
    trunk = [layer for layer in _leaves(network) if layer.name not in heads]
    learning = {id(layer) for layer in (trunk if count < 0 else trunk[len(trunk) - count :])}
    network.trainable = True  # also sets every layer below, hence one by one
    for layer in trunk:
        fixed = isinstance(layer, keras.layers.BatchNormalization) or layer.name == LEVELS
        layer.trainable = id(layer) in learning and not fixed


def _leaves(network: keras.Model) -> list[keras.layers.Layer]:
    """Return all layers in order, those of nested models in place of the models."""
    leaves: list[keras.layers.Layer] = []
    for layer in network.layers:
        leaves += _leaves(layer) if isinstance(layer, keras.Model) else [layer]
    return leaves
