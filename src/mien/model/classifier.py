"""From face crops to probabilities with a model folder, on ONNX Runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mien.errors import ConfigError, DataError, ModelError
from mien.files import shell_word
from mien.model.folder import (
    INT8_FILE,
    METADATA_FILE,
    MODEL_FILE,
    SHIPPED,
    ModelFolder,
    file_sha256,
    read_model_folder,
)
from mien.model.metadata import METADATA_KEY, Metadata
from mien.model.preprocess import to_model_inputs
from mien.model.session import Session, open_session

PRECISIONS = ("auto", "float32", "int8")
# What a network may say beside its heads, (batch, 1): how likely something hides a part of the face.
COVERED = "covered"
_BATCH = 64  # faces at once: more is not faster on a CPU, and memory stays small
_PIXELS = _BATCH * 96 * 96  # larger inputs go in smaller batches, for the memory of the first layers


class Classifier:
    """A network that is ready to answer.

    path: a model folder, or a bare `.onnx` file of ours (its hash cannot be checked then). Raises ModelError
    when it is missing, damaged, not ONNX, or when the network does not have the heads that its metadata name.
    precision: 'auto' is the int8 form of a model folder that has one (see `mien.train.export.int8`), else float32;
    'int8' and 'float32' ask for one. Raises ConfigError for another, ModelError where a folder lacks that form.
    One thread: two that spin are slower beside any other work; spread faces over processes instead.
    """

    def __init__(self, path: Path, precision: str = "auto") -> None:
        path = Path(path)
        self._opened = (path, precision)
        self._whole_path = path.absolute()  # the process may go to another folder later
        if precision not in PRECISIONS:
            raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if path.is_file():
            self.file = path  # the network that runs
            self._session = open_session(path, path)
            self.metadata = _metadata_inside(self._session, path)
        else:
            folder = read_model_folder(path)
            self.file = _form(folder, precision)
            self._session = open_session(self.file, self.file)
            self.metadata = folder.metadata
        self._heads = tuple(head.name for head in self.metadata.heads)
        self._tells_cover = COVERED in {node.name for node in self._session.get_outputs()} - {*self._heads}
        self._input = _checked_input(self._session, self.metadata, path)

    def __reduce__(self) -> tuple[Callable[[Path, str], Classifier], tuple[Path, str]]:
        """Travel as what was opened, and open it again on arrival: a session of ONNX Runtime cannot travel.

        What ships with mien travels by its name, because mien lies elsewhere on another machine; other folders by
        their whole path, because another process stands elsewhere.
        """
        path = self._whole_path
        if path.is_relative_to(SHIPPED):
            return _shipped, (path.relative_to(SHIPPED), self._opened[1])
        return Classifier, (path, self._opened[1])

    @property
    def precision(self) -> str:
        """The form that runs: float32 or int8."""
        return "int8" if self.file.name == INT8_FILE else "float32"

    @property
    def sha256(self) -> str:
        """Of all files that answers hang on, whichever form runs; of a bare file, of that."""
        beside = [self.file.with_name(name) for name in (METADATA_FILE, MODEL_FILE, INT8_FILE)]
        files = beside if self.file in beside else [self.file]
        told = "".join(file_sha256(file) for file in files if file.is_file())
        return hashlib.sha256(told.encode()).hexdigest()

    def predict(self, crops: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        """Prepare crops as the network was trained and return their probabilities.

        crops: each (height, width), (height, width, 1) or (height, width, 3) uint8, RGB, at least 1x1.
        """
        return self.probabilities(to_model_inputs(crops, self.metadata.preprocess))

    def probabilities(self, inputs: NDArray[np.uint8 | np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return each answer's distributions (see `Metadata.answers`), (n, labels) float32, rows sum to one.

        inputs: (n, size, size, channels) uint8 or float, levels in [0, 255], prepared by
        `mien.model.preprocess.to_model_inputs`; n may be 0. Another shape or type raises DataError.
        """
        self._check(inputs)
        return self._answers([self._run(chunk, self._heads) for chunk in _chunks(inputs)])

    def probabilities_and_cover(
        self, inputs: NDArray[np.uint8 | np.float32]
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
        """Return `probabilities`, and how likely something hides a part of each face, (n,) float32 from 0 to 1.

        Such as sunglasses, a mask, a hand or a microphone. 0 where the network does not tell.
        """
        if not self._tells_cover:
            return self.probabilities(inputs), np.zeros(len(inputs), np.float32)
        self._check(inputs)
        parts = [self._run(chunk, (*self._heads, COVERED)) for chunk in _chunks(inputs)]
        return self._answers(parts), np.concatenate(
            [np.empty(0, np.float32), *(part[-1][:, 0] for part in parts)]
        )

    def features(self, inputs: NDArray[np.uint8 | np.float32]) -> NDArray[np.float32]:
        """Return the numbers that the network's last layer answers from, (n, d) float32; inputs as `probabilities`.

        What a linear classifier for other classes is fitted on (see `mien.model.linear_head`). The two forms of a
        folder, float32 and int8, give slightly different ones. Raises ModelError where `metadata.features` is None.
        """
        return self.features_and_probabilities(inputs)[0]

    def features_and_probabilities(
        self, inputs: NDArray[np.uint8 | np.float32]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Return `features` and `probabilities` of one pass through the network."""
        about = self.metadata.features
        if about is None:
            raise ModelError(
                f"{self._opened[0]} gives no features: it was written by an earlier version, or its network has no "
                f"dense layer; write it again: "
                f"mien export {shell_word(self._opened[0])} --to NEW"
            )
        self._check(inputs)
        parts = [self._run(chunk, (*self._heads, about.tensor)) for chunk in _chunks(inputs)]
        empty = np.empty((0, about.size), np.float32)
        features = np.concatenate([empty, *(part[-1] for part in parts)])
        return features, self._answers(parts)

    def _run(self, chunk: NDArray[np.uint8 | np.float32], names: Sequence[str]) -> list[NDArray[np.float32]]:
        tensor = np.ascontiguousarray(chunk, dtype=np.float32)
        answers: list[NDArray[np.float32]] = self._session.run(list(names), {self._input.name: tensor})
        return answers

    def _answers(self, parts: Sequence[Sequence[NDArray[np.float32]]]) -> dict[str, NDArray[np.float32]]:
        """Put the heads' answers to several batches behind each other, and the blend beside them."""
        if not parts:
            return {head.name: np.empty((0, len(head.labels)), np.float32) for head in self.metadata.answers}
        answers = {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(self._heads)}
        if blend := self.metadata.blend:
            answers[blend.name] = blend.of(answers, self.metadata.heads)
        return answers

    def _check(self, inputs: NDArray[np.uint8 | np.float32]) -> None:
        if not isinstance(inputs, np.ndarray):
            raise DataError(f"the network takes an array of crops, got {type(inputs).__name__}")
        wanted = self._input.shape[1:]  # an open side is a name, not a number
        fits = inputs.ndim == 4 and all(
            not isinstance(side, int) or side == got
            for side, got in zip(wanted, inputs.shape[1:], strict=True)
        )
        if not fits or not (inputs.dtype == np.uint8 or np.issubdtype(inputs.dtype, np.floating)):
            shape = ", ".join(str(side) for side in ("n", *wanted))
            raise DataError(
                f"the network takes ({shape}) uint8 or float32 levels from 0 to 255, got {inputs.shape} "
                f"{inputs.dtype}; prepare crops with Classifier.predict"
            )


def _chunks(inputs: NDArray[np.uint8 | np.float32]) -> list[NDArray[np.uint8 | np.float32]]:
    step = max(1, min(_BATCH, _PIXELS // max(1, inputs.shape[1] * inputs.shape[2])))
    return [inputs[start : start + step] for start in range(0, len(inputs), step)]


def _form(folder: ModelFolder, precision: str) -> Path:
    forms = {"float32": folder.onnx, "int8": folder.int8}
    file = forms.get(precision, folder.int8 or folder.onnx)
    if file is None:
        other = "int8" if precision == "float32" else "float32"
        raise ModelError(f"{folder.path} has no {precision} form; leave the precision out, or use {other}")
    return file


def _shipped(name: Path, precision: str) -> Classifier:
    return Classifier(SHIPPED / name, precision)


def _metadata_inside(session: Session, path: Path) -> Metadata:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{path} does not say what its labels and input are, so mien did not write it; use a model folder"
        )
    return Metadata.from_json(text, path)


def _checked_input(session: Session, metadata: Metadata, path: Path) -> onnxruntime.NodeArg:
    """Return the network's one input after comparing its inputs and outputs with the metadata."""
    inputs = session.get_inputs()
    channels = metadata.preprocess.channels
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[3] != channels:
        shapes = [node.shape for node in inputs]
        raise ModelError(
            f"{path}: the network must take one (n, height, width, {channels}) input, got {shapes}"
        )
    outputs = {node.name: node.shape for node in session.get_outputs()}
    for head in metadata.heads:
        if head.name not in outputs:
            raise ModelError(
                f"{path}: the network has no head {head.name!r}, only {', '.join(outputs)}; export the model again"
            )
        if outputs[head.name][-1] != len(head.labels):
            raise ModelError(
                f"{path}: head {head.name!r} has {len(head.labels)} labels, the network gives "
                f"{outputs[head.name][-1]} numbers; export the model again"
            )
    about = metadata.features
    if about and (about.tensor not in outputs or outputs[about.tensor][1:] != [about.size]):
        raise ModelError(
            f"{path}: the network has no output {about.tensor!r} with {about.size} features a face; export the model "
            f"again"
        )
    return inputs[0]
