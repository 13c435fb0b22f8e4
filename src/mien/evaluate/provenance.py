"""How a report was made: command, versions, machine."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from mien._version import __version__

_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "scikit-learn", "keras")


def provenance(command: str) -> dict[str, object]:
    """Return command, date (ISO 8601, UTC), versions and machine as plain values."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"command": command, "date": now, "versions": versions(), "machine": machine()}


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
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _processor() -> str:
    table = Path("/proc/cpuinfo")  # on Linux platform.processor() is often empty
    if table.exists():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
