"""From the trained network to a detector's folder: detector.onnx in half-precision weights, detector.json, CARD.md."""

from __future__ import annotations

import datetime
import hashlib
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
    DetectorMetadata,
    read_detector,
)
from mien.detect.training.card import detector_card
from mien.errors import ModelError
from mien.files import whole_folder
from mien.model.classifier import open_session
from mien.train.export.onnx import to_raw_onnx

_SIZES = ((96, 128), (320, 64))  # of the pictures on which both are compared, height and width
# Largest differences of a raw value, beside 1 + its size. The first is summing in another order, the second kernels
# rounded to 11 bits, over some forty layers.
_TOLERANCE, _ROUNDING = 2e-3, 5e-2


def export_detector(network: keras.Model, folder: Path, metadata: DetectorMetadata) -> DetectorMetadata:
    """Write a detector's folder, whole or not at all; returns the metadata as written.

    Kernels are stored in half precision and turned back when the file is loaded: half the bytes, the same speed; in
    float32 where the rounding would move the answers. Raises ModelError when ONNX Runtime and Keras disagree.
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


def with_half_kernels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the kernels of convolutions in float16, each with a Cast before its use, which loading folds away."""
    graph = model.graph
    stored, casts = [], []
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.ndim != 4 or array.dtype != np.float32:
            stored.append(tensor)
            continue
        half = f"{tensor.name}/half"
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
