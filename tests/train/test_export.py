"""A trained network becomes a model folder that answers the same, or nothing is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from mien.errors import ModelError, OutputError
from mien.model.calibration import with_temperature, without_smoothing
from mien.model.classifier import Classifier
from mien.model.folder import read_model_folder
from mien.model.metadata import Head, Metadata
from mien.model.preprocess import Preprocess
from mien.train.export.folder import export
from mien.train.export.keras_io import float32_clone
from mien.train.export.onnx import count_macs, keras_from_onnx, trace
from mien.train.networks import network
from mien.train.networks.spec import NetworkRequest

from .tiny_networks import LABELS, keras_answers, levels, metadata, randomised, small_network
from .tiny_networks import network as network_of

_RELU = {"threshold": 0.0, "negative_slope": 0.0, "max_value": None}
FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.backend
def test_export_writes_a_folder_that_answers_like_keras(tmp_path: Path) -> None:
    model = small_network()
    assert export(model, tmp_path / "model", metadata()) == tmp_path / "model"
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "CARD.md",
        "model.json",
        "model.onnx",
    ]
    classifier = Classifier(tmp_path / "model")
    for count in (1, 3, 64, 65):
        found = classifier.probabilities(levels(count))["expression"]
        np.testing.assert_allclose(found, keras_answers(model, levels(count)), atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_facts_are_filled_in(tmp_path: Path) -> None:
    model = small_network()
    export(model, tmp_path / "model", replace(metadata(), network={"name": "tiny", "l2": 0.1}))
    found = read_model_folder(tmp_path / "model").metadata
    parity = found.network["parity"]
    assert 0 < parity["max_abs_difference"] < 1e-6
    assert (parity["batch_sizes"], parity["tolerance"]) == ([1, 3, 64], 1e-5)
    assert {key: value for key, value in found.network.items() if key != "parity"} == {
        "name": "tiny",
        "l2": 0.1,
        "parameters": 3 * 3 * 3 * 4 + 4 * 4 + 4 * 3 + 3,
        "macs": 12 * 12 * 3 * 3 * 3 * 4 + 4 * 3,
        "bytes": (tmp_path / "model" / "model.onnx").stat().st_size,
    }
    assert found.created.endswith("+00:00")
    assert found.heads == metadata().heads


@pytest.mark.parametrize("temperature", [0.4, 1.7, 4.0])
def test_temperature_divides_the_logits_in_the_exported_graph_only(
    tmp_path: Path, temperature: float
) -> None:
    model = small_network()
    export(model, tmp_path / "model", metadata(temperature=temperature))
    inputs = levels(5)
    wanted = with_temperature(keras_answers(model, inputs), temperature)
    found = Classifier(tmp_path / "model").probabilities(inputs)["expression"]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    rebuilt, stored = keras_from_onnx(tmp_path / "model" / "model.onnx")
    assert stored.heads[0].temperature == temperature
    np.testing.assert_allclose(keras_answers(rebuilt, inputs), keras_answers(model, inputs), atol=1e-6)


@pytest.mark.backend
def test_smoothing_is_taken_out_in_the_exported_graph_only(tmp_path: Path) -> None:
    model = small_network()
    export(model, tmp_path / "model", metadata(temperature=1.3, smoothing=0.6))
    inputs = levels(5)
    raw = with_temperature(keras_answers(model, inputs), 1.3)
    assert raw.min() < 0.6 / 3 < raw.max()  # so some answers are below what is taken out
    found = Classifier(tmp_path / "model").probabilities(inputs)["expression"]
    np.testing.assert_allclose(found, without_smoothing(raw, 0.6), atol=1e-6)
    rebuilt, stored = keras_from_onnx(tmp_path / "model" / "model.onnx")
    assert (stored.heads[0].temperature, stored.heads[0].smoothing) == (1.3, 0.6)
    np.testing.assert_allclose(keras_answers(rebuilt, inputs), keras_answers(model, inputs), atol=1e-6)


def test_a_surer_network_than_float32_can_say_is_still_exported(tmp_path: Path) -> None:
    model = small_network()
    head = model.get_layer("expression")
    head.set_weights([head.get_weights()[0] * 100, head.get_weights()[1]])
    export(model, tmp_path / "model", metadata(temperature=5.0))
    assert Classifier(tmp_path / "model").metadata.network["parity"]["tolerance"] == 1e-5


@pytest.mark.backend
def test_two_heads_come_out_under_their_names_and_in_the_order_of_the_facts(tmp_path: Path) -> None:
    faces = keras.Input((12, 12, 1), name="faces")
    x = layers.GlobalAveragePooling2D()(
        layers.Conv2D(6, 3, activation="relu")(layers.Rescaling(1 / 255)(faces))
    )
    heads = {"fer2013": FER, "votes": LABELS}
    outputs = [layers.Dense(len(names), activation="softmax", name=name)(x) for name, names in heads.items()]
    model = randomised(keras.Model(faces, outputs))
    about = Metadata(
        name="two",
        preprocess=Preprocess(size=12),
        heads=(Head(name="votes", labels=LABELS, temperature=2.0), Head(name="fer2013", labels=FER)),
    )
    export(model, tmp_path / "model", about)
    inputs = levels(4, channels=1)
    found = Classifier(tmp_path / "model").probabilities(inputs)
    fer, votes = (np.asarray(keras.ops.convert_to_numpy(one)) for one in model(inputs.astype(np.float32)))
    assert list(found) == ["votes", "fer2013"]
    np.testing.assert_allclose(found["fer2013"], fer, atol=1e-6)
    np.testing.assert_allclose(found["votes"], with_temperature(votes, 2.0), atol=1e-6)


def test_a_network_for_pictures_of_any_size_takes_any_size(tmp_path: Path) -> None:
    faces = keras.Input((None, None, 3), name="faces")
    x = layers.Rescaling(1 / 255)(layers.Resizing(16, 16)(faces))
    x = layers.Flatten()(layers.MaxPooling2D(2)(layers.Conv2D(4, 3, activation="relu")(x)))
    model = randomised(keras.Model(faces, layers.Dense(3, activation="softmax", name="expression")(x)))
    export(model, tmp_path / "model", metadata(size=16, colour="bgr"))
    classifier = Classifier(tmp_path / "model")
    for height, width in ((16, 16), (9, 40), (33, 17)):
        inputs = np.random.default_rng(height).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
        found = classifier.probabilities(inputs)["expression"]
        np.testing.assert_allclose(found, keras_answers(model, inputs), atol=1e-6)
    assert count_macs(trace(model)[0]) == 14 * 14 * 3 * 3 * 3 * 4 + 7 * 7 * 4 * 3


def test_a_copy_keeps_what_a_normalization_has_learnt() -> None:
    model = network_of(layers.Normalization())
    np.testing.assert_array_equal(
        keras_answers(float32_clone(model), levels(3)), keras_answers(model, levels(3))
    )


def test_mixed_precision_is_exported_in_float32(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small_network()
    keras.config.set_dtype_policy("float32")
    export(model, tmp_path / "model", metadata())
    rebuilt, _ = keras_from_onnx(tmp_path / "model" / "model.onnx")
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    found = Classifier(tmp_path / "model").probabilities(levels(3))["expression"]
    np.testing.assert_allclose(found, keras_answers(rebuilt, levels(3)), atol=1e-6)
    np.testing.assert_allclose(found, keras_answers(model, levels(3)), atol=0.05)


def test_a_network_that_answers_otherwise_is_not_written(tmp_path: Path) -> None:
    """A layer that looks like Keras's ReLU to the exporter, and is not."""

    def call(_: layers.Layer, inputs: object) -> object:
        return keras.ops.sigmoid(inputs)

    wrong = type("ReLU", (layers.Layer,), {"call": call, "__module__": "keras.layers", **_RELU})
    faces = keras.Input((12, 12, 3), name="faces")
    x = layers.GlobalAveragePooling2D()(wrong()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(faces))))
    model = randomised(keras.Model(faces, layers.Dense(3, activation="softmax", name="expression")(x)))
    with pytest.raises(
        ModelError, match=r"the exported network differs from Keras by 0\.\d+ \(allowed: 1e-05\)"
    ):
        export(model, tmp_path / "model", metadata())
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    model = small_network()
    model.get_layer("conv").set_weights([np.full((3, 3, 3, 4), np.nan)])
    with pytest.raises(ModelError, match="differs from Keras by nan"):
        export(model, tmp_path / "model", metadata())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            Head(name="expression", labels=("a", "b")),
            "head 'expression' has 2 labels, but an output of shape (3,)",
        ),
        (None, "the network's outputs are expression, its heads expression, votes"),
    ],
)
def test_facts_that_do_not_fit_are_refused(tmp_path: Path, head: Head | None, message: str) -> None:
    heads = (head,) if head else (metadata().heads[0], Head(name="votes", labels=LABELS))
    with pytest.raises(ModelError) as caught:
        export(small_network(), tmp_path / "model", replace(metadata(), heads=heads))
    assert message in str(caught.value)


