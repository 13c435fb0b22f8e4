"""A model folder made by hand with the onnx package: mean level, one dense layer, softmax. No Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.model.classifier import COVERED
from mien.model.folder import MODEL_FILE, write_metadata
from mien.model.metadata import METADATA_KEY, Head, Metadata
from mien.model.preprocess import Preprocess

LABELS = ("dark", "bright")
METADATA = Metadata(
    name="brightness",
    preprocess=Preprocess(size=16, colour="grey"),
    heads=(Head(name="light", labels=LABELS),),
    network={"name": "by hand"},
    training={"settings": {"seed": 3, "widths": [4, 8]}, "data": {"counts": {"train": {"dark": 2}}}},
    scores=({"data": "drawn", "split": "test", "head": "light", "n": 4, "accuracy": 0.75},),
    licences={"model": "MIT"},
    created="2026-01-02T03:04:05+00:00",
)
KERNEL = np.array([[-0.02, 0.02]], np.float32)
BIAS = np.array([2.0, -2.0], np.float32)


def brightness_network(
    metadata: Metadata = METADATA, *, with_metadata: bool = True, tells_cover: bool = False
) -> onnx.ModelProto:
    """Softmax of mean * KERNEL + BIAS, for (batch, 16, 16, 1) float32 levels; a dark face is covered, if it tells."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["faces", "axes"], ["mean"], keepdims=0),
            helper.make_node("Reshape", ["mean", "column"], ["means"]),
            helper.make_node("Gemm", ["means", "kernel", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["light"], axis=1),
        ],
        "brightness",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", 16, 16, 1])],
        [helper.make_tensor_value_info("light", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
            numpy_helper.from_array(np.array([-1, 1]), "column"),
            numpy_helper.from_array(KERNEL, "kernel"),
            numpy_helper.from_array(BIAS, "bias"),
        ],
    )
    if tells_cover:
        graph.node.append(helper.make_node("Gemm", ["means", "dark", "threshold"], ["darkness"]))
        graph.node.append(helper.make_node("Sigmoid", ["darkness"], [COVERED]))
        graph.initializer.append(numpy_helper.from_array(np.array([[-0.1]], np.float32), "dark"))
        graph.initializer.append(numpy_helper.from_array(np.array([6.4], np.float32), "threshold"))
        graph.output.append(helper.make_tensor_value_info(COVERED, TensorProto.FLOAT, ["batch", 1]))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if with_metadata:
        helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})
    return proto


def write_folder(folder: Path, metadata: Metadata = METADATA, *, tells_cover: bool = False) -> Path:
    folder.mkdir()
    onnx.save(brightness_network(metadata, tells_cover=tells_cover), folder / MODEL_FILE)
    write_metadata(folder, metadata)
    return folder


def expected(inputs: np.ndarray) -> np.ndarray:
    """What the network must answer, computed by numpy."""
    logits = inputs.astype(np.float64).mean(axis=(1, 2, 3))[:, None] * KERNEL + BIAS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
