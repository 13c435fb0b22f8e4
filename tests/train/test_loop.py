"""What a training shows of itself, and features of a frozen base that are computed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the train extra")

from mien.data.drawn import draw_dataset
from mien.terminal import ProgressBar
from mien.train import run_folder, schedule
from mien.train.checkpoint import Progress
from mien.train.config import TrainConfig
from mien.train.loader import Loader
from mien.train.run import train
from mien.train.training import idle_settings


class Shown(ProgressBar):
    """Keeps what a training shows."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.heads: list[str] = []
        self.lines: list[str] = []

    def step(self, what: str, *_: object) -> None:
        self.heads.append(what)

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    draw_dataset(folder, classes=("happy", "sad"), per_class=12, seed=1)
    return folder


@pytest.mark.slow
def test_totals_stay_what_they_are_and_the_start_says_what_comes(faces: Path, tmp_path: Path) -> None:
    """The bar once said 16/29 at the end of an epoch, then 17/30."""
    shown = Shown()
    config = TrainConfig(size=16, epochs=2, batch_size=8, phases=({"epochs": 1, "learning_rate": 1e-3},))
    done = train(config, faces, tmp_path / "run", show=shown)
    assert dict.fromkeys(shown.heads) == dict.fromkeys(["epoch 1/3", "epoch 2/3", "epoch 3/3"])
    told = {line.split()[0]: line for line in reversed(shown.lines) if not line.startswith(" ")}
    assert (
        "faces: 16 train, 3 validation, 5 test; 2 classes: happy, sad" in told["data"]
        or "classes" in told["data"]
    )
    assert "16x16 grey" in told["network"] and "1,69" in told["network"]
    assert str(tmp_path / "run") in told["folder"]
    assert "phase 1: 2 epochs" in told["plan"]
    assert [line[:10].strip() for line in shown.lines if "phase 2" in line] == [""]
    assert (tmp_path / "run" / run_folder.BATCH_FILE).stat().st_size > 1000
    # What is told of an epoch is the rate of its own last step, of two, not that at which the next one begins.
    second = 0.08 * 8 / 128 if config.optimizer == "sgd" else 0.003
    told_rates = [row["learning_rate"] for row in done.progress.history]
    places = [schedule.cosine(rate, 0.1, Progress(phase_epoch=at, phase_epochs=of), 0.5)
              for rate, at, of in ((second, 0, 2), (second, 1, 2), (1e-3, 0, 1))]  # fmt: skip
    assert told_rates == pytest.approx(places)


@pytest.mark.slow
def test_a_time_limit_is_shared_among_the_phases(faces: Path, tmp_path: Path) -> None:
    """The first phase once took all of it, and left the later ones one step an epoch."""
    shown = Shown()
    phases: Any = ({"epochs": 400}, {"epochs": 400})
    config = TrainConfig(
        network="lenet5", size=32, epochs=400, batch_size=16, time_limit="20s", phases=phases
    )
    done = train(config, faces, tmp_path / "run", show=shown)
    counts = np.bincount([row["phase"] for row in done.progress.history])[1:]
    slowest_s = max(row["seconds"] for row in done.progress.history)
    # One epoch is all that a phase gets only where an epoch takes half of the phase's third: a busy machine.
    assert len(counts) == 3 and (counts.min() > 1 or slowest_s > 20 / 3 / 2)
    assert all("/about " in head for head in shown.heads)


