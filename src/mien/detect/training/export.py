"""From a trained network to a detector folder: network, metadata, card; compared with Keras before it counts."""

from __future__ import annotations

import datetime
import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from mien.detect.mien import (
    CARD_FILE,
    INPUT,
    METADATA_FILE,
    NETWORK_FILE,
    OUTPUTS,
    DetectorFiles,
    DetectorMetadata,
    read_detector,
)
from mien.errors import ModelError
from mien.files import whole_folder
from mien.model.session import open_session
from mien.train.export.onnx import to_raw_onnx, trace

_SIZES = ((96, 128), (320, 64))  # of the pictures on which both are compared, height and width
# Largest differences of a raw value, beside 1 + its size. The first is summing in another order, the second kernels
# rounded to 11 bits, over some forty layers.
_TOLERANCE, _ROUNDING = 2e-3, 5e-2
_HALF = "/half"  # at the end of the name of a kernel that is stored in half precision


def export_detector(network: keras.Model, folder: Path, metadata: DetectorMetadata) -> DetectorMetadata:
    """Write a detector's folder, whole or not at all; returns the metadata as written.

    Kernels are stored in half precision and turned back when the file is loaded: half the bytes, the same speed; in
    float32 where the rounding would change the answers. Raises ModelError when ONNX Runtime and Keras disagree.
    """
    model = to_raw_onnx(network)
    exact = model.SerializeToString()
    if not (found := difference(network, exact, folder)) <= _TOLERANCE:  # also true for NaN
        raise ModelError(
            f"the exported face detector differs from Keras by {found:.2g} (allowed: {_TOLERANCE:g}), so nothing was "
            "written; its numbers are not finite or not stable: train with a lower learning rate"
        )
    rounded = with_half_kernels(model).SerializeToString()
    content = rounded if difference(network, rounded, folder) <= _ROUNDING else exact
    metadata = replace(
        metadata,
        sha256=hashlib.sha256(content).hexdigest(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        training={**metadata.training, "parameters": int(network.count_params()), "bytes": len(content)},
    )
    write_detector(folder, content, metadata)
    return metadata


def write_detector(folder: Path, content: bytes, metadata: DetectorMetadata) -> None:
    """Write the three files of a detector's folder."""
    with whole_folder(folder) as temporary:
        (temporary / NETWORK_FILE).write_bytes(content)
        (temporary / METADATA_FILE).write_text(metadata.to_json(), encoding="utf-8")
        (temporary / CARD_FILE).write_text(detector_card(metadata), encoding="utf-8")
        read_detector(temporary)


def assign_weights(network: keras.Model, files: DetectorFiles) -> None:
    """Put the weights of a detector's file into a network of `build`, to train on from them.

    Raises ModelError where the file is of another network.
    """
    stored = onnx.load_from_string(files.network)
    arrays = {
        tensor.name.removesuffix(_HALF): onnx.numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in stored.graph.initializer
    }
    graph, _ = trace(network)
    for name, weight in graph.weights.items():
        array = arrays.get(name)
        if array is None or array.size != math.prod(weight.variable.shape):
            raise ModelError(
                f"{files.path} is of another network, so a training cannot start from it: {name}"
            )
        weight.variable.assign(weight.layout.to_keras(array, weight.variable.shape))


def with_half_kernels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the kernels of convolutions in float16, each with a Cast before its use, which loading folds away."""
    graph = model.graph
    stored, casts = [], []
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.ndim != 4 or array.dtype != np.float32:
            stored.append(tensor)
            continue
        half = tensor.name + _HALF
        stored.append(onnx.numpy_helper.from_array(array.astype(np.float16), half))
        casts.append(
            onnx.helper.make_node("Cast", [half], [tensor.name], name=half, to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(stored)
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def difference(network: keras.Model, content: bytes, name: Path) -> float:
    """Return the largest difference between Keras's and a file's raw values, over 1 + the size of Keras's."""
    session = open_session(content, name)
    worst = 0.0
    for number, (height, width) in enumerate(_SIZES):
        levels = np.random.default_rng(number).integers(0, 256, (2, height, width, 3)).astype(np.float32)
        ours: list[Any] = session.run(list(OUTPUTS), {INPUT: levels})
        theirs = [np.asarray(keras.ops.convert_to_numpy(one)) for one in network(levels, training=False)]
        for answer, exact in zip(ours, theirs, strict=True):
            gaps = np.abs(answer.transpose(0, 2, 3, 1) - exact) / (1 + np.abs(exact))
            worst = float(np.maximum(worst, gaps.max()))  # stays NaN once it is
    return worst


_TEXT = """# {name}: a face detector

Finds faces in photographs: a box from hairline to chin, a score, and five landmarks (eyes, tip of the nose, corners of
the mouth). It does not tell whose face it is, nor what it expresses.

- Made by `mien train-detector` on {created}; {parameters:,} parameters, {kilobytes:,} kB.
- Looks at pictures with a longer side of {least} to {usual} pixels, and of {small} for faces that fill them (up to
  {closest} where it finds nothing or only tiny faces). A box with a score from {low:g} to {high:g} is looked at
  again, by itself and turned level, and gets the geometric mean of both scores. A box counts as a face from score
  {threshold:.3f} on.
- Trained on {photos} photographs with {faces} faces, whose boxes another detector (YuNet) made at several sizes;
  {epochs} epochs. What the teacher cannot see, strong profiles and heavily covered faces, it learnt as little. No
  photograph is part of it; each is under the terms of its owner.

## How good it is

{scores}

## What it misses

Faces under about 16 pixels of the picture that it looks at, faces in strong profile or turned by more than about 30
degrees, faces of which more than half is covered or cut off. Dolls, statues and portraits on the wall may count as
faces.
"""

_IN_WORDS = {
    "ap": "average precision at an IoU of 0.5",
    "recall_20_40": "faces of 20 to 40 pixels that are found",
    "recall_40": "faces of 40 pixels and more that are found",
    "false_positives_per_100": "false positives in 100 photographs without a face",
    "landmark_error": "landmarks: mean distance, as a share of the eyes' distance",
}


def detector_card(metadata: DetectorMetadata) -> str:
    """Return CARD.md of a face detector."""
    training = metadata.training
    return _TEXT.format(
        name=metadata.name,
        created=metadata.created or "an unknown day",
        parameters=training.get("parameters", 0),
        kilobytes=round(training.get("bytes", 0) / 1000),
        small=metadata.small_size,
        least=metadata.min_size,
        usual=metadata.detect_size,
        closest=metadata.max_size,
        low=metadata.low_threshold,
        high=metadata.high_threshold,
        threshold=metadata.threshold,
        photos=training.get("photographs", "?"),
        faces=training.get("faces", "?"),
        epochs=training.get("epochs", "?"),
        scores=_scores(metadata),
    )


def _scores(metadata: DetectorMetadata) -> str:
    if not metadata.scores:
        return "Not measured yet: `mien evaluate-detector DATA --detectors THIS-FOLDER`."
    lines = ["| on photographs of sources that it was not trained on | |", "|---|---|"]
    return "\n".join(
        lines + [f"| {_IN_WORDS.get(name, name)} | {value:.3g} |" for name, value in metadata.scores.items()]
    )
