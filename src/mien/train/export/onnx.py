"""From a Keras network to an ONNX graph, the same from every backend: it reads settings and weights only.

The graph is clean: one transposition to channels first at the start, none between layers, every weight named
after its layer. Batch normalisation is not folded: ONNX Runtime fuses it when it loads the file, and so a
model folder keeps all that is needed to train on from it (`keras_from_onnx`). Beside its answers a network gives its
features, the numbers that its last layer answers from (`add_features`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from mien._version import __version__
from mien.errors import ModelError, first_line
from mien.model.calibration import LEFT_BELOW
from mien.model.metadata import METADATA_KEY, Features, Head, Metadata
from mien.train.export.keras_io import finish_loading
from mien.train.export.onnx_layers import activations, arithmetic, convolutions
from mien.train.export.onnx_layers.graph import Graph, Value

OPSET, IR_VERSION = 18, 8  # what ONNX Runtime 1.14 and newer reads; 18 is the first whose Resize takes axes
INPUT = "faces"
# Metadata: architecture; small variables that are not in the graph.
NETWORK_KEY, REST_KEY = "keras", "keras_rest"

Handler = Callable[..., Value]
_LAYERS: dict[str, Handler] = {
    name: handler
    for module in (activations, arithmetic, convolutions)
    for name, handler in module.LAYERS.items()
}
# Layers that work on flattened values in either order; before all others Keras's order is restored.
_ANY_ORDER = {
    "Dense",
    "Activation",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "Softmax",
    "Dropout",
    "GaussianNoise",
    "Flatten",
}
FEATURES = "features"  # name of the output


def trace(model: Any) -> tuple[Graph, dict[str, Value]]:
    """Walk through a functional or sequential network once and return its graph and its outputs.

    The outputs are named after the layers that they come from. Weights are not read yet. Raises ModelError
    for a layer that we do not know, naming it, and for a network without exactly one picture as input.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise ModelError(
            f"network {model.name!r} cannot be exported: it must be functional or sequential, built, "
            "with one (height, width, channels) input"
        )
    graph = Graph()
    shape = tuple(inputs[0].shape[1:])
    faces = graph.add_transpose(Value(INPUT, shape), [0, 3, 1, 2], INPUT)
    values = _walk(graph, model, [faces], "")
    names = [tensor._keras_history.operation.name for tensor in model.outputs]
    return graph, dict(zip(names, values, strict=True))


def _walk(graph: Graph, model: Any, values: list[Value], prefix: str) -> list[Value]:
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            values = _call(graph, layer, prefix, tuple(values), {})
        return values
    if not hasattr(model, "_run_through_graph"):
        raise ModelError(
            f"network {prefix + model.name!r} is neither functional nor sequential; rebuild it as one"
        )
    outputs = model._run_through_graph(
        values, lambda step: lambda *args, **kwargs: _call(graph, step, prefix, args, kwargs)
    )
    return [value for value in keras.tree.flatten(outputs) if isinstance(value, Value)]


def _call(graph: Graph, step: Any, prefix: str, args: Any, kwargs: Any) -> list[Value]:
    """Append one call of a layer, an operation or a nested network."""
    path, kind = prefix + step.name, type(step).__name__
    values = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, Value)]
    if isinstance(step, keras.Model):
        return _walk(graph, step, values, f"{path}/")
    if type(step).__module__.partition(".")[0] != "keras":
        raise _unknown(path, kind)
    if kind not in _ANY_ORDER:
        args, kwargs = keras.tree.map_structure(
            lambda x: graph.in_keras_order(x, path) if isinstance(x, Value) else x, (args, kwargs)
        )
        values = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, Value)]
    if isinstance(step, keras.layers.Layer):
        if kind not in _LAYERS:
            raise _unknown(path, kind)
        return [_LAYERS[kind](graph, step, path, *values)]
    if kind in activations.OPERATIONS:
        return [activations.named_activation(graph, values[0], activations.OPERATIONS[kind], path)]
    if kind in arithmetic.OPERATIONS and len(args) == 2:
        return [arithmetic.operate(graph, arithmetic.OPERATIONS[kind], path, *args)]
    raise _unknown(path, kind)


