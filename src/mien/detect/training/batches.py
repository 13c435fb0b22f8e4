"""Batches of crops with their targets, made ahead in another thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mien.detect.training.crops import Supply, crop
from mien.detect.training.targets import COLUMNS, cell_count, targets

_AHEAD = 4  # batches waiting


@dataclass(frozen=True, eq=False)
class DetectorBatch:
    """crops: (n, side, side, 3) float32, RGB levels in [0, 255]; targets: (n, cells, COLUMNS) float32."""

    crops: NDArray[np.float32]
    targets: NDArray[np.float32]


def epoch(supply: Supply, number: int) -> Iterator[DetectorBatch]:
    """Yield the batches of one epoch; a function of the seed, the epoch's number (from 0) and the supply alone."""
    config = supply.config
    sizes = [min(config.batch_size, config.crops - step * config.batch_size) for step in range(config.steps)]
    with ThreadPoolExecutor(1, "mien-crops") as pool:
        jobs = (
            pool.submit(make, supply, size, np.random.default_rng((config.seed, number, step)))
            for step, size in enumerate(sizes)
        )
        waiting = deque(islice(jobs, _AHEAD))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(islice(jobs, 1))


def make(supply: Supply, size: int, rng: np.random.Generator) -> DetectorBatch:
    """Return one batch of this many crops."""
    side = supply.config.side
    crops = np.empty((size, side, side, 3), np.float32)
    wanted = np.empty((size, cell_count(side), COLUMNS), np.float32)
    for row in range(size):
        picture, faces = crop(supply, rng)
        crops[row] = picture
        wanted[row] = targets(faces, side)
    return DetectorBatch(crops, wanted)
