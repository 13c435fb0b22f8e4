"""From the trained network to a finder's folder: finder.onnx in half-precision weights, finder.json, CARD.md."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from mien.errors import ModelError
from mien.files import whole_folder
from mien.predict.finder_facts import (
    CARD_FILE,
    FACTS_FILE,
    INPUT,
    NETWORK_FILE,
    OUTPUTS,
    FinderFacts,
    read_finder,
)
from mien.predict.session import open_session
from mien.train.export.onnx import to_raw_onnx
from mien.train.finder.card import finder_card

_SIZES = ((96, 128), (320, 64))  # of the pictures on which both are compared, height and width
# Largest differences of a raw value, beside 1 + its size. The first is summing in another order, the second kernels
# rounded to 11 bits, over some forty layers.
_TOLERANCE, _ROUNDING = 2e-3, 5e-2


def export_finder(network: keras.Model, folder: Path, facts: FinderFacts) -> FinderFacts:
    """Write a finder's folder, whole or not at all; returns the facts as written.

    Kernels are stored in half precision and turned back when the file is loaded: half the bytes, the same speed; in
    float32 where the rounding would move the answers. Raises ModelError when ONNX Runtime and Keras disagree.
    """
    model = to_raw_onnx(network)
    exact = model.SerializeToString()
    if not (found := difference(network, exact, folder)) <= _TOLERANCE:  # also true for NaN
        raise ModelError(
            f"the exported face finder differs from Keras by {found:.2g} (allowed: {_TOLERANCE:g}), so nothing was "
            "written; its numbers are not finite or not stable: train with a lower learning rate"
        )
    rounded = with_half_kernels(model).SerializeToString()
    content = rounded if difference(network, rounded, folder) <= _ROUNDING else exact
    facts = replace(
        facts,
        sha256=hashlib.sha256(content).hexdigest(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        training={**facts.training, "parameters": int(network.count_params()), "bytes": len(content)},
    )
    write_finder(folder, content, facts)
    return facts


def write_finder(folder: Path, content: bytes, facts: FinderFacts) -> None:
    """Write the three files of a finder's folder."""
    with whole_folder(folder) as temporary:
        (temporary / NETWORK_FILE).write_bytes(content)
        (temporary / FACTS_FILE).write_text(facts.to_json(), encoding="utf-8")
        (temporary / CARD_FILE).write_text(finder_card(facts), encoding="utf-8")
        read_finder(temporary)


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
