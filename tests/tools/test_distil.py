"""What teachers say is kept, completed for photographs, and asked of a model folder as it cuts faces itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.model.classifier import Classifier
from mien.model.folder import model_path

pytest.importorskip("keras", reason="needs the train extra")


def test_answers_to_labelled_faces_are_completed_for_photographs(tool: Any, tmp_path: Path) -> None:
    distil = tool("distil")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 64, 64)).astype(np.uint8)
    kept = {name: rng.dirichlet(np.ones(len(labels)), 3) for name, labels in distil.HEADS.items()}
    np.savez(tmp_path / "targets.npz", **kept)
    found = distil._kept_targets(tmp_path / "targets.npz", ["mien"], pictures, 3)
    faces = pictures[3:, 8:56, 8:56]
    network = Classifier(model_path("mien"), "float32")
    views = [network.predict(list(view)) for view in (faces, faces[:, :, ::-1])]
    for (name, given), one in zip(kept.items(), found, strict=True):
        np.testing.assert_allclose(one[:3], given, atol=1e-6)
        np.testing.assert_allclose(one[3:], (views[0][name] + views[1][name]) / 2, atol=1e-6)
    with pytest.raises(SystemExit, match="has answers to 3 pictures, not 5"):
        distil._kept_targets(tmp_path / "targets.npz", ["mien"], pictures, 4)


def test_weights_are_found_by_their_path_also_in_older_files(tool: Any, tmp_path: Path) -> None:
    import keras

    load_weights = tool("distil").load_weights
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="top")], name="tiny")
    wanted = {"top/kernel": np.arange(6.0).reshape(3, 2), "top/bias": np.array([7.0, 8.0])}
    paths = [one.path for one in network.variables]
    stored = dict(zip(paths, wanted.values(), strict=True))
    for older in (False, True):
        named = {
            f"{place:04}:{path}" if older else path: one for place, (path, one) in enumerate(stored.items())
        }
        np.savez(tmp_path / "tiny.npz", **named)
        network.set_weights([np.zeros((3, 2)), np.zeros(2)])
        load_weights(network, tmp_path / "tiny.npz")
        for one, two in zip(network.get_weights(), wanted.values(), strict=True):
            np.testing.assert_array_equal(one, two)
    np.savez(tmp_path / "half.npz", **{paths[0]: wanted["top/kernel"]})
    with pytest.raises(SystemExit, match=r"half\.npz has no .*bias; is it of a network 'tiny'\?"):
        load_weights(network, tmp_path / "half.npz")


def test_bands_cover_eyes_or_mouth_from_side_to_side(tool: Any) -> None:
    distil = tool("distil")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2_000, 64, 64)).astype(np.uint8)
    covered = distil.with_bands(pictures, rng)
    changed = (covered != pictures).any(axis=2)
    heights = changed.sum(axis=1)
    assert 0.12 < (heights > 0).mean() < 0.18
    assert heights[heights > 0].min() >= 12
    assert heights.max() <= 29
    assert not changed[:, :6].any()
    assert changed[:, 63].any(), "a mask reaches down to the chin"
    first = int(np.flatnonzero(heights)[0])
    assert len(np.unique(covered[first][changed[first]])) == 1


def test_faces_of_photographs_are_drawn_by_how_rare_their_expression_is(tool: Any) -> None:
    answers = np.repeat(np.eye(2, dtype=np.float32), (900, 100), axis=0)
    chances = tool("distil")._by_rareness(answers)
    np.testing.assert_allclose(chances[-1] / chances[0], 3)
    np.testing.assert_allclose(chances.sum(), 1)