def test_one_head_may_be_named_otherwise_than_the_layer(tmp_path: Path) -> None:
    about = replace(metadata(), heads=(Head(name="mood", labels=LABELS, temperature=1.5),))
    export(small_network(), tmp_path / "model", about)
    assert list(Classifier(tmp_path / "model").probabilities(levels(2))) == ["mood"]


def test_a_network_without_softmax_is_refused(tmp_path: Path) -> None:
    faces = keras.Input((12, 12, 3), name="faces")
    model = keras.Model(faces, layers.Dense(3, name="expression")(layers.Flatten()(faces)))
    with pytest.raises(ModelError, match="head 'expression' ends in Gemm, not in a softmax"):
        export(model, tmp_path / "model", metadata())


def test_an_older_model_folder_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    export(small_network(), tmp_path / "model", metadata())
    export(small_network(), tmp_path / "model", replace(metadata(), name="newer"))
    assert read_model_folder(tmp_path / "model").metadata.name == "newer"
    (tmp_path / "model" / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(
        OutputError, match=r"is there already and is not a model folder \(it has holiday\.jpg\)"
    ):
        export(small_network(), tmp_path / "model", metadata())
    assert (tmp_path / "model" / "holiday.jpg").read_bytes() == b"precious"


def test_macs_of_the_largest_original_are_those_that_were_counted_by_hand() -> None:
    """670 M in docs/explanation/five-projects.md, from the layer list: places x kernel x channels in x channels out."""
    cnn = network("fer2013-cnn")
    model = cnn.build(NetworkRequest(heads={"fer2013": FER}, preprocess=cnn.preprocess))
    by_hand = 9 * (
        48**2 * (1 * 32 + 32 * 64) + 24**2 * 64 * 128 + 22**2 * 128 * 256 + 11**2 * (256 * 512 + 512 * 512)
    ) + (12_800 * 1024 + 1024 * 7)
    assert count_macs(trace(model)[0]) == by_hand == 669_662_208


def test_macs_of_an_open_size_are_not_known() -> None:
    faces = keras.Input((None, None, 3), name="faces")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(faces))
    assert count_macs(trace(keras.Model(faces, layers.Dense(3, activation="softmax")(x)))[0]) is None


