"""Networks that mien did not save: what they cannot say about themselves is asked for once, and remembered.

A description says which labels the outputs are and how pictures become inputs. `adopt_keras` and `adopt_onnx` turn a
network and its description into one of mien's own, which scales levels itself and ends in a softmax, so that
`evaluate`, `export`, `predict` and `train --from` need nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, MienError, ModelError
from mien.files import cache_folder, clipped, whole_file, whole_folder
from mien.model.calibration import softmax
from mien.model.folder import MODEL_FILE, file_sha256
from mien.model.metadata import METADATA_KEY, Head, Metadata
from mien.model.preprocess import COLOURS, Preprocess
from mien.settings import from_mapping, setting, to_mapping
from mien.terminal import counted

HEAD = "expression"
_GROUP = "a network that mien did not save"
# Where one command takes data and such a network.
LABELS_OF_BOTH = (
    "labels of the outputs, in order (angry,happy), of a network that mien did not save; pairs say what the data's "
    "labels mean (0=angry,1=happy)"
)
_INPUT_KINDS = (1, 2, 10, 11)  # of ONNX's TensorProto: FLOAT, UINT8, FLOAT16, DOUBLE
_NUMPY_KINDS = {
    "tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(float16)": np.float16, "tensor(double)": np.float64,
}  # fmt: skip
_ALIKE = 1e-4  # by how much an adopted network may differ from the original


@dataclass(frozen=True, kw_only=True)
class Description:
    """What must be known of a network that mien did not save. Raises ConfigError with one line."""

    labels: tuple[str, ...] = setting((), "the labels, in the order of the outputs", group=_GROUP)
    size: int | None = setting(None, "pixels a side of the input; unset: read from its shape", group=_GROUP)
    colour: str | None = setting(
        None,
        "colour of the input; unset: grey for one channel, rgb for three",
        choices=COLOURS,
        group=_GROUP,
    )
    input_range: tuple[float, ...] = setting(
        (0.0, 255.0), "values that black and white have in its input, such as 0,1 or -1,1", group=_GROUP
    )
    logits: bool = setting(False, "the outputs are logits and need a softmax", group=_GROUP)

    def __post_init__(self) -> None:
        check_description(self.labels, self.input_range)


def description(options: Mapping[str, Any]) -> Description:
    """Return the description among a command's settings, by name.

    Of `labels` only the words that are no pairs count: pairs (0=angry) say what the labels of the data mean.
    """
    values = {name: options[name] for name in Description.__dataclass_fields__ if name in options}
    values["labels"] = tuple(word for word in values.get("labels", ()) if "=" not in word)
    return from_mapping(Description, values, "options")


def check_description(labels: Sequence[str], input_range: Sequence[float]) -> None:
    """Raise ConfigError for labels or a range that cannot be."""
    if len(input_range) != 2 or not input_range[0] < input_range[1]:
        raise ConfigError(
            f"input_range must be two numbers, the lower first, such as 0,1 or -1,1; got {tuple(input_range)}"
        )
    if len(set(labels)) != len(labels) or len(labels) == 1:
        raise ConfigError(f"labels must be two or more different names, got {', '.join(labels)}")


def remembered(path: Path, given: Description | None) -> Description:
    """Return the description of a file: what is given now, or what was remembered of it."""
    if given is not None and given.labels:
        return given
    with suppress(OSError, ValueError, MienError):
        store = _store(path)
        return from_mapping(Description, json.loads(store.read_text(encoding="utf-8")), str(store))
    return Description()


def remember(path: Path, told: Description) -> None:
    """Keep a description for the next time, once it has been found to fit: a wrong one would stand in the way.

    It is kept in the folder for caches, under the content of the file: a copy elsewhere is the same network.
    """
    with suppress(OSError, MienError):  # a cache that cannot be written is no reason to stop
        if told.labels:
            with whole_file(_store(path)) as temporary:
                temporary.write_text(json.dumps(to_mapping(told)), encoding="utf-8")


def _store(path: Path) -> Path:
    return cache_folder() / "external" / f"{file_sha256(path)}.json"


def metadata_of(path: Path, shape: Sequence[int | None], told: Description) -> tuple[Metadata, bool, str]:
    """Return metadata made from a description and the input's shape, whether channels come first, and a note.

    Raises ModelError where the description lacks something or does not fit the shape.
    """
    if not told.labels:
        raise ModelError(
            f"{path} was not saved by mien, so it cannot say what its outputs mean; name them in order with "
            "--labels a,b,c (and --size, --colour, --input-range where they are not obvious)"
        )
    channels_first, side = _geometry(path, shape)
    size = _size(path, side, told)
    channels = shape[1] if channels_first else shape[3]
    colour = told.colour or ("grey" if channels == 1 else "rgb")
    try:
        preprocess = Preprocess(size=size, colour=colour)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error
    if channels not in (None, preprocess.channels):
        raise ModelError(
            f"{path} takes {counted(channels, 'channel')}, which cannot be {colour}; set --colour"
        )
    low, high = told.input_range
    note = (
        f"{path.name} was not saved by mien: taken as {size}x{size} {colour}, levels from {low:g} to {high:g}"
        f", labels {', '.join(told.labels)}" + (", outputs are logits" if told.logits else "")
    )
    heads = (Head(name=HEAD, labels=told.labels),)
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


def _size(path: Path, side: int | None, told: Description) -> int:
    if side is None and told.size is None:
        raise ModelError(
            f"{path} takes pictures of any size and does not say which it was trained on; set --size"
        )
    if side is not None and told.size not in (None, side):
        raise ModelError(f"{path} takes {side}x{side} pictures; leave --size {told.size} out")
    return side or int(told.size or 0)


def as_probabilities(answers: NDArray[Any], path: Path, told: Description) -> NDArray[np.float32]:
    """Turn a network's outputs, (n, outputs), into (n, labels) probabilities; ModelError where they are none.

    One output and two labels: the output is the probability of the second label (a sigmoid), or its logit.
    """
    labels = told.labels
    if answers.ndim == 2 and answers.shape[1] == 1 and len(labels) == 2:
        if told.logits:
            answers = 1 / (1 + np.exp(-answers))
        answers = np.concatenate([1 - answers, answers], axis=1)
    elif answers.ndim != 2 or answers.shape[1] != len(labels):
        raise ModelError(
            f"{path} answers with shape {answers.shape[1:]} a picture; --labels names {len(labels)}: "
            f"{', '.join(labels)}"
        )
    elif told.logits:
        answers = softmax(answers)
    if answers.min() < 0 or np.abs(answers.sum(axis=1) - 1).max() > 1e-3:
        raise ModelError(
            f"the outputs of {path} are not probabilities that sum to one; are they logits? Add --logits"
        )
    return answers.astype(np.float32)


def adopt_keras(model: Any, path: Path, told: Description) -> tuple[Any, Metadata, str]:
    """Return the same network as one of mien's own: levels 0-255 in, one softmax named `expression` out; and a note.

    Raises ModelError for more than one input or output, channels first, and a network that does not end in a dense
    layer (perhaps with a softmax of its own behind it).
    """
    import keras
    from keras import layers

    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{path} has {counted(len(model.inputs), 'input')} and {counted(len(model.outputs), 'output')}; a network "
            "that mien did not save must have one of each"
        )
    metadata, channels_first, note = metadata_of(path, list(model.inputs[0].shape), told)
    if channels_first:
        raise ModelError(
            f"{path} takes channels first, which Keras networks of mien do not; export it to .onnx"
        )
    dense, activation = _last_dense(model, path)
    kernel, bias = _two_columns(dense, told, path)
    if activation not in ("softmax", "sigmoid") and not told.logits:
        raise ModelError(
            f"{path} ends in {activation}, whose outputs are not probabilities; are they logits? Add --logits"
        )
    if activation == "sigmoid" and dense.units > 1 and not told.logits:
        raise ModelError(
            f"{path} ends in {dense.units} sigmoids, whose outputs do not sum to one; mien takes one of several labels"
        )
    low, high = told.input_range
    faces = keras.Input(metadata.preprocess.shape, name="faces")
    x = faces
    if (low, high) != (0.0, 255.0):
        x = layers.Rescaling((high - low) / 255, offset=low, name="to_input_range")(x)
    trunk = keras.Model(model.inputs[0], dense.input, name="trunk")
    head = layers.Dense(kernel.shape[1], activation="softmax", dtype="float32", name=HEAD)
    adopted = keras.Model(faces, head(trunk(x)), name=path.stem.replace("/", "-"))
    head.set_weights([kernel, bias])
    return adopted, metadata, note


def _last_dense(model: Any, path: Path) -> tuple[Any, str]:
    """Return the dense layer at the end, and the activation that its outputs go through."""
    activation = "linear"
    for layer in reversed(model.layers):
        kind = type(layer).__name__
        if kind == "Dense":
            own = layer.activation.__name__
            return layer, own if activation == "linear" else activation
        if kind == "Softmax" or (kind == "Activation" and activation == "linear"):
            activation = "softmax" if kind == "Softmax" else layer.activation.__name__
        else:
            break
    raise ModelError(
        f"{path} does not end in a dense layer, so mien cannot take it over; export it to .onnx with its own tools"
    )


def _two_columns(dense: Any, told: Description, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return kernel and bias with a column a label: a sigmoid of z is a softmax over 0 and z."""
    kernel, *rest = (np.asarray(weight) for weight in dense.get_weights())
    bias = rest[0] if rest else np.zeros(kernel.shape[1], kernel.dtype)
    if kernel.shape[1] == 1 and len(told.labels) == 2:
        return np.concatenate([0 * kernel, kernel], axis=1), np.concatenate([0 * bias, bias])
    if kernel.shape[1] != len(told.labels):
        raise ModelError(
            f"{path} answers with shape {kernel.shape[1:]} a picture; --labels names {len(told.labels)}: "
            f"{', '.join(told.labels)}"
        )
    return kernel, bias


