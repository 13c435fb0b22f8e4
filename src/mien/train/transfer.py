"""`--from MODEL`: start from a trained network, fit a new head, then the trunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import keras

from mien.errors import ModelError
from mien.model.folder import BEST_FILE, KERAS_SUFFIXES, MODEL_FILE, model_path
from mien.model.metadata import Metadata
from mien.train.export.keras_io import load_network, stored_metadata
from mien.train.export.onnx import keras_from_onnx
from mien.train.external_models import Description, adopt_keras, remembered
from mien.train.networks.backbones import LEVELS
from mien.train.networks.spec import heads_on


def open_network(model: str, told: Description | None = None) -> tuple[keras.Model, Metadata]:
    """Load a run folder, a model folder, the name of a shipped model, or a `.keras`, `.h5` or `.onnx` file.

    told: of a Keras file that mien did not save; None: what was told of it before. Raises ModelError for anything
    else, and for a file of which nobody said what its labels and input are.
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
        network, metadata, _ = adopt_keras(network, path, remembered(path, told))
    return network, metadata


def open_to_start(
    model: str, input_range: tuple[float, ...], colour: str | None
) -> tuple[keras.Model, Metadata]:
    """Load a network whose head is to be replaced: of a foreign one only its input must be known, not its labels."""
    path = model_path(model)
    if path.suffix not in KERAS_SUFFIXES or not path.is_file() or stored_metadata(path) is not None:
        return open_network(model)
    known = remembered(path, None)
    if not input_range and not known.labels:
        raise ModelError(
            f"{path} was not saved by mien and does not say how its input is prepared; say it with --input-range 0,255 "
            "or 0,1 or -1,1 (and --colour bgr where that is its order)"
        )
    network, _ = load_network(path)
    count = max(2, network.outputs[0].shape[-1])
    labels = known.labels or tuple(f"output {number}" for number in range(1, count + 1))
    told = replace(
        known,
        labels=labels,
        input_range=input_range or known.input_range,
        colour=colour or known.colour,
        logits=True,  # its outputs are not used
    )
    return adopt_keras(network, path, told)[:2]


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
