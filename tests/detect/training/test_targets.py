"""What cells should say: on the right level, near the centre, and back again to the same face."""

from __future__ import annotations

import numpy as np
import pytest

from mien.detect.mien import STRIDES, VALUES, decode, encode
from mien.detect.training.photos import Faces
from mien.detect.training.sampler import BOX, COLUMNS, QUALITY, SHARE, WEIGHT, cell_count, targets

from .detector_photos import landmarks

SIDE = 128


def faces(*boxes: tuple[float, float, float, float], ignore: tuple[tuple[float, ...], ...] = ()) -> Faces:
    return Faces(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.8, 0.9, len(boxes)).astype(np.float32),
        np.array([landmarks(box) for box in boxes], np.float32).reshape(-1, 5, 2),
        np.array(ignore, np.float32).reshape(-1, 4),
    )


def levels(found: np.ndarray) -> dict[int, np.ndarray]:
    ends = np.cumsum([(SIDE // stride) ** 2 for stride in STRIDES])
    parts = np.split(found, ends[:-1])
    return {
        stride: part.reshape(SIDE // stride, -1, COLUMNS) for stride, part in zip(STRIDES, parts, strict=True)
    }


def test_an_empty_crop_is_background_everywhere() -> None:
    found = targets(Faces.none(), SIDE)
    assert found.shape == (cell_count(SIDE), COLUMNS)
    assert (found[:, WEIGHT] == 1).all()
    assert not found[:, SHARE].any()


@pytest.mark.parametrize(
    ("side", "own"), [(12, {8}), (27, {8}), (34, {8, 16}), (60, {16}), (80, {16, 32}), (120, {32})]
)
def test_a_face_belongs_to_the_levels_of_its_size(side: float, own: set[int]) -> None:
    found = levels(targets(faces((SIDE / 2 - side / 2, SIDE / 2 - side / 2, side * 0.8, side)), SIDE))
    assert {stride for stride, level in found.items() if level[..., SHARE].any()} == own
    for stride in own:
        share = found[stride][..., SHARE]
        assert share.sum() == pytest.approx(1)
        assert 1 <= (share > 0).sum() <= 9


def test_positive_cells_lie_at_the_centre_and_others_in_the_face_are_left_out() -> None:
    level = levels(targets(faces((36, 36, 40, 56)), SIDE))[16]  # centre (56, 64)
    rows, columns = np.nonzero(level[..., SHARE])
    assert set(rows) == {3, 4}  # centres at 56 and 72
    assert set(columns) == {3, 4} or set(columns) == {2, 3, 4}
    assert abs(columns.mean() * 16 + 8 - 56) <= 8
    assert level[0, 0, WEIGHT] == 1
    unsure = (level[..., WEIGHT] == 0) & (level[..., SHARE] == 0)
    assert unsure.any()
    ys, xs = np.nonzero(unsure)
    assert (np.abs(ys * 16 + 8 - 64) <= 28).all()
    assert (np.abs(xs * 16 + 8 - 56) <= 20).all()


def test_of_two_faces_the_smaller_one_gets_the_cells_that_both_want() -> None:
    small, large = (52.0, 52.0, 10.0, 12.0), (42.0, 40.0, 30.0, 36.0)
    for order in ((small, large), (large, small)):
        level = levels(targets(faces(*order), SIDE))[8]
        cell = level[58 // 8, 57 // 8]
        assert np.exp(cell[BOX][2:]) * 8 == pytest.approx(small[2:])


def test_boxes_to_ignore_have_no_say_and_a_face_inside_them_has() -> None:
    found = levels(targets(faces((20, 20, 12, 14), ignore=((0, 0, 64, 64), (100, 100, 4, 4))), SIDE))
    level = found[8]
    positive = level[..., SHARE] > 0
    assert positive.any()
    assert (level[:8, :8, WEIGHT] == positive[:8, :8]).all()
    assert (level[12:13, 12:13, WEIGHT] == 0).all()  # a box between the centres of cells
    assert (level[8:12, 9:12, WEIGHT] == 1).all()
    assert not found[32][:2, :2, WEIGHT].any()


def test_a_face_whose_centre_is_at_the_border_keeps_a_cell() -> None:
    found = targets(faces((-5.9, 110, 12, 14)), SIDE)
    assert (found[:, SHARE] > 0).any()
    assert found[:, QUALITY].max() == pytest.approx(0.8)


def test_decoding_inverts_encoding() -> None:
    rng = np.random.default_rng(3)
    for stride in STRIDES:
        boxes = np.column_stack([rng.uniform(-20, 100, (40, 2)), rng.uniform(8, 200, (40, 2))]).astype(
            np.float32
        )
        points = rng.uniform(-50, 200, (40, 5, 2)).astype(np.float32)
        cells = rng.choice(36, 6, replace=False)
        for box, point, cell in zip(boxes, points, np.resize(cells, 40), strict=True):
            row, column = divmod(int(cell), 6)
            level = np.full((VALUES, 6, 6), -9, np.float32)
            level[0, row, column] = 2.0
            centre = np.array([[column + 0.5, row + 0.5]], np.float32) * stride
            level[1:, row, column] = encode(box[None], point[None], centre, stride)[0]
            (found,) = decode(level, stride, 0.5)
            np.testing.assert_allclose(found[:4], box, atol=2e-3)
            np.testing.assert_allclose(found[4:14].reshape(5, 2), point, atol=2e-3)
            assert found[14] == pytest.approx(1 / (1 + np.exp(-2.0)))
