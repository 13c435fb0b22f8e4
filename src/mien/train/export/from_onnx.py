"""Back from a model folder's network file to a Keras network that can be trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import onnx

from mien.errors import ModelError
from mien.predict.model_facts import METADATA_KEY, ModelFacts
from mien.train.export.clone import finish_loading
from mien.train.export.onnx import NETWORK_KEY, REST_KEY, trace


def keras_from_onnx(path: Path) -> tuple[Any, ModelFacts]:
    """Rebuild the Keras network that a `.onnx` file was exported from; returns it and the file's facts.

    The temperatures stay in the facts: they were never part of the weights, so the network's own outputs are
    not calibrated. Raises ModelError when the file is missing, damaged or was not written by mien.
    """
    proto = _read(path)
    stored = {entry.key: entry.value for entry in proto.metadata_props}
    if METADATA_KEY not in stored or NETWORK_KEY not in stored:
        raise ModelError(
            f"{path} does not hold a network that can be trained on; only model folders that mien exported do"
        )
    facts = ModelFacts.from_json(stored[METADATA_KEY], path)
    try:
        model = keras.models.model_from_json(stored[NETWORK_KEY])
        _fill(model, proto, json.loads(stored.get(REST_KEY, "[]")))
    except ModelError:
        raise
    except Exception as error:  # whatever a changed description makes Keras raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"the network in {path} cannot be rebuilt: {reason.strip()[:200]}") from error
    return model, facts


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(f"there is no network file {path}; name the model.onnx of a model folder")
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf has its own errors
        raise ModelError(f"{path} is not an ONNX file; was it cut off or renamed?") from error


def _fill(model: Any, proto: onnx.ModelProto, rest: list[Any]) -> None:
    """Put the initialisers back into the variables that they came from."""
    graph, _ = trace(model)
    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, weight in graph.weights.items():
        if name not in arrays:
            raise ModelError(f"the weight {name!r} is missing; the file was changed, export it again")
        array = onnx.numpy_helper.to_array(arrays[name])
        weight.variable.assign(weight.layout.to_keras(array, weight.variable.shape))
    known = {id(weight.variable) for weight in graph.weights.values()}
    for variable, value in zip([v for v in model.weights if id(v) not in known], rest, strict=True):
        variable.assign(value)
    finish_loading(model)