def _unknown(path: str, kind: str) -> ModelError:
    return ModelError(
        f"layer {path!r} is a {kind}, which mien cannot export; known are {', '.join(sorted(_LAYERS))}: "
        "replace it, or keep the network as a .keras file"
    )


def to_onnx(
    model: Any, metadata: Metadata, traced: tuple[Graph, dict[str, Value]] | None = None
) -> onnx.ModelProto:
    """Return the network as an ONNX model that carries its architecture and its metadata.

    Input `faces`: (batch, height, width, channels) float32, levels in [0, 255]. One output a head, named
    after it: (batch, labels) float32 probabilities; its temperature divides the logits before the softmax,
    its smoothing is taken out after it. traced: what `trace` said of the model, which this uses up.
    Raises ModelError where the network does not fit the metadata or has a layer that we do not know.
    """
    graph, outputs = traced or trace(model)
    values = _matched(outputs, metadata)
    for head, value in zip(metadata.heads, values, strict=True):
        _finish_head(graph, head, value)
    shapes = {head.name: ["batch", len(head.labels)] for head in metadata.heads}
    proto = _proto(graph, model, metadata.name or model.name, shapes)
    onnx.helper.set_model_props(
        proto,
        {METADATA_KEY: metadata.to_json(), NETWORK_KEY: architecture(model), REST_KEY: _rest(graph, model)},
    )
    onnx.checker.check_model(proto)
    return proto


def count_macs(graph: Graph) -> int | None:
    """Count the multiply-accumulates of convolutions and dense layers for one face, from a graph of `trace`.

    Additions, normalisation and activations are not counted, as is usual. None where the network takes any
    size and does not resize it, so that the number depends on the picture.
    """
    total = 0
    for node in graph.nodes:
        if node.op_type not in {"Conv", "Gemm"}:
            continue
        kernel = graph.weights[node.input[1]].shape
        places = graph.shapes[node.output[0]][:2] if node.op_type == "Conv" else (1,)
        if None in places:
            return None
        total += math.prod(kernel) * math.prod(side or 0 for side in places)
    return total


def to_raw_onnx(model: Any) -> onnx.ModelProto:
    """Return a network that is not a recogniser as ONNX, its outputs as they are.

    Input `faces` as in `to_onnx`. One output for each of the network's, named after its layer: (batch, channels, rows,
    columns) float32, channels first, which saves turning them. Raises ModelError as `trace` does.
    """
    graph, outputs = trace(model)
    shapes = {}
    for name, value in outputs.items():
        graph.nodes.append(onnx.helper.make_node("Identity", [value.name], [name], name=name))
        rows, columns, channels = value.shape
        shapes[name] = ["batch", channels, rows or f"{name}_rows", columns or f"{name}_columns"]
    proto = _proto(graph, model, model.name, shapes)
    onnx.checker.check_model(proto)
    return proto


def _proto(graph: Graph, model: Any, name: str, outputs: dict[str, list[Any]]) -> onnx.ModelProto:
    """Put nodes, weights and constants together. outputs: the shape of each, by name."""
    open_sides = ("height", "width", "channels")
    sides = [
        word if side is None else side
        for word, side in zip(open_sides, model.inputs[0].shape[1:], strict=True)
    ]
    tensors = [onnx.numpy_helper.from_array(weight.array(), key) for key, weight in graph.weights.items()]
    tensors += [onnx.numpy_helper.from_array(array, key) for key, array in graph.constants.items()]
    info = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        graph.nodes, name,
        [info(INPUT, onnx.TensorProto.FLOAT, ["batch", *sides])],
        [info(key, onnx.TensorProto.FLOAT, shape) for key, shape in outputs.items()],
        tensors,
    )  # fmt: skip
    proto = onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    proto.producer_name, proto.producer_version = "mien", __version__
    return proto


def architecture(model: Any) -> str:
    """Return Keras's own description of the network, without loss and optimiser (our classes)."""
    if getattr(model, "compiled", False):
        model = type(model).from_config(model.get_config())
    return str(model.to_json())


