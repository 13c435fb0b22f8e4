"""The same file under every backend: what one writes the other opens, with the same numbers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from mien.model.classifier import Classifier
from mien.train.export.folder import export
from mien.train.export.keras_io import save_network

from .tiny_networks import keras_answers, levels, metadata, small_network

_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from mien.train.export.folder import export
from mien.train.export.onnx import keras_from_onnx
from mien.train.export.keras_io import load_network

folder = Path(sys.argv[1])
inputs = np.load(folder / "inputs.npy").astype("float32")
first, metadata = load_network(folder / "best.keras")
second, _ = keras_from_onnx(folder / "model" / "model.onnx")
for name, network in (("keras", first), ("onnx", second)):
    np.save(folder / f"{name}.npy", np.asarray(network(inputs, training=False)))
export(first, folder / "theirs", metadata)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_files_and_exports_agree_across_backends(tmp_path: Path, backend: str) -> None:
    if backend == keras.backend.backend() or importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend} beside {keras.backend.backend()}")
    model = small_network()
    save_network(model, tmp_path / "best.keras", metadata())
    export(model, tmp_path / "model", metadata())
    np.save(tmp_path / "inputs.npy", levels(3))
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", _PROGRAM, str(tmp_path)], env=environment, check=True)
    wanted = keras_answers(model, levels(3))
    np.testing.assert_allclose(np.load(tmp_path / "keras.npy"), wanted, atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "onnx.npy"), wanted, atol=1e-6)
    ours, theirs = (Classifier(tmp_path / name).probabilities(levels(65)) for name in ("model", "theirs"))
    np.testing.assert_array_equal(ours["expression"], theirs["expression"])
