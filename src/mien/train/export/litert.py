"""A LiteRT (TensorFlow Lite) file for phones and small boards, from the TensorFlow backend."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mien.errors import MissingExtra, ModelError, first_line
from mien.files import whole_file
from mien.model.calibration import LEFT_BELOW
from mien.model.metadata import Metadata
from mien.train.export.folder import TOLERANCE, keras_probabilities, probes
from mien.train.export.keras_io import bare_clone, computes_in_float32, float32_clone


def export_litert(model: Any, path: Path, metadata: Metadata) -> Path:
    """Write a `.tflite` file that gives the same probabilities as the model folder, calibration included.

    Input as in the model folder: float32 levels in [0, 255]. The labels travel inside: the file is a zip archive as
    well, with a `labels_HEAD.txt` for each head and `mien.json`. Checked with LiteRT's own interpreter at batch
    sizes 1 and 3. Raises MissingExtra under another backend than TensorFlow, ModelError when the converter
    refuses the network or its answers differ, OutputError when the place cannot be written.
    """
    if keras.backend.backend() != "tensorflow":
        raise MissingExtra(
            f"a LiteRT file can be written from the TensorFlow backend only, this is "
            f"{keras.backend.backend()}; run the same command with KERAS_BACKEND=tensorflow"
        )
    plain = bare_clone(model) if computes_in_float32(model) else float32_clone(model)
    _divide_logits(plain, metadata)
    plain = _without_smoothing(plain, metadata)
    with whole_file(path) as temporary:
        content = _converted(plain)
        for size in (1, 3):
            _check(plain, content, probes(size, metadata), path)
        temporary.write_bytes(content)
        _add_metadata(temporary, metadata)
    return path


def _add_metadata(path: Path, metadata: Metadata) -> None:
    """Append labels and metadata as LiteRT's own tools do: a zip archive behind the model, which readers pass over."""
    with zipfile.ZipFile(path, "a") as archive:
        for head in metadata.heads:
            archive.writestr(f"labels_{head.name}.txt", "\n".join(head.labels) + "\n")
        archive.writestr("mien.json", metadata.to_json())


def _divide_logits(model: Any, metadata: Metadata) -> None:
    """Put the temperatures into the last layers: softmax((W x + b) / T) is a Dense with W / T and b / T."""
    for head in metadata.heads:
        if head.temperature == 1.0:
            continue
        layer = next((one for one in model.layers if one.name == head.name), model.layers[-1])
        if not isinstance(layer, keras.layers.Dense):
            raise ModelError(
                f"head {head.name!r} ends in a {type(layer).__name__}, not in a Dense layer, so its "
                "temperature cannot go into a LiteRT file; use the model folder"
            )
        layer.set_weights([weight / head.temperature for weight in layer.get_weights()])


def _without_smoothing(model: Any, metadata: Metadata) -> Any:
    """Return the network with what `mien.model.calibration.without_smoothing` does behind each head that needs it."""
    if not any(head.smoothing for head in metadata.heads):
        return model
    outputs = []
    for output in model.outputs:
        name = output._keras_history.operation.name
        head = next((one for one in metadata.heads if one.name == name), metadata.heads[0])
        # Without smoothing this is the output itself: the part is nothing.
        kept = keras.ops.maximum(output - head.smoothing / len(head.labels), LEFT_BELOW * output)
        outputs.append(kept / keras.ops.sum(kept, axis=-1, keepdims=True))
    return keras.Model(model.inputs[0], outputs)


def _converted(model: Any) -> bytes:
    """Convert in a folder of its own: the converter leaves parts behind when it fails."""
    sides = [side or 32 for side in model.inputs[0].shape[1:]]
    model(np.zeros((1, *sides), np.float32))  # a loaded network must be called once before Keras exports it
    with tempfile.TemporaryDirectory() as folder, _quiet():
        file = Path(folder) / "model.tflite"
        try:
            model.export(file, format="litert", verbose=False)
            return file.read_bytes()
        except Exception as error:  # the converter raises whatever TensorFlow does
            raise ModelError(f"LiteRT cannot convert this network ({first_line(error)})") from error


def _check(model: Any, content: bytes, inputs: NDArray[np.float32], path: Path) -> None:
    ours = _interpreted(content, inputs)
    for answer in keras_probabilities(model, inputs):
        gap = min(np.abs(answer - one).max() if one.shape == answer.shape else np.inf for one in ours)
        if not gap <= TOLERANCE:
            raise ModelError(
                f"the LiteRT file differs from Keras by {gap:.2g} (allowed: {TOLERANCE:g}), so {path} was "
                "not written; use the model folder instead"
            )


def _interpreted(content: bytes, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Run the file with the interpreter that comes with TensorFlow."""
    import tensorflow as tf

    with _quiet():
        # Without the default delegate: it announces itself on stderr.
        kernels = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = tf.lite.Interpreter(
            model_content=content, num_threads=1, experimental_op_resolver_type=kernels
        )
        entry = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(entry, inputs.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry, inputs)
        interpreter.invoke()
        return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the converter prints and warns, which tells a user nothing."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
