"""The int8 form of a model folder's network: a third of the time, a quarter of the bytes, checked before it is kept."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from mien.data.dataset import Split
from mien.errors import ModelError, first_line
from mien.files import whole_folder
from mien.model.classifier import Classifier
from mien.model.folder import INT8_FILE, read_model_folder
from mien.model.metadata import METADATA_KEY
from mien.model.preprocess import Preprocess, to_model_inputs
from mien.train.export.card import describe
from mien.train.export.onnx import INPUT

MOST_LOST = 0.003  # accuracy that the int8 form may lose on validation
_FACES, _BATCH = 512, 32  # training faces whose activations set the ranges
# Convolutions and what lies between them; the heads stay in float32, they cost nothing.
_OPERATIONS = ["Conv", "MaxPool", "Relu", "Clip"]


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """What the int8 form costs and gives, on the validation faces.

    accuracy, float32_accuracy: of the first head. agreement: share of faces with the same answer in both.
    """

    bytes: int
    n: int
    accuracy: float
    float32_accuracy: float
    agreement: float

    @property
    def lost(self) -> float:
        return self.float32_accuracy - self.accuracy


def add_int8(
    folder: Path,
    train: Split,
    validation: Split,
    *,
    columns: Sequence[int] | None = None,
    seed: int = 0,
) -> tuple[Quantised, bool]:
    """Put an int8 form of model.onnx beside it; returns what was measured and whether the form was kept.

    columns: place in the first head's labels of each class of the data; None: they are in the same order.

    Static quantisation (Jacob et al. 2018, arXiv:1712.05877): int8 weights a channel, uint8 activations whose ranges
    are those of 512 training faces. Weights use seven bits, because processors without VNNI add two products in
    sixteen bits, which eight would overflow; so every processor gives the same answers. Not kept when it loses more
    than 0.3 points of accuracy on validation: then the folder stays as it is. Raises ModelError where ONNX Runtime
    cannot quantise the network.
    """
    model = read_model_folder(folder)
    if model.onnx is None:
        raise ModelError(f"{folder} has its int8 form already, and no other")
    drawn = np.random.default_rng(seed).permutation(len(train))[:_FACES]
    faces = _prepared(train, np.sort(drawn), model.metadata.preprocess)
    with whole_folder(folder) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        _quantise(model.onnx, temporary / INT8_FILE, faces)
        found = _measured(model.onnx, temporary / INT8_FILE, validation, columns)
        if kept := found.lost <= MOST_LOST:
            metadata = replace(model.metadata, network={**model.metadata.network, "int8": asdict(found)})
            describe(temporary, metadata)
        else:
            (temporary / INT8_FILE).unlink()
    return found, kept


def _prepared(split: Split, places: NDArray[np.intp], how: Preprocess) -> NDArray[np.uint8]:
    return to_model_inputs([split.pictures.read(int(place)) for place in places], how)


class _Faces(CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
    """What the quantiser asks for: inputs by name, batch after batch, then None."""

    def __init__(self, faces: NDArray[np.uint8]) -> None:
        self._batches = iter(np.split(faces, range(_BATCH, len(faces), _BATCH)))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.astype(np.float32)}


def _quantise(source: Path, target: Path, faces: NDArray[np.uint8]) -> None:
    with tempfile.TemporaryDirectory() as place, _quiet():
        folded = Path(place) / "folded.onnx"
        try:
            # Symbolic shapes would need sympy and are of no use here: only the batch is open.
            quant_pre_process(source, folded, skip_symbolic_shape=True)
            quantize_static(
                folded,
                target,
                _Faces(faces),
                nodes_to_exclude=_of_one_channel(folded),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATIONS,
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
            )
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            raise ModelError(
                f"ONNX Runtime cannot make an int8 form of {source} ({first_line(error)})"
            ) from error
    _add_facts(source, target)


def _of_one_channel(network: Path) -> list[str]:
    """Name the convolutions that see one channel, which stay in float32.

    Nine products an output fill no lane of int8 arithmetic: the first layer of `slim` takes 35 us in float32, its
    quantisation included, and 75 in int8, a sixth of the network (ONNX Runtime 1.32, one core with VNNI).
    """
    graph = onnx.load(network).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    grouped = {
        node.name for node in convolutions for one in node.attribute if one.name == "group" and one.i > 1
    }
    return [
        node.name
        for node in convolutions
        if shapes.get(node.input[1], (0, 0))[1] == 1 and node.name not in grouped
    ]


def _add_facts(source: Path, target: Path) -> None:
    """Let the file say what its labels and input are, as model.onnx does."""
    metadata = {entry.key: entry.value for entry in onnx.load(source).metadata_props}[METADATA_KEY]
    proto = onnx.load(target)
    onnx.helper.set_model_props(proto, {METADATA_KEY: metadata})
    onnx.save(proto, target)


def _measured(float32: Path, int8: Path, split: Split, columns: Sequence[int] | None) -> Quantised:
    exact, coarse = Classifier(float32), Classifier(int8)
    head = exact.metadata.heads[0].name
    truth = split.labels if columns is None else np.asarray(columns)[split.labels]
    answers: dict[str, list[NDArray[Any]]] = {"exact": [], "coarse": []}
    for places in np.array_split(np.arange(len(split)), max(1, len(split) // 256)):
        inputs = _prepared(split, places, exact.metadata.preprocess)
        answers["exact"].append(exact.probabilities(inputs)[head].argmax(axis=1))
        answers["coarse"].append(coarse.probabilities(inputs)[head].argmax(axis=1))
    chosen: Mapping[str, NDArray[Any]] = {name: np.concatenate(parts) for name, parts in answers.items()}
    return Quantised(
        bytes=int8.stat().st_size,
        n=len(split),
        accuracy=float((chosen["coarse"] == truth).mean()),
        float32_accuracy=float((chosen["exact"] == truth).mean()),
        agreement=float((chosen["coarse"] == chosen["exact"]).mean()),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser from advising, through the root logger, what has been done already."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)
