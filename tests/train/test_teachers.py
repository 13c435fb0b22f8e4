"""Learning from trained networks, and several of them in one folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the train extra")

import keras

from mien.cli.main import main
from mien.data import open_dataset
from mien.data.drawn import draw_dataset
from mien.errors import ConfigError
from mien.model.classifier import Classifier
from mien.model.metadata import Head, Metadata
from mien.model.preprocess import Preprocess, to_model_inputs
from mien.settings import to_mapping
from mien.terminal import ProgressBar
from mien.train import transfer
from mien.train.classifier_loop import predict
from mien.train.config import TrainConfig
from mien.train.ensemble import make_ensemble
from mien.train.export.keras_io import save_network
from mien.train.loader import Batch, Inputs, Loader
from mien.train.networks.small import build_small
from mien.train.networks.spec import NetworkRequest
from mien.train.transfer import Teachers, view_for

CLASSES = ("angry", "happy", "sad")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    draw_dataset(folder, classes=CLASSES, per_class=12, seed=3)
    return folder


def _network(
    path: Path, how: Preprocess, labels: tuple[str, ...] = CLASSES, seed: int = 0, data: Path | None = None
) -> tuple[Path, keras.Model]:
    """Write a network of random weights whose answers are far from even."""
    keras.utils.set_random_seed(seed)
    model = build_small(NetworkRequest(heads={"expression": labels}, preprocess=how, dropout=0.0))
    head = model.get_layer("expression")
    head.set_weights([20 * head.get_weights()[0], head.get_weights()[1]])
    training = {"settings": to_mapping(TrainConfig()), "data": {"path": str(data)}} if data else {}
    heads = (Head(name="expression", labels=labels),)
    metadata = Metadata(name=path.stem, preprocess=how, heads=heads, training=training)
    return save_network(model, path, metadata), model


def test_targets_are_the_mean_of_labels_and_teachers_on_the_same_view(tmp_path: Path, faces: Path) -> None:
    """Teachers of other sizes, colours and label orders look at the very variation that the student gets."""
    own = Preprocess(size=20, resize=24, colour="grey")
    hows = [Preprocess(size=24, colour="grey"), Preprocess(size=32, colour="rgb")]
    orders = (("sad", "happy", "angry"), CLASSES)
    written = [
        _network(tmp_path / f"{place}.keras", how, labels, seed=place)
        for place, (how, labels) in enumerate(zip(hows, orders, strict=True))
    ]
    models = [str(path) for path, _ in written]
    teachers = Teachers(models, {"expression": CLASSES}, weight=0.6, temperature=3.0)
    config = TrainConfig(batch_size=8, label_smoothing=0.0, mixup=0.4)
    split = open_dataset(faces).split("train")
    views = [lambda pictures, seen=seen: view_for(pictures, own, seen) for seen in teachers.preprocesses]

    def epoch() -> Iterator[Batch]:
        loader = Loader(split, Inputs(split, own.uncut), (CLASSES,), config, size=own.size, views=views)
        return loader.epoch(0, True, "none")

    batch = next(epoch())
    assert batch.inputs.shape[1:] == (20, 20, 1)
    assert [view.shape[1:] for view in batch.views] == [(24, 24, 1), (32, 32, 3)]
    np.testing.assert_array_equal(batch.views[0][:, 2:22, 2:22], batch.inputs)
    soft = teachers.soften(batch)
    assert soft.views == ()
    taught = np.zeros((8, 3))
    for (_, model), view, labels in zip(written, batch.views, orders, strict=True):
        powers = model.predict(view, verbose=0)[:, [labels.index(name) for name in CLASSES]] ** (1 / 3.0)
        taught += powers / powers.sum(axis=1, keepdims=True) / 2
    np.testing.assert_allclose(soft.targets[0], 0.4 * batch.targets[0] + 0.6 * taught, atol=1e-4)
    np.testing.assert_array_equal(next(epoch()).inputs, batch.inputs)  # a function of the epoch alone


def test_a_grey_teacher_sees_colour_as_opencv_makes_it_grey() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    for order, code in (("rgb", cv2.COLOR_RGB2GRAY), ("bgr", cv2.COLOR_BGR2GRAY)):
        seen = view_for(colours, Preprocess(size=32, colour=order), Preprocess(size=32, colour="grey"))
        exact = cv2.cvtColor(colours[0], code).astype(int)
        assert np.abs(seen[0, :, :, 0].astype(int) - exact).mean() < 0.01, "rounded, not cut off"


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    path, _ = _network(tmp_path / "other.keras", Preprocess(size=16), ("calm", "wild"))
    with pytest.raises(ConfigError, match=r"does not know all of angry, happy, sad \(it knows calm, wild\)"):
        Teachers([str(path)], {"expression": CLASSES}, weight=0.5, temperature=1.0)


def test_an_ensemble_answers_with_the_mean_of_its_members(tmp_path: Path, faces: Path) -> None:
    alike = Preprocess(size=16, colour="grey")
    written = [_network(tmp_path / f"{seed}.keras", alike, seed=seed, data=faces) for seed in (1, 2)]
    out = tmp_path / "both"
    with pytest.raises(ConfigError, match=r"was trained on \w+, which is not there; name .* with --data"):
        make_ensemble([str(path) for path, _ in written], out)  # a path of the machine does not travel
    metadata = make_ensemble([str(path) for path, _ in written], out, data=faces)
    head = metadata.heads[0]
    assert metadata.training["ensemble"] == ["1", "2"]
    assert head.temperature != 1.0  # calibrated as a whole
    split = open_dataset(faces).split("test")
    crops = [split.pictures.read(row) for row in range(len(split))]
    inputs = to_model_inputs(crops, metadata.preprocess).astype(np.float32)
    mean = np.mean([model.predict(inputs, verbose=0) for _, model in written], axis=0)
    powers = mean ** (1 / head.temperature)
    found = Classifier(out).predict(crops)["expression"]
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), atol=2e-4)


def test_members_of_other_sizes_colours_and_orders_fit_together(tmp_path: Path, faces: Path) -> None:
    hows = (Preprocess(size=16, resize=18, colour="grey"), Preprocess(size=24, colour="bgr"))
    orders = (("sad", "happy", "angry"), CLASSES)
    written = [
        _network(tmp_path / f"{place}.keras", how, labels, seed=place, data=faces)
        for place, (how, labels) in enumerate(zip(hows, orders, strict=True))
    ]
    out = tmp_path / "both"
    metadata = make_ensemble([str(path) for path, _ in written], out, data=faces)
    assert (metadata.preprocess.size, metadata.preprocess.colour) == (24, "rgb")
    assert metadata.heads[0].labels == CLASSES
    # One grey level everywhere, so that no filter of a resize can make a difference.
    flat = np.full((60, 60, 3), 150, np.uint8)
    answers = []
    for (_, model), how, labels in zip(written, hows, orders, strict=True):
        raw = model.predict(to_model_inputs([flat], how).astype(np.float32), verbose=0)[0]
        answers.append(raw[[labels.index(name) for name in CLASSES]])
    powers = np.mean(answers, axis=0) ** (1 / metadata.heads[0].temperature)
    found = Classifier(out).predict([flat])["expression"][0]
    np.testing.assert_allclose(found, powers / powers.sum(), atol=1e-3)


def test_answers_that_were_asked_once_are_mixed_like_labels(faces: Path) -> None:
    split = open_dataset(faces).split("train")
    config = TrainConfig(
        batch_size=len(split), label_smoothing=0.1, mixup=0.4, mixup_prob=1.0, teacher_weight=0.6
    )
    loader = Loader(split, Inputs(split, Preprocess(size=16)), (CLASSES,), config)
    labels = next(loader.epoch(0, True, "none")).targets[0]
    # A teacher that says what the labels do, softer, leaves the mixture of both.
    own = np.eye(3)[split.labels]
    loader.answers = [(0.5 * own + 0.5 / 3).astype(np.float16)]
    batch = next(loader.epoch(0, True, "none"))
    mixed = (labels - 0.1 / 3) / 0.9  # without smoothing
    assert np.ptp(mixed.max(axis=1)) > 0.1  # some are mixed
    np.testing.assert_allclose(batch.targets[0], 0.4 * labels + 0.6 * (0.5 * mixed + 0.5 / 3), atol=1e-3)


def test_teachers_who_were_interrupted_are_asked_about_the_rest(
    tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = _network(tmp_path / "teacher.keras", Preprocess(size=16))
    split = open_dataset(faces).split("train")
    monkeypatch.setattr(transfer, "_PART", 8)
    asked: list[int] = []

    def ask(temperature: float, most: int, cut: str = "margin 1") -> np.ndarray:
        def look(network: keras.Model, inputs: Inputs, *, mirrored: bool = False) -> list[np.ndarray]:
            if len(asked) == most:
                raise KeyboardInterrupt
            asked.append(len(inputs))
            return predict(network, inputs, mirrored=mirrored)

        teachers = Teachers([str(path)], {"expression": CLASSES}, weight=0.5, temperature=temperature)
        (answer,) = teachers.answers_to(split, tmp_path / "run", look, ProgressBar(quiet=True), cut=cut)
        assert answer is not None
        return answer

    with pytest.raises(KeyboardInterrupt):
        ask(2.0, 5)
    assert asked == [8] * 5  # two parts, each mirrored too, and half of a third one
    whole = ask(2.0, 99)
    assert sum(asked) == 40 + 2 * (len(split) - 16)
    count = len(asked)
    np.testing.assert_array_equal(ask(2.0, count), whole)  # from the file
    assert np.abs(ask(1.0, 99) - whole).max() > 0.01  # of another temperature they were not
    count = len(asked)
    ask(
        1.0, 99, "margin 1.5"
    )  # nor are they of faces that are cut in another way, though the pictures are the same
    assert len(asked) > count


def _check_kept_answers(file: Path, teacher: Path, faces: Path) -> None:
    """The mean over a picture and its mirror image, at the usual temperature, in the order of the training part."""
    split = open_dataset(faces).split("train")
    network = keras.models.load_model(teacher)
    pictures = to_model_inputs(
        [split.pictures.read(row) for row in range(len(split))], Preprocess(size=16)
    ).astype(np.float32)
    mean = np.zeros((len(split), 3))
    for view in (pictures, pictures[:, :, ::-1]):
        powers = network.predict(view, verbose=0) ** 0.5
        mean += powers / powers.sum(axis=1, keepdims=True) / 2
    with np.load(file) as kept:
        assert kept["expression"].dtype == np.float16
        np.testing.assert_allclose(kept["expression"], mean, atol=2e-3)


@pytest.mark.slow
def test_train_with_a_teacher_and_join_from_the_command_line(
    tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--epochs", "1", "--size", "16", "--batch-size", "8", "--no-report", "--quiet"]
    assert main(["train", str(faces), "--to", "one", *tiny]) == 0
    assert main(["train", str(faces), "--to", "two", *tiny, "--teacher", "one", "--seed", "1"]) == 0
    settings = json.loads(Path("two/settings.json").read_text())["settings"]
    assert settings["teacher"] == ["one"]
    _check_kept_answers(Path("two/teachers.npz"), Path("one/best.keras"), faces)
    assert not Path("two/teachers.parts").exists()
    for member in ("one", "one/model"):
        assert main(["ensemble", "one", "two", "--to", member, "--quiet"]) == 2
        assert "is one of the models that are joined" in capsys.readouterr().err
    assert main(["ensemble", "one", "two", "--to", "both", "--quiet"]) == 0
    assert "expression (validation)" in capsys.readouterr().out
    assert main(["evaluate", "both", str(faces), "--resamples", "200"]) == 0
    # An ensemble can teach.
    assert main(["train", str(faces), "--to", "three", *tiny, "--teacher", "both"]) == 0
