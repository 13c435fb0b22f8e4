"""From a model and labelled faces to an honest report.

In: anything that `models.open_model` opens, and a `Dataset`. Out: a `Report` or a `Comparison` (`report.py`), written
by `render.py` as pages, Markdown, tables and charts. Begin with `evaluate.py`; `metrics.py` has the figures,
`significance.py` how much of them is chance, `models.py` opens what is scored.
`mien.evaluate("runs/faces-small", "faces", tta="flip")` does what `mien evaluate` does with these words.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """The package itself, which one may call: the command has its name, and Python's users expect the same word."""

    def __call__(
        self,
        model: str | Path,
        data: str | Path | Sequence[str | Path],
        *,
        to: str | Path | None = None,
        **settings: Any,
    ) -> Any:
        """Score a network as `mien evaluate MODEL DATA` does, and return the report: `.scores.accuracy`, `.to_json()`.

        data: one path or several, which are combined. to: folder for the report; None: nothing is written. settings:
        those of `EvaluateConfig`, in the command's words with `_` for `-`. Raises MienError in one line.
        """
        from mien.evaluate.config import EvaluateConfig
        from mien.evaluate.evaluate import evaluate
        from mien.files import given_path, given_paths, joined_paths
        from mien.settings import from_mapping

        config = from_mapping(EvaluateConfig, settings, "mien.evaluate")
        source = joined_paths(given_paths(data))
        return evaluate(str(model), source, config=config, to=given_path(to) if to else None)


sys.modules[__name__].__class__ = _Callable