def test_trained_on_from_the_model_folder(tmp_path: Path) -> None:
    export(small_network(), tmp_path / "model", metadata())
    model, about = keras_from_onnx(tmp_path / "model" / "model.onnx")
    assert about.heads == metadata().heads
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    before = model.get_weights()
    model.train_on_batch(levels(6).astype(np.float32), np.eye(3)[np.arange(6) % 3])
    moved = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
    assert all(moved)


def test_a_file_of_others_cannot_be_trained_on(tmp_path: Path) -> None:
    export(small_network(), tmp_path / "model", metadata())
    proto = onnx.load(tmp_path / "model" / "model.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="does not hold a network that can be trained on"):
        keras_from_onnx(tmp_path / "other.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelError, match="is not an ONNX file"):
        keras_from_onnx(tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="there is no network file"):
        keras_from_onnx(tmp_path / "none.onnx")


def test_a_weight_that_was_removed_is_named(tmp_path: Path) -> None:
    export(small_network(), tmp_path / "model", metadata())
    proto = onnx.load(tmp_path / "model" / "model.onnx")
    kept = [tensor for tensor in proto.graph.initializer if tensor.name != "conv/kernel"]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    onnx.save(proto, tmp_path / "less.onnx")
    with pytest.raises(ModelError, match="the weight 'conv/kernel' is missing"):
        keras_from_onnx(tmp_path / "less.onnx")


def test_our_own_loss_and_optimiser_stay_out_of_the_file(tmp_path: Path) -> None:
    model = small_network()
    model.compile("adam", loss=lambda truth, answer: keras.ops.mean((truth - answer) ** 2))
    export(model, tmp_path / "model", metadata())
    stored = {entry.key: entry.value for entry in onnx.load(tmp_path / "model" / "model.onnx").metadata_props}
    assert not json.loads(stored["keras"]).get("compile_config")
    assert not keras_from_onnx(tmp_path / "model" / "model.onnx")[0].compiled


def test_tf2onnx_agrees(tmp_path: Path) -> None:
    """An exporter of others, as a second opinion on the graph and on the whole way."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf2onnx reads TensorFlow networks only")
    tf2onnx = pytest.importorskip("tf2onnx", reason="tf2onnx is a cross-check only and is not installed")
    tf = pytest.importorskip("tensorflow")
    import onnxruntime

    model = small_network()
    export(model, tmp_path / "model", metadata())
    function = tf.function(lambda x: model(x, training=False))
    signature = [tf.TensorSpec((None, 12, 12, 3), tf.float32, name="faces")]
    theirs, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=17)
    session = onnxruntime.InferenceSession(theirs.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(None, {"faces": levels(3).astype(np.float32)})[0]
    ours = Classifier(tmp_path / "model").probabilities(levels(3))["expression"]
    np.testing.assert_allclose(ours, answers, atol=1e-6)
