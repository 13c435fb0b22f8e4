"""Varying faces on the accelerator, as `mien.train.augment` does on the host: in JAX, a batch at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from distil import CANVAS, HOW

# Three in ten are damaged in tools/distil.py, whose student starts from a trained network; longer trainings bear more.
DAMAGED_SHARE = 0.4


def augmented(key: Any, pictures: Any) -> Any:
    """Vary pictures on the device as `mien.train.augment` does on the host: place, light, lens, sensor, cover.

    pictures: (n, CANVAS, CANVAS) uint8. Returns (n, size, size, 1) float32, levels in [0, 255].
    """
    import jax
    import jax.numpy as jnp

    count, side = len(pictures), HOW.size
    keys: Iterator[Any] = iter(jax.random.split(key, 60))

    def uniform(low: float, high: float) -> Any:
        return jax.random.uniform(next(keys), (count, 1, 1), minval=low, maxval=high)

    def some(share: float) -> Any:
        return uniform(0, 1) < share

    damaged = some(DAMAGED_SHARE)
    grid = jnp.arange(side) - (side - 1) / 2
    across, down = grid[None, None, :], grid[None, :, None]
    angle = jnp.deg2rad(jnp.where(damaged & some(0.4), uniform(-45, 45), uniform(-12, 12)))
    scale = jnp.exp(jnp.where(damaged, uniform(-0.3, 0.3), uniform(-0.2, 0.2)))  # other detectors' frames
    stretch, flip = jnp.exp(uniform(-0.07, 0.07)), jnp.where(some(0.5), -1.0, 1.0)
    x0 = across * flip * scale * stretch + down * scale / stretch * uniform(-0.08, 0.08)
    y0 = down * scale / stretch + 0 * across
    middle = (CANVAS - 1) / 2
    x0, y0 = (
        jnp.cos(angle) * x0 - jnp.sin(angle) * y0 + middle + uniform(-4, 4),
        jnp.sin(angle) * x0 + jnp.cos(angle) * y0 + middle + uniform(-4, 4),
    )
    x = _bilinear(pictures.astype(jnp.float32), y0, x0)
    gamma = jnp.exp(uniform(-0.7, 0.7))
    x = jnp.where(damaged & some(0.4), 255 * (jnp.clip(x, 0, 255) / 255 + 1e-6) ** gamma, x)
    mean = x.mean((1, 2), keepdims=True)
    x = (x - mean) * uniform(0.6, 1.4) + mean + uniform(-30, 30)
    towards = uniform(0, 2 * np.pi)
    light = (across * jnp.cos(towards) + down * jnp.sin(towards)) / (side / 2)
    x = jnp.clip(jnp.where(damaged & some(0.4), x * (1 + uniform(0, 0.7) * light), x), 0, 255)
    kernel = jnp.exp(-0.5 * ((grid[:, None] - grid[None, :])[None] / uniform(0.3, 1.6)) ** 2)
    soft = _filtered(kernel / kernel.sum(2, keepdims=True), x)
    which = uniform(0, 1) / jnp.where(damaged, 1, 2)
    x = jnp.where(which < 0.1, soft, jnp.where(damaged & (which > 0.7), x + uniform(0, 1.5) * (x - soft), x))
    x = jnp.where(damaged & some(0.4), _filtered(_fewer_pixels(uniform(14, side)), x), x)
    x = jnp.where(damaged & some(0.4), _compressed(x, jnp.exp(uniform(0, 2.7))), x)
    left = uniform(0.08, 0.5)
    x = jnp.where(damaged & some(0.4), jnp.round(x * left) / left, x)
    x = jnp.clip(x + damaged * uniform(0, 8) * jax.random.normal(next(keys), x.shape), 0, 255)
    area, ratio = uniform(0.02, 0.2), jnp.exp(uniform(-1.2, 1.2))
    height, width = side * jnp.sqrt(area * ratio), side * jnp.sqrt(area / ratio)
    top, start = uniform(0, 1) * (side - height), uniform(0, 1) * (side - width)
    row, column = jnp.arange(side)[None, :, None], jnp.arange(side)[None, None, :]
    inside = (row >= top) & (row < top + height) & (column >= start) & (column < start + width)
    return jnp.where(inside & some(0.5), uniform(0, 255), x)[..., None]


def _filtered(kernel: Any, x: Any) -> Any:
    """Apply (n, out, in) to the rows and the columns of (n, in, in)."""
    import jax.numpy as jnp

    return jnp.einsum("nij,njk,nlk->nil", kernel, x, kernel)


def _fewer_pixels(pixels: Any) -> Any:
    """Return what shrinks a side to so many pixels by area and enlarges it again, bilinear: (n, side, side)."""
    import jax.numpy as jnp

    side = HOW.size
    pixels, place = jnp.floor(pixels), jnp.arange(side)
    cell, pixel = place[None, :, None] * side / pixels, place[None, None, :]
    shrink = (
        jnp.clip(jnp.minimum(cell + side / pixels, pixel + 1) - jnp.maximum(cell, pixel), 0, 1)
        * pixels
        / side
    )
    at = jnp.clip((place[None, :, None] + 0.5) * pixels / side - 0.5, 0, pixels - 1)
    enlarge = jnp.clip(1 - jnp.abs(at - place[None, None, :]), 0, 1)
    return enlarge @ shrink


def _compressed(x: Any, step: Any) -> Any:
    """Quantise the frequencies of 8x8 blocks as JPEG does, the coarser the higher. step: (n, 1, 1), 1 to about 15."""
    import jax.numpy as jnp

    side, order = HOW.size, np.arange(8)
    cosines = np.cos(np.pi / 8 * (order[None] + 0.5) * order[:, None]) * np.where(
        order[:, None], 0.5, 0.125**0.5
    )
    more = -side % 8
    blocks = jnp.pad(x, ((0, 0), (0, more), (0, more)), mode="edge").reshape(
        len(x), (side + more) // 8, 8, -1, 8
    )
    coarse = step[:, :, :, None, None] * (2 + order[:, None, None] + order)
    waves = jnp.einsum("ua,niajb,vb->niujv", cosines, blocks, cosines)
    waves = jnp.round(waves / coarse) * coarse
    whole = jnp.einsum("ua,niujv,vb->niajb", cosines, waves, cosines)
    return jnp.clip(whole.reshape(len(x), side + more, side + more)[:, :side, :side], 0, 255)


def _bilinear(pictures: Any, y: Any, x: Any) -> Any:
    """Read (n, side, side) pictures at places (n, h, w); beyond the border, at the border."""
    import jax.numpy as jnp

    count, side, _ = pictures.shape
    y, x = jnp.clip(y, 0, side - 1.001), jnp.clip(x, 0, side - 1.001)
    top, left = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    down, across = y - top, x - left
    flat = pictures.reshape(count, -1)

    def at(row: Any, column: Any) -> Any:
        return jnp.take_along_axis(flat, (row * side + column).reshape(count, -1), axis=1).reshape(y.shape)

    upper = at(top, left) * (1 - across) + at(top, left + 1) * across
    lower = at(top + 1, left) * (1 - across) + at(top + 1, left + 1) * across
    return upper * (1 - down) + lower * down
