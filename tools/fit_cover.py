"""Let a network tell how likely something hides a part of a face: sunglasses, a mask, a hand, a microphone.

    python tools/fit_cover.py src/mien/models/mien fer2013.csv --photographs faces \
        --from stage2_pool,stage3_pool,stage4_pool

Its last layers have learnt to look past what covers a face, so they hardly tell; the layers before them do. The means
of their maps over nine parts of the picture go through a small perceptron, which becomes the output `covered` of each
network file in the folder (`mien.model.classifier.COVERED`); no other weight changes. It learns from training faces,
and faces of photographs, of which SHARE have something drawn over them; all are then varied and damaged as
`tools/distil.py` does it, so that it tells a cover from darkness, blur and turns. What is said at the end is of
validation faces.
`tools/fit_quality.py` then fits how much less sure the network should be of covered faces.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.random import Generator
from numpy.typing import NDArray
from onnx import helper

from distil import CANVAS, DAMAGE, DAMAGED_SHARE, HOW, VARIED, canvas, middle, unlabelled_faces
from mien.data import open_dataset
from mien.model.classifier import COVERED
from mien.model.folder import INT8_FILE, MODEL_FILE
from mien.model.metadata import Metadata
from mien.train.augment import augment
from mien.train.export.card import rewrite_metadata

SHARE = 0.3  # of faces with a cover
GRID = 3  # parts of the picture a side
HIDDEN = 8  # units of the perceptron
Faces = NDArray[np.uint8]
Floats = NDArray[np.float32]
_BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("data", type=Path, help="FER-2013")
    parser.add_argument("--photographs", type=Path, help="face set, as for tools/distil.py")
    parser.add_argument("--from", dest="layers", required=True, help="layers, with commas between them")
    options = parser.parse_args()
    dataset, layers = open_dataset(options.data), options.layers.split(",")
    faces = np.concatenate([canvas(dataset.split("train")), unlabelled_faces(options.photographs)])
    held = canvas(dataset.split("validation"))

    def change(metadata: Metadata, folder: Path) -> Metadata:
        add_cover(folder, layers, faces, held)
        return replace(metadata, network=_sized(metadata.network, folder))

    rewrite_metadata(options.model, change)


def _sized(network: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what is said of a network with the sizes of its files in bytes."""
    sizes = {
        name: (folder / name).stat().st_size for name in (MODEL_FILE, INT8_FILE) if (folder / name).is_file()
    }
    said = {**network}
    if MODEL_FILE in sizes:
        said["bytes"] = sizes[MODEL_FILE]
    if INT8_FILE in sizes and "int8" in said:
        said["int8"] = {**said["int8"], "bytes": sizes[INT8_FILE]}
    return said


def add_cover(folder: Path, layers: Sequence[str], faces: Faces, held: Faces) -> None:
    """Fit the perceptron on the form that people run, add it to all, and say how well it tells `held` ones.

    faces, held: (n, CANVAS, CANVAS).
    """
    from sklearn.neural_network import MLPClassifier

    files = [file for file in (folder / INT8_FILE, folder / MODEL_FILE) if file.is_file()]
    rng = np.random.default_rng(0)
    seen, truth = varied(faces, faces, rng)
    maps = _maps(_without_cover(files[0]), layers, seen)
    centre, scale = maps.mean(axis=0), maps.std(axis=0) + 1e-6
    maps -= centre
    maps /= scale
    fitted = MLPClassifier((HIDDEN,), alpha=1.0, early_stopping=True, random_state=0).fit(maps, truth)
    first, second = (kernel.astype(np.float32) for kernel in fitted.coefs_)
    biases = [bias.astype(np.float32) for bias in fitted.intercepts_]
    first /= scale[:, None]
    biases[0] -= centre @ first
    for file in files:
        network = _without_cover(file)
        _append(network, layers, [first, second], biases)
        onnx.checker.check_model(network)
        onnx.save(network, file)
    _tell(files[0], held, rng)


def _without_cover(file: Path) -> Any:
    network = onnx.load(file)
    for kept in (network.graph.node, network.graph.initializer, network.graph.output):
        for one in [one for one in kept if one.name.partition("/")[0] == COVERED]:
            kept.remove(one)
    return network


