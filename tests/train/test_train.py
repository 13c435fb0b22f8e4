"""`mien train` from the outside: real processes on drawn faces."""

import csv
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

import mien as package
from mien.data.drawn import draw_dataset
from mien.errors import ConfigError
from mien.train.networks import own_networks

# The others start from pretrained weights.
FROM_SCRATCH = own_networks().keys() - {
    "happy-sad-angry-vgg16", "fer2013-resnet50", "fer2013-vgg16", "efficientnet-lite0"
}  # fmt: skip
TINY = ["--epochs", "4", "--batch-size", "16", "--size", "16", "--no-report"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    draw_dataset(folder, classes=("happy", "sad"), per_class=40, seed=1)
    return folder


def mien(*words, start=subprocess.run, **options):
    """Run the command in a process of its own, on one thread so that helpers of CI machines do not differ."""
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1"}
    command = [sys.executable, "-m", "mien.cli.main", *map(str, words)]
    return start(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def epochs_of(run):
    with (run / "epochs.csv").open() as stream:
        return list(csv.DictReader(stream))


def weights_of(run):
    import keras

    network = keras.models.load_model(run / "best.keras", compile=False)
    return [keras.ops.convert_to_numpy(weight) for weight in network.weights]


def wait_for_epoch(run, process, count=1):
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "epochs.csv").exists() and len(epochs_of(run)) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"no epoch was finished: {process.communicate()}")


@pytest.fixture(scope="module")
def uninterrupted(faces, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = mien("train", faces, "--to", run, *TINY)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FROM_SCRATCH))
def test_every_network_that_needs_no_weights_is_trained(faces, tmp_path, name):
    package.train(faces, network=name, epochs=1, limit=10, to=tmp_path / "run")
    assert (tmp_path / "run" / "model" / "model.onnx").is_file()


@pytest.mark.slow
def test_the_run_folder_is_whole(uninterrupted, faces):
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {
        "README.md", "settings.json", "epochs.csv", "curves.png", "batch.png", "trained-on.npz",
        "batch.csv", "mistakes.csv", "best.keras", "last.keras", "model", "checkpoint",
    }  # fmt: skip
    assert {path.name for path in (uninterrupted / "model").iterdir()} == {
        "model.onnx",
        "model.json",
        "CARD.md",
    }
    assert [row["epoch"] for row in epochs_of(uninterrupted)] == ["1", "2", "3", "4"]
    settings = json.loads((uninterrupted / "settings.json").read_text())
    assert settings["settings"]["size"] == 16
    assert settings["data"]["counts"]["train"].keys() == {"happy", "sad"}
    assert settings["command"].startswith("mien train")
    assert settings["data"]["path"] == str(faces)
    about = json.loads((uninterrupted / "model" / "model.json").read_text())["training"]
    assert about["data"]["path"] == faces.name == "faces"
    assert about["command"] == f"mien train faces --to whole {' '.join(TINY)}"
    with zipfile.ZipFile(uninterrupted / "best.keras") as archive:
        inside = [archive.read(name) for name in archive.namelist()]
    for content in (*inside, *(path.read_bytes() for path in (uninterrupted / "model").iterdir())):
        assert str(faces.parent.parent).encode() not in content


