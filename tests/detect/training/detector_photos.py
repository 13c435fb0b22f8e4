"""A face data set drawn in the test: ovals with five dots, each in its own colour, on plain and on busy grounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# As in Detection, in shares of the box; colours RGB.
SHAPE = np.array([[0.3, 0.38], [0.7, 0.38], [0.5, 0.58], [0.35, 0.75], [0.65, 0.75]])
COLOURS = ((255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 255), (0, 255, 255))
SKIN = (230, 190, 160)


def landmarks(box: tuple[float, float, float, float]) -> NDArray[np.float32]:
    x, y, width, height = box
    return (SHAPE * (width, height) + (x, y)).astype(np.float32)


def draw(picture: NDArray[np.uint8], box: tuple[float, float, float, float]) -> None:
    """Draw one face into a picture, in place. Shifted by half a pixel: cv2 draws at the middle of pixels."""
    x, y, width, height = box
    middle = (round((x + width / 2 - 0.5) * 16), round((y + height / 2 - 0.5) * 16))
    axes = (round(width * 8), round(height * 8))
    cv2.ellipse(picture, middle, axes, 0, 0, 360, SKIN, -1, cv2.LINE_AA, 4)
    for point, colour in zip(landmarks(box) - 0.5, COLOURS, strict=True):
        radius = max(1, round(width * 0.05))
        cv2.circle(
            picture, tuple(round(16 * float(at)) for at in point), radius * 16, colour, -1, cv2.LINE_AA, 4
        )  # type: ignore[arg-type]


def write_set(folder: Path, train: int = 8, val: int = 4) -> Path:
    """Write photographs of 96x96 pixels with one face each, every fourth one with none, and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for number in range(train + val):
        picture = np.full((96, 96, 3), rng.integers(40, 120, 3), np.uint8)
        faces: list[dict[str, Any]] = []
        if number % 4 != 3:
            side = float(rng.uniform(24, 50))
            box = (float(rng.uniform(0, 90 - side)), float(rng.uniform(0, 90 - side)), side * 0.8, side)
            draw(picture, box)
            faces.append({"box": box, "score": 0.9, "landmarks": landmarks(box).tolist()})
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), picture[:, :, ::-1])
        split = "train" if number < train else "val"
        row = {"file": name, "width": 96, "height": 96, "split": split, "source": "drawn", "faces": faces}
        lines.append(json.dumps({**row, "ignore": []}))
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder
