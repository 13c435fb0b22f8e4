"""Networks that mien did not save: what they cannot say about themselves is asked for, never guessed from
values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.evaluate.config import EvaluateConfig
from mien.evaluate.tta import Network, Probabilities
from mien.model.heads import Head
from mien.model.metadata import METADATA_KEY, Metadata
from mien.model.preprocess import Preprocess

_HEAD = "expression"
_BATCH = 64


def onnx_has_facts(path: Path) -> bool:
    """Say whether mien wrote this `.onnx` file. Raises ModelError when it is not an ONNX file."""
    return METADATA_KEY in _session(path).get_modelmeta().custom_metadata_map


def open_onnx(path: Path, config: EvaluateConfig) -> tuple[Metadata, Network, str]:
    """Open a foreign `.onnx` file with one picture input, channels last or first, and take its first
    output.
    """
    session = _session(path)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {len(inputs)} inputs; a network for mien takes one, the picture")
    shape = [side if isinstance(side, int) else None for side in inputs[0].shape]
    metadata, channels_first, note = _described(path, shape, config)
    wanted = session.get_outputs()[0].name

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = session.run([wanted], {inputs[0].name: batch})[0]
        return values

    return metadata, _network(run, shape[0], channels_first, path, config), note


def wrap_keras(model: Any, path: Path, config: EvaluateConfig) -> tuple[Metadata, Network, str]:
    """Wrap a foreign Keras network with one picture input and one output."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; a network that "
            "mien did not save must have one of each"
        )
    shape = list(model.inputs[0].shape)
    metadata, channels_first, note = _described(path, shape, config)
    return metadata, _network(model.predict_on_batch, shape[0], channels_first, path, config), note


def _described(path: Path, shape: Sequence[int | None], config: EvaluateConfig) -> tuple[Metadata, bool, str]:
    """Return metadata made from the settings and the input's shape, whether channels come first, and a note."""
    if not config.network_labels:
        raise ModelError(
            f"{path} was not saved by mien, so it cannot say what its outputs mean; name them in order with "
            "--labels a,b,c (and --size, --colour, --input-range where they are not obvious)"
        )
    channels_first, side = _geometry(path, shape)
    size = _size(path, side, config)
    channels = shape[1] if channels_first else shape[3]
    colour = config.colour or ("grey" if channels == 1 else "rgb")
    try:
        preprocess = Preprocess(size=size, colour=colour)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error
    if channels not in (None, preprocess.channels):
        raise ModelError(f"{path} takes {channels} channels, which cannot be {colour}; set --colour")
    low, high = config.input_range
    note = (
        f"{path.name} was not saved by mien: taken as {size}x{size} {colour}, levels from {low:g} to {high:g}"
        f", labels {', '.join(config.network_labels)}" + (", outputs are logits" if config.logits else "")
    )
    heads = (Head(name=_HEAD, labels=config.network_labels),)
    return Metadata(name=path.stem, preprocess=preprocess, heads=heads), channels_first, note


def _geometry(path: Path, shape: Sequence[int | None]) -> tuple[bool, int | None]:
    """Return whether channels come first, and the side of the input where its shape fixes one."""
    if len(shape) == 4:
        if shape[3] in (1, 3) and shape[1] == shape[2]:
            return False, shape[1]
        if shape[1] in (1, 3) and shape[2] == shape[3]:
            return True, shape[2]
    raise ModelError(
        f"{path} takes an input of shape {tuple(shape)}; mien feeds square pictures of one or three "
        "channels, (n, size, size, channels) or (n, channels, size, size)"
    )


def _size(path: Path, side: int | None, config: EvaluateConfig) -> int:
    if side is None and config.size is None:
        raise ModelError(
            f"{path} takes pictures of any size and does not say which it was trained on; set --size"
        )
    if side is not None and config.size not in (None, side):
        raise ModelError(f"{path} takes {side}x{side} pictures; leave --size {config.size} out")
    return side or int(config.size or 0)


def _network(
    run: Any, fixed_batch: int | None, channels_first: bool, path: Path, config: EvaluateConfig
) -> Network:
    low, high = config.input_range
    step = fixed_batch or _BATCH

    def network(inputs: NDArray[np.uint8]) -> Probabilities:
        parts = []
        for start in range(0, len(inputs), step):
            batch = inputs[start : start + step].astype(np.float32) * ((high - low) / 255) + low
            missing = step - len(batch) if fixed_batch else 0
            batch = np.concatenate([batch, batch[:1].repeat(missing, axis=0)]) if missing else batch
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if channels_first else batch
            answers = np.asarray(run(batch.astype(np.float32)))[: step - missing]
            parts.append(_as_probabilities(answers, path, config))
        return {_HEAD: np.concatenate(parts)}

    return network


def _as_probabilities(answers: NDArray[Any], path: Path, config: EvaluateConfig) -> NDArray[np.float32]:
    """Check the outputs against the labels. Raises ModelError where they are not probabilities."""
    if answers.ndim != 2 or answers.shape[1] != len(config.network_labels):
        raise ModelError(
            f"{path} answers with shape {answers.shape[1:]} a picture; --labels names {len(config.network_labels)}: "
            f"{', '.join(config.network_labels)}"
        )
    if config.logits:
        powers = np.exp(answers - answers.max(axis=1, keepdims=True))
        answers = powers / powers.sum(axis=1, keepdims=True)
    if answers.min() < 0 or np.abs(answers.sum(axis=1) - 1).max() > 1e-3:
        raise ModelError(
            f"the outputs of {path} are not probabilities that sum to one; are they logits? Add --logits"
        )
    return answers.astype(np.float32)


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
