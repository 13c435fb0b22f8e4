"""Networks that mien did not save: what they cannot say about themselves is asked for, never guessed from
values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.evaluate.tta import Network, Probabilities
from mien.model.metadata import METADATA_KEY, Metadata
from mien.train.external_models import HEAD, Description, as_probabilities, metadata_of

_BATCH = 64


def onnx_has_facts(path: Path) -> bool:
    """Say whether mien wrote this `.onnx` file. Raises ModelError when it is not an ONNX file."""
    return METADATA_KEY in _session(path).get_modelmeta().custom_metadata_map


def open_onnx(path: Path, told: Description) -> tuple[Metadata, Network, str]:
    """Open a external `.onnx` file with one picture input, channels last or first, and take its first
    output.
    """
    session = _session(path)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {len(inputs)} inputs; a network for mien takes one, the picture")
    shape = [side if isinstance(side, int) else None for side in inputs[0].shape]
    metadata, channels_first, note = metadata_of(path, shape, told)
    wanted = session.get_outputs()[0].name

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = session.run([wanted], {inputs[0].name: batch})[0]
        return values

    return metadata, _network(run, shape[0], channels_first, path, told), note


def wrap_keras(model: Any, path: Path, told: Description) -> tuple[Metadata, Network, str]:
    """Wrap a external Keras network with one picture input and one output."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; a network that "
            "mien did not save must have one of each"
        )
    shape = list(model.inputs[0].shape)
    metadata, channels_first, note = metadata_of(path, shape, told)
    return metadata, _network(model.predict_on_batch, shape[0], channels_first, path, told), note


def _network(
    run: Any, fixed_batch: int | None, channels_first: bool, path: Path, told: Description
) -> Network:
    low, high = told.input_range
    step = fixed_batch or _BATCH

    def network(inputs: NDArray[np.uint8]) -> Probabilities:
        parts = []
        for start in range(0, len(inputs), step):
            batch = inputs[start : start + step].astype(np.float32) * ((high - low) / 255) + low
            missing = step - len(batch) if fixed_batch else 0
            batch = np.concatenate([batch, batch[:1].repeat(missing, axis=0)]) if missing else batch
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if channels_first else batch
            answers = np.asarray(run(batch.astype(np.float32)))[: step - missing]
            parts.append(as_probabilities(answers, path, told))
        return {HEAD: np.concatenate(parts)}

    return network


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        reason = str(error).splitlines()[0][:200]
        raise ModelError(
            f"{path} is not a network that ONNX Runtime opens ({reason}); copy or export it again"
        ) from error
