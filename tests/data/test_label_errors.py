"""Planted label errors are found; what a network knows by heart is not asked; lists are applied or refused."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mien.data import open_dataset
from mien.data.dataset import Dataset
from mien.data.drawn import draw_dataset
from mien.data.label_errors import (
    apply_list,
    estimated_errors,
    find_label_errors,
    normalised_margin,
    out_of_fold,
    rank_labels,
    seen_by,
    was_fitted,
)
from mien.data.pictures import InMemoryPictures, fingerprints_of
from mien.errors import DataError
from mien.model.classifier import Classifier
from mien.model.folder import model_path, read_model_folder

pytest.importorskip("cleanlab", reason="looking for wrong labels takes the training extra")
MIEN = model_path("mien")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    draw_dataset(folder, per_class=50, classes=("happy", "sad", "surprise"))
    return open_dataset(folder, carve_validation=False)


def with_errors(dataset: Dataset, share: float) -> tuple[Dataset, set[tuple[str, int]]]:
    """Give some pictures a wrong label, chosen evenly among the others."""
    random = np.random.default_rng(0)
    splits, planted = {}, set()
    for name, split in dataset.splits.items():
        labels = split.labels.copy()
        rows = random.permutation(len(labels))[: round(share * len(labels))]
        labels[rows] = (labels[rows] + random.integers(1, len(dataset.classes), len(rows))) % len(
            dataset.classes
        )
        splits[name] = replace(split, labels=labels)
        planted |= {(name, int(row)) for row in rows}
    return replace(dataset, splits=splits), planted


def precision(found, planted):
    from sklearn.metrics import average_precision_score

    wrong = [(doubt.split, doubt.row) in planted for doubt in found.doubts]
    return average_precision_score(wrong, -np.arange(len(wrong)))


def test_planted_errors_lead_the_list(drawn):
    spoilt, planted = with_errors(drawn, 0.06)
    found = find_label_errors(spoilt, MIEN)
    assert precision(found, planted) > 0.6  # .64; at random .06: drawn faces are strange to the network
    assert 0 < found.likely <= 3 * len(planted)
    assert (np.diff([doubt.margin for doubt in found.doubts]) >= 0).all()
    assert len({(doubt.split, doubt.row) for doubt in found.doubts}) == len(found.doubts) == 150
    assert found.doubts[0].network is not None and found.notes == ()


def test_classes_that_the_network_does_not_know(drawn):
    renamed = replace(drawn, classes=("a", "b", "c"))
    spoilt, planted = with_errors(renamed, 0.06)
    found = find_label_errors(spoilt, MIEN)
    assert precision(found, planted) > 0.65
    assert found.doubts[0].network is None and "does not know all classes" in found.notes[0]


def test_what_the_network_was_trained_on_is_said(drawn):
    shipped = read_model_folder(MIEN).metadata
    mine = {**shipped.training["data"], "fingerprint": drawn.fingerprint}
    metadata = replace(shipped, training={**shipped.training, "data": mine})
    assert was_fitted(metadata, drawn, "train") and not was_fitted(metadata, drawn, "test")
    assert was_fitted(shipped, replace(drawn, name="fer2013"), "train")
    assert not was_fitted(shipped, drawn, "train")
    found = find_label_errors(replace(drawn, name="fer2013"), MIEN)
    asked = {doubt.split for doubt in found.doubts if doubt.network}
    assert asked == {"test"} and "was trained on 120 of these pictures" in found.notes[0]


def test_what_a_run_learnt_is_known_by_content(drawn):
    """Pictures that were added, or --folds, changed the data's fingerprint: then what it knew by heart counted."""
    keys = fingerprints_of(drawn.splits["train"].pictures).keys
    found = find_label_errors(drawn, MIEN, learnt=frozenset(keys[:70]))
    silent = {(doubt.split, doubt.row) for doubt in found.doubts if doubt.network is None}
    assert silent == {("train", row) for row in range(70)}
    assert "was trained on 70 of these pictures" in found.notes[0]


