"""Starting from a trained network: new heads on old weights, and layers that learn when they should."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from mien.model.metadata import Head, Metadata  # noqa: E402
from mien.model.preprocess import Preprocess  # noqa: E402
from mien.train.networks.backbones import LEVELS, find  # noqa: E402
from mien.train.networks.small import build_small  # noqa: E402
from mien.train.networks.spec import NetworkRequest  # noqa: E402
from mien.train.transfer import unfreeze, with_new_heads  # noqa: E402

OLD = {"expression": ("happy", "sad", "angry")}
NEW = {"expression": ("tired", "awake")}
METADATA = Metadata(
    name="old", preprocess=Preprocess(size=16), heads=(Head(name="expression", labels=OLD["expression"]),)
)


@pytest.fixture
def tuned():
    old = build_small(NetworkRequest(heads=OLD, preprocess=Preprocess(size=16)))
    return old, with_new_heads(old, METADATA, NEW, None)


def test_the_trunk_is_kept_and_the_head_is_new(tuned):
    old, new = tuned
    assert new.output_shape == (None, 2)
    for layer in new.layers[:-1]:
        for one, two in zip(layer.get_weights(), old.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)


def learning(network):
    return {variable.path.split("/")[0] for variable in network.trainable_variables}


def test_first_the_head_alone_learns_then_the_trunk_but_no_statistics(tuned):
    _, new = tuned
    unfreeze(new, NEW, 0)
    assert learning(new) == {"expression"}
    unfreeze(new, NEW, -1)
    assert learning(new) == {"expression"} | {f"stage{s}_{p}_conv" for s in range(1, 6) for p in (1, 2)}
    before = [np.array(weight) for weight in new.get_layer("stage1_1_norm").get_weights()]
    new.compile("sgd", "categorical_crossentropy")
    new.train_on_batch(np.full((4, 16, 16, 1), 99, np.float32), np.eye(2, dtype=np.float32)[[0, 1, 0, 1]])
    for one, two in zip(before, new.get_layer("stage1_1_norm").get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_backbone_unfreezes_layer_by_layer():
    request = NetworkRequest(heads=OLD, preprocess=Preprocess(size=32, colour="grey"), weights="none")
    new = with_new_heads(find("MobileNetV2").build(request), METADATA, NEW, None)
    unfreeze(new, NEW, -1)
    backbone = next(layer for layer in new.layers if isinstance(layer, keras.Model))
    trained = [layer for layer in backbone.layers if layer.trainable_variables]
    assert len(trained) > 40
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in trained)
    assert not new.get_layer(LEVELS).trainable_variables