def adopt_onnx(path: Path, folder: Path, told: Description, name: str | None = None) -> tuple[Metadata, str]:
    """Write a model folder of a foreign `.onnx` file: its graph, between scaling before it and a softmax behind it.

    Returns the metadata and a note. Raises ModelError where the file cannot be opened or does not fit its description,
    has a fixed batch size, or where the adopted network answers otherwise; OutputError for the folder.
    """
    import onnx

    from mien.train.export.card import describe
    from mien.train.export.onnx import add_features

    try:
        proto = onnx.load(path)
    except Exception as error:  # protobuf has its own errors
        raise ModelError(f"{path} is not an ONNX file; was it cut off or renamed?") from error
    if {"faces", HEAD} & {name for node in proto.graph.node for name in (*node.input, *node.output)}:
        proto = onnx.compose.add_prefix(proto, "original/")  # both names are those of the ends that it gets
    own = {tensor.name for tensor in proto.graph.initializer}
    entries = [entry for entry in proto.graph.input if entry.name not in own]
    if len(entries) != 1:
        raise ModelError(f"{path} takes {len(entries)} inputs; a network for mien takes one, the picture")
    if len(proto.graph.output) != 1:
        names = ", ".join(output.name for output in proto.graph.output)
        raise ModelError(
            f"{path} has {len(proto.graph.output)} outputs ({names}); export it with the one of the classes"
        )
    kind = entries[0].type.tensor_type.elem_type
    if kind not in _INPUT_KINDS:
        raise ModelError(
            f"{path} takes {onnx.TensorProto.DataType.Name(kind)} numbers; mien feeds float, float16, double and uint8"
        )
    shape = [side.dim_value or None for side in entries[0].type.tensor_type.shape.dim]
    metadata, channels_first, note = metadata_of(path, shape, told)
    metadata = replace(metadata, name=name or metadata.name)
    if shape[0] is not None:
        raise ModelError(
            f"{path} takes {shape[0]} pictures at a time; export it with an open batch size, then mien can use it"
        )
    _wrap(proto, entries[0], metadata, channels_first, told)
    metadata = add_features(proto, metadata)
    with whole_folder(folder) as temporary:
        onnx.save(proto, temporary / MODEL_FILE)
        _check_alike(path, temporary / MODEL_FILE, metadata, channels_first, told)
        describe(temporary, metadata)
    return metadata, note