def _rest(graph: Graph, model: Any) -> str:
    """Return the variables that inference does not need, in order, such as the count of a Normalization."""
    known = {id(weight.variable) for weight in graph.weights.values()}
    rest = [keras.ops.convert_to_numpy(v) for v in model.weights if id(v) not in known]
    return json.dumps([np.asarray(array).tolist() for array in rest])


def _matched(outputs: dict[str, Value], metadata: Metadata) -> list[Value]:
    """Return the outputs in the order of the heads; one output belongs to one head whatever its name."""
    names = [head.name for head in metadata.heads]
    if len(outputs) == 1 == len(names):
        outputs = dict(zip(names, outputs.values(), strict=True))
    if set(outputs) != set(names):
        raise ModelError(
            f"the network's outputs are {', '.join(outputs)}, its heads {', '.join(names)}; name them alike"
        )
    for head in metadata.heads:
        if outputs[head.name].shape != (len(head.labels),):
            raise ModelError(
                f"head {head.name!r} has {len(head.labels)} labels, but an output of shape "
                f"{outputs[head.name].shape}; name every output's label"
            )
    return [outputs[name] for name in names]


def _finish_head(graph: Graph, head: Head, value: Value) -> None:
    """Put the temperature before the softmax, take the smoothing out after it, name the output like the head."""
    place = next(i for i, node in enumerate(graph.nodes) if value.name in node.output)
    last = graph.nodes[place]
    if last.op_type != "Softmax":
        raise ModelError(f"head {head.name!r} ends in {last.op_type}, not in a softmax; end it in one")
    used = any(value.name in node.input for node in graph.nodes)
    answer = f"{head.name}/smoothed" if head.smoothing else head.name
    softmax = onnx.helper.make_node("Softmax", list(last.input), [answer], name=answer, axis=1)
    if head.temperature != 1.0:
        scaled = f"{head.name}/scaled"
        temperature = graph.constant(f"{head.name}/temperature", head.temperature)
        graph.nodes.append(onnx.helper.make_node("Div", [last.input[0], temperature], [scaled], name=scaled))
        softmax.input[0] = scaled
    graph.nodes.append(softmax)
    if head.smoothing:
        _take_smoothing_out(graph, head, answer)
    if not used:
        del graph.nodes[place]


def _take_smoothing_out(graph: Graph, head: Head, answer: str) -> None:
    """Append what `mien.model.calibration.without_smoothing` does."""
    part = head.smoothing / len(head.labels)
    steps = (
        ("Sub", [answer, graph.constant(f"{head.name}/part", [[part]])], "without"),
        ("Mul", [answer, graph.constant(f"{head.name}/left", [[LEFT_BELOW]])], "least"),
        ("Max", [f"{head.name}/without", f"{head.name}/least"], "kept"),
    )
    for kind, inputs, name in steps:
        node = onnx.helper.make_node(kind, inputs, [f"{head.name}/{name}"], name=f"{head.name}/{name}")
        graph.nodes.append(node)
    graph.nodes.append(
        onnx.helper.make_node(
            "LpNormalization", [f"{head.name}/kept"], [head.name], name=head.name, axis=1, p=1
        )
    )


# And back.


def keras_from_onnx(path: Path) -> tuple[Any, Metadata]:
    """Rebuild the Keras network that a `.onnx` file was exported from; returns it and the file's metadata.

    The temperatures stay in the metadata: they were never part of the weights, so the network's own outputs are
    not calibrated. Raises ModelError when the file is missing, damaged or was not written by mien.
    """
    proto = _read(path)
    stored = {entry.key: entry.value for entry in proto.metadata_props}
    if METADATA_KEY not in stored or NETWORK_KEY not in stored:
        raise ModelError(
            f"{path} does not hold a network that can be trained on; only model folders that mien exported do"
        )
    metadata = Metadata.from_json(stored[METADATA_KEY], path)
    try:
        model = keras.models.model_from_json(stored[NETWORK_KEY])
        _fill(model, proto, json.loads(stored.get(REST_KEY, "[]")))
    except ModelError:
        raise
    except Exception as error:  # whatever a changed description makes Keras raise
        raise ModelError(f"the network in {path} cannot be rebuilt: {first_line(error)}") from error
    return model, metadata


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
