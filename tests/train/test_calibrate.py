"""The moving average, and the calibration that an export carries."""

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from mien.data.dataset import Split  # noqa: E402
from mien.labels import FER2013, FERPLUS  # noqa: E402
from mien.model.calibration import expected_calibration_error, with_temperature  # noqa: E402
from mien.model.metadata import Head  # noqa: E402
from mien.train.calibrate import blended, calibrated_heads, planned  # noqa: E402
from mien.train.checkpoint import MovingAverage  # noqa: E402


class Nothing:
    """Pictures that nobody reads."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


def answers_that_are_too_sure(count=4000, classes=3, sharpness=3.0):
    """Return probabilities whose logits were multiplied by `sharpness`, and labels drawn from the honest ones."""
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.ones(classes), count)
    labels = np.array([rng.choice(classes, p=row) for row in honest])
    return with_temperature(honest, 1 / sharpness).astype(np.float32), labels


def test_the_temperature_undoes_what_made_answers_too_sure():
    answers, labels = answers_that_are_too_sure()
    split = Split(Nothing(len(labels)), labels, [""] * len(labels))
    (head,), (score,) = calibrated_heads({"expression": ("a", "b", "c")}, [answers], split, "toy")
    assert head.temperature == pytest.approx(3, rel=0.1)
    assert score["ece"] < 0.03 < expected_calibration_error(answers, labels)
    assert score["accuracy"] == (answers.argmax(axis=1) == labels).mean()
    assert 0 < head.threshold < 1


def test_label_smoothing_is_undone_where_enough_pictures_show_it():
    answers, labels = answers_that_are_too_sure(count=12000, sharpness=1.0)
    smoothed = (0.8 * answers + 0.2 / 3).astype(np.float32)
    for count in (len(labels), 900):
        split = Split(Nothing(count), labels[:count], [""] * count)
        (head,), (score,) = calibrated_heads(
            {"expression": ("a", "b", "c")}, [smoothed[:count]], split, "toy"
        )
        if count == 900:
            assert head.smoothing == 0
        else:
            assert head.smoothing == pytest.approx(0.2, abs=0.05)
            assert score["ece"] < 0.015
            assert score["ece_five_folds"] < 0.02


def test_votes_are_judged_where_there_are_any():
    votes = np.zeros((30, 8), np.float32)
    votes[:20, 1] = 10
    answers = np.full((30, 8), 0.02, np.float32)
    answers[:, 1] = 0.86
    split = Split(Nothing(30), np.zeros(30, np.int64), [""] * 30, votes)
    _, (score,) = calibrated_heads({"votes": FERPLUS}, [answers], split, "toy")
    assert (score["n"], score["accuracy"]) == (20, 1.0)
    silent = Split(Nothing(30), np.zeros(30, np.int64), [""] * 30)
    (head,), scores = calibrated_heads({"votes": FERPLUS}, [answers], silent, "toy")
    assert (head.temperature, scores) == (1.0, ())


def test_the_blend_is_calibrated_to_what_most_raters_say():
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.ones(8), 3000)
    votes = np.stack([rng.multinomial(10, row) for row in honest]).astype(np.float32)
    columns = [FERPLUS.index(name) for name in FER2013]
    seven = honest[:, columns] / honest[:, columns].sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(7, p=row) for row in seven])
    split = Split(Nothing(3000), labels, [""] * 3000, votes)
    answers = [
        with_temperature(seven, 3).astype(np.float32),
        with_temperature(honest, 3).astype(np.float32),
    ]
    heads = (Head(name="fer2013", labels=FER2013), Head(name="votes", labels=FERPLUS))
    labels_of = {head.name: head.labels for head in heads}
    plan = planned(labels_of, 0.25, 0.0, split)
    blend, (score,) = blended(heads, answers, split, plan, "toy")
    assert dict(blend.shares) == {"fer2013": 0.75, "votes": 0.25}
    mixed = blend.of(dict(zip(labels_of, answers, strict=True)), heads)
    favourite = votes[:, columns].argmax(axis=1)
    assert (score["head"], score["n"]) == ("expression", votes[:, columns].any(axis=1).sum())
    # Three times too unsure at first, and the favourite of ten is surer than any one of them.
    assert blend.temperature < 1 / 3
    as_one_rater = replace(blend, temperature=1 / 3).of(dict(zip(labels_of, answers, strict=True)), heads)
    assert expected_calibration_error(mixed, favourite) < 0.07
    assert expected_calibration_error(as_one_rater, favourite) > 0.1
    assert score["accuracy"] == pytest.approx((mixed.argmax(axis=1) == favourite).mean(), abs=0.01)
    assert planned(labels_of, None, 0.0, split) is None
    assert blended(heads, answers, split, None, "toy") == (None, ())


def test_the_blend_takes_the_prior_of_the_training_pictures_out():
    labels = np.repeat(np.arange(7), [40, 1, 9, 20, 10, 10, 10])
    split = Split(Nothing(100), labels, [""] * 100)
    plan = planned({"fer2013": FER2013, "votes": FERPLUS}, 0.5, 1.0, split)
    assert plan.prior[FER2013[1]] == pytest.approx(0.01)
    heads = (Head(name="fer2013", labels=FER2013), Head(name="votes", labels=FERPLUS))
    prior = np.array([[plan.prior[label] for label in FER2013]])
    votes = np.array([[plan.prior.get(label, 0.0) for label in FERPLUS]])
    even = plan.of({"fer2013": prior, "votes": votes}, heads)  # answers that say no more than the prior does
    np.testing.assert_allclose(even, 1 / 7, rtol=1e-6)


def test_the_average_of_a_training_of_few_steps_is_not_that_of_its_first_step():
    weight, average = keras.Variable(np.zeros(2, np.float32)), MovingAverage(0.998)
    for step in range(1, 5):
        weight.assign(np.full(2, step, np.float32))
        average.step([weight])
    np.testing.assert_allclose(average.values[0], 4, atol=0.01)


def test_the_average_follows_every_weight_and_goes_on_where_it_was():
    weight = keras.Variable(np.zeros(2, np.float32))
    one, two = MovingAverage(0.9), MovingAverage(0.9)
    for step in range(1, 41):
        weight.assign(np.full(2, step, np.float32))
        one.step([weight])
        if step == 16:
            two.restore(one.stored())
        elif step > 16:
            two.step([weight])
    np.testing.assert_array_equal(one.values[0], two.values[0])
    # Updates at steps 1, 2, ... 7, 8, 16, ... with the decay of eight steps, which is less at the beginning.
    expected = 1.0
    for step in [*range(2, 8), *range(8, 41, 8)]:
        decay = min(0.9, (1 + step) / (10 + step)) ** 8
        expected = decay * expected + (1 - decay) * step
    np.testing.assert_allclose(one.values[0], expected, rtol=1e-5)
