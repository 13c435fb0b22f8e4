"""What can be known of the training on an accelerator without one: what travels, networks, rates, damage, a run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.labels import FERPLUS

torch = pytest.importorskip("torch", reason="the training on an accelerator is PyTorch's")
pytest.importorskip("keras", reason="needs the train extra")


@pytest.fixture
def packed(tool: Any, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A folder as `pack` writes it, of FER-2013 with 9 and 6 faces, and these faces."""
    (folder := tmp_path / "packed").mkdir()
    rng = np.random.default_rng(0)
    faces = {"Training": rng.integers(90, 160, (9, 48, 48)), "PublicTest": rng.integers(0, 256, (6, 48, 48))}
    rows, votes = ["emotion,pixels,Usage"], [",".join(["Usage", "Image name", *FERPLUS, "unknown", "NF"])]
    for usage, pictures in faces.items():
        for place, picture in enumerate(pictures):
            rows.append(f"{place % 7},{' '.join(map(str, picture.ravel()))},{usage}")
            votes.append(f"{usage},fer{len(votes):07}.png,{','.join(['1'] * 10)}")
    (folder / "fer2013.csv").write_text("\n".join(rows))
    (folder / "fer2013new.csv").write_text("\n".join(votes))
    others = rng.integers(90, 160, (5, 64, 64)).astype(np.uint8)
    np.savez(folder / "faces.npz", x=others)
    tool("train_on_gpu").pack(folder / "fer2013.csv", folder / "faces.npz", "mien", folder / "pack")
    return folder / "pack", {**faces, "photographs": others}


def test_what_is_packed_is_what_is_unpacked(tool: Any, packed: tuple[Path, dict[str, Any]]) -> None:
    train, (pack, faces) = tool("train_on_gpu"), packed
    facts = np.load(pack / "facts.npz")
    assert facts["train_labels"].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert facts["validation_votes"].shape == (6, 8) and facts["photographs"] == 5
    kept = train._unpacked(pack, "validation", 6)
    np.testing.assert_array_equal(kept[:, 8:-8, 8:-8], faces["PublicTest"])
    np.testing.assert_array_equal(kept[:, 8:-8, 7], faces["PublicTest"][:, :, 1])  # the border is mirrored
    for name, count, side in (("train", 9, 48), ("photographs", 5, 64)):
        near = train._unpacked(pack, name, count, side).astype(int)
        wanted = np.pad(
            faces["Training" if side == 48 else name], ((0, 0), *[((64 - side) // 2,) * 2] * 2), "reflect"
        )
        assert np.abs(near - wanted).mean() < 5  # JPEG of noise


@pytest.mark.parametrize("name", ["small", "slim", "wide", "residual"])
def test_networks_say_what_those_of_mien_say(tool: Any, tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    ours = tool("distil").built(name)
    for variable in ours.variables:
        if "variance" in variable.path or "gamma" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) == 1 and "seed" not in variable.path:
            variable.assign(rng.normal(0, 0.2, variable.shape))
    stored = {one.path: np.asarray(one) for one in ours.variables if "seed" not in one.path}
    np.savez(tmp_path / "weights.npz", **stored)
    theirs = tool("torch_networks").Network(name, 0.3).eval()
    theirs.load(tmp_path / "weights.npz")
    faces = rng.uniform(0, 255, (4, 48, 48)).astype(np.float32)
    with torch.no_grad():
        said = [head.softmax(1).numpy() for head in theirs(torch.from_numpy(faces))]
    for one, two in zip(ours.predict_on_batch(faces[..., None]), said, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    for path, value in theirs.weights().items():
        np.testing.assert_array_equal(value, stored.pop(path))
    assert not stored


def test_a_run_is_taken_up_again_and_gives_what_distil_takes(
    tool: Any, packed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, (pack, _) = tool("train_on_gpu"), packed
    monkeypatch.setattr(train, "SHARES", {"small": 0.5, "slim": 0.5})
    monkeypatch.setattr(train, "DROPOUT", {"small": 0.3})
    monkeypatch.setattr(train, "SAVE_EVERY_S", 0)
    losses: list[float] = []
    once = train._Step.epoch

    def killed(self: Any, *args: Any) -> float:
        if len(losses) == 2:
            raise KeyboardInterrupt
        losses.append(once(self, *args))
        return losses[-1]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train._Step, "epoch", killed)
        train.train(pack, tmp_path, 600, None, 0)
    assert (tmp_path / "small.state.pt").exists()
    monkeypatch.setattr(train, "START", train.time.monotonic())
    train.train(pack, tmp_path, 1, None, 0)  # all of the time is spent: each ends with its next epoch
    assert not list(tmp_path.glob("*.state.pt"))
    targets = np.load(tmp_path / "targets.npz")
    assert targets["fer2013"].shape == (14, 7) and targets["votes"].shape == (14, 8)
    np.testing.assert_allclose(targets["votes"].sum(axis=1), 1, atol=5e-3)
    tool("distil").built("slim", tmp_path / "slim.npz")


def test_the_rate_rises_and_falls_with_the_time(tool: Any) -> None:
    train = tool("train_on_gpu")
    shares = [0, 0.02, 0.04, 0.5, 0.9, 1]
    parts = [train._rates(at, then, 50) for at, then in pairwise(shares)]
    rates = np.concatenate(parts)
    assert rates.argmax() == 99 and rates[99] == pytest.approx(train.PEAK)
    assert np.all(np.diff(rates[:100]) > 0) and np.all(np.diff(rates[100:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_pictures_are_read_where_they_should_be(tool: Any) -> None:
    vary = tool("augment_on_gpu")
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 64, 64), np.uint8))
    for mirrored in (False, True):
        read = vary.placed(pictures, vary.as_they_are(8, pictures, mirrored=mirrored))
        wanted = pictures[:, 8:-8, 8:-8].float()
        torch.testing.assert_close(read, wanted.flip(2) if mirrored else wanted, atol=1e-2, rtol=0)
    quarter = vary._turned(vary.as_they_are(8, pictures, mirrored=False), torch.full((8,), np.pi / 2))
    turned = vary.placed(pictures, quarter)
    torch.testing.assert_close(turned, pictures[:, 8:-8, 8:-8].float().rot90(1, (1, 2)), atol=1e-2, rtol=0)


def test_pictures_stay_pictures_and_damage_does_what_it_says(tool: Any) -> None:
    vary = tool("augment_on_gpu")
    torch.manual_seed(0)
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 64), np.uint8)
    whole = torch.from_numpy(pictures)
    varied = vary.varied(vary.placed(whole, vary.turned(vary.places(8, whole), 0.5)), 1.0)
    assert varied.shape == (8, 48, 48) and varied.dtype == torch.float32
    assert varied.min() >= 0 and varied.max() <= 255 and 15 < varied.std() < 110

    def column(*values: float) -> Any:
        return torch.tensor(values).reshape(-1, 1, 1)

    some = np.stack([pictures[0, :48, :48], pictures[0, :48, :48], np.full((48, 48), 120)]).astype(np.float32)
    given = torch.from_numpy(some)
    fewer = vary._filtered(vary._fewer_pixels(column(48, 24, 14)), given).numpy()
    compressed = vary._compressed(given, column(0.01, 15, 8)).numpy()
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
