"""From cells to faces: one box a face, however many cells saw it."""

from __future__ import annotations

import numpy as np
import pytest

from mien.detect.base import iou, weighted_nms
from mien.detect.mien import VALUES, decode, encode


def row(x: float, y: float, side: float, score: float) -> np.ndarray:
    return np.array([x, y, side, side, *([x, y] * 5), score], np.float32)


def test_cells_that_agree_are_one_face_placed_between_them() -> None:
    unsure = row(12, 12, 40, 0.3)  # has no say in where a face lies of which another cell is so much surer
    found = weighted_nms(
        np.stack([row(10, 10, 40, 0.6), row(14, 10, 40, 0.75), unsure, row(200, 0, 40, 0.3)]), 0.4
    )
    assert found[:, -1].tolist() == pytest.approx([0.75, 0.3])
    assert found[0, 0] == pytest.approx((10 * 0.6 + 14 * 0.75) / 1.35)
    assert found[0, 4] == pytest.approx(found[0, 0])


def test_two_heads_that_overlap_stay_two_and_an_eye_is_no_face() -> None:
    heads = [row(0, 0, 50, 0.9), row(25, 5, 50, 0.8)]
    eye = row(10, 10, 12, 0.7)
    found = weighted_nms(np.stack([*heads, eye]), 0.4)
    np.testing.assert_allclose(found, heads)


def test_nothing_stays_nothing_and_infinities_are_dropped() -> None:
    assert weighted_nms(np.empty((0, VALUES), np.float32), 0.4).shape == (0, VALUES)
    level = np.full((VALUES, 2, 2), -20, np.float32)
    assert decode(level, 8, 0.5).shape == (0, VALUES)
    level[0], level[1] = 5, np.inf
    assert decode(level, 8, 0.5).shape == (0, VALUES)
    level[1], level[3:5] = 0, 1e9
    assert np.isfinite(decode(level, 8, 0.5)).all()


def test_a_wall_of_two_hundred_faces_is_found_whole() -> None:
    level = np.full((VALUES, 80, 80), -9, np.float32)
    boxes = []
    for down in range(10):
        for across in range(20):
            box = np.array([[across * 32 + 4, down * 60 + 8, 24, 30]], np.float32)
            boxes.append(box[0])
            middle = box[0, :2] + box[0, 2:] / 2
            for y in (-1, 0, 1):
                for x in (-1, 0, 1):
                    column, line = int(middle[0] // 8) + x, int(middle[1] // 8) + y
                    centre = np.array([[column + 0.5, line + 0.5]], np.float32) * 8
                    level[0, line, column] = 2 - abs(x) - abs(y)
                    level[1:, line, column] = encode(box, np.zeros((1, 5, 2), np.float32), centre, 8)[0]
    found = weighted_nms(decode(level, 8, 0.2), 0.4)
    assert len(found) == 200
    shared, _ = iou(found[:, :4], np.array(boxes))
    assert (shared.max(axis=0) > 0.99).all()


def test_of_a_picture_that_fires_everywhere_only_the_surest_two_thousand_are_looked_at() -> None:
    """Which bounds the time: each candidate is compared with all others."""
    level = np.zeros((VALUES, 160, 160), np.float32)
    level[0] = np.random.default_rng(0).uniform(1, 3, (160, 160))
    level[3:5] = 0.5
    rows = decode(level, 8, 0.5)
    surest = rows[np.argsort(-rows[:, -1], kind="stable")[:2000]]
    assert len(rows) == 160 * 160
    np.testing.assert_array_equal(weighted_nms(rows, 0.4), weighted_nms(surest, 0.4))