def test_a_face_and_its_mirror_image_are_seen_alike(drawn):
    classifier = Classifier(MIEN)
    split = drawn.splits["test"].take(np.arange(3))
    turned = [np.ascontiguousarray(split.pictures.read(row)[:, ::-1]) for row in range(3)]
    one, answers = seen_by(classifier, [split])
    other, _ = seen_by(classifier, [replace(split, pictures=InMemoryPictures(np.stack(turned)))])
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert one.shape == (3, 256) and set(answers) == {"fer2013", "votes", "expression"}
    assert np.allclose(answers["expression"].sum(axis=1), 1, atol=1e-5)


def test_ranking_arrays_by_hand():
    """Two clouds, one label wrong: it leads, with the other class as the suggestion; a network's no moves a row up."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    features = (4.0 * labels[:, None] + random.normal(size=(80, 6))).astype(np.float32)
    labels[:5] = 1
    found = rank_labels(features, labels, np.arange(80))
    assert set(found.order[:5]) == {0, 1, 2, 3, 4} and (found.suggestions[:5] == 0).all()
    assert 3 <= found.likely <= 6 and found.margins[:5].max() < 0
    assert (np.diff(found.margins[found.order]) >= 0).all()
    own = np.eye(2)[labels] * 0.8 + 0.1
    own[60] = [0.999, 0.001]
    assert 60 in rank_labels(features, labels, np.arange(80), own).order[:6]
    unasked = rank_labels(features, labels, np.arange(80), own, np.arange(80) != 60)
    assert 60 not in unasked.order[:6]


def test_copies_are_not_judged_by_their_copies():
    """Noise cannot be learnt: with every row twice, only folds that keep the two together give chance."""
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(150, 2000)), 2, axis=0).astype(np.float32)
    labels = np.repeat(random.integers(0, 2, 150), 2)
    together = out_of_fold(features, labels, np.repeat(np.arange(150), 2))
    apart = out_of_fold(features, labels, np.arange(300))
    assert (together.argmax(axis=1) == labels).mean() < 0.65
    assert (apart.argmax(axis=1) == labels).mean() > 0.75


def test_margins_and_the_count_by_hand():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]])
    assert normalised_margin(probabilities, np.array([0, 2])) == pytest.approx([0.8, -0.2])
    sure = np.repeat([[0.95, 0.05], [0.05, 0.95]], 50, axis=0)
    labels = np.repeat([0, 1], 50)
    labels[:5] = 1
    assert estimated_errors(sure, labels) == 5


def test_too_few_pictures_are_refused():
    with pytest.raises(DataError, match="two classes with two pictures each"):
        out_of_fold(np.zeros((3, 4), np.float32), np.array([0, 0, 1]), np.arange(3))


def test_a_label_that_a_list_changes_is_the_soft_label_as_well(tmp_path, face):
    rows = ["path,p_happy,p_sad"]
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(cv2.imencode(".png", face(number, 48))[1].tobytes())
        rows.append(f"{number}.png,{0.8 if number % 2 else 0.3},{0.2 if number % 2 else 0.7}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    (tmp_path / "list.csv").write_text("split,name,decision\ntrain,1.png,sad\ntrain,2.png,drop\n")
    dataset = open_dataset(tmp_path / "labels.csv", carve_validation=False)
    applied, line = apply_list(dataset, tmp_path / "list.csv")
    assert line == "list.csv: 1 picture left out, 1 given another label"
    split = applied.split("train")
    assert list(split.names) == ["0.png", "1.png", "3.png"]
    np.testing.assert_allclose(split.shares, [[0.3, 0.7], [0, 1], [0.8, 0.2]], rtol=1e-6)


def test_lists_of_other_data_and_unknown_decisions_are_refused(drawn, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("split,name,decision\ntrain,nowhere.png,drop\n")
    with pytest.raises(DataError, match=r"of other data: there is no nowhere\.png in train"):
        apply_list(drawn, path)
    path.write_text(f"split,name,decision\ntrain,{drawn.splits['train'].names[0]},perhaps\n")
    with pytest.raises(DataError, match="decides 'perhaps'; allowed are drop, keep, a class"):
        apply_list(drawn, path)
    path.write_text("name\nx\n")
    with pytest.raises(DataError, match="no column split, decision"):
        apply_list(drawn, path)
