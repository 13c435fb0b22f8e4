"""Several devices share a batch: tried on two pretended CPU devices, which only JAX can pretend."""

import csv
import os
import subprocess
import sys

import keras
import pytest

from mien.data.drawn import draw_dataset

pytestmark = [
    pytest.mark.backend,
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="Keras spreads over devices on JAX only"),
]
SETTINGS = ["--epochs", "2", "--batch-size", "16", "--size", "16", "--no-report"]


def train_on(devices, faces, run, *words):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.run(
        [sys.executable, "-m", "mien.cli.main", "train", faces, "--to", run, *SETTINGS, *words],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )


def losses(run):
    with (run / "epochs.csv").open() as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def test_two_devices_learn_what_one_learns(tmp_path):
    # 35 pictures a class leave 48 to train: whole batches of 16, as several devices drop the rest.
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=35, seed=0)
    for devices in (1, 2):
        done = train_on(2, tmp_path / "faces", tmp_path / f"run{devices}", "--devices", str(devices))
        assert done.returncode == 0, done.stderr
        assert ("2 devices" in done.stderr) == (devices == 2)
    assert losses(tmp_path / "run2") == pytest.approx(losses(tmp_path / "run1"), rel=1e-3)
    again = train_on(2, tmp_path / "faces", tmp_path / "run2", "--devices", "1")
    assert again.returncode == 0, "another number of devices is the same run"
    assert "other settings" not in again.stderr


def test_more_devices_than_there_are_is_one_line(tmp_path):
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=35, seed=0)
    done = train_on(2, tmp_path / "faces", tmp_path / "run", "--devices", "5")
    assert done.returncode == 2
    assert done.stderr.endswith("mien: devices must be at most the 2 that can be used here, got 5\n")


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=35, seed=0)
    done = train_on(3, tmp_path / "faces", tmp_path / "run")
    assert done.returncode == 2
    assert "batch_size must be a multiple of the 3 devices, got 16" in done.stderr
