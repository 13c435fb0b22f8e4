"""A model's labels and a data set's classes meet by name."""

from __future__ import annotations

import numpy as np
import pytest

from mien.errors import DataError, ModelError
from mien.evaluate.models import match_classes
from mien.model.metadata import Head, Metadata
from mien.model.preprocess import Preprocess

SEVEN = Head(name="seven", labels=("angry", "happy", "sad"))
EIGHT = Head(name="eight", labels=("neutral", "happy", "sad", "contempt"))
METADATA = Metadata(name="two heads", preprocess=Preprocess(), heads=(SEVEN, EIGHT))
OUTPUTS = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]], np.float32)


def test_other_order_and_other_spelling() -> None:
    match = match_classes(METADATA, ("Sadness", "Anger", "HAPPY"))
    assert (match.head, match.columns, match.note) == (SEVEN, (2, 0, 1), "")
    np.testing.assert_array_equal(match.probabilities(OUTPUTS), OUTPUTS[:, [2, 0, 1]])


def test_fewer_classes_share_what_is_left() -> None:
    match = match_classes(METADATA, ("happy", "angry"))
    np.testing.assert_allclose(match.probabilities(OUTPUTS), [[0.375, 0.625], [0.5, 0.5]])
    assert "2 of the model's 3 classes; its probabilities for sad" in match.note


def test_the_first_head_that_knows_the_classes_answers() -> None:
    match = match_classes(METADATA, ("contempt", "happy"))
    assert match.head is EIGHT
    assert match.note.startswith("answers are those of the head 'eight'")


def test_a_head_by_name() -> None:
    assert match_classes(METADATA, ("happy", "sad"), "eight").head is EIGHT
    with pytest.raises(ModelError, match="no head 'nine'; this model has: seven, eight"):
        match_classes(METADATA, ("happy", "sad"), "nine")


def test_a_class_that_the_model_does_not_know() -> None:
    with pytest.raises(
        DataError, match=r"does not know the data's class tired \(it knows angry, happy, sad\)"
    ):
        match_classes(METADATA, ("happy", "tired"))
    with pytest.raises(DataError, match="classes fear, tired"):
        match_classes(METADATA, ("fear", "happy", "tired"))


def test_two_names_of_one_expression() -> None:
    with pytest.raises(DataError, match="'anger' and 'Angry' are the same expression"):
        match_classes(METADATA, ("anger", "Angry"))


def test_two_classes_of_the_users_own_stay_two() -> None:
    """`happy` and `joy`: after a training on both the report was refused."""
    own = Metadata(
        name="own", preprocess=Preprocess(), heads=(Head(name="own", labels=("happy", "joy", "sad")),)
    )
    assert match_classes(own, ("joy", "sad", "happy")).columns == (1, 2, 0)
    assert match_classes(own, ("Joy", "happiness")).columns == (1, 0)
    assert match_classes(METADATA, ("joy", "sad")).columns == (1, 2)
    with pytest.raises(DataError, match="'happy' and 'joy' are the same expression to the model"):
        match_classes(METADATA, ("happy", "joy"))
