"""The scripts of `tools/`, imported as they import each other."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports one by its name."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module
