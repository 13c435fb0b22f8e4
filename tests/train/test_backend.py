"""Which precision a training computes in, unless it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.train import backend
from mien.train.config import TrainConfig


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
