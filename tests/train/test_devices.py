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


def train_on(devices, faces, run, *more):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.run(
        [sys.executable, "-m", "mien.cli.main", "train", faces, "--out", run, *SETTINGS, *more],
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
    faces, run = tmp_path / "faces", tmp_path / "run2"
    draw_dataset(faces, classes=("happy", "sad"), per_class=35, seed=0)
    one = train_on(1, faces, tmp_path / "run1")
    assert one.returncode == 0, one.stderr
    two = train_on(4, faces, run, "--devices", "2")
    assert two.returncode == 0, two.stderr
    assert "2 devices" in two.stdout + two.stderr
    assert losses(run) == pytest.approx(losses(tmp_path / "run1"), rel=1e-3)
    again = train_on(1, faces, run, "--devices", "1")  # the same run, whatever it is spread over
    assert again.returncode == 0, again.stderr
    assert "devices" not in again.stderr


def test_more_devices_than_there_are_are_refused(tmp_path):
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=35, seed=0)
    done = train_on(2, tmp_path / "faces", tmp_path / "run", "--devices", "3")
    assert done.returncode == 2
    assert "devices is 3, JAX sees 2; ask for fewer, or for all" in done.stderr


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    draw_dataset(tmp_path / "faces", classes=("happy", "sad"), per_class=35, seed=0)
    done = train_on(3, tmp_path / "faces", tmp_path / "run")
    assert done.returncode == 2
    assert "batch_size must be a multiple of the 3 devices, got 16" in done.stderr
