"""Varying faces on the accelerator, as `mien.train.augment` does on the host: in PyTorch, a batch at once.

Where a picture is read (`places`, `placed`) is apart from what is done to it (`varied`), so that a student can learn
of a damaged picture what its teachers say of the whole one at the same place.

Nothing here is copied from the host: a CUDA graph could not record that, as of `torch.where(..., 1.0)`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

from distil import CANVAS, HOW


def _uniform(low: float, high: float, *shape: int, like: Any) -> Any:
    return torch.rand(shape, device=like.device) * (high - low) + low


def places(count: int, like: Any) -> Any:
    """Draw where in its canvas each picture is read, on the device of `like`.

    Returns (count, 6): a 2x2 matrix by rows (across, down), from pixels around the middle of what the network sees to
    pixels around the middle of the canvas, and a shift of both.
    """

    def draw(reach: float) -> Any:
        return _uniform(-reach, reach, count, like=like)

    scale, stretch, shear = draw(0.24).exp(), draw(0.07).exp(), draw(0.08)
    flip = 1 - 2 * (draw(1) < 0)
    across, down = scale * stretch, scale / stretch
    straight = torch.stack([flip * across, down * shear, 0 * down, down, draw(4), draw(4)], dim=1)
    return _turned(straight, draw(math.radians(12)))


def as_they_are(count: int, like: Any, *, mirrored: bool) -> Any:
    """Return the places of whole pictures, or of their mirror images: (count, 6)."""
    one = [-1.0 if mirrored else 1.0, 0, 0, 1, 0, 0]
    return torch.tensor(one, device=like.device).repeat(count, 1)


def turned(where: Any, share: float) -> Any:
    """Turn that share of places by up to 45 degrees more."""
    angle = _uniform(-math.pi / 4, math.pi / 4, len(where), like=where)
    return _turned(where, angle * (_uniform(0, 1, len(where), like=where) < share))


def _turned(where: Any, angle: Any) -> Any:
    a, b, c, d, x, y = where.unbind(1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack(
        [cos * a - sin * c, cos * b - sin * d, sin * a + cos * c, sin * b + cos * d, x, y], dim=1
    )


def placed(pictures: Any, where: Any) -> Any:
    """Read (n, CANVAS, CANVAS) uint8 pictures at their places, bilinear: (n, size, size) float32 in [0, 255]."""
    grid = torch.arange(HOW.size, device=where.device) - (HOW.size - 1) / 2
    across, down = grid[None, None, :], grid[None, :, None]
    a, b, c, d, x, y = where.T[:, :, None, None]
    at = torch.stack([a * across + b * down + x, c * across + d * down + y], dim=3) * (2 / CANVAS)
    return F.grid_sample(pictures[:, None].float(), at, padding_mode="border", align_corners=False)[:, 0]


def varied(x: Any, damaged_share: float) -> Any:
    """Vary light, lens, sensor and cover, that share of pictures strongly: (n, size, size) in [0, 255] -> the same."""
    count, side = len(x), HOW.size

    def draw(low: float, high: float) -> Any:
        return _uniform(low, high, count, 1, 1, like=x)

    def some(share: float) -> Any:
        return draw(0, 1) < share

    damaged = some(damaged_share)
    place = torch.arange(side, device=x.device)
    grid = place - (side - 1) / 2
    across, down = grid[None, None, :], grid[None, :, None]
    gamma = draw(-0.7, 0.7).exp()
    x = torch.where(damaged & some(0.4), 255 * (x.clamp(0, 255) / 255 + 1e-6) ** gamma, x)
    mean = x.mean((1, 2), keepdim=True)
    x = (x - mean) * draw(0.6, 1.4) + mean + draw(-30, 30)
    towards = draw(0, 2 * math.pi)
    light = (across * towards.cos() + down * towards.sin()) / (side / 2)
    x = torch.where(damaged & some(0.4), x * (1 + draw(0, 0.7) * light), x).clamp(0, 255)
    kernel = (-0.5 * ((grid[:, None] - grid[None, :])[None] / draw(0.3, 1.6)) ** 2).exp()
    soft = _filtered(kernel / kernel.sum(2, keepdim=True), x)
    which = draw(0, 1)
    sharp = torch.where(damaged & (which > 0.7), x + draw(0, 1.5) * (x - soft), x)
    x = torch.where(which < 0.1, soft, sharp)
    x = torch.where(damaged & some(0.4), _filtered(_fewer_pixels(draw(14, side)), x), x)
    x = torch.where(damaged & some(0.4), _compressed(x, draw(0, 2.7).exp()), x)
    left = draw(0.08, 0.5)
    x = torch.where(damaged & some(0.4), torch.round(x * left) / left, x)
    x = (x + damaged * draw(0, 8) * torch.randn(x.shape, device=x.device)).clamp(0, 255)
    area, ratio = draw(0.02, 0.2), draw(-1.2, 1.2).exp()
    height, width = side * (area * ratio).sqrt(), side * (area / ratio).sqrt()
    top, start = draw(0, 1) * (side - height), draw(0, 1) * (side - width)
    row, column = place[None, :, None], place[None, None, :]
    inside = (row >= top) & (row < top + height) & (column >= start) & (column < start + width)
    return torch.where(inside & some(0.5), draw(0, 255), x)


def _filtered(kernel: Any, x: Any) -> Any:
    """Apply (n, out, in) to the rows and the columns of (n, in, in)."""
    return kernel @ x @ kernel.transpose(1, 2)


def _fewer_pixels(pixels: Any) -> Any:
    """Return what shrinks a side to so many pixels by area and enlarges it again, bilinear: (n, side, side)."""
    side = HOW.size
    pixels, place = pixels.floor(), torch.arange(side, device=pixels.device)
    cell, pixel = place[None, :, None] * side / pixels, place[None, None, :]
    ends = torch.minimum(cell + side / pixels, pixel + 1) - torch.maximum(cell, pixel)
    shrink = ends.clamp(0, 1) * pixels / side
    at = ((place[None, :, None] + 0.5) * pixels / side - 0.5).clamp(min=0).minimum(pixels - 1)
    return (1 - (at - pixel).abs()).clamp(0, 1) @ shrink


def _compressed(x: Any, step: Any) -> Any:
    """Quantise the frequencies of 8x8 blocks as JPEG does, the coarser the higher. step: (n, 1, 1), 1 to about 15."""
    order = torch.arange(8, device=x.device)
    cosines = torch.cos(math.pi / 8 * (order[None] + 0.5) * order[:, None])
    cosines = cosines * (0.5 - (order[:, None] == 0) * (0.5 - 0.125**0.5))
    count, side = len(x), HOW.size // 8
    blocks = x.reshape(count, side, 8, side, 8).transpose(2, 3)
    coarse = step[:, :, :, None, None] * (2 + order[:, None] + order)
    waves = torch.round(cosines @ blocks @ cosines.T / coarse) * coarse
    whole = cosines.T @ waves @ cosines
    return whole.transpose(2, 3).reshape(x.shape).clamp(0, 255)
