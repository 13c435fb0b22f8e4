"""The whole way from faces to a checked model folder, on whatever backend KERAS_BACKEND names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.data import open_dataset
from mien.data.drawn import draw_dataset
from mien.model.calibration import with_temperature
from mien.model.classifier import Classifier
from mien.model.folder import read_model_folder
from mien.model.preprocess import to_model_inputs
from mien.terminal import ProgressBar
from mien.train.config import TrainConfig
from mien.train.run import train

pytestmark = [pytest.mark.backend, pytest.mark.slow]
# 32 pictures to train on: whole batches only, because JAX compiles once for each batch size.
CONFIG = TrainConfig(epochs=2, batch_size=16, size=16, votes_weight=0.0, seed=3, validation_share=0.2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return drawn faces of two classes and a run of two epochs on them."""
    parent = tmp_path_factory.mktemp("backend")
    faces, run = parent / "faces", parent / "run"
    draw_dataset(faces, classes=("happy", "sad"), per_class=25, seed=1)
    train(CONFIG, faces, run)
    return faces, run


def test_the_exported_network_answers_as_keras_does(trained: tuple[Path, Path]) -> None:
    faces, run = trained
    from mien.train.export.keras_io import load_network

    network, metadata = load_network(run / "best.keras")
    assert metadata is not None
    pictures = open_dataset(faces, CONFIG).split("test").pictures
    crops = [pictures.read(place) for place in range(len(pictures))]
    inputs = to_model_inputs(crops, metadata.preprocess).astype(np.float32)
    keras_says = np.asarray(network.predict_on_batch(inputs))
    temperature = read_model_folder(run / "model").metadata.heads[0].temperature
    expected = with_temperature(keras_says, temperature)
    answer = Classifier(run / "model").predict(crops)["expression"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)


class StoppedInTheSecondEpoch(ProgressBar):
    """Presses Ctrl-C at the first step of the second epoch."""

    def step(self, what: str, *_: object) -> None:
        if what.startswith("epoch 2/"):
            raise KeyboardInterrupt


def test_an_interrupted_training_gives_the_same_network(trained: tuple[Path, Path], tmp_path: Path) -> None:
    faces, run = trained
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, faces, tmp_path / "run", show=StoppedInTheSecondEpoch(quiet=True))
    done = train(CONFIG, faces, tmp_path / "run")
    assert done.progress.epoch == 2
    whole, resumed = (np.load(folder / "checkpoint" / "state.npz") for folder in (run, tmp_path / "run"))
    assert set(whole.files) == set(resumed.files)
    for name in set(whole.files) - {"progress"}:
        np.testing.assert_array_equal(whole[name], resumed[name])
