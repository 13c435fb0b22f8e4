"""What can be known of the training on an accelerator without one: what travels, rates, damage, and weight files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.labels import FERPLUS

pytest.importorskip("keras", reason="needs the train extra")
pytest.importorskip("jax", reason="the training on an accelerator is JAX's")


def test_what_is_packed_is_what_is_unpacked(tool: Any, tmp_path: Path) -> None:
    train = tool("train_on_gpu")
    rng = np.random.default_rng(0)
    faces = {"Training": rng.integers(90, 160, (9, 48, 48)), "PublicTest": rng.integers(0, 256, (6, 48, 48))}
    rows, votes = ["emotion,pixels,Usage"], [",".join(["Usage", "Image name", *FERPLUS, "unknown", "NF"])]
    for usage, pictures in faces.items():
        for place, picture in enumerate(pictures):
            rows.append(f"{place % 7},{' '.join(map(str, picture.ravel()))},{usage}")
            votes.append(f"{usage},fer{len(votes):07}.png,{','.join(['1'] * 10)}")
    (tmp_path / "fer2013.csv").write_text("\n".join(rows))
    (tmp_path / "fer2013new.csv").write_text("\n".join(votes))
    train.pack(tmp_path / "fer2013.csv", None, tmp_path / "pack")
    facts = np.load(tmp_path / "pack" / "facts.npz")
    assert facts["train_labels"].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert facts["validation_votes"].shape == (6, 8) and facts["photographs"].shape == (0, 64, 64)
    kept = train._unpacked(tmp_path / "pack", "validation", 6)
    np.testing.assert_array_equal(kept[:, 8:-8, 8:-8], faces["PublicTest"])
    np.testing.assert_array_equal(kept[:, 8:-8, 7], faces["PublicTest"][:, :, 1])  # the border is mirrored
    near = train._unpacked(tmp_path / "pack", "train", 9)[:, 8:-8, 8:-8].astype(int)
    assert np.abs(near - faces["Training"]).mean() < 3  # JPEG of quality 96


def test_the_rate_rises_and_falls_with_the_time(tool: Any) -> None:
    train = tool("train_on_gpu")
    shares = [0, 0.02, 0.04, 0.5, 0.9, 1]
    parts = [train._rates(at, then, 50) for at, then in pairwise(shares)]
    rates = np.concatenate(parts)
    assert rates.argmax() == 99 and rates[99] == pytest.approx(train.PEAK)
    assert np.all(np.diff(rates[:100]) > 0) and np.all(np.diff(rates[100:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_pictures_stay_pictures_and_damage_does_what_it_says(tool: Any) -> None:
    import jax

    vary = tool("augment_on_gpu")
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 64), np.uint8)

    def all_of(
        key: Any, whole: Any, some: Any, pixels: Any, step: Any
    ) -> Any:  # compiled once: each part is slow
        fewer = vary._filtered(vary._fewer_pixels(pixels), some)
        return vary.augmented(key, whole), fewer, vary._compressed(some, step)

    def column(*values: float) -> Any:
        return np.reshape(np.array(values, np.float32), (-1, 1, 1))

    some = np.stack([pictures[0, :48, :48], pictures[0, :48, :48], np.full((48, 48), 120)]).astype(np.float32)
    given = jax.random.key(1), pictures, some, column(48, 24, 14), column(0.01, 15, 8)
    quickly: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    results = jax.jit(all_of).lower(*given).compile(compiler_options=quickly)(*given)
    varied, fewer, compressed = map(np.asarray, results)
    assert varied.shape == (8, 48, 48, 1) and varied.dtype == np.float32
    assert varied.min() >= 0 and varied.max() <= 255 and 20 < varied.std() < 110
    np.testing.assert_allclose(fewer[0], some[0], atol=0.01)  # as many pixels as there are
    cells = some[1].reshape(24, 2, 24, 2).mean(axis=(1, 3))
    assert fewer[1][0, 0] == pytest.approx(cells[0, 0], abs=0.01)
    nearest = 0.75 * (0.75 * cells[0, 0] + 0.25 * cells[0, 1]) + 0.25 * (
        0.75 * cells[1, 0] + 0.25 * cells[1, 1]
    )
    assert fewer[1][1, 1] == pytest.approx(nearest, abs=0.01)  # bilinear between half as many
    np.testing.assert_allclose(compressed[0], some[0], atol=0.5)
    assert 10 < np.abs(compressed[1] - some[1]).mean() < 60
    for flat in (fewer[2], compressed[2]):
        assert np.ptp(flat) < 0.01


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
