"""Numbers and sentences: what a report says first must be what its tables say."""

from __future__ import annotations

import numpy as np
import pytest

from mien.evaluate.metrics import BINS, reliability, score
from mien.evaluate.report import Report, confidence, highlights
from mien.model.calibration import expected_calibration_error


def _report(labels: list[int], answers: list[int], names: tuple[str, ...]) -> Report:
    """A report of answers that claim 80% each; only what the sentences read is filled."""
    probabilities = np.full((len(answers), len(names)), 0.2 / (len(names) - 1), np.float32)
    probabilities[np.arange(len(answers)), answers] = 0.8
    truth = np.array(labels, np.int64)
    found = object.__new__(Report)
    values = {
        "scores": score(probabilities, truth, names, resamples=100),
        "reliability": reliability(probabilities, truth),
        "deduplicated": None,
        "without_near_copies": None,
    }
    for name, value in values.items():
        object.__setattr__(found, name, value)
    return found


def test_best_and_weakest_are_what_the_sentence_says_of_them() -> None:
    """Angry has the best recall and the worst precision and F1: chosen by F1 and told by recall, it was the weakest
    that 'finds 100%'."""
    labels = [0] * 2 + [1] * 20 + [2] * 20
    answers = [0] * 2 + [1] * 18 + [0] * 2 + [2] * 18 + [0] * 2
    lines = highlights(_report(labels, answers, ("angry", "happy", "sad")))
    assert "Finds angry most often: 100% of the faces with this label." in lines
    assert "Finds happy least often: 90% of 20." in lines
    assert "Its answer angry is least often right: 33% of 6." in lines


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (
            (0.95, 0.65),
            "off by 17.0%",
        ),  # too low in one bin, too high in the other: the signed mean is nothing
        ((0.8, 0.8), "matches"),
        ((0.5, 0.5), "surer than it is right: by 30.0 points"),
        ((1.0, 1.0), "less sure than it is right: by 20.0 points"),
    ],
)
def test_confidence_is_told_from_the_calibration_error(right: tuple[float, float], said: str) -> None:
    n = 200
    sure = np.repeat([0.78, 0.82], n)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    labels = np.concatenate([np.arange(n) >= share * n for share in right]).astype(np.int64)
    ece = expected_calibration_error(probabilities, labels, BINS)
    assert said in confidence(reliability(probabilities, labels), ece)
