"""Tiny networks whose answers can be worked out by hand: they look at the mean grey level and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.model.folder import write_metadata
from mien.model.metadata import METADATA_KEY, Head, Metadata
from mien.model.preprocess import Preprocess

# Logit of each class at a mean level: the class whose level is nearest has the highest one.
LEVELS = {"dark": 40.0, "middle": 128.0, "bright": 215.0}
SIZE = 8


def facts_for(labels: tuple[str, ...], name: str = "levels") -> Metadata:
    return Metadata(
        name=name,
        preprocess=Preprocess(size=SIZE, colour="grey"),
        heads=(Head(name="expression", labels=labels),),
        network={"parameters": 2 * len(labels), "macs": 64},
    )


def write_onnx(
    path: Path, labels: tuple[str, ...], *, ours: bool = True, channels_first: bool = False
) -> Path:
    """Write a network with softmax((2 l m - l^2) / 1000) for the class level l and the mean level m."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    levels = np.array([LEVELS[label] for label in labels], np.float32)
    shape = ["n", 1, SIZE, SIZE] if channels_first else ["n", SIZE, SIZE, 1]
    axes = [2, 3] if channels_first else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["faces"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["mean", "slope"], ["steep"]),
        helper.make_node("Add", ["steep", "offset"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["expression"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "levels",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("expression", TensorProto.FLOAT, ["n", len(labels)])],
        [
            numpy_helper.from_array((2 * levels / 1000)[None], "slope"),
            numpy_helper.from_array(-(levels**2) / 1000, "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if ours:
        helper.set_model_props(model, {METADATA_KEY: facts_for(labels).to_json()})
    onnx.save(model, path)
    return path


def write_folder(path: Path, labels: tuple[str, ...] = tuple(LEVELS), name: str = "levels") -> Path:
    """Write a model folder of the same network."""
    path.mkdir(parents=True)
    write_onnx(path / "model.onnx", labels)
    write_metadata(path, facts_for(labels, name))
    return path


@pytest.fixture(autouse=True)
def _nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is once said of a network that mien did not save is remembered in the cache: a cache for each test."""
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """Makes `.onnx` files: onnx_file(name, labels, ours=True, channels_first=False)."""
    return lambda name, labels, **kind: write_onnx(tmp_path / name, labels, **kind)


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes model folders: model_folder(name, labels)."""

    def make(name: str = "levels", labels: tuple[str, ...] = tuple(LEVELS)) -> Path:
        return write_folder(tmp_path / name, labels, name)

    return make


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A data set: train and test of three classes; two of the twelve test pictures have a wrong label, and one of
    them is a copy of a training picture."""
    rng = np.random.default_rng(7)
    root = tmp_path / "faces"

    def write(split: str, label: str, number: int, level: float) -> None:
        picture = np.clip(level + rng.normal(0, 6, (SIZE, SIZE)), 0, 255).astype(np.uint8)
        (root / split / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / split / label / f"{number}.png"), picture)

    for label, level in LEVELS.items():
        for number in range(6):
            write("train", label, number, level)
        for number in range(4):
            write("test", label, number, level)
    write("test", "dark", 0, LEVELS["bright"])
    copied = (root / "train" / "middle" / "0.png").read_bytes()
    (root / "test" / "bright" / "1.png").write_bytes(copied)
    return root
