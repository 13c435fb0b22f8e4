"""A wider network begins with the answers of the one that it grew from, and its weight file is read back."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the distillation is PyTorch's")


@pytest.fixture
def distil(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    return importlib.import_module("distil")


def test_a_wider_network_begins_with_the_same_answers(distil: Any, tmp_path: Path) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (16, 64, 64)).astype(np.uint8)
    shipped = distil.stored_weights("mien")
    networks = [distil.Network(widths) for widths in ([24, 48, 96, 192, 256], [32, 64, 96, 200, 256])]
    for network in networks:
        network.take(shipped)
    narrow, wide = (network.answers(faces) for network in networks)
    np.testing.assert_allclose(wide, narrow, atol=1e-3)
    np.savez(tmp_path / "wide.npz", **networks[1].weights())
    again = distil.Network([32, 64, 96, 200, 256])
    again.take(distil.stored_weights(f"{tmp_path}/wide.npz"))
    np.testing.assert_array_equal(again.answers(faces), wide)
    with pytest.raises(SystemExit, match="more than"):
        distil.Network([24, 48, 96, 192, 256]).take(distil.stored_weights(f"{tmp_path}/wide.npz"))


def test_the_gradient_of_small_maps_is_that_of_a_convolution(distil: Any) -> None:
    import torch

    x, kernel = torch.randn(4, 24, 5, 5), torch.randn(40, 24, 3, 3)
    down = torch.randn(4, 40, 5, 5)
    found = []
    for convolve in (distil._Conv3x3.apply, lambda x, kernel: torch.conv2d(x, kernel, None, 1, 1)):
        pair = x.clone().requires_grad_(), kernel.clone().requires_grad_()
        convolve(*pair).backward(down)
        found.append([one.grad for one in pair])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)