def _wrap(proto: Any, entry: Any, metadata: Metadata, channels_first: bool, told: Description) -> None:
    """Put scaling before the graph and probabilities behind it, and name both ends as mien does."""
    from onnx import TensorProto, helper, numpy_helper

    graph, how = proto.graph, metadata.preprocess
    low, high = told.input_range
    constants = {
        "mien/step": np.float32((high - low) / 255),
        "mien/low": np.float32(low),
        "mien/one": np.float32(1),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    before = [
        helper.make_node("Mul", ["faces", "mien/step"], ["mien/scaled"]),
        helper.make_node("Add", ["mien/scaled", "mien/low"], ["mien/ranged"]),
        helper.make_node("Cast", ["mien/ranged"], ["mien/cast"], to=entry.type.tensor_type.elem_type),
        helper.make_node(
            "Transpose", ["mien/cast"], [entry.name], perm=[0, 3, 1, 2] if channels_first else [0, 1, 2, 3]
        ),
    ]
    behind = [helper.make_node("Cast", [graph.output[0].name], ["mien/answer"], to=TensorProto.FLOAT)]
    answer = "mien/answer"
    if len(told.labels) == 2 and _outputs(graph.output[0]) == 1:
        if told.logits:
            behind.append(helper.make_node("Sigmoid", [answer], ["mien/second"]))
            answer = "mien/second"
        behind.append(helper.make_node("Sub", ["mien/one", answer], ["mien/first"]))
        behind.append(helper.make_node("Concat", ["mien/first", answer], [HEAD], axis=1))
    else:
        behind.append(helper.make_node("Softmax" if told.logits else "Identity", [answer], [HEAD],
                                       **({"axis": 1} if told.logits else {})))  # fmt: skip
    nodes = [*before, *graph.node, *behind]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["batch", *how.shape]))
    graph.output.append(helper.make_tensor_value_info(HEAD, TensorProto.FLOAT, ["batch", len(told.labels)]))
    helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})


