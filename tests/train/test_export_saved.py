"""Keras files carry their metadata, open anywhere, and are refused in one line when they are not what they say."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from mien.errors import ModelError, OutputError
from mien.train.export.keras_io import load_network, save_network

from .tiny_networks import keras_answers, levels, metadata, randomised, small_network


@pytest.mark.backend
@pytest.mark.parametrize("name", ["best.keras", "best.h5"])
def test_network_and_facts_come_back(tmp_path: Path, name: str) -> None:
    model = small_network()
    assert save_network(model, tmp_path / name, metadata()) == tmp_path / name
    loaded, about = load_network(tmp_path / name)
    assert about == metadata()
    assert not loaded.compiled
    np.testing.assert_array_equal(keras_answers(loaded, levels(3)), keras_answers(model, levels(3)))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.backend
def test_a_network_that_normalises_over_several_axes_survives_h5(tmp_path: Path) -> None:
    """Keras 3.15 forgets the axes when it reads them from .h5, as plain Keras does of any file of others."""

    def network(*axes: int) -> keras.Model:
        faces = keras.Input((12, 12, 3), name="faces")
        x = layers.LayerNormalization(axis=list(axes), center=False, scale=False, epsilon=25.0, name="own")(
            faces
        )
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
        return randomised(keras.Model(faces, layers.Dense(3, activation="softmax", name="mood")(x)))

    model = network(1, 2, 3)
    save_network(model, tmp_path / "best.h5", metadata())
    wanted = keras_answers(model, levels(3))
    for opened in (
        load_network(tmp_path / "best.h5")[0],
        keras.models.load_model(tmp_path / "best.h5", compile=False),
    ):
        np.testing.assert_allclose(keras_answers(opened, levels(3)), wanted, atol=1e-6)
    with pytest.raises(
        OutputError, match=r"does not read the layer 'own' rightly from \.h5; save as \.keras"
    ):
        save_network(network(1, 2), tmp_path / "two.h5", metadata())
    assert not (tmp_path / "two.h5").exists()
    model.save(tmp_path / "others.h5")
    with pytest.raises(
        ModelError, match=r"normalises over several axes, which Keras reads wrongly from \.h5"
    ):
        load_network(tmp_path / "others.h5")


@pytest.mark.parametrize("name", ["best.keras", "best.h5"])
def test_loss_and_optimiser_stay_out(tmp_path: Path, name: str) -> None:
    model = small_network()
    model.compile("adam", loss=lambda truth, answer: keras.ops.mean((truth - answer) ** 2))
    model.train_on_batch(levels(4).astype(np.float32), np.eye(3)[[0, 1, 2, 0]])
    save_network(model, tmp_path / name, metadata())
    assert model.compiled, "saving must not disturb a training that goes on"
    plain = keras.models.load_model(tmp_path / name, compile=False)
    np.testing.assert_array_equal(keras_answers(plain, levels(3)), keras_answers(model, levels(3)))
    assert len(plain.variables) == len(small_network().variables)


@pytest.mark.parametrize("name", ["best.keras", "best.h5"])
def test_a_network_trained_in_mixed_precision_is_saved_in_float32(tmp_path: Path, name: str) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small_network()
    save_network(model, tmp_path / name, metadata())
    keras.config.set_dtype_policy("float32")  # as in another program
    plain = keras.models.load_model(tmp_path / name, compile=False)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    for kept, trained in zip(plain.weights, model.weights, strict=True):
        np.testing.assert_array_equal(kept, trained)


def test_an_adapted_normalization_is_saved(tmp_path: Path) -> None:
    faces = keras.Input((12, 12, 3), name="faces")
    normal = layers.Normalization()
    normal.adapt(levels(5).astype(np.float32))
    x = layers.Flatten()(normal(faces))
    model = keras.Model(faces, layers.Dense(3, activation="softmax", name="expression")(x))
    model.compile("sgd", "mse")
    save_network(model, tmp_path / "best.keras", metadata())
    loaded, _ = load_network(tmp_path / "best.keras")
    np.testing.assert_array_equal(keras_answers(loaded, levels(3)), keras_answers(model, levels(3)))


def test_a_program_that_knows_only_keras_opens_our_file(tmp_path: Path) -> None:
    """The LeNet-5 project's program: load_model, one BGR picture of any size as float32, argmax."""
    faces = keras.Input((None, None, 3), name="faces")
    x = layers.Rescaling(1 / 255)(layers.Resizing(16, 16)(faces))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(x))
    model = randomised(keras.Model(faces, layers.Dense(3, activation="softmax", name="expression")(x)))
    model.compile("adam", loss=lambda truth, answer: keras.ops.mean((truth - answer) ** 2))
    save_network(model, tmp_path / "lenet.keras", metadata(size=16, colour="bgr"))
    picture = np.random.default_rng(0).integers(0, 256, (37, 51, 3)).astype(np.uint8)
    np.save(tmp_path / "picture.npy", picture)
    program = f"""
import sys
import numpy as np, keras
network = keras.models.load_model({str(tmp_path / "lenet.keras")!r})
picture = np.load({str(tmp_path / "picture.npy")!r}).astype("float32")[None]
assert not [name for name in sys.modules if name.split(".")[0] == "mien"]
print(int(np.argmax(network.predict(picture, verbose=0))))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert int(done.stdout) == int(keras_answers(model, picture[None]).argmax())


@pytest.mark.parametrize("name", ["other.keras", "other.h5"])
def test_a_file_of_others_has_no_facts(tmp_path: Path, name: str) -> None:
    model = small_network()
    save_network(model, tmp_path / name, metadata())
    if name.endswith(".h5"):
        with h5py.File(tmp_path / name, "a") as file:
            del file.attrs["mien"]
    else:
        model.save(tmp_path / name)
    loaded, about = load_network(tmp_path / name)
    assert about is None
    np.testing.assert_array_equal(keras_answers(loaded, levels(2)), keras_answers(model, levels(2)))


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _text(path: Path) -> None:
    path.write_text("These are not the weights you are looking for.")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["best.keras", "best.h5"])
@pytest.mark.parametrize("damage", [_truncated, _text, _empty])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str, damage: object) -> None:
    save_network(small_network(), tmp_path / name, metadata())
    damage(tmp_path / name)  # type: ignore[operator]
    with pytest.raises(ModelError) as caught:
        load_network(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_zip_that_is_no_network_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.keras", "w") as archive:
        archive.writestr("holiday.txt", "sun")
    with pytest.raises(ModelError, match="Keras cannot open") as caught:
        load_network(tmp_path / "photos.keras")
    assert "\n" not in str(caught.value)


def test_missing_files_and_other_suffixes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no network file"):
        load_network(tmp_path / "none.keras")
    (tmp_path / "network.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"must end in \.keras or \.h5"):
        load_network(tmp_path / "network.pt")
    with pytest.raises(OutputError, match=r"must end in \.keras or \.h5"):
        save_network(small_network(), tmp_path / "network.pt", metadata())


def test_a_save_that_fails_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_network(small_network(), tmp_path / "best.keras", metadata())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_network(small_network(), path, metadata())
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.keras"]
