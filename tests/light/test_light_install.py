"""What must work after a plain `pip install mien`, without Keras. Also run where only that is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

import mien
from mien.cli.main import COMMANDS

# In a full installation these are there; a module that is None in sys.modules cannot be imported.
TRAINING_ONLY = ("keras", "tensorflow", "jax", "torch", "sklearn", "matplotlib", "onnx")
WITHOUT_EXTRA = f"""
import sys
sys.modules.update(dict.fromkeys({TRAINING_ONLY!r}))
from mien.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run_without_extra(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `mien ARGUMENTS` in a fresh interpreter that cannot import the training libraries."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_installed_version_is_the_code_version() -> None:
    try:
        installed = metadata.version("mien")
    except metadata.PackageNotFoundError:
        pytest.skip("mien is not installed here, it runs from PYTHONPATH")
    assert installed == mien.__version__


def test_the_module_runs_as_the_script_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mien", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"mien {mien.__version__}"


def test_help_names_every_command(tmp_path: Path) -> None:
    done = run_without_extra("--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^ {{4}}{command}\s", done.stdout, re.M), command


def test_every_command_explains_itself(tmp_path: Path) -> None:
    for command in COMMANDS:
        done = run_without_extra(command, "--help", folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"mien {command} " in done.stdout.split("options:")[1], "no examples"


def test_the_recipes_are_installed() -> None:
    names = {entry.name for entry in (resources.files("mien") / "recipes").iterdir()}
    assert {"lenet5.toml", "fer2013-cnn.toml", "happy-nothappy.toml"} <= names


def test_the_sample_portraits_are_installed() -> None:
    names = {entry.name for entry in (resources.files("mien") / "samples").iterdir()}
    assert {"ORIGIN.md", "eileen-collins.jpg", "grace-hopper.jpg"} <= names


def test_training_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    assert (
        run_without_extra(
            "data", "get", "drawn", "--to", "faces", "--per-class", "5", folder=tmp_path
        ).returncode
        == 0
    )
    done = run_without_extra("train", "faces", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("mien: training needs keras"), done.stderr
    assert 'pip install "mien[train]"' in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["faces"], "nothing may be left behind"


def test_a_wrong_command_is_one_line_and_2(tmp_path: Path) -> None:
    done = run_without_extra("predikt", folder=tmp_path)
    assert done.returncode == 2
    assert "no command predikt; did you mean mien predict?" in done.stderr


def test_the_network_that_ships_sees_the_smile(tmp_path: Path) -> None:
    """Eileen Collins smiles. Both forms say so, by all their answers."""
    sample = resources.files("mien") / "samples" / "eileen-collins.jpg"
    for precision in ("float32", "int8"):
        for head in (None, "fer2013", "votes"):
            (face,) = mien.load(head=head, precision=precision).analyze_file(Path(str(sample)))
            assert (face.emotion, face.uncertain) == ("happy", False)
            assert face.probability > 0.8
    done = run_without_extra("demo", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "mien-demo").iterdir()} == {
        "eileen-collins.jpg",
        "grace-hopper.jpg",
    }