def _outputs(entry: Any) -> int | None:
    sides = entry.type.tensor_type.shape.dim
    return sides[-1].dim_value or None if len(sides) == 2 else None


def _check_alike(
    path: Path, adopted: Path, metadata: Metadata, channels_first: bool, told: Description
) -> None:
    """Compare the adopted network with the original on noise; ModelError where they differ."""
    import onnxruntime

    from mien.model.classifier import Classifier

    low, high = told.input_range
    levels = np.random.default_rng(0).integers(0, 256, (3, *metadata.preprocess.shape)).astype(np.float32)
    given = levels * ((high - low) / 255) + low
    given = np.ascontiguousarray(given.transpose(0, 3, 1, 2)) if channels_first else given
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        raw = session.run(None, {entry.name: given.astype(_NUMPY_KINDS[entry.type])})[0]
    except Exception as error:  # ONNX Runtime has its own errors
        raise ModelError(f"{path} does not answer: {clipped(' '.join(str(error).split()), 200)}") from error
    wanted = as_probabilities(np.asarray(raw), path, told)
    found = Classifier(adopted).probabilities(levels)[HEAD]
    if not np.abs(found - wanted).max() <= _ALIKE:
        raise ModelError(
            f"{path} answers otherwise once it is taken over, so nothing was written: a mistake in mien"
        )


def cached_folder(path: Path, given: Description | None) -> Path:
    """Return a model folder of a foreign `.keras`, `.h5` or `.onnx` file, made in the folder for caches if need be.

    given: its description, or None to use the one that was given before. Needs the training extra the first time.
    """
    told = remembered(path, given)
    key = hashlib.sha256(json.dumps([file_sha256(path), to_mapping(told)]).encode()).hexdigest()[:32]
    folder = cache_folder() / "external" / key
    if not (folder / MODEL_FILE).is_file():
        to_folder(path, folder, told)
    remember(path, told)
    return folder


def to_folder(path: Path, folder: Path, told: Description, name: str | None = None) -> Metadata:
    """Write a model folder of a foreign file."""
    if path.suffix == ".onnx":
        metadata, _ = adopt_onnx(path, folder, told, name)
    else:
        from mien.train import backend

        backend.import_keras()
        from mien.train.export.folder import export
        from mien.train.export.keras_io import load_network

        model, _ = load_network(path)
        network, metadata, _ = adopt_keras(model, path, told)
        export(network, folder, replace(metadata, name=name or metadata.name))
    remember(path, told)
    return metadata


def is_external(path: Path) -> bool:
    """Say whether this is a `.onnx` file that mien did not write; a file that cannot be opened is not."""
    if path.suffix != ".onnx" or not path.is_file():
        return False
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception:  # whatever it is, it is not for us to say
        return False
    return METADATA_KEY not in session.get_modelmeta().custom_metadata_map