@pytest.mark.slow
def test_python_trains_and_evaluates_as_the_commands_do(uninterrupted, faces, tmp_path):
    run = package.train(
        [faces, f"{faces}/"], to=tmp_path / "run", epochs=1, batch_size=16, size=16, quiet=True
    )
    assert run.folder == tmp_path / "run"
    assert [row["epoch"] for row in epochs_of(run.folder)] == ["1"]
    of_the_command = json.loads((uninterrupted / "settings.json").read_text())["settings"]
    assert json.loads((run.folder / "settings.json").read_text())["settings"] == {
        **of_the_command,
        "epochs": 1,
    }
    report = package.evaluate(run.model, [faces], tta="flip", to=tmp_path / "report")
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    assert written["tta"]["tta"] == "flip"
    assert (written["data"]["path"], written["model"]["path"]) == ("faces", "model")
    for file in (tmp_path / "report").iterdir():
        assert str(faces.parent).encode() not in file.read_bytes()
    assert written["scores"]["accuracy"] == report.scores.accuracy >= 0.5
    answers = [
        face.emotion for face in package.load(run.folder, detector="whole")(next(faces.rglob("*.png")))
    ]
    assert len(answers) == 1 and answers[0] in ("happy", "sad")
    with pytest.raises(ConfigError, match="there is no setting 'epoch'; did you mean 'epochs'"):
        package.train(faces, epoch=4)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_training_goes_on_and_equals_an_uninterrupted_one(faces, uninterrupted, tmp_path, after):
    run = tmp_path / "killed"
    process = mien("train", faces, "--to", run, *TINY, start=subprocess.Popen)
    wait_for_epoch(run, process, after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = mien("train", faces, "--to", run, *TINY)
    assert done.returncode == 0, done.stderr
    times = {"seconds"}
    for one, two in zip(epochs_of(run), epochs_of(uninterrupted), strict=True):
        assert {k: v for k, v in one.items() if k not in times} == {
            k: v for k, v in two.items() if k not in times
        }
    for one, two in zip(weights_of(run), weights_of(uninterrupted), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_network(faces, tmp_path):
    run = tmp_path / "stopped"
    # What a shell starts in the background ignores Ctrl-C, and so would this child of such a test run.
    heard = {"start": subprocess.Popen, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = mien("train", faces, "--to", run, *TINY[2:], "--epochs", "500", **heard)
    wait_for_epoch(run, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert (run / "model" / "model.onnx").exists()


@pytest.mark.slow
def test_the_same_command_loads_the_finished_run(faces, uninterrupted):
    before = (uninterrupted / "best.keras").stat().st_mtime_ns
    again = mien("train", faces, "--to", uninterrupted, *TINY)
    assert again.returncode == 0
    assert "trained already" in again.stdout
    assert (uninterrupted / "best.keras").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_printed_command_reads_the_data_as_the_training_did(tmp_path):
    draw_dataset(tmp_path / "my faces", classes=("angry", "happy", "sad"), per_class=10, seed=2)
    chosen = ["--merge", "bad=sad+angry", "--split-seed", "3", "--epochs", "1", *TINY[2:-1]]
    done = mien("train", "my faces", *chosen, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    use, check = done.stdout.splitlines()[-2:]
    (run,) = (tmp_path / "runs").iterdir()
    model = ["--model", str(run.relative_to(tmp_path))]
    assert shlex.split(use.split("    finds")[0]) == ["next", "mien", "predict", "PHOTO.jpg", *model]
    command = shlex.split(check.split("    finds")[0])
    assert command[:3] == ["mien", "data", "my faces"]
    pasted = mien(*command[1:], cwd=tmp_path)
    assert pasted.returncode == 0, pasted.stderr
    assert "likely wrong: about " in pasted.stdout
    assert run.name.startswith("my faces-small-")  # settings of one's own have a folder of their own
    made = json.loads((run / "report" / "report.json").read_text())
    assert "--merge bad=sad+angry --split-seed 3" in json.dumps(made)


@pytest.mark.slow
def test_other_settings_do_not_overwrite_a_run(faces, uninterrupted):
    other = mien("train", faces, "--to", uninterrupted, *TINY, "--seed", "7")
    assert other.returncode == 2
    assert "seed: 0 there, 7 asked" in other.stderr
    for way in ("--to", f"--from {uninterrupted}", "--retrain"):
        assert way in other.stderr
    assert other.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_diverging_training_says_what_to_do(faces, tmp_path):
    done = mien("train", faces, "--to", tmp_path / "nan", *TINY, "--learning-rate", "1e30")
    assert done.returncode == 2
    assert "try --learning-rate 0.01 (it was 1e+30)" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_from_starts_at_another_network_with_other_classes(uninterrupted, tmp_path):
    draw_dataset(tmp_path / "others", classes=("angry", "surprise", "neutral"), per_class=20, seed=5)
    run = tmp_path / "tuned"
    done = mien("train", tmp_path / "others", "--from", uninterrupted / "model", "--to", run, "--epochs", "2")
    assert done.returncode == 0, done.stderr
    metadata = json.loads((run / "model" / "model.json").read_text())
    assert metadata["heads"][0]["labels"] == ["angry", "neutral", "surprise"]
    assert metadata["preprocess"]["size"] == 16  # the old network's


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "which faces?"),
        (["train", "nowhere"], "nowhere"),
        (
            ["train", "nowhere", "--label-smoothing", "2"],
            "label_smoothing must be from 0 to below 1, got 2.0",
        ),
        (["train", "nowhere", "--recipe", "lennet5"], "lenet5"),
    ],
)
def test_wrong_input_is_one_line(words, message):
    done = mien(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(faces, tmp_path):
    run = tmp_path / "full"
    # The state with its optimiser is larger than this; files of the network itself are not.
    limit = (8_000_000, 8_000_000)
    done = mien(
        "train",
        faces,
        "--to",
        run,
        *TINY,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 2
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]  # no half-written file stays
    again = mien("train", faces, "--to", run, *TINY)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_limit_a_time_limit_and_tensorboard(faces, tmp_path):
    run = tmp_path / "run"
    words = ["--limit", "32", "--time-limit", "20s", "--epochs", "999", "--tracker", "tensorboard", *TINY[4:]]
    done = mien("train", faces, "--to", run, *words)
    assert done.returncode == 0, done.stderr
    rows = epochs_of(run)
    assert len(rows) < 999
    # Compiling the first step may take longer than the limit where the machine is busy; later epochs may not.
    assert sum(float(row["seconds"]) for row in rows[1:]) < 20
    assert len(list((run / "tensorboard").iterdir())) == len(rows)
    settings = json.loads((run / "settings.json").read_text())
    assert settings["settings"]["batch_size"] == 16
    assert sum(settings["data"]["counts"]["train"].values()) == 32
