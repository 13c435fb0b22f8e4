"""Starting from a trained network: new heads on old weights, and layers that learn when they should."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from mien.errors import ConfigError  # noqa: E402
from mien.model.metadata import (  # noqa: E402
    Blend,
    Head,
    Metadata,
)
from mien.model.preprocess import Preprocess  # noqa: E402
from mien.train.config import TrainConfig  # noqa: E402
from mien.train.networks.backbones import LEVELS, find  # noqa: E402
from mien.train.networks.small import build_small  # noqa: E402
from mien.train.networks.spec import NetworkRequest  # noqa: E402
from mien.train.start import recorded_metadata, start  # noqa: E402
from mien.train.transfer import kept_classes, unfreeze, with_new_heads  # noqa: E402

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


def test_more_layers_than_there_are_unfreeze_all(tuned):
    """With 39 of 38 layers the uppermost alone learnt."""
    _, new = tuned
    unfreeze(new, NEW, -1)
    everything = learning(new)
    unfreeze(new, NEW, len(new.layers) + 1)
    assert learning(new) == everything


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


def answers(network):
    pictures = np.random.default_rng(3).integers(0, 256, (6, 16, 16, 1)).astype(np.float32)
    given = network(pictures, training=False)
    return [np.asarray(one) for one in given] if isinstance(given, list) else np.asarray(given)


def test_classes_that_the_old_head_knows_keep_its_answers():
    """In any order and spelling, or only some of them: it began at 32 % where the old network had 89 %."""
    old = build_small(NetworkRequest(heads=OLD, preprocess=Preprocess(size=16)))
    other = with_new_heads(old, METADATA, {"expression": ("anger", "happy", "Sad")}, None)
    np.testing.assert_allclose(answers(other), answers(old)[:, [2, 0, 1]], atol=1e-6)
    some = with_new_heads(old, METADATA, {"expression": ("sad", "happy")}, None)
    known = answers(old)[:, [1, 0]]
    np.testing.assert_allclose(answers(some), known / known.sum(axis=1, keepdims=True), atol=1e-5)
    assert kept_classes(METADATA, ("sad", "bored", "happy")) == ["sad", "happy"]
    assert kept_classes(METADATA, ("happy", "nothappy")) == []


def test_a_class_beside_known_ones_is_learnt_anew():
    old = build_small(NetworkRequest(heads=OLD, preprocess=Preprocess(size=16)))
    more = with_new_heads(old, METADATA, {"expression": ("sad", "bored", "happy")}, None)
    kernel, before = (network.get_layer("expression").get_weights()[0] for network in (more, old))
    np.testing.assert_array_equal(kernel[:, [0, 2]], before[:, [1, 0]])
    assert not np.isin(kernel[:, 1], before).any()


def test_a_mixture_of_heads_is_where_a_new_head_begins():
    heads = {"fer2013": ("happy", "sad"), "votes": ("sad", "happy", "contempt")}
    old = build_small(NetworkRequest(heads=heads, preprocess=Preprocess(size=16)))
    blend = Blend(
        name="expression", labels=("happy", "sad"), shares={"fer2013": 0.7, "votes": 0.3},
        prior={"happy": 0.8, "sad": 0.2}, adjustment=0.5,
    )  # fmt: skip
    metadata = Metadata(
        name="old",
        preprocess=Preprocess(size=16),
        heads=tuple(Head(name=name, labels=labels) for name, labels in heads.items()),
        blend=blend,
    )
    new = with_new_heads(old, metadata, {"expression": ("happy", "sad")}, None)
    first, votes = answers(old)
    logits = 0.7 * np.log(first) + 0.3 * np.log(votes[:, [1, 0]]) - 0.5 * np.log([0.8, 0.2])
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answers(new), wanted, atol=1e-5)


def test_faces_are_cut_as_for_the_network_that_one_starts_from():
    """`--faces crop --from mien` asked for a margin that the program knows."""
    trained = {"settings": {"faces": "crop", "detector": "yunet", "detector_file": "own.onnx"}}
    known = Metadata(
        name="old", preprocess=Preprocess(size=16, margin=1.3), heads=METADATA.heads, training=trained
    )
    found = TrainConfig(init_from="old").cutting_like(known)
    assert (found.faces, found.detector, found.detector_file, found.margin) == (
        "crop",
        "yunet",
        "own.onnx",
        1.3,
    )
    asked = TrainConfig(init_from="old", faces="crop", detector="haar").cutting_like(known)
    assert (asked.detector, asked.detector_file) == ("haar", None)
    assert TrainConfig(init_from="old", faces="whole").cutting_like(known).faces == "whole"
    shipped = TrainConfig(init_from="mien", faces="crop").cutting_like(recorded_metadata("mien"))
    assert (shipped.detector, shipped.margin) == ("mien", recorded_metadata("mien").preprocess.margin)
    assert TrainConfig().cutting_like(None).margin == 1.0


def test_a_start_keeps_its_size_and_colour() -> None:
    """Its own may be said: `--from RUN --size 48`, with which RUN was made, was refused."""
    assert start(TrainConfig(init_from="mien", size=48, colour="grey"), NEW).preprocess.size == 48
    for given, words in (
        ({"size": 32}, "--size .* has 48, got 32"),
        ({"colour": "rgb"}, "--colour .* has grey, got rgb"),
        # These changed nothing, without a word.
        ({"network": "wide"}, "network is wide, but --from names the network"),
        ({"l2": 0.1}, "l2 is 0.1, but --from names the network"),
        ({"weights": "none"}, "weights is none, but --from names the network"),
        ({"input_range": (0.0, 1.0)}, "input_range is .* mien says how its input is prepared"),
    ):
        with pytest.raises(ConfigError, match=words):
            start(TrainConfig(init_from="mien", **given), NEW)
    with pytest.raises(ConfigError, match=r"input_range is \(0.0, 1.0\), but it is about a network"):
        start(TrainConfig(input_range=(0.0, 1.0)), NEW)


def test_a_dropout_rate_needs_a_layer_for_it() -> None:
    faces = keras.Input((16, 16, 1))
    answer = keras.layers.Dense(2, activation="softmax", name="expression")(keras.layers.Flatten()(faces))
    with pytest.raises(ConfigError, match=r"dropout is 0.5, but .* has no dropout layer"):
        with_new_heads(keras.Model(faces, answer), METADATA, NEW, 0.5)
