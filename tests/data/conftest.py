"""Small data sets in every form, made of random smooth pictures that differ as faces do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Face = Callable[..., Picture]


def smooth_picture(seed: int, size: int = 40, *, colour: bool = False) -> Picture:
    """A random picture of large soft patches: (size, size) or (size, size, 3) uint8."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (7, 7, 3) if colour else (7, 7), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture
def face() -> Face:
    return smooth_picture


@pytest.fixture
def write_faces() -> Callable[[Path, Mapping[str, int]], None]:
    """Write `count` different PNG files into each folder that is named, below a root."""

    def write(root: Path, counts: Mapping[str, int], *, first_seed: int = 0, **options: object) -> None:
        seed = first_seed
        for place, count in counts.items():
            (root / place).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = smooth_picture(seed, **options)  # type: ignore[arg-type]
                stored = picture[:, :, ::-1] if picture.ndim == 3 else picture
                (root / place / f"{number}.png").write_bytes(cv2.imencode(".png", stored)[1].tobytes())
                seed += 1

    return write
