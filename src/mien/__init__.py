"""mien: facial expression recognition. Recognise expressions, train on your own pictures, evaluate, ship.

We recognise perceived expressions in a picture; we do not read feelings.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from mien._version import __version__
from mien.errors import MienError

if TYPE_CHECKING:
    from mien.faceset.extract import extract_faces as faces
    from mien.faceset.table import FaceSet
    from mien.predict.analyzer import Analyzer, load
    from mien.predict.results import Face, Faces
    from mien.serve.client import AsyncClient, Client

# ONNX Runtime's own builds write a session file on import and report usage to Microsoft. mien sends nothing anywhere.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Analyzer",
    "AsyncClient",
    "Client",
    "Face",
    "FaceSet",
    "Faces",
    "MienError",
    "__version__",
    "evaluate",
    "faces",
    "load",
    "open_dataset",
    "train",
]

# Loaded when they are asked for, so that `import mien` stays at the standard library.
_LAZY = {
    "Analyzer": "mien.predict.analyzer",
    "load": "mien.predict.analyzer",
    "Face": "mien.predict.results",
    "Faces": "mien.predict.results",
    "FaceSet": "mien.faceset.table",
    "AsyncClient": "mien.serve.client",
    "Client": "mien.serve.client",
    "faces": "mien.faceset.extract:extract_faces",
    "open_dataset": "mien.data",
}

_ROOMS = ("evaluate", "train")  # rooms that one may call, as one calls the command of that name


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"mien.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, inner = _LAZY[name].partition(":")
    value = globals()[name] = getattr(importlib.import_module(module), inner or name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
