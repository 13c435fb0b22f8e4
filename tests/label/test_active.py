"""What the learner beside the labeller says: on clouds of which the truth is known, and on real faces."""

from __future__ import annotations

import numpy as np
import pytest

from mien.errors import ConfigError, DataError
from mien.label.active import confirm, fit, learning_curve, order

pytest.importorskip("sklearn", reason="learning from labels takes the training extra")


def clouds(count: int = 600, classes: int = 4, seed: int = 0):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, count)
    features = 3.5 * np.eye(classes, 32)[truth] + 0.8 * random.normal(size=(count, 32))
    return features.astype(np.float32), truth


def some(truth: np.ndarray, each: int) -> np.ndarray:
    """Give labels to the first few faces of every class."""
    labels = np.full(len(truth), -1)
    for label in range(int(truth.max()) + 1):
        rows = np.flatnonzero(truth == label)[:each]
        labels[rows] = label
    return labels


def test_ten_faces_a_class_are_enough_to_guess_the_others():
    features, truth = clouds()
    learner = fit(features, some(truth, 10))
    rest = learner.unlabelled
    right = (learner.guesses[rest] == truth[rest]).mean()
    assert right > 0.85
    assert learner.expected_accuracy == pytest.approx(right, abs=0.06)
    assert learner.counts.tolist() == [10] * 4 and learner.notes == ()
    assert learner.probabilities.shape == (600, 4) and learner.probabilities.dtype == np.float32


def test_labelled_faces_are_judged_by_others():
    features, truth = clouds()
    labels = some(truth, 20)
    wrong = np.flatnonzero(labels >= 0)[0]
    labels[wrong] = (truth[wrong] + 1) % 4
    learner = fit(features, labels)
    assert learner.guesses[wrong] == truth[wrong]  # not what it was told


def test_unsure_faces_lead_and_are_not_alike():
    """The same face ten times, for each of the ten most unsure ones: one of them is asked for, seldom two."""
    features, truth = clouds()
    labels = some(truth, 10)
    best = np.sort(fit(features, labels).probabilities[:590], axis=1)
    alike = []
    for face in np.argsort(best[:, -1] - best[:, -2])[:10]:
        features[590:] = features[face]
        learner = fit(features, labels)
        found = order(learner, batch=30)
        assert sorted(found) == sorted(learner.unlabelled)
        shares = np.sort(learner.probabilities, axis=1)
        margins = shares[:, -1] - shares[:, -2]
        assert margins[found[:30]].mean() < 0.75 * margins[found].mean()
        assert (order(learner, batch=30) == found).all()
        alike.append((found[:30] >= 590).sum())
    assert max(alike) <= 2
    assert np.mean(alike) < 1.5


@pytest.mark.parametrize("named", [False, True])
def test_never_twenty_of_one_track(named):
    features, truth = clouds()
    groups = np.arange(600) // 30
    tracks = np.array([f"track {number}" for number in groups]) if named else groups
    found = order(fit(features, some(truth, 10), tracks))
    assert len(set(groups[found[:20]])) == 20
    assert len(set(groups[found[20:40]])) == 20
    alone = np.array([""] * 600) if named else np.full(600, -1)
    assert (fit(features, some(truth, 10), alone).groups == np.arange(600)).all()


def test_before_the_first_label_typical_faces_that_differ_lead():
    features, truth = clouds()
    learner = fit(features, np.full(600, -1), classes=4)
    assert (learner.probabilities == 0.25).all() and "no face has a label yet" in learner.notes[0]
    assert set(truth[order(learner)[:20]]) == {0, 1, 2, 3}
    assert not len(confirm(learner, 0)) and learner.accuracy is None


def test_one_class_says_so():
    features, truth = clouds()
    labels = np.where(truth == 2, 2, -1)
    learner = fit(features, labels, classes=4)
    assert "of one class, from which nothing can be learnt" in learner.notes[0]
    assert learning_curve(learner).labels == () and len(order(learner)) == (truth != 2).sum()


def test_a_new_class_and_a_rare_one_are_said():
    features, truth = clouds()
    labels = some(truth, 12)
    labels[np.flatnonzero(labels == 1)[3:]] = -1
    learner = fit(features, labels, classes=5)
    assert learner.counts.tolist() == [12, 3, 12, 12, 0] and (learner.probabilities[labels < 0, 4] == 0).all()
    assert any("1 class has no labelled face yet" in note for note in learner.notes)
    assert any("1 class has fewer than 10" in note for note in learner.notes)
    assert learning_curve(learner).most_needed == 4


def test_the_surest_of_a_class_are_offered():
    features, truth = clouds()
    learner = fit(features, some(truth, 15))
    found = confirm(learner, 3, count=25)
    assert len(found) == 25 and (truth[found] == 3).mean() > 0.95 and (learner.labels[found] < 0).all()
    assert (np.diff(learner.probabilities[found, 3]) <= 0).all() and learner.probabilities[
        found, 3
    ].min() >= 0.9
    with pytest.raises(ConfigError, match="from 0 to 3, got 4"):
        confirm(learner, 4)


def test_votes_of_several_people_are_learnt():
    features, truth = clouds()
    labels = some(truth, 15)
    votes = np.zeros((600, 4))
    votes[labels >= 0, labels[labels >= 0]] = 2
    votes[labels == 0, 1] = 1  # a third says 1 where two say 0
    learner = fit(features, votes)
    assert learner.counts.tolist() == [15] * 4
    rest = learner.unlabelled
    ones = learner.probabilities[rest][truth[rest] == 0]
    assert ones[:, 1].mean() > 2 * ones[:, 2].mean()


def test_the_curve_rises_and_names_the_class_in_need():
    features, truth = clouds(1200)
    labels = some(truth, 30)
    labels[np.flatnonzero(labels == 2)[4:]] = -1
    curve = learning_curve(fit(features, labels))
    assert curve.labels[curve.known - 1] == 94 and curve.labels[curve.known :] == (188, 376)
    assert curve.accuracy[0] < curve.accuracy[curve.known - 1] <= curve.accuracy[-1] <= 1
    assert curve.most_needed == 2 and len(curve.recall) == len(curve.gain) == 4


def test_everything_labelled_and_nothing_at_all():
    features, truth = clouds(80)
    done = fit(features, truth)
    assert len(order(done)) == 0 and done.expected_accuracy is None and done.accuracy > 0.7
    assert learning_curve(done).most_needed is None
    empty = fit(np.empty((0, 32), np.float32), np.empty(0, int), classes=2)
    assert len(order(empty)) == 0 and empty.notes


def test_inputs_that_do_not_fit_are_refused():
    features, truth = clouds(20)
    with pytest.raises(DataError, match="20 faces and 19 labels"):
        fit(features, truth[:19])
    with pytest.raises(DataError, match="a label 3, but only 3 classes"):
        fit(features, np.full(20, 3), classes=3)
    with pytest.raises(DataError, match="20 faces and 2 groups"):
        fit(features, truth, np.zeros(2))
