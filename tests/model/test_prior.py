"""Priors: Bayes' rule by hand, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import mien
from mien.errors import ConfigError
from mien.model.calibration import Prior, base_rates, read_prior, reweighting
from mien.model.metadata import Blend, Head, Metadata
from mien.model.preprocess import Preprocess
from mien.train.loader import weights_of_classes

HEAD = Head(name="mood", labels=("happy", "sad"))
COUNTED = Metadata(
    name="counted",
    preprocess=Preprocess(),
    heads=(HEAD,),
    training={"data": {"counts": {"train": {"happy": 300, "sad": 100}}}},
)


def test_bayes_rule_takes_the_old_shares_out_and_puts_the_new_ones_in() -> None:
    factor = reweighting(read_prior("balanced"), HEAD, COUNTED)
    assert factor is not None
    # p(face | label) is as .6/.75 to .4/.25 where the network says 60 to 40: sad is twice as likely with even shares.
    weighted = np.array([0.6, 0.4]) * factor
    np.testing.assert_allclose(weighted / weighted.sum(), [1 / 3, 2 / 3])
    assert reweighting(read_prior("everyday"), HEAD, COUNTED) is None
    own = reweighting(read_prior({"happy": 0.75}), HEAD, COUNTED)  # the other label gets the rest
    assert own is not None
    np.testing.assert_allclose(own, [1, 1])


def test_a_blend_has_only_those_shares_inside_that_it_did_not_take_out() -> None:
    blend = Blend(
        name="both",
        labels=("happy", "sad"),
        shares={"mood": 0.5, "votes": 0.5},
        prior={"happy": 0.8, "sad": 0.2},
        adjustment=0.5,
    )
    np.testing.assert_allclose(base_rates(blend, COUNTED), [2 / 3, 1 / 3])


def trained_on(**data: object) -> Metadata:
    return Metadata(name="own", preprocess=Preprocess(), heads=(HEAD,), training={"data": data})


def test_soft_labels_are_counted_by_their_shares() -> None:
    # 'sad' is nobody's label, and yet a tenth of what the network was shown.
    soft = trained_on(
        counts={"train": {"happy": 400, "sad": 0}}, shares={"train": {"happy": 0.9, "sad": 0.1}}
    )
    np.testing.assert_allclose(base_rates(HEAD, soft), [0.9, 0.1])


@pytest.mark.parametrize(
    ("settings", "inside"),
    [
        ({"class_weights": "none"}, [0.9, 0.1]),
        ({"class_weights": "sqrt"}, [0.75, 0.25]),
        ({"class_weights": "full"}, [0.5, 0.5]),
        ({"class_weights": "none", "phases": [{"class_weights": "full"}, {"epochs": 3}]}, [0.5, 0.5]),
    ],
)
def test_weights_of_classes_are_inside_the_answers(settings: dict[str, Any], inside: list[float]) -> None:
    """Twice balanced, by the training and by the prior, a rare expression was named far too often."""
    data = {"counts": {"train": {"happy": 900, "sad": 100}}}
    votes = Head(name="votes", labels=HEAD.labels)
    own = Metadata(
        name="own",
        preprocess=Preprocess(),
        heads=(HEAD, votes),
        training={"settings": settings, "data": data},
    )
    np.testing.assert_allclose(base_rates(HEAD, own), inside)
    np.testing.assert_allclose(base_rates(votes, own), [0.9, 0.1])  # raters' shares are not weighted


def test_a_prior_on_a_weighted_regression_is_bayes_rule() -> None:
    """As scikit-learn's regression learns it: with weights and a balanced prior as one that saw even shares."""
    rng = np.random.default_rng(0)
    targets = np.eye(2, dtype=np.float32)[(rng.random(40_000) < 0.1).astype(int)]
    points = rng.normal(targets[:, 1], 1)[:, None]
    truth = 1 / (1 + np.exp(0.5 - points[:, 0]))  # of 'sad', where both are as common
    for kind in ("none", "sqrt", "full"):
        weights = targets @ weights_of_classes(targets, HEAD.labels, kind)
        fitted = LogisticRegression(C=1e6).fit(points, targets.argmax(axis=1), sample_weight=weights)
        shares = dict(zip(HEAD.labels, targets.mean(axis=0).tolist(), strict=True))
        data = {"shares": {"train": shares}}
        own = replace(COUNTED, training={"settings": {"class_weights": kind}, "data": data})
        factor = reweighting(read_prior("balanced"), HEAD, own)
        said = fitted.predict_proba(points) * factor
        assert np.abs(said[:, 1] / said.sum(axis=1) - truth).max() < 0.02


