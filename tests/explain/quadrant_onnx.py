"""A network that looks at the mean level of one quarter of the face and at nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.model.folder import MODEL_FILE, write_metadata
from mien.model.metadata import METADATA_KEY, Head, Metadata
from mien.model.preprocess import Preprocess

SIZE = 16
METADATA = Metadata(
    name="quarter",
    preprocess=Preprocess(size=SIZE, colour="grey"),
    heads=(Head(name="light", labels=("dark", "bright")), Head(name="mood", labels=("Anger", "happy"))),
)


def quadrant_network(metadata: Metadata = METADATA, slope: float = 0.04) -> onnx.ModelProto:
    """Softmax of (-z, z), z = slope * (mean of the upper right quarter - 128), in both heads; slope 0: always even."""
    size = metadata.preprocess.size
    weights = np.zeros((size, size, 1), np.float32)
    weights[: size // 2, size // 2 :] = 4 * slope  # a quarter of the pixels: their mean times the slope
    nodes = [
        helper.make_node("Sub", ["faces", "middle"], ["levels"]),
        helper.make_node("Mul", ["levels", "weights"], ["seen"]),
        helper.make_node("ReduceMean", ["seen", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["means"]),
        helper.make_node("MatMul", ["means", "sides"], ["logits"]),
        *(helper.make_node("Softmax", ["logits"], [head.name], axis=1) for head in metadata.heads),
    ]
    constants = {
        "middle": np.float32(128),
        "weights": weights,
        "axes": np.array([1, 2, 3]),
        "column": np.array([-1, 1]),
        "sides": np.array([[-1, 1]], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "quarter",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", size, size, 1])],
        [
            helper.make_tensor_value_info(head.name, TensorProto.FLOAT, ["batch", 2])
            for head in metadata.heads
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})
    return proto


def write_quadrant(folder: Path, metadata: Metadata = METADATA, slope: float = 0.04) -> Path:
    folder.mkdir()
    onnx.save(quadrant_network(metadata, slope), folder / MODEL_FILE)
    write_metadata(folder, metadata)
    return folder


def lit_face(size: int = SIZE, seed: int = 0) -> np.ndarray:
    """A speckled face whose upper right quarter is bright: (size, size) uint8."""
    face = np.random.default_rng(seed).integers(80, 110, (size, size), dtype=np.uint8)
    face[: size // 2, size // 2 :] += 100
    return face
