"""An exported network also gives its features: the numbers that its last layer answers from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx

from mien.model.metadata import METADATA_KEY, Features, Metadata

FEATURES = "features"  # name of the output


def add_features(proto: onnx.ModelProto, metadata: Metadata) -> Metadata:
    """Add the output `features` to a network, and say so in its metadata, which are returned; both in place.

    They are what goes into the last dense layer before the first head, (batch, d) float32, whatever the layers are
    called; of an ensemble those of one member. A network without such a layer has none, and its metadata say so. The
    answers stay the same to the last bit: an output more changes no arithmetic.
    """
    graph = proto.graph
    found = _last_dense_input(graph, metadata.heads[0].name)
    features = None
    if found:
        source, size = found
        name = FEATURES
        while any(name in node.output for node in graph.node):  # a head may be called like that
            name += "_"
        graph.node.append(onnx.helper.make_node("Identity", [source], [name], name=name))
        kind = onnx.TensorProto.FLOAT
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind, ["batch", size]))
        features = Features(tensor=name, size=size)
    metadata = replace(metadata, features=features)
    kept = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**kept, METADATA_KEY: metadata.to_json()})
    return metadata


def _last_dense_input(graph: Any, head: str) -> tuple[str, int] | None:
    """Return the tensor that the last dense layer before a head takes, and how many numbers it has.

    A fixed matrix behind a softmax only puts answers into another order, so the search goes on before it.
    """
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    waiting, seen = [head], set()
    while waiting:
        node = producers.get(waiting.pop(0))
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in ("Gemm", "MatMul") and len(weights.get(node.input[1], ())) == 2:
            before = producers.get(node.input[0])
            if before is None or before.op_type not in ("Softmax", "LpNormalization"):
                turned = any(one.name == "transB" and one.i for one in node.attribute)
                return node.input[0], weights[node.input[1]][1 if turned else 0]
        waiting += [name for name in node.input if name not in weights]
    return None
