"""Prediction and every --help start in well under a second, because nothing heavy is loaded for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mien.cli.main import COMMANDS

HEAVY = {"keras", "jax", "torch", "tensorflow", "matplotlib", "sklearn", "onnx", "pyarrow", "kagglehub"}
HELP = """
import contextlib, io
from mien.cli.main import main
with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
    main({arguments})
assert "usage: mien" in text.getvalue()
"""


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running `code`."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "code",
    [
        "import mien",
        "import mien.train.config",
        "import mien.cli.main; mien.cli.main.parser().format_help()",
        HELP.format(arguments=["--help"]),
        *(HELP.format(arguments=[command, "--help"]) for command in COMMANDS),
    ],
    ids=["mien", "mien.train.config", "parser", "--help", *(f"{command} --help" for command in COMMANDS)],
)
def test_needs_no_training_library(code: str) -> None:
    assert not HEAVY & modules_after(code)


def test_a_finished_run_is_loaded_and_scored_without_keras() -> None:
    loaded = modules_after("import mien.train.run, mien.train.export.card, mien.evaluate.evaluate")
    assert not {"keras", "jax", "torch", "tensorflow"} & loaded


def test_the_guard_would_see_a_heavy_import() -> None:
    assert "sklearn" in HEAVY & modules_after("import sklearn")


def test_onnx_runtime_reports_nothing(tmp_path: Path) -> None:
    """Its builds since 1.31 write a session file and a data base on import, to report usage from."""
    place = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    code = "import mien, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **place}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert list(tmp_path.rglob("*")) == []


def test_importing_mien_loads_no_picture_library() -> None:
    """`import mien` alone stays at the standard library; cv2 and numpy come with what needs them."""
    assert not {"cv2", "numpy", "onnxruntime"} & modules_after("import mien")


def test_prediction_loads_nothing_of_labelled_data() -> None:
    sources = "from mien.cli import predict; import mien.cli.inputs, mien.predict.analyzer, sys; "
    done = subprocess.run(
        [sys.executable, "-c", f"{sources} print([name for name in sys.modules if 'mien.data' in name])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
