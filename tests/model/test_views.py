"""One, two or ten looks at a face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.model.views import SURE, Probabilities, average, five_crops


def left_half(inputs: NDArray[np.uint8]) -> Probabilities:
    """Answer with the share of light in the left half: a network that a mirror image turns round."""
    left = inputs[:, :, : inputs.shape[2] // 2].mean(axis=(1, 2, 3)) / 255
    return {"side": np.stack([left, 1 - left], axis=1).astype(np.float32)}


def test_flip_averages_the_mirror_image() -> None:
    faces = np.zeros((3, 8, 8, 1), np.uint8)
    faces[:, :, :4] = 255
    np.testing.assert_allclose(average(left_half, faces, "single")["side"], [[1, 0]] * 3)
    np.testing.assert_allclose(average(left_half, faces, "flip")["side"], [[0.5, 0.5]] * 3)
    np.testing.assert_allclose(average(left_half, faces, "ten")["side"], [[0.5, 0.5]] * 3, atol=1e-3)


def test_a_head_that_is_unsure_of_a_face_sees_its_mirror_image() -> None:
    faces = np.zeros((3, 8, 8, 1), np.uint8)
    faces[0, :, :4], faces[1, :, :4], faces[1, :, 4:], faces[2, :, :4] = 255, 90, 30, 140
    asked: list[int] = []

    def network(inputs: NDArray[np.uint8]) -> Probabilities:
        asked.append(len(inputs))
        return left_half(inputs)

    # Of two labels one always has half, so nobody is asked again.
    np.testing.assert_array_equal(average(network, faces, "adaptive")["side"], left_half(faces)["side"])
    assert asked == [3]

    def doubting(inputs: NDArray[np.uint8]) -> Probabilities:
        side = network(inputs)["side"]
        return {"side": side, "doubt": np.column_stack([side * 0.6, np.full(len(side), 0.4)])}

    asked.clear()
    single, both, found = (average(doubting, faces, views) for views in ("single", "flip", "adaptive"))
    unsure = single["doubt"].max(axis=1) < SURE
    assert asked[-2:] == [3, int(unsure.sum())] and 0 < unsure.sum() < 3
    np.testing.assert_array_equal(found["side"], single["side"])  # the sure head keeps its answer
    np.testing.assert_allclose(found["doubt"], np.where(unsure[:, None], both["doubt"], single["doubt"]))


def test_ten_views_of_an_even_face_are_one_view() -> None:
    faces = np.full((2, 48, 48, 3), 77, np.uint8)
    single, ten = (average(left_half, faces, views)["side"] for views in ("single", "ten"))
    np.testing.assert_allclose(single, ten, atol=1e-6)
    assert ten.dtype == np.float32


def test_five_crops_are_corners_and_centre_at_full_size() -> None:
    faces = np.zeros((1, 48, 48, 1), np.uint8)
    faces[0, 0, 0], faces[0, 47, 47] = 250, 100  # marks in two corners
    crops = five_crops(faces)
    assert [crop.shape for crop in crops] == [(1, 48, 48, 1)] * 5
    assert [int(crop[0, 0, 0, 0]) for crop in crops] == [250, 0, 0, 0, 0]
    assert [int(crop[0, 47, 47, 0]) for crop in crops] == [0, 0, 0, 100, 0]


def test_tiny_inputs_have_crops_too() -> None:
    assert [crop.shape for crop in five_crops(np.zeros((2, 8, 8, 1), np.uint8))] == [(2, 8, 8, 1)] * 5
