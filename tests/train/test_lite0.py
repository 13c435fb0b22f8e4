"""EfficientNet-Lite0: its shape, its weights read without PyTorch, and nothing but tensors unpickled."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the train extra")

import keras

from mien.errors import MissingExtra, ModelError
from mien.model.preprocess import Preprocess
from mien.train.networks import lite0, network
from mien.train.networks.backbones import backbone_of, unfreeze
from mien.train.networks.spec import NetworkRequest

HEADS = {"expression": ("angry", "happy", "sad")}


def _request(weights: str, colour: str = "rgb") -> NetworkRequest:
    return NetworkRequest(heads=HEADS, preprocess=Preprocess(size=64, colour=colour), weights=weights)


def test_shape_and_parameters() -> None:
    """4,694,024 numbers in the file, 1,281,000 of them ImageNet's own last layer; 12 in the fixed one before it."""
    model = network(lite0.NAME).build(_request("none"))
    assert model.count_params() == 4_694_024 - 1_281_000 + 12 + 1280 * 3 + 3
    assert model.get_layer("efficientnetlite0").output.shape == (None, 2, 2, 1280)
    assert backbone_of(model) is not None
    assert model.get_layer("efficientnetlite0").trainable


def test_the_package_fills_every_weight_and_features_are_those_it_was_trained_for() -> None:
    pytest.importorskip(lite0.PACKAGE, reason='needs the extra "pretrained"')
    tensors = lite0.read_torch(lite0._weight_file("imagenet"))
    assert (
        sum(value.size for name, value in tensors.items() if not name.endswith("num_batches_tracked"))
        == 4_694_024
    )
    model = lite0.build(_request("imagenet"))
    backbone = model.get_layer("efficientnetlite0")
    assert not backbone.trainable
    stem = backbone.get_layer("stem_conv")
    # One kernel by hand: (out, in, height, width) there, (height, width, in, out) here.
    assert stem.get_weights()[0][2, 1, 0, 5] == tensors["_conv_stem.weight"][5, 0, 2, 1]
    # Levels that the running statistics were taken of give activations that look like them.
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.uniform(0, 255, (8, 8, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.float32)
    levels = keras.Model(model.inputs, model.get_layer("levels").output).predict(smooth, verbose=0)
    np.testing.assert_allclose(levels, (smooth - 127) / 128, atol=1e-5)
    unfreeze(model, 4)
    assert backbone.get_layer("top_conv").trainable
    assert not backbone.get_layer("stem_conv").trainable


@pytest.mark.parametrize("colour", ["grey", "bgr"])
def test_other_colours_give_what_rgb_gives(colour: str) -> None:
    keras.utils.set_random_seed(0)
    rgb, other = lite0.build(_request("none")), lite0.build(_request("none", colour))
    other.get_layer("efficientnetlite0").set_weights(rgb.get_layer("efficientnetlite0").get_weights())
    other.get_layer("expression").set_weights(rgb.get_layer("expression").get_weights())
    grey = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 1)).astype(np.float32)
    picture = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    same = (grey, np.repeat(grey, 3, 3)) if colour == "grey" else (picture[..., ::-1], picture)
    np.testing.assert_allclose(other.predict(same[0], verbose=0), rgb.predict(same[1], verbose=0), atol=1e-5)


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("evil",)


def test_nothing_but_tensors_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stream = io.BytesIO()
    for part in (lite0._MAGIC, 1001, {"little_endian": True}, _Evil()):
        pickle.dump(part, stream, protocol=2)
    (tmp_path / "evil.pth").write_bytes(stream.getvalue())
    with pytest.raises(ModelError, match=r"evil\.pth is not a file of PyTorch tensors \(it asks for .*mkdir"):
        lite0.read_torch(tmp_path / "evil.pth")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02K\x01."])
def test_another_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(ModelError, match="is not a file of PyTorch tensors"):
        lite0.read_torch(tmp_path / "other.pth")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    with pytest.raises(MissingExtra, match=r'pip install "mien\[pretrained\]"'):
        lite0.build(_request("imagenet"))
