"""`compare`: several models on the same pictures, one table, and whether the best two differ at all."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mien.data.dataset import DataConfig
from mien.errors import ConfigError
from mien.evaluate.config import EvaluateConfig
from mien.evaluate.evaluate import check_packages, choose_split, evaluate_on
from mien.evaluate.formatting import percent
from mien.evaluate.models import Scorer, open_as
from mien.evaluate.profile import Cost, cost_of
from mien.evaluate.provenance import how_made
from mien.evaluate.report import DataSummary, Report, plain
from mien.evaluate.significance import PairedTest, paired_test
from mien.terminal import OnStage

FORMAT = 1  # version of comparison.json


@dataclass(frozen=True, eq=False)
class Row:
    """One model of a comparison."""

    name: str
    report: Report
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        scores, model = self.report.scores, self.report.model
        return {
            "name": self.name,
            "path": model.path,
            "head": model.head,
            "accuracy": scores.accuracy,
            "accuracy_interval": scores.accuracy_interval.to_dict(),
            "accuracy_without_copies": getattr(self.report.without_copies, "accuracy", None),
            "balanced_accuracy": scores.balanced_accuracy,
            "macro_f1": scores.macro_f1,
            "ece": scores.ece,
            "nll": scores.nll,
            **self.cost.to_dict(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Rows from the most accurate to the least. best_two: None for a single model."""

    data: DataSummary
    views: Mapping[str, str]
    rows: tuple[Row, ...]
    best_two: PairedTest | None
    notes: tuple[str, ...]
    made: Mapping[str, Any]

    def headline(self) -> str:
        """Return the result in one line."""
        best = self.rows[0]
        if self.best_two is None:
            return f"{best.name}: accuracy {percent(best.report.scores.accuracy)}"
        return self.best_two.sentence()

    def to_dict(self) -> dict[str, Any]:
        values = {
            "format": FORMAT,
            "data": self.data.to_dict(),
            "views": dict(self.views),
            "models": [row.to_dict() for row in self.rows],
            "best_two": self.best_two.to_dict() if self.best_two else None,
            "notes": list(self.notes),
            "made": dict(self.made),
        }
        return {key: plain(value) for key, value in values.items()}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


def compare(
    models: Sequence[str | Path],
    data: Path,
    *,
    config: DataConfig | None = None,
    out: Path | None = None,
    command: str = "",
    progress: OnStage | None = None,
) -> Comparison:
    """Score models on the same pictures and measure what they cost; write the folder `out` if one is named.

    models, config and the default split: as in `evaluate`. Raises ConfigError for no models and a model
    twice, ModelError, DataError and OutputError, each with one line.
    """
    if not models:
        raise ConfigError("nothing to compare; name models, or train some with --networks or --recipes")
    check_packages()
    settings = EvaluateConfig.reading_as(config or EvaluateConfig())
    scorers = [open_as(model, settings) for model in models]
    dataset, split = choose_split(data, scorers, settings)
    settings = replace(settings, split=split)
    rows = []
    for name, scorer in zip(_names(models, scorers), scorers, strict=True):
        report = evaluate_on(scorer, dataset, settings, progress=progress)
        rows.append(Row(name, report, cost_of(scorer)))
    rows.sort(key=lambda row: -row.report.scores.accuracy)
    words = " ".join(shlex.quote(str(word)) for word in (data, *models))
    comparison = Comparison(
        data=rows[0].report.data,
        views=rows[0].report.views,
        rows=tuple(rows),
        best_two=_tested(rows, settings) if len(rows) > 1 else None,
        notes=_notes(rows),
        made=how_made(command or f"mien compare {words}"),
    )
    if out is not None:
        from mien.evaluate.compare_writing import write_comparison

        write_comparison(comparison, out)
    return comparison


def _tested(rows: Sequence[Row], config: EvaluateConfig) -> PairedTest:
    first, second = rows[:2]
    return paired_test(
        first.name,
        second.name,
        first.report.predictions.right,
        second.report.predictions.right,
        resamples=config.resamples,
        seed=config.seed,
    )


def _names(models: Sequence[str | Path], scorers: Sequence[Scorer]) -> list[str]:
    """Return the models' own names, or what the user called them where two are the same."""
    own = [scorer.metadata.name for scorer in scorers]
    names = [name if own.count(name) == 1 else str(model) for name, model in zip(own, models, strict=True)]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{repeated[0]} is named more than once; name each model once")
    return names


def _notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return notes that hold for all models once, the others with the model's name."""
    notes: list[str] = []
    for row in rows:
        for note in row.report.notes:
            shared = all(note in other.report.notes for other in rows)
            text = note if shared else f"{row.name}: {note}"
            if text not in notes:
                notes.append(text)
    return tuple(notes)
