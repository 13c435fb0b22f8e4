"""Which precision a training computes in, unless it is told; and on how many devices it can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import pytest

from mien.errors import ConfigError
from mien.train import backend
from mien.train.config import TrainConfig
from mien.train.run import train


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("flags\t\t: fpu sse2 avx512f avx512_bf16 gfni", "mixed_bfloat16"),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", "mixed_bfloat16"),
        ("flags\t\t: fpu sse2 avx2 avx512f", "float32"),
        (None, "float32"),
    ],
)
def test_mixed_is_only_for_processors_and_networks_that_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, policy: str
) -> None:
    metadata = tmp_path / "cpuinfo"
    if flags is not None:
        metadata.write_text(f"processor\t: 0\n{flags}\nbugs\t\t: spectre_v1\n")
    monkeypatch.setattr(backend, "_CPU_INFO", metadata)
    assert backend.precision(TrainConfig()) == policy
    for network in ("MobileNetV2", "EfficientNetB0"):
        assert backend.precision(TrainConfig(network=network)) == "float32"
    assert backend.precision(TrainConfig(init_from="mien")) == "float32"
    assert backend.precision(TrainConfig(precision="float32")) == "float32"
    assert backend.precision(TrainConfig(precision="mixed")) == "mixed_bfloat16"


_LOADS_TENSORFLOW = """
import os
from mien.train import backend
try:
    with backend._quiet():
        os.write(2, b"WARNING: All log messages before absl are written to STDERR")
        raise {error}
except {error}:
    pass
"""


@pytest.mark.parametrize(("error", "shown"), [("KeyboardInterrupt", False), ("ImportError", True)])
def test_what_tensorflow_reports_is_shown_where_it_fails_and_not_at_ctrl_c(error: str, shown: bool) -> None:
    code = _LOADS_TENSORFLOW.format(error=error)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("absl" in ended.stderr) == shown


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX spreads over several devices")
def test_several_devices_without_jax_are_refused_before_the_data_is_read(tmp_path: Path) -> None:
    refused = (
        f"^devices must be 1 or all with the backend {keras.backend.backend()}, which uses one, got 2; "
        "several share a batch with JAX: pip install jax, and set KERAS_BACKEND=jax$"
    )
    with pytest.raises(ConfigError, match=refused):
        train(TrainConfig(devices="2"), tmp_path / "nothing-here", tmp_path / "run")
    for one in ("1", "all"):
        assert len(backend.devices_for(TrainConfig(devices=one))) == 1