@pytest.mark.slow
def test_features_of_a_frozen_base_are_computed_once(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two views are made once each; with them six epochs train the head, and the base stays as it is."""
    epochs: list[int] = []
    epoch = Loader.epoch

    def counted(self: Loader, number: int, mix: bool, class_weights: str) -> Any:
        epochs.append(number)
        return epoch(self, number, mix, class_weights)

    first = train(TrainConfig(size=16, epochs=1, batch_size=8), faces, tmp_path / "first")
    monkeypatch.setattr(Loader, "epoch", counted)
    config = TrainConfig(
        init_from=str(first.folder),
        epochs=6,
        batch_size=8,
        feature_views=2,
        votes_weight=0.0,
        mixup=0.0,
        dropout=0.0,
    )
    done = train(config, faces, tmp_path / "second")
    assert epochs == [0, 0, 1]  # the picture of a batch, then each view once
    assert done.progress.epoch == 6
    from mien.train.transfer import open_network

    before, after = (open_network(str(run.folder))[0] for run in (first, done))
    np.testing.assert_array_equal(
        *(net.get_layer("stage5_2_conv").get_weights()[0] for net in (before, after))
    )
    losses = [row["loss"] for row in done.progress.history]
    for view in (0, 1):  # the head learns in every pass; the two views are not equally hard
        assert losses[view] > losses[view + 2] > losses[view + 4]


@pytest.mark.slow
def test_views_of_a_training_that_goes_on_are_what_they_were(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made once more where mixup had ended meanwhile, they were not mixed, so that another network came out."""
    base = train(TrainConfig(size=16, epochs=1, batch_size=8), faces, tmp_path / "base")
    config = TrainConfig(
        init_from=str(base.folder), epochs=6, batch_size=8, feature_views=2, mixup_prob=1.0, mixup_until=0.5
    )
    whole = train(config, faces, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "note_epochs", _fails_at(4))
        with pytest.raises(RuntimeError, match="killed"):
            train(config, faces, tmp_path / "killed")
    again = train(config, faces, tmp_path / "killed")
    losses = [[row["loss"] for row in run.progress.history] for run in (whole, again)]
    assert losses[0] == losses[1]


def _fails_at(count: int) -> Callable[..., None]:
    note_epochs = run_folder.note_epochs

    def note(out: Path, history: list[dict[str, Any]]) -> None:
        if len(history) == count:
            raise RuntimeError("killed")
        note_epochs(out, history)

    return note


@pytest.mark.slow
def test_a_kill_at_the_end_loses_neither_the_last_row_nor_the_int8_form(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = TrainConfig(size=16, epochs=2, batch_size=8, int8=True), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "note_epochs", _fails_at(2))
        with pytest.raises(RuntimeError, match="killed"):
            train(config, faces, run)

    def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed in int8")

    with monkeypatch.context() as patch:
        patch.setattr("mien.train.export.int8.add_int8", killed)
        with pytest.raises(RuntimeError, match="killed in int8"):
            train(config, faces, run)
    assert not (run / "model").exists()
    shown = Shown()
    assert train(config, faces, run, show=shown).trained
    assert [line for line in shown.lines if line.startswith("int8 form: ")]
    assert (run / run_folder.EPOCHS_FILE).read_text().count("\n") == 3  # it ended after the first epoch
    assert not train(config, faces, run).trained


def test_ctrl_c_before_the_first_network_is_kept_says_no_more_than_that(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said that there is no network file best.keras."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    config, run = TrainConfig(size=16, epochs=1, batch_size=8), tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mien.train.export.keras_io.save_network", stopped)
        train(config, faces, run)
    assert not (run / "model").exists()
    # Kept, but not in the log yet.
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(schedule, "after_epoch", stopped)
        train(config, faces, run)
    assert (run / "model" / "model.onnx").exists()


def test_adam_decays_weights_where_it_is_told_to() -> None:
    from mien.train.classifier_loop import _optimizer

    for asked, used in ((0.3, 0.3), (None, None)):
        config = TrainConfig(optimizer="adam", weight_decay=asked).for_pictures(100)
        assert _optimizer(config).weight_decay == used


def test_settings_that_nothing_uses_are_told(faces: Path, tmp_path: Path) -> None:
    one, two = {"expression": ("happy", "sad")}, {"fer2013": ("happy", "sad"), "votes": ("happy", "sad")}
    assert idle_settings(TrainConfig(logit_adjustment=0.5), two) == [
        "logit_adjustment is of no use without blend"
    ]
    assert idle_settings(TrainConfig(blend=0.5, logit_adjustment=0.5), two) == []
    shown, config = Shown(), TrainConfig(size=16, epochs=1, batch_size=32, network="lenet5", blend=0.5)
    train(config, faces, tmp_path / "run", show=shown)
    (said,) = idle_settings(config, one)
    assert [line for line in shown.lines if line.startswith("note") and said in line]


def test_a_frozen_base_is_split_from_any_chain_above_it() -> None:
    """As in happy-sad-angry-vgg16, whose top begins with a convolution; dropout stays with what learns."""
    import keras

    from mien.train.classifier_loop import _FrozenBase

    def network(side: int) -> keras.Model:
        """side: of the convolution that learns."""
        faces = keras.Input((12, 12, 1), name="faces")
        frozen = [keras.layers.Conv2D(8, 3), keras.layers.Conv2D(8, 3)]  # 664 parameters
        base = keras.Sequential([keras.Input((12, 12, 1)), *frozen], name="base")
        base.trainable = False
        x = keras.layers.Dropout(0.5, name="drop")(base(faces))
        x = keras.layers.Conv2D(1, side, name="top")(x)
        x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
        heads = [
            keras.layers.Dense(labels, activation="softmax", name=f"say{labels}")(x) for labels in (2, 3)
        ]
        return keras.Model(faces, heads)

    config = TrainConfig(feature_views=1)
    whole = network(side=3)
    found = _FrozenBase.of(whole, config)
    assert isinstance(found, _FrozenBase)
    assert [layer.name for layer in found.top.layers[1:]] == ["drop", "top", "mean", "say2", "say3"]
    pictures = np.random.default_rng(0).random((4, 12, 12, 1), np.float32)
    features = found.base.predict(pictures, verbose=0)
    assert features.shape == (4, 8, 8, 8)
    for answers, wanted in zip(
        found.top.predict(features, verbose=0), whole.predict(pictures, verbose=0), strict=True
    ):
        np.testing.assert_allclose(answers, wanted, atol=1e-6)
    whole.get_layer("base").trainable = True
    assert _FrozenBase.of(whole, config) == "less than half of the network is frozen"
