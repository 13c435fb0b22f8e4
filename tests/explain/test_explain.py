"""Maps by RISE: saliency lies where the answer hangs, none where it hangs on nothing, and each map is tested."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

import mien
from mien.detect.base import Detection
from mien.errors import ConfigError
from mien.explain import occlusion
from mien.explain.explain import Explainer, cell_means, find_label, inverse_transform
from mien.explain.occlusion import (
    Faithfulness,
    measure_faithfulness,
    probability_occluded,
    rise,
    soft_masks,
    top_k_mask,
)
from mien.explain.render import AGAINST, FOR, draw_explanation, in_words, legend, overlaid
from mien.model.metadata import Metadata
from mien.model.preprocess import Preprocess, to_model_input
from mien.predict.analyzer import Analyzer

from .quadrant_onnx import METADATA, SIZE, lit_face, quadrant_network, write_quadrant

QUARTER = (slice(0, SIZE // 2), slice(SIZE // 2, SIZE))
FACE = lit_face()[:, :, None]


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Analyzer:
    return mien.load(write_quadrant(tmp_path_factory.mktemp("explain") / "quarter"), detector="whole")


@pytest.fixture(scope="module")
def explainer(analyzer: Analyzer) -> Explainer:
    return Explainer(analyzer.head, analyzer.probabilities)


def test_the_map_lies_where_the_network_looks(explainer: Explainer) -> None:
    saliency = explainer.explain(FACE)
    assert (saliency.label, saliency.decision) == ("bright", "bright")
    row, column = np.unravel_index(saliency.values.argmax(), saliency.values.shape)
    assert row < SIZE // 2 <= column
    assert saliency.values[QUARTER].min() > 0
    # By chance 0.25; cells reach over the edge.
    assert saliency.values[QUARTER].sum() > 0.6 * saliency.values.clip(0).sum()
    far = saliency.values[SIZE // 2 + 4 :, : SIZE // 2 - 4]  # no cell there reaches the quarter: chance alone
    assert np.abs(far).max() < 0.15 * saliency.values.max()
    assert saliency.faithfulness.holds
    assert saliency.faithfulness.drop > 5 * abs(saliency.faithfulness.random_drop)
    assert (
        saliency.faithfulness.deletion < saliency.faithfulness.random_curve < saliency.faithfulness.insertion
    )


def test_what_speaks_against_a_label_is_negative(explainer: Explainer) -> None:
    saliency = explainer.explain(FACE, "dark")
    np.testing.assert_allclose(saliency.values, -explainer.explain(FACE).values, atol=1e-6)
    assert not saliency.faithfulness.holds  # covering the least dark part cannot make it less dark


def test_a_value_is_the_difference_between_seen_and_covered(explainer: Explainer) -> None:
    saliency = explainer.explain(FACE)
    hidden = np.zeros((2, SIZE, SIZE), bool)
    hidden[1][QUARTER] = True
    whole, without = probability_occluded(explainer._answers, FACE, hidden, 1)
    # A cell is smaller than the quarter.
    assert 0.3 * (whole - without) < saliency.values.max() < whole - without


def test_a_covered_place_has_the_mean_level_of_the_probability(analyzer: Analyzer) -> None:
    """Worked out for one window that lies wholly in the quarter."""
    hidden = np.zeros((1, SIZE, SIZE), bool)
    hidden[0, 2:6, 10:14] = True
    plain = float(FACE.mean())
    changed = FACE[QUARTER].astype(float).copy()
    changed[2:6, 2:6] = plain
    wanted = 1 / (1 + np.exp(-2 * 0.04 * (changed.mean() - 128)))
    np.testing.assert_allclose(
        probability_occluded(analyzer.probabilities, FACE, hidden, 1), [wanted], atol=1e-5
    )


def test_a_network_that_looks_nowhere_has_a_flat_map(tmp_path: Path) -> None:
    blind = mien.load(write_quadrant(tmp_path / "blind", slope=0.0), detector="whole")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saliency = Explainer(blind.head, blind.probabilities).explain(FACE)
        picture = draw_explanation(None, [saliency], [])
    assert np.abs(saliency.values).max() < 1e-6
    assert (saliency.faithfulness.drop, saliency.faithfulness.random_drop, saliency.faithfulness.holds) == (
        0,
        0,
        False,
    )
    assert "do not rely" in in_words(saliency.faithfulness, saliency.label, saliency.probability)
    assert picture.dtype == np.uint8
    left = picture[60:200, 300:450].astype(int)
    assert np.ptp(left, axis=2).max() == 0  # no colour on the face


def test_maps_and_checks_are_the_same_every_time(analyzer: Analyzer) -> None:
    first, again, other = (
        Explainer(analyzer.head, analyzer.probabilities, seed=seed).explain(FACE) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert first.to_dict() == again.to_dict()
    assert (first.values != other.values).any()
    assert np.corrcoef(first.values.ravel(), other.values.ravel())[0, 1] > 0.9
    assert first.faithfulness.random_drop != other.faithfulness.random_drop


@pytest.mark.parametrize("seed", range(3))
def test_a_random_map_does_not_hold(analyzer: Analyzer, seed: int) -> None:
    """The judge must be able to say no: a map turned away from the quarter fails, one of noise is like faithfulness."""
    away = rise(analyzer.probabilities, FACE, 1)[::-1, ::-1]
    assert not measure_faithfulness(analyzer.probabilities, FACE, np.ascontiguousarray(away), 1, seed).holds
    noise = np.random.default_rng(seed).random((SIZE, SIZE)).astype(np.float32)
    check = measure_faithfulness(analyzer.probabilities, FACE, noise, 1, seed)
    assert abs(check.deletion - check.random_curve) < 0.1


@pytest.mark.parametrize("size", [8, 17, 44, 48, 224])
def test_masks_hide_every_place_half_of_the_time(size: int) -> None:
    masks = soft_masks(200, size, np.random.default_rng(1))
    assert masks.shape == (200, size, size)
    assert (masks.min(), masks.max()) == (0, 1)
    assert np.abs(masks.mean(axis=0) - 0.5).max() < 0.15
    assert masks.std(axis=0).min() > 0.25


@pytest.mark.parametrize(
    ("drop", "beaten", "holds"), [(0.2, 0.96, True), (0.2, 0.5, False), (0.0005, 1.0, False)]
)
def test_a_map_holds_when_it_beats_chance_by_more_than_rounding(
    drop: float, beaten: float, holds: bool
) -> None:
    faithfulness = Faithfulness(
        drop=drop, random_drop=0, beaten=beaten, deletion=0.3, insertion=0.6, random_curve=0.5
    )
    assert faithfulness.holds is holds


def test_the_hottest_part_has_its_share_and_ties_are_broken_by_lot() -> None:
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    (part,) = top_k_mask(values, np.array([0.2]), np.random.default_rng(0))
    assert part.sum() == 20
    assert part[8:].all()
    (flat,) = top_k_mask(np.zeros((10, 10)), np.array([0.2]), np.random.default_rng(0))
    assert flat.sum() == 20
    assert flat[5:].any()


def test_labels_are_found_in_any_spelling_and_others_refused() -> None:
    head = METADATA.head("mood")
    assert find_label(head, "angry") == 0
    assert find_label(head, " Happy") == 1
    both = dataclasses.replace(head, labels=("joy", "happy"))
    assert [find_label(both, name) for name in ("happy", "joy")] == [1, 0]
    with pytest.raises(ConfigError, match=r"'mood' has no label 'sad'; it has: Anger, happy"):
        find_label(head, "sad")


def test_the_grid_holds_means_of_cells() -> None:
    values = np.zeros((16, 16), np.float32)
    values[:2, 14:] = 3
    cells = np.array(cell_means(values))
    assert cells.shape == (8, 8)
    assert cells[0, 7] == 3
    assert cells.sum() == 3


TILTED = ((52.0, 60.0), (78.0, 84.0), (60.0, 80.0), (44.0, 84.0), (64.0, 100.0))  # eyes 43 degrees from level


@pytest.mark.parametrize(
    "face",
    [
        Detection((30.0, 40.0, 60.0, 80.0)),
        Detection((-20.0, 5.0, 90.0, 70.0)),
        Detection((101.0, 90.5, 41.0, 33.0)),
        Detection((30.0, 40.0, 60.0, 80.0), 0.9, TILTED),
    ],
    ids=["inside", "over the border", "odd", "tilted"],
)
def test_the_placement_says_where_the_input_came_from(tmp_path: Path, face: Detection) -> None:
    """Pictures whose levels are their own coordinates, cut and prepared, show where each pixel came from."""
    how = Preprocess(size=16, resize=20, colour="grey", margin=1.2)
    metadata = Metadata(name="cut", preprocess=how, heads=METADATA.heads[:1])
    onnx.save(quadrant_network(metadata), tmp_path / "cut.onnx")
    analyzer = mien.load(tmp_path / "cut.onnx", detector="haar")
    x_ramp, y_ramp = (ramp.astype(np.uint8) for ramp in np.meshgrid(np.arange(200), np.arange(180)))
    columns, rows = np.meshgrid(np.arange(16), np.arange(16))
    told = inverse_transform(analyzer, x_ramp, face) @ np.stack([columns.ravel(), rows.ravel(), np.ones(256)])
    for ramp, wanted in ((x_ramp, told[0]), (y_ramp, told[1])):
        found = to_model_input(analyzer.cut(ramp, face), how)[:, :, 0].astype(float).ravel()
        inside = (wanted > 5) & (wanted < ramp.max() - 5)  # beyond the picture its border is repeated
        assert inside.mean() > 0.5
        np.testing.assert_allclose(found[inside], wanted[inside], atol=1)


def test_colours_say_for_and_against_and_nothing_stays_grey() -> None:
    values = np.array([[1.0, 0.0, -1.0, 5.0]], np.float32)
    out = overlaid(np.full((1, 4, 3), 100, np.uint8), values, 1.0)[0].astype(int)
    np.testing.assert_array_equal(out[1], [100, 100, 100])
    np.testing.assert_allclose(out[0], 20 + 0.8 * np.array(FOR), atol=1)
    np.testing.assert_allclose(out[2], 20 + 0.8 * np.array(AGAINST), atol=1)
    np.testing.assert_array_equal(out[3], out[0])


def test_the_two_colours_differ_in_a_grey_print() -> None:
    weights = np.array([0.299, 0.587, 0.114])
    assert weights @ FOR - weights @ AGAINST > 60


def test_words_of_any_length_and_script_fit() -> None:
    assert legend(300, 0.25, "Überrascht 怒", shares=False).shape[1] == 300
    assert legend(300, 1.0, "happy", shares=True).shape[2] == 3


def test_a_photograph_shows_the_map_in_its_place(explainer: Explainer) -> None:
    saliency = explainer.explain(FACE)
    image = np.full((100, 200, 3), 90, np.uint8)
    matrix = np.array([[2.0, 0, 50], [0, 2.0, 30]])  # the face fills 32 pixels from (50, 30)
    picture = draw_explanation(
        image, [saliency, saliency], [matrix, matrix + np.array([[0, 0, 80], [0, 0, 0]])]
    ).astype(int)
    photo = picture[12 : 12 + 320, 12 : 12 + 640]
    coloured = np.ptp(photo, axis=2) > 20
    rows, columns = np.nonzero(coloured)
    assert rows.min() >= 30 * 3.2 - 4 and rows.max() <= 62 * 3.2 + 4
    assert columns.min() >= 50 * 3.2 - 4 and columns.max() <= 162 * 3.2 + 4
    assert coloured[:, 300:400].sum() == 0  # between the two faces


def test_the_random_maps_are_as_many_as_the_text_says() -> None:
    assert (occlusion.RANDOM_MAPS, occlusion.RANDOM_CURVES, occlusion.TOP_SHARE) == (50, 10, 0.2)