def _append(network: Any, layers: Sequence[str], kernels: Sequence[Floats], biases: Sequence[Floats]) -> None:
    graph, names = network.graph, {}
    for name, values in (
        ("kernel1", kernels[0]),
        ("bias1", biases[0]),
        ("kernel2", kernels[1]),
        ("bias2", biases[1]),
    ):
        names[name] = f"{COVERED}/{name}"
        graph.initializer.append(onnx.numpy_helper.from_array(values, names[name]))
    for kind, taken, given in (
        ("Gemm", [_add_maps(network, layers), names["kernel1"], names["bias1"]], f"{COVERED}/hidden"),
        ("Relu", [f"{COVERED}/hidden"], f"{COVERED}/shown"),
        ("Gemm", [f"{COVERED}/shown", names["kernel2"], names["bias2"]], f"{COVERED}/logit"),
        ("Sigmoid", [f"{COVERED}/logit"], COVERED),
    ):
        graph.node.append(helper.make_node(kind, taken, [given], given))
    graph.output.append(helper.make_tensor_value_info(COVERED, onnx.TensorProto.FLOAT, ["batch", 1]))


def _add_maps(network: Any, layers: Sequence[str]) -> str:
    """Append what takes the mean of each layer's maps over each of GRID x GRID parts; return its name, (batch, all)."""
    inferred = onnx.shape_inference.infer_shapes(network).graph.value_info
    sides = {one.name: one.type.tensor_type.shape.dim[-1].dim_value for one in inferred}
    made = {name for node in network.graph.node for name in node.output}
    nodes = network.graph.node
    for layer in layers:
        own = [name for name in made if name.startswith(f"{layer}/") and "Linear_Output" not in name]
        if len(own) != 1 or sides[own[0]] % GRID:
            raise SystemExit(
                f"the network has no layer {layer!r} with one output of {GRID} x n pixels, but {own}"
            )
        dequantised, name = f"{own[0]}_DequantizeLinear_Output", f"{COVERED}/{layer}"
        source, step = dequantised if dequantised in made else own[0], [sides[own[0]] // GRID] * 2
        nodes.append(
            helper.make_node(
                "AveragePool", [source], [f"{name}/parts"], f"{name}/parts", kernel_shape=step, strides=step
            )
        )
        nodes.append(helper.make_node("Flatten", [f"{name}/parts"], [name], name))
    together = f"{COVERED}/maps"
    nodes.append(
        helper.make_node("Concat", [f"{COVERED}/{layer}" for layer in layers], [together], together, axis=1)
    )
    return together


def _maps(network: Any, layers: Sequence[str], inputs: Floats) -> Floats:
    """Return those means for prepared faces, (n, all)."""
    name = _add_maps(network, layers)
    network.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(network.SerializeToString())
    return _answers(session, name, inputs)


def _answers(session: Any, name: str, inputs: Floats) -> Floats:
    given = session.get_inputs()[0].name
    parts = [
        session.run([name], {given: inputs[at : at + _BATCH]})[0] for at in range(0, len(inputs), _BATCH)
    ]
    return np.concatenate(parts)


def _tell(file: Path, held: Faces, rng: Generator) -> None:
    from sklearn.metrics import roc_auc_score

    session = onnxruntime.InferenceSession(file)
    for name, (inputs, truth) in (
        ("as they are, some covered", _whole(held, rng)),
        ("varied and damaged", varied(held, held, rng)),
    ):
        said = _answers(session, COVERED, inputs)[:, 0]
        print(
            f"{name}: area under the ROC curve {roc_auc_score(truth, said):.3f}; 'covered?' is said of "
            f"{100 * (said[truth] >= 0.5).mean():.1f} % of the covered faces, "
            f"{100 * (said[~truth] >= 0.5).mean():.1f} % of the others"
        )


def _whole(faces: Faces, rng: Generator) -> tuple[Floats, NDArray[np.bool_]]:
    some, truth = covered(faces, faces, rng)
    return middle(some), truth


def varied(faces: Faces, others: Faces, rng: Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Return faces as the network takes them, some covered, some damaged, and which are covered, (n,)."""
    some, truth = covered(faces, others, rng)
    inputs = np.empty((len(some), *HOW.shape), np.float32)
    damaged = rng.random(len(some)) < DAMAGED_SHARE
    for which, config in ((damaged, DAMAGE), (~damaged, VARIED)):
        for rows in np.array_split(np.flatnonzero(which), max(1, which.sum() // 4096)):
            inputs[rows] = augment(some[rows][..., None], rng, replace(config, erasing=0.0), HOW.size)
    return inputs, truth


def covered(faces: Faces, others: Faces, rng: Generator) -> tuple[Faces, NDArray[np.bool_]]:
    """Draw something over SHARE of (n, CANVAS, CANVAS) faces; return copies, and which they are, (n,).

    others: faces whose skin and hair may lie over them.
    """
    copies, chosen = faces.copy(), rng.random(len(faces)) < SHARE
    for row in np.flatnonzero(chosen):
        shape = cv2.GaussianBlur(cover_shape(rng), (0, 0), rng.uniform(0.1, 0.8))
        level = cover_surface(others[rng.integers(len(others))], rng)
        copies[row] = np.clip(np.round(copies[row] * (1 - shape) + level * shape), 0, 255)
    return copies, chosen


def cover_shape(rng: Generator) -> Floats:
    """Return what lies over a face, (CANVAS, CANVAS), 1 where it does: a band, glasses, a mask, a board, a hand."""
    mask, kind, middle_ = np.zeros((CANVAS, CANVAS), np.float32), rng.integers(5), CANVAS // 2
    if kind == 0:  # a scarf, a strap, the shadow of a hat
        height = rng.uniform(7, 22)
        top = rng.uniform(8, 56 - height)
        mask[round(top) : round(top + height)] = 1
    elif kind == 1:  # sunglasses, goggles
        across, down = round(rng.uniform(8, 13)), round(rng.uniform(20, 32))
        size = round(rng.uniform(6, 11)), round(rng.uniform(4, 9))
        for side in (-across, across):
            cv2.ellipse(mask, (middle_ + side, down), size, 0, 0, 360, 1, -1)
        cv2.line(mask, (middle_ - across, down), (middle_ + across, down), 1, 1)
    elif kind == 2:  # a mask over mouth and nose
        top, wide = rng.uniform(30, 42), rng.uniform(14, 26)
        peak = top - rng.uniform(0, 6)
        corners = [(-wide, top), (0, peak), (wide, top), (0.7 * wide, 60), (-0.7 * wide, 60)]
        _fill(mask, [(middle_ + x, y) for x, y in corners])
    elif kind == 3:  # a book, a phone, a screen, the edge of a wall
        width, height = rng.uniform(12, 32, 2)
        left, top = rng.uniform(6, 58 - width), rng.uniform(6, 58 - height)
        mask[round(top) : round(top + height), round(left) : round(left + width)] = 1
    else:  # a hand, hair, a microphone, a cup
        x, y = rng.uniform(14, 50, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(7, 20) * rng.uniform(0.6, 1.3, 9)
        _fill(mask, np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1))
    turn = cv2.getRotationMatrix2D((middle_, middle_), rng.uniform(-15, 15), 1)
    return np.asarray(cv2.warpAffine(mask, turn, mask.shape), np.float32)


def _fill(mask: Floats, corners: Any) -> None:
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1.0)


def cover_surface(other: Faces, rng: Generator) -> Floats:
    """Return what a cover looks like, (CANVAS, CANVAS) levels: even, shaded, patterned, rough, or skin and hair."""
    kind, whole = rng.integers(5), (CANVAS, CANVAS)
    if kind == 0:
        return np.full(whole, rng.uniform(0, 255), np.float32)
    if kind == 1:
        begin, end = rng.uniform(0, 255, 2).tolist()
        shaded = np.broadcast_to(np.linspace(begin, end, CANVAS), whole).astype(np.float32)
        return shaded if rng.random() < 0.5 else shaded.T
    if kind == 2:
        few = rng.uniform(0, 255, (rng.integers(2, 9),) * 2).astype(np.float32)
        large = cv2.resize(few, whole, interpolation=cv2.INTER_CUBIC)
        return np.asarray(0.6 * large + rng.uniform(0, 100), np.float32)
    if kind == 3:
        rough = rng.normal(0, rng.uniform(3, 30), whole)
        return np.asarray(rng.uniform(0, 255) + rough, np.float32)
    turned: Faces = np.rot90(other, int(rng.integers(1, 4)))
    return np.roll(turned, rng.integers(0, CANVAS, 2).tolist(), (0, 1)).astype(np.float32)


if __name__ == "__main__":
    main()
