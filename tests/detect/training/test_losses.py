"""The loss: nothing to improve at the truth, no say for ignored cells, and a network that learns eight pictures."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mien.detect.training.network import Widths, build, detector_loss, parts, with_cells_in_a_row
from mien.detect.training.photos import Faces
from mien.detect.training.sampler import BOX, COLUMNS, POINTS, QUALITY, SHARE, WEIGHT, cell_count, targets

from .detector_photos import draw, landmarks

SIDE = 64


def numbers(target: np.ndarray, answer: np.ndarray) -> list[float]:
    return [float(keras.ops.convert_to_numpy(part)) for part in parts(target, answer)]


def one_crop(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    side = float(rng.uniform(20, 50))
    box = (float(rng.uniform(0, 60 - side)), float(rng.uniform(0, 60 - side)), 0.8 * side, side)
    picture = np.full((SIDE, SIDE, 3), rng.integers(30, 120, 3), np.uint8)
    draw(picture, box)
    faces = Faces(
        np.array([box], np.float32),
        np.ones(1, np.float32),
        landmarks(box)[None],
        np.empty((0, 4), np.float32),
    )
    return picture.astype(np.float32), targets(faces, SIDE)


def perfect(target: np.ndarray) -> np.ndarray:
    """Return the answer that agrees with a target."""
    sure = np.where(target[..., QUALITY] > 0, 12.0, -12.0)[..., None]
    return np.concatenate([sure, target[..., BOX], target[..., POINTS]], axis=-1).astype(np.float32)


def test_the_truth_costs_nothing_and_every_error_costs_something() -> None:
    target = one_crop(0)[1][None]
    answer = perfect(target)
    np.testing.assert_allclose(numbers(target, answer), 0, atol=1e-3)
    for column, part in ((1, 1), (4, 1), (7, 2)):
        worse = answer.copy()
        worse[..., column] += 0.3
        assert numbers(target, worse)[part] > 0.02
    unsure = answer.copy()
    unsure[..., 0] *= -1
    assert numbers(target, unsure)[0] > 5


def test_the_score_learns_the_overlap_and_the_teachers_doubt() -> None:
    target = np.zeros((1, 1, COLUMNS), np.float32)
    target[..., QUALITY], target[..., WEIGHT], target[..., SHARE] = 0.8, 1, 1
    answer = np.zeros((1, 1, 15), np.float32)
    answer[..., 1] = 0.5  # two unit squares, half a side apart: they share a third of their union
    best = np.log(0.8 / 3 / (1 - 0.8 / 3))
    costs = []
    for logit in (best - 0.5, best, best + 0.5):
        answer[..., 0] = logit
        costs.append(numbers(target, answer)[0])
    assert costs[1] == pytest.approx(0, abs=1e-6)
    assert min(costs[0], costs[2]) > 1e-4
    assert numbers(target, answer)[1] == pytest.approx(1 - 1 / 3 + 0.25 / (1.5**2 + 1), abs=1e-3)


def test_cells_to_ignore_have_no_say() -> None:
    target = np.zeros((1, 4, COLUMNS), np.float32)
    loud = np.full((1, 4, 15), 9.0, np.float32)
    assert numbers(target, loud) == [0.0, 0.0, 0.0]


def test_a_network_learns_eight_pictures() -> None:
    keras.utils.set_random_seed(1)
    network = with_cells_in_a_row(build(Widths(8, 12, (16, 24, 32), 16, (1, 1, 1))))
    network.compile(keras.optimizers.Adam(1e-2), loss=detector_loss(2.0, 5.0), jit_compile=False)
    crops, wanted = (np.stack(part) for part in zip(*(one_crop(seed) for seed in range(8)), strict=True))
    assert wanted.shape == (8, cell_count(SIDE), COLUMNS)
    losses = [float(network.train_on_batch(crops, wanted)) for _ in range(40)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.35 * losses[0]
