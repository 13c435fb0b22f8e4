"""What all tests share: a cache of their own, a quiet TensorFlow on few threads, and the real data sets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before anything imports Keras. The tests are tiny: more threads would only get into each other's way.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MPLBACKEND", "Agg")
# A shell starts what it puts into the background with Ctrl-C ignored, and so would be what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests away from the user's cache of decoded data sets, and from a face detector of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MIEN_YUNET", raising=False)
        yield


@pytest.fixture(autouse=True)
def _no_precision_left_behind() -> Iterator[None]:
    """Undo what a training has set for the whole process: on some machines it computes in mixed precision."""
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def locked_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a folder `locked` in it that cannot be opened."""
    (tmp_path / "locked").mkdir(mode=0)
    yield tmp_path
    (tmp_path / "locked").chmod(0o700)


@pytest.fixture
def run_unprivileged(locked_folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in `locked_folder` without the superuser's right to open everything."""
    if not hasattr(os, "geteuid") or (os.geteuid() == 0 and not shutil.which("setpriv")):
        pytest.skip("needs the file rights of a POSIX system, and as the superuser setpriv to give them up")
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        code = "import sys; from mien.cli.main import main; sys.exit(main(sys.argv[1:]))"
        return subprocess.run(
            [*without, sys.executable, "-c", code, *map(str, words)],
            cwd=locked_folder,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data sets, beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the real data sets in ../shared, which are not on this machine")
    return folder