def test_a_label_without_a_picture_is_named() -> None:
    never = trained_on(counts={"train": {"happy": 400, "sad": 0}})
    never = replace(never, training={**never.training, "settings": {"class_weights": "full"}})
    with pytest.raises(ConfigError, match="own saw no picture of sad in training, so its answers cannot be"):
        reweighting(read_prior("balanced"), HEAD, never)
    other = trained_on(counts={"train": {"happy": 400, "angry": 3}})
    with pytest.raises(ConfigError, match="own does not say how often sad of its head 'mood' occurred"):
        reweighting(read_prior("balanced"), HEAD, other)


def test_what_is_no_prior_is_refused_in_one_line() -> None:
    wrong: list[tuple[object, str]] = [
        ("often", "everyday, balanced, or shares"),
        ("happy=much", "or shares such as"),
        ({"happy": 0.8, "sad": 0.4}, "sum to one at most"),
        ({"happy": -0.1}, "from 0 on"),
        ({"happy": "0.4"}, "from 0 on"),
        ({3: 0.4}, "the labels of a prior must be words, got 3"),
        ({"happy": True}, "from 0 on"),
        (3, "everyday, balanced"),
    ]
    for given, said in wrong:
        with pytest.raises(ConfigError, match=said):
            read_prior(given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the prior names tired; the labels are: happy, sad"):
        Prior("tired=1", {"tired": 1.0}).over(HEAD.labels)
    with pytest.raises(ConfigError, match="the shares of a prior are all 0"):
        read_prior("happy=0,sad=0").over(HEAD.labels)


def test_a_label_that_does_not_occur_leaves_all_to_the_others() -> None:
    assert read_prior("happy=0").over(HEAD.labels) == pytest.approx([0, 1], abs=2e-4)
    own = ("happy", "joy", "sad")  # somebody's own classes: the very name comes first
    assert read_prior("happy=0.6,joy=0.3").over(own).tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert read_prior("happy=0.8").over(own).tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert read_prior("a=b=0.5").over(("a=b", "c")).tolist() == [0.5, 0.5]
    for twice in ("happy=0.5,happy=0.2", {"happy": 0.5, "joy": 0.2}):
        with pytest.raises(ConfigError, match="gives happy two shares; give it one"):
            read_prior(twice).over(HEAD.labels)
    silent = Metadata(name="silent", preprocess=Preprocess(), heads=(HEAD,))
    with pytest.raises(ConfigError, match="does not say how often"):
        reweighting(read_prior("balanced"), HEAD, silent)


def test_results_say_which_prior_they_have_and_the_rare_gain_by_a_balanced_one() -> None:
    inputs = np.random.default_rng(0).integers(0, 256, (40, *mien.load().metadata.preprocess.shape), np.uint8)
    usual, even = mien.load(), mien.load(prior="balanced")
    before, after = usual.probabilities(inputs), even.probabilities(inputs)
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-5)
    disgust = usual.head.labels.index("disgust")
    assert (after[:, disgust] > before[:, disgust]).all()
    picture = np.zeros((30, 30, 3), np.uint8)
    (face,) = mien.load(detector="whole", prior={"happy": 0.5}).analyze(picture)
    assert face.prior == face.to_dict()["prior"] == "happy=0.5"
