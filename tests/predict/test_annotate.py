"""Marked pictures: frames and labels where faces are, no face behind its neighbour's label, crowds with a key."""

from __future__ import annotations

import numpy as np
import pytest

from mien.images.canvas import PAPER, label_colours
from mien.predict.annotate import annotated, annotated_frame, said
from mien.predict.results import Face

LABELS = ("happy", "neutral")


def face(box: tuple[float, float, float, float], label: str = "happy", *, uncertain: bool = False) -> Face:
    other = next(name for name in (*LABELS, "sad") if name != label)
    return Face(
        emotion=label,
        probability=0.75,
        probabilities={label: 0.75, other: 0.25},
        head="x",
        box=box,
        uncertain=uncertain,
    )


def rows_of(across: int, down: int, side: int, gap: int) -> list[Face]:
    step = side + gap
    return [
        face((gap + column * step, gap + row * step, side, side))
        for row in range(down)
        for column in range(across)
    ]


def changed_inside(before: np.ndarray, after: np.ndarray, one: Face) -> np.ndarray:
    """Return which pixels within a face (a tenth of it left out at each border, where frames are) were drawn on."""
    x, y, width, height = (round(value) for value in one.box)
    inner = np.s_[y + height // 10 : y + height - height // 10, x + width // 10 : x + width - width // 10]
    return (before[inner] != after[inner]).any(axis=2)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 400), (400, 3, 1), (48, 48), (700, 900, 3)])
@pytest.mark.parametrize("uncertain", [False, True])
def test_any_picture_can_be_marked(shape: tuple[int, ...], uncertain: bool) -> None:
    height, width = shape[:2]
    label = "a very long name of an expression, 顔"
    boxes = ((0.0, 0.0, float(width), float(height)), (width - 1.0, -9.0, 20.0, 20.0))
    image = np.full(shape, 255, np.uint8)
    for count in (1, 2):
        marked = annotated(image, [face(box, label, uncertain=uncertain) for box in boxes[:count]])
        assert marked.ndim == 3 and marked.shape[2] == 3
        assert max(marked.shape) >= min(480, max(shape))
        (colour, _) = label_colours([label, "happy"])
        assert (marked == colour).all(axis=2).any()
    assert (image == 255).all()  # the picture itself stays as it is


def test_a_small_picture_is_enlarged_before_it_is_marked() -> None:
    image = np.full((160, 200, 3), 90, np.uint8)
    marked = annotated(image, [face((60, 60, 60, 60))])
    assert marked.shape == (384, 480, 3)
    assert annotated(image, []).shape == (384, 480, 3)


def test_a_box_on_the_border_is_drawn_whole() -> None:
    marked = annotated(np.full((900, 900), 255, np.uint8), [face((0.0, 0.0, 900.0, 900.0))])
    coloured = (marked == label_colours(["happy"])[0]).all(axis=2)
    for line in (coloured[450], coloured[450, ::-1], coloured[:, 450], coloured[::-1, 450]):
        assert 2 <= line[:9].sum() <= 5


def test_what_is_uncertain_has_a_broken_frame_and_a_question_mark() -> None:
    sure, unsure = face((300, 300, 300, 300)), face((300, 300, 300, 300), uncertain=True)
    assert (said(sure), said(unsure)) == ("Happy 75%", "Happy? 75%")
    image = np.full((900, 900, 3), 90, np.uint8)
    whole, broken = (
        (annotated(image, [one])[320:580, 295:306] == label_colours(["happy"])[0])
        .all(axis=2)
        .any(axis=1)
        .mean()
        for one in (sure, unsure)
    )
    assert whole == 1
    assert 0.3 < broken < 0.9


def test_labels_lie_beside_faces_where_there_is_room() -> None:
    faces = rows_of(4, 3, 120, 80)
    image = np.full((700, 900, 3), 90, np.uint8)
    marked = annotated(image, faces)
    assert marked.shape == image.shape
    for one in faces:
        assert not changed_inside(image, marked, one).any()
    assert (marked == label_colours(["happy"])[0]).all(axis=2).sum() > 12 * 40 * 15


def test_in_a_tight_group_a_label_covers_at_most_its_own_chin() -> None:
    faces = rows_of(4, 3, 180, 12)
    image = np.full((600, 800, 3), 90, np.uint8)
    marked = annotated(image, faces)
    assert marked.shape == image.shape
    for one in faces:
        changed = changed_inside(image, marked, one)
        assert not changed[: round(0.8 * changed.shape[0])].any()


@pytest.mark.parametrize(("across", "down"), [(12, 5), (20, 10)])
def test_a_crowd_has_numbers_and_a_key(across: int, down: int) -> None:
    faces = rows_of(across, down, 80, 4)
    image = np.full((down * 84 + 4, across * 84 + 4, 3), 90, np.uint8)
    marked = annotated(image, faces)
    assert marked.shape[1] == image.shape[1]
    assert marked.shape[0] > image.shape[0] + 100
    key = marked[image.shape[0] :]
    assert tuple(key[0, 0]) == PAPER
    assert (key == label_colours(["happy"])[0]).all(axis=2).sum() > len(faces) * 100
    for one in faces:
        changed = changed_inside(image, marked, one)
        assert changed.mean() < 0.15
        assert not changed[changed.shape[0] // 3 :, changed.shape[1] // 2 :].any()


def test_small_faces_of_a_crowd_are_enlarged_with_the_picture() -> None:
    faces = rows_of(30, 10, 20, 2)
    marked = annotated(np.full((222, 662, 3), 90, np.uint8), faces)
    assert marked.shape[1] == round(662 * 72 / 20)


def test_a_frame_of_a_video_keeps_its_size_and_has_the_tracks_numbers() -> None:
    image = np.full((344, 1012, 3), 90, np.uint8)
    faces = rows_of(12, 4, 80, 4)
    marked = annotated_frame(image, faces, range(1, 49))
    assert marked.shape == image.shape
    other = annotated_frame(image, faces, range(101, 149))
    assert not np.array_equal(marked, other)
    for one in faces:
        assert changed_inside(image, marked, one).mean() < 0.15


def test_in_a_video_a_number_without_room_lies_on_its_own_face() -> None:
    image = np.full((400, 600, 3), 90, np.uint8)
    middle = face((240, 140, 120, 120))
    around = [face((x, y, 118, 118)) for x in (120, 240, 362) for y in (20, 140, 262) if (x, y) != (240, 140)]
    marked = annotated_frame(image, [middle, *around], range(1, 10))
    for one in around:
        x, y, width, height = (round(value) for value in one.box)
        inner = marked[y + 20 : y + height - 30, x + 30 : x + width - 20]
        assert (inner == 90).all()
