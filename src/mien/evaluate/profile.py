"""What a network costs (parameters, multiply-accumulates, bytes, time), and on what its report was made."""

from __future__ import annotations

import datetime
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mien._version import __version__
from mien.errors import ModelError
from mien.evaluate.models import Scorer
from mien.files import command_without_folders
from mien.images.marks import mark_for
from mien.model.classifier import Classifier
from mien.terminal import counted

_WARM_UP, _LEAST, _SECONDS = 3, 10, 0.5  # runs before the clock counts, fewest runs, time to spend
_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "scikit-learn", "keras")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """None where a figure is not known. ms_per_face: processor time of one core, one view of one face
    at a time; `tta` may ask for more.

    macs: multiply-accumulates a face. training_s: seconds that its training took, on whatever machine.
    """

    parameters: int | None
    macs: int | None
    size_bytes: int
    ms_per_face: float | None
    training_s: float | None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def profile(scorer: Scorer) -> Profile:
    """Count and time a network. The time is ONNX Runtime's, so a `.keras` file is exported first, aside."""
    metadata, macs = scorer.metadata, scorer.metadata.network.get("macs")
    parameters, size_bytes = scorer.parameters, scorer.size_bytes
    if scorer.is_keras:
        with tempfile.TemporaryDirectory() as folder:
            exported = _exported(scorer, Path(folder) / "model")
            milliseconds = _timed(exported) if exported else None
            macs = exported.metadata.network.get("macs") if exported else None
    else:
        milliseconds = _timed(scorer)
    seconds = metadata.training.get("seconds")
    return Profile(
        parameters=parameters,
        macs=None if macs is None else int(macs),
        size_bytes=size_bytes,
        ms_per_face=milliseconds,
        training_s=None if seconds is None else float(seconds),
    )


def _exported(scorer: Scorer, folder: Path) -> Scorer | None:
    """Export a Keras file; None for a network with layers or metadata that cannot be exported."""
    from mien.train.export.folder import export
    from mien.train.export.keras_io import load_network

    model, metadata = load_network(scorer.path)
    if metadata is None:
        return None
    try:
        export(model, folder, metadata)
    except ModelError:  # it can be scored all the same; the table shows a dash
        return None
    classifier = Classifier(folder)
    return Scorer(classifier.metadata, folder, "model folder", classifier.probabilities, form=classifier.file)


def _timed(scorer: Scorer) -> float:
    """Return the median processor time of one face in milliseconds; a busy neighbour hardly moves it."""
    face = np.random.default_rng(0).integers(0, 256, (1, *scorer.metadata.preprocess.shape), np.uint8)
    times: list[float] = []
    for _ in range(_WARM_UP):
        scorer.network(face)
    end = time.monotonic() + _SECONDS
    while len(times) < _LEAST or time.monotonic() < end:
        start = time.thread_time()  # ONNX Runtime works in the calling thread: it was given one
        scorer.network(face)
        times.append(time.thread_time() - start)
    return 1000 * float(np.median(times))


def provenance(command: str, inputs: Iterable[Path]) -> dict[str, object]:
    """Return command, date (ISO 8601, UTC), versions and machine as plain values.

    inputs: models and data, which are told from others of the same name by where they lie, and by no path that is kept.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "command": command_without_folders(command),
        "inputs": mark_for(*sorted(map(os.path.realpath, inputs))),
        "date": now,
        "versions": versions(),
        "machine": machine(),
    }


def versions() -> dict[str, str]:
    """Versions of what the figures depend on, without importing any of it."""
    found = {"mien": __version__, "python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # a light installation, or another build of OpenCV
    return found


def machine() -> str:
    """Processor, number of cores and system, in words."""
    return f"{_processor()}, {counted(os.cpu_count() or 1, 'core')}, {platform.system()} {platform.machine()}"


def _processor() -> str:
    table = Path("/proc/cpuinfo")  # on Linux platform.processor() is often empty
    if table.exists():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
