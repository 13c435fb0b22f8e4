"""Figures of a face detector, against cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mien.detect import metrics
from mien.detect.base import Detection
from mien.detect.training.photos import Photo


def photo(*boxes: tuple[float, ...], ignore: tuple[tuple[float, ...], ...] = ()) -> Photo:
    points = np.array([[[0, 0], [10, 0], [5, 5], [2, 8], [8, 8]]] * len(boxes), np.float32)
    return Photo(
        "a.png", "", "drawn", "val", 100, 100,
        np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32), points.reshape(-1, 5, 2),
        np.array(ignore, np.float32).reshape(-1, 4),
    )  # fmt: skip


def face(x: float, score: float, side: float = 20) -> Detection:
    return Detection(
        (x, 0.0, side, side), score, ((1.0, 0.0), (11.0, 0.0), (6.0, 5.0), (3.0, 8.0), (9.0, 8.0))
    )


def test_each_labelled_face_is_found_once_and_ignored_ones_count_for_nothing() -> None:
    one = metrics.compare(
        photo((0, 0, 20, 20), (40, 0, 20, 20), ignore=((70, 0, 25, 25),)),
        [face(2, 0.6), face(0, 0.9), face(41, 0.3), face(72, 0.8), face(20, 0.2, 10)],
    )
    assert one.scores.tolist() == [0.9, 0.8, 0.6, 0.3, 0.2]
    assert one.matched.tolist() == [0, -2, -1, 1, -1]  # the second box on the first face is a false positive
    assert one.errors[0] == pytest.approx(0.1)  # each point a pixel off, eyes ten apart
    assert np.isnan(one.errors[1])


def test_recall_false_positives_threshold_and_precision() -> None:
    matches = [
        metrics.compare(photo((0, 0, 20, 20), (40, 0, 50, 50)), [face(0, 0.9), face(40, 0.4, 50)]),
        metrics.compare(photo(), [face(0, 0.8)]),
        metrics.compare(photo(), [face(0, 0.3)]),
    ]
    assert metrics.recall(matches, 0.5, (16, 32)) == (1.0, 1)
    assert metrics.recall(matches, 0.5, (40, np.inf)) == (0.0, 1)
    assert metrics.recall(matches, 0.4, (40, np.inf)) == (1.0, 1)
    assert metrics.false_positives_per_100(matches, 0.5) == (50.0, 2)
    at = metrics.threshold_for(matches, 50)
    assert 0.3 < at < 0.31
    assert metrics.threshold_for(matches, 100) == 0.0
    assert metrics.threshold_for(matches, 0) > 0.8
    # Sorted: hit, false positive, hit, false positive: precision 1 up to recall 1/2, then 2/3.
    assert metrics.average_precision(matches) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert metrics.landmark_error(matches, 0.5) == pytest.approx(0.1)


def test_nothing_to_measure_is_not_zero() -> None:
    matches = [metrics.compare(photo(), [])]
    assert np.isnan(metrics.recall(matches, 0.5, (16, 32))[0])
    assert np.isnan(metrics.landmark_error(matches, 0.5))
    assert metrics.average_precision(matches) == 0.0
    assert metrics.false_positives_per_100([metrics.compare(photo((0, 0, 20, 20)), [])], 0.5)[1] == 0
