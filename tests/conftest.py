"""What all tests share: a cache of their own, a quiet TensorFlow on few threads, and the real data sets."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data sets, beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the real data sets in ../shared, which are not on this machine")
    return folder
