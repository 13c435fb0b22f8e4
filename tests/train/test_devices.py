"""Several devices share a batch: tried on three pretended CPU devices, which only JAX can pretend."""

import csv
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import pytest

from mien.data.drawn import draw_dataset
from mien.train import hosts

pytestmark = [
    pytest.mark.backend,
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="Keras spreads over devices on JAX only"),
]
DEVICES = 3
# 48 pictures are whole batches of 16: of the rest of an epoch several devices would take none.
# SGD in small steps: the sums of several devices are rounded otherwise, and large steps make that grow.
SETTINGS = ["--epochs", "3", "--size", "16", "--limit", "48", "--no-report"]
SETTINGS += ["--optimizer", "sgd", "--learning-rate", "0.001"]
# One process for all commands: loading JAX takes longer than any of them.
SCRIPT = """
import json, sys
from mien.cli.main import main
for words in json.loads(sys.argv[1]):
    print("code", main(words), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Train on one device, on two, go on with one; then what cannot be. Returns the folder and what each said."""
    folder = tmp_path_factory.mktemp("devices")
    draw_dataset(folder / "faces", classes=("happy", "sad"), per_class=45, seed=0)
    words = [
        ["run1", "--devices", "1", "--batch-size", "16"],
        ["run2", "--devices", "2", "--batch-size", "16"],
        ["run2", "--devices", "1", "--batch-size", "16"],
        ["run3", "--devices", "5", "--batch-size", "16"],
        ["run4", "--batch-size", "16"],
    ]
    commands = [["train", "faces", "--to", *rest, *SETTINGS] for rest in words]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, texts = [], []
    for line in done.stderr.splitlines():
        if line.startswith("code "):
            said.append((int(line.removeprefix("code ")), "\n".join(texts)))
            texts = []
        else:
            texts.append(line)
    assert len(said) == len(commands), done.stderr
    return folder, said


def losses(run, what="loss"):
    with (run / "epochs.csv").open() as stream:
        return [float(row[what]) for row in csv.DictReader(stream)]


def test_two_devices_learn_what_one_learns(tried):
    folder, said = tried
    for devices in (1, 2):
        code, text = said[devices - 1]
        assert code == 0, text
        assert ("2 devices" in text) == (devices == 2)
    assert losses(folder / "run2") == pytest.approx(losses(folder / "run1"), rel=1e-3)
    code, text = said[2]
    assert code == 0, "another number of devices is the same run"
    assert "other settings" not in text


def test_more_devices_than_there_are_is_one_line(tried):
    code, text = tried[1][3]
    assert code == 2
    assert text.endswith("mien: devices must be at most the 3 that can be used here, got 5")


def test_a_batch_that_cannot_be_shared_is_refused(tried):
    code, text = tried[1][4]
    assert code == 2
    assert "batch_size must be a multiple of the 3 devices, got 16" in text


# Several hosts: processes of this machine that talk to each other.


def host(folder, port, number, count=2, words=("faces", "--to", "hosts", "--batch-size", "16")):
    """Start one of several hosts."""
    command = ["train", *words, *SETTINGS]
    joining = ["--coordinator", f"127.0.0.1:{port}", "--hosts", str(count), "--host", str(number)]
    return subprocess.Popen(
        [sys.executable, "-m", "mien.cli.main", *command, *joining],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_two_hosts_learn_what_one_learns(tried):
    folder, _ = tried
    port = free_port()
    both = [host(folder, port, number) for number in (0, 1)]
    with ThreadPoolExecutor(
        2
    ) as readers:  # a host whose line nobody reads would stop, and the other wait for it
        (first, told), (second, _) = readers.map(subprocess.Popen.communicate, both)
    assert [process.returncode for process in both] == [0, 0], told
    assert "2 devices" in told
    assert first.startswith("trained 3 epochs in") and "Gloo" not in first + second
    assert second == "host 1 of 2 has done its part; host 0 writes the run\n"
    for what in ("loss", "validation_loss", "validation_accuracy"):
        assert losses(folder / "hosts", what) == pytest.approx(losses(folder / "run1", what), rel=1e-3)
    assert (folder / "hosts" / "model" / "model.onnx").exists()


def test_a_host_for_which_no_validation_picture_is_left_takes_part(tried):
    folder, _ = tried
    draw_dataset(folder / "little", classes=("happy", "sad"), per_class=30, seed=0)
    for label in ("happy", "sad"):  # one picture of each for validation
        picture = min((folder / "little" / "test" / label).iterdir())
        (folder / "little" / "validation" / label).mkdir(parents=True)
        picture.rename(folder / "little" / "validation" / label / picture.name)
    port, words = free_port(), ("little", "--to", "three", "--batch-size", "15")
    each = [host(folder, port, number, 3, words) for number in range(3)]
    with ThreadPoolExecutor(3) as readers:
        said = list(readers.map(lambda one: one.communicate(timeout=300)[1], each))
    assert [process.returncode for process in each] == [0, 0, 0], said
    assert len(losses(folder / "three", "validation_loss")) == 3


def test_who_keeps_the_others_waiting_is_named():
    here = hosts._Place(0, 3)
    places = {0: (2, 5, "step 6 of epoch 2"), 1: (2, 4, "step 5 of epoch 2"), 2: (2, 5, "step 6 of epoch 2")}
    said = hosts._stuck(places, here)
    assert said.startswith(
        "host 1 of 3 has not gone on from step 5 of epoch 2 for 10 minutes, the others wait at step 6"
    )
    assert hosts._stuck({0: places[0]}, here).startswith(
        "host 1, host 2 of 3 have not gone on from its start"
    )
    assert hosts._stuck(dict.fromkeys(range(3), places[0]), here).startswith(
        "no host has gone on from step 6 of epoch 2"
    )
