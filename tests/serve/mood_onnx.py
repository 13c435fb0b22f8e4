"""A network made by hand that answers seven expressions by the light on seven strips of the face. No Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.labels import FER2013
from mien.model.folder import MODEL_FILE, write_metadata
from mien.model.metadata import METADATA_KEY, Head, Metadata
from mien.model.preprocess import Preprocess

SIZE = 28
METADATA = Metadata(
    name="strips",
    preprocess=Preprocess(size=SIZE, colour="grey"),
    heads=(Head(name="mood", labels=FER2013, threshold=0.32),),
)
_SLOPE = 0.03


def write_mood(folder: Path) -> Path:
    """Write a model folder: softmax of the mean level of each strip of four rows, times a slope."""
    strips = np.zeros((SIZE * SIZE, len(FER2013)), np.float32)
    for label in range(len(FER2013)):
        strips.reshape(SIZE, SIZE, -1)[4 * label : 4 * label + 4, :, label] = _SLOPE / (4 * SIZE)
    nodes = [
        helper.make_node("Reshape", ["faces", "flat"], ["levels"]),
        helper.make_node("MatMul", ["levels", "strips"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["mood"], axis=1),
    ]
    constants = {"flat": np.array([-1, SIZE * SIZE]), "strips": strips}
    graph = helper.make_graph(
        nodes,
        "strips",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", SIZE, SIZE, 1])],
        [helper.make_tensor_value_info("mood", TensorProto.FLOAT, ["batch", len(FER2013)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(proto, {METADATA_KEY: METADATA.to_json()})
    folder.mkdir()
    onnx.save(proto, folder / MODEL_FILE)
    write_metadata(folder, METADATA)
    return folder
