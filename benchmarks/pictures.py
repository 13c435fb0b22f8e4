"""Seeded pictures on disk for the benchmarks: soft random shades with grain, as hard to decode as faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def write_pictures(folder: Path, count: int, *, size: int, colour: str, suffix: str, seed: int = 0) -> Path:
    """Write `count` pictures into folder/train and an eighth of that into folder/validation, by class.

    colour: grey or rgb. suffix: .png as in FER-2013's folder forms, .jpg as photographs. Returns the folder.
    """
    rng = np.random.default_rng(seed)
    for split, number in (("train", count), ("validation", max(count // 8, len(CLASSES)))):
        for place in range(number):
            target = folder / split / CLASSES[place % len(CLASSES)]
            target.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(
                str(target / f"{place:06}{suffix}"), _picture(rng, size, 1 if colour == "grey" else 3)
            )
    return folder


def _picture(rng: np.random.Generator, size: int, channels: int) -> NDArray[np.uint8]:
    shades = rng.integers(0, 256, (12, 12, channels)).astype(np.float32)
    soft = cv2.resize(shades, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, channels)
    picture: NDArray[np.uint8] = np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8)
    return picture
