"""FER+ protocols: on rows worked out by hand, and on the real votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.data import open_dataset
from mien.evaluate.metrics import score_votes, votes_head, winners
from mien.labels import FERPLUS
from mien.model.metadata import Head

#        neutral happy surprise sad angry disgust fear contempt     (the rest of ten: unknown or no face)
ROWS = np.array(
    [
        [10, 0, 0, 0, 0, 0, 0, 0],  # clear
        [0, 5, 5, 0, 0, 0, 0, 0],  # a tie: plurality alone, the first of the two
        [4, 1, 1, 1, 1, 1, 1, 0],  # single votes are dropped: four of four
        [0, 0, 0, 4, 3, 3, 0, 0],  # plurality alone
        [0, 0, 0, 0, 0, 0, 3, 0],  # seven could not say: neither
        [0, 0, 0, 0, 0, 0, 6, 0],  # six against four who could not say
        [0, 0, 0, 0, 0, 0, 0, 0],  # nobody chose one of the eight
    ],
    np.float32,
)


def test_winners_by_hand() -> None:
    winner, majority, plurality = winners(ROWS)
    assert majority.tolist() == [True, False, True, False, False, True, False]
    assert plurality.tolist() == [True, True, True, True, False, True, False]
    assert winner[plurality].tolist() == [0, 1, 0, 3, 6]


def test_scores_of_a_head_in_another_order() -> None:
    labels = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    outputs = np.full((7, 8), 0.02, np.float32)
    for row, name in enumerate(("neutral", "surprise", "neutral", "sadness", "fear", "happiness", "neutral")):
        outputs[row, labels.index(name)] = 0.86
    found = score_votes(Head(name="votes", labels=labels), outputs, ROWS)
    assert (found.majority_n, found.plurality_n, found.cross_entropy_n) == (3, 5, 6)
    assert found.majority_accuracy == pytest.approx(2 / 3)
    assert found.plurality_accuracy == pytest.approx(3 / 5)
    assert (found.clear_n, found.clear_accuracy) == (2, 1 / 2)  # the first row and the sixth
    sure, other = -np.log(0.86), -np.log(0.02)
    shares = [1.0, 0.5, 0.4, 0.4, 1.0, 0.0]
    expected = np.mean([share * sure + (1 - share) * other for share in shares])
    assert found.cross_entropy == pytest.approx(expected, rel=1e-5)


def test_no_votes_at_all() -> None:
    found = score_votes(Head(name="votes", labels=FERPLUS), np.full((2, 8), 1 / 8, np.float32), ROWS[[6, 6]])
    assert (found.majority_n, found.majority_accuracy, found.plurality_accuracy) == (0, None, None)


def test_which_head_answers_for_the_raters() -> None:
    seven, eight = Head(name="fer2013", labels=FERPLUS[:7]), Head(name="votes", labels=FERPLUS[::-1])
    assert votes_head((seven, eight)) is eight
    assert votes_head((seven,)) is None


@pytest.mark.shared
@pytest.mark.slow
def test_how_many_faces_each_protocol_keeps(shared: Path) -> None:
    """The figures of the authors' code on PublicTest, from all ten columns: 3,199 and 3,553."""
    split = open_dataset(shared / "data" / "fer2013" / "fer2013.csv.xz").split("validation")
    assert split.votes is not None
    _, majority, plurality = winners(split.votes)
    assert (int(majority.sum()), int(plurality.sum())) == (3199, 3553)
