"""What hides a part of a face: where it is drawn, and that a network learns to tell it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.model.classifier import Classifier
from mien.model.folder import INT8_FILE, MODEL_FILE, SHIPPED

pytest.importorskip("sklearn", reason="needs the train extra")
LAYERS = ["stage2_pool", "stage3_pool", "stage4_pool"]


def faces_like(count: int) -> np.ndarray:
    """Bright ovals with dark eyes and a mouth, each a little elsewhere: (count, 64, 64) uint8."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:64, :64]
    faces = np.empty((count, 64, 64), np.uint8)
    for face in faces:
        y, x = 32 + rng.uniform(-2, 2, 2)
        oval = ((rows - y) / 24) ** 2 + ((columns - x) / 18) ** 2 < 1
        level = np.where(oval, rng.uniform(150, 220), rng.uniform(30, 90))
        for down, across, high, wide in ((-8, -7, 2, 4), (-8, 7, 2, 4), (11, 0, 2, 8)):
            level[((rows - y - down) / high) ** 2 + ((columns - x - across) / wide) ** 2 < 1] = 20
        face[:] = np.clip(level + rng.normal(0, 4, (64, 64)), 0, 255)
    return faces


def test_covers_are_drawn_over_three_faces_in_ten_and_nowhere_else(tool: Any) -> None:
    faces = faces_like(400)
    copies, which = tool("fit_cover").covered(faces, faces, np.random.default_rng(0))
    assert 90 <= which.sum() <= 150
    np.testing.assert_array_equal(copies[~which], faces[~which])
    changed = (copies[which] != faces[which]).mean(axis=(1, 2))
    assert changed.min() > 0.01 and 0.1 < changed.mean() < 0.5


def test_each_file_of_a_folder_learns_to_tell(tool: Any, tmp_path: Path) -> None:
    fit = tool("fit_cover")
    folder = Path(shutil.copytree(SHIPPED / "mien", tmp_path / "mien"))
    faces = faces_like(900)
    for _ in range(2):  # the second time takes the place of the first
        fit.add_cover(folder, LAYERS, faces[:600], faces[600:])
    inputs, truth = fit._whole(faces[600:], np.random.default_rng(1))
    before = Classifier(SHIPPED / "mien")
    for file in (INT8_FILE, MODEL_FILE):
        network = Classifier(folder / file)
        answers, cover = network.probabilities_and_cover(inputs)
        assert cover.shape == (300,)
        assert (cover[truth] >= 0.5).mean() > 0.6
        assert (cover[~truth] >= 0.5).mean() < 0.2
        if file == INT8_FILE:
            np.testing.assert_array_equal(answers["votes"], before.probabilities(inputs)["votes"])


def test_a_layer_that_is_not_there_is_named(tool: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED / "mien", tmp_path / "mien"))
    with pytest.raises(SystemExit, match="no layer 'stage9'"):
        tool("fit_cover").add_cover(folder, ["stage9"], faces_like(8), faces_like(8))
