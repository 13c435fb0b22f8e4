"""Covering parts of a face with plain grey, and asking the network again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Prepared faces (n, size, size, channels), uint8 or float32 levels in [0, 255], to (n, labels) probabilities.
Answers = Callable[[NDArray[np.uint8 | np.float32]], NDArray[np.float32]]
Mask = NDArray[np.bool_]
_BATCH = 64  # covered faces held at once


def probability_covered(
    answers: Answers, face: NDArray[np.uint8], hidden: Mask | NDArray[np.float32], target: int
) -> NDArray[np.float64]:
    """Return the probability of one label for a face of which parts are covered: (n,) float64.

    face: (size, size, channels) uint8, prepared for the network. hidden: (n, size, size), True where the face is
    covered, or the share from 0 to 1 to which it is. target: place of the label. What is covered gets the mean level
    of the whole face: black or white would be a feature of its own, such as an open mouth.
    """
    plain = face.mean(axis=(0, 1), dtype=np.float32)
    change = plain - face
    parts = []
    for start in range(0, len(hidden), _BATCH):
        batch = face + hidden[start : start + _BATCH, :, :, None] * change
        parts.append(answers(batch)[:, target].astype(np.float64))
    return np.concatenate(parts) if parts else np.empty(0)


def hottest(values: NDArray[np.floating], shares: NDArray[np.floating], rng: np.random.Generator) -> Mask:
    """Return the hottest part of a map for each share of its pixels: (len(shares), size, size).

    Equal values are ranked at random: otherwise a flat map would have its hottest part at the upper border.
    """
    order = np.lexsort((rng.random(values.size), -values.ravel()))
    rank = np.empty(values.size, np.int64)
    rank[order] = np.arange(values.size)
    counts = np.round(np.asarray(shares) * values.size)
    return (rank < counts[:, None]).reshape(-1, *values.shape)
