"""mien's own networks in PyTorch, for training on an accelerator: those of `mien.train.networks.small`.

Their weights are named and laid out as Keras does it; tests/tools/test_train_on_gpu.py compares what both answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from distil import HEADS
from mien.train.networks.small import RESIDUAL_WIDTHS, SLIM_WIDTHS, SQUEEZE, WIDE_WIDTHS, WIDTHS


class _ConvNorm(nn.Module):  # type: ignore[misc]  # where PyTorch is missing
    """A convolution without bias and its batch normalisation; padded as Keras pads, behind where strides leave one."""

    def __init__(self, name: str, before: int, width: int, side: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.name, self.stride = name, stride
        self.conv = nn.Conv2d(
            before, width, side, stride, padding=side // 2 if stride == 1 else 0, bias=False
        )
        self.norm = nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Any) -> Any:
        if self.stride == 2 and self.conv.kernel_size[0] == 3:
            x = F.pad(x, (0, 1, 0, 1))
        x = self.conv(x)
        if self.conv.in_channels == 1:  # of which nobody can tell how it lies in memory
            x = x.contiguous(memory_format=torch.channels_last)
        return self.norm(x)

    def variables(self) -> Iterator[tuple[str, Any, bool]]:
        yield f"{self.name}_conv/kernel", self.conv.weight, True
        yield f"{self.name}_norm/gamma", self.norm.weight, False
        yield f"{self.name}_norm/beta", self.norm.bias, False
        yield f"{self.name}_norm/moving_mean", self.norm.running_mean, False
        yield f"{self.name}_norm/moving_variance", self.norm.running_var, False


class _Block(nn.Module):  # type: ignore[misc]
    """Two convolutions whose channels are weighed (squeeze-and-excitation) beside a way around them."""

    def __init__(self, name: str, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.name = name
        self.a = _ConvNorm(f"{name}a", before, width, 3, stride)
        self.b = _ConvNorm(f"{name}b", width, width)
        self.reduce = nn.Conv2d(width, width // SQUEEZE, 1)
        self.excite = nn.Conv2d(width // SQUEEZE, width, 1)
        self.short = _ConvNorm(f"{name}_short", before, width, 1, stride) if before != width else None

    def forward(self, x: Any) -> Any:
        inner = self.b(self.a(x).relu())
        weights = self.excite(self.reduce(inner.mean((2, 3), keepdim=True)).relu()).sigmoid()
        around = self.short(x) if self.short else x
        return (around + inner * weights).relu()

    def variables(self) -> Iterator[tuple[str, Any, bool]]:
        for name, layer in (("reduce", self.reduce), ("excite", self.excite)):
            yield f"{self.name}_{name}/kernel", layer.weight, True
            yield f"{self.name}_{name}/bias", layer.bias, False


class Network(nn.Module):  # type: ignore[misc]
    """`small`, `slim`, `wide` or `residual` of mien, by Keras path: (n, size, size) levels -> logits of each head."""

    def __init__(self, name: str, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        if name == "residual":
            layers += [_ConvNorm("stem", 1, before := RESIDUAL_WIDTHS[0]), nn.ReLU(inplace=True)]
            for stage, width in enumerate(RESIDUAL_WIDTHS, start=1):
                for block in (1, 2):
                    stride = 2 if stage > 1 and block == 1 else 1
                    layers.append(_Block(f"stage{stage}_{block}", before, width, stride))
                    before = width
        else:
            widths = {"slim": SLIM_WIDTHS, "small": WIDTHS, "wide": WIDE_WIDTHS}[name]
            for stage, pair in enumerate(widths, start=1):
                layers += [nn.MaxPool2d(2)] if stage > 1 else []
                for part, width in enumerate(pair if isinstance(pair, tuple) else (pair, pair), start=1):
                    layers += [_ConvNorm(f"stage{stage}_{part}", before, width), nn.ReLU(inplace=True)]
                    before = width
        self.trunk, self.dropout = nn.Sequential(*layers), nn.Dropout(dropout)
        self.heads = nn.ModuleDict({head: nn.Linear(before, len(labels)) for head, labels in HEADS.items()})

    def forward(self, faces: Any) -> list[Any]:
        variance, mean = torch.var_mean(faces, (1, 2), correction=0, keepdim=True)
        x = ((faces - mean) * (variance + 25).rsqrt())[:, None].contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, x.device.type != "cpu", cache_enabled=False):
            features = self.trunk(x)
        features = self.dropout(features.float().mean((2, 3)))
        return [head(features) for head in self.heads.values()]

    def variables(self) -> Iterator[tuple[str, Any, bool]]:
        """Every variable's Keras path, tensor, and whether it is a kernel."""
        for part in self.trunk.modules():
            if isinstance(part, _ConvNorm | _Block):
                yield from part.variables()
        for name, head in self.heads.items():
            yield f"{name}/kernel", head.weight, True
            yield f"{name}/bias", head.bias, False

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return all variables as Keras lays them out."""
        return {
            path: _transposed(value.detach().float().cpu().numpy(), kernel, (2, 3, 1, 0), (1, 0))
            for path, value, kernel in self.variables()
        }

    def load(self, file: Path) -> None:
        """Take variables that Keras laid out."""
        with np.load(file) as stored, torch.no_grad():
            for path, value, kernel in self.variables():
                array = stored[path].astype(np.float32)
                value.copy_(torch.from_numpy(_transposed(array, kernel, (3, 2, 0, 1), (1, 0))))


def _transposed(array: Any, kernel: bool, four: tuple[int, ...], two: tuple[int, ...]) -> Any:
    return np.ascontiguousarray(array.transpose(four if array.ndim == 4 else two) if kernel else array)
