"""Several models on the same pictures: trained first where asked, one row each, and whether the best two differ."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.data.dataset import DataConfig
from mien.errors import ConfigError
from mien.evaluate.config import EvaluateConfig
from mien.evaluate.evaluate import check_packages, evaluate_on
from mien.evaluate.models import Scorer, open_as
from mien.evaluate.profile import profile, provenance
from mien.evaluate.report import Comparison, Row
from mien.evaluate.selection import choose_for_each
from mien.evaluate.significance import PairedTest, paired_test
from mien.files import separate_paths, shell_word
from mien.model.views import AUTO, described
from mien.settings import setting, setting_of
from mien.terminal import OnStage
from mien.train.config import TrainConfig

if TYPE_CHECKING:
    from mien.terminal import ProgressBar


_TRAINED_WITH = ("faces", "detector", "detector_file", "size", "colour")
_SHARED = ("split", "head", "tta", "resamples", "labels", "input_range", "logits")


def compare(
    models: Sequence[str | Path],
    data: Path,
    *,
    config: DataConfig | None = None,
    command: str = "",
    progress: OnStage | None = None,
) -> Comparison:
    """Score models on the same pictures and measure what they cost; `render.write_comparison` writes it.

    models, config and the default split: as in `evaluate`; each model sees faces cut as in its own training. Raises
    ConfigError for no models and a model twice, ModelError, DataError and OutputError, each with one line.
    """
    if not models:
        raise ConfigError("nothing to compare; name models, or train some with --networks or --recipes")
    check_packages()
    settings = EvaluateConfig.reading_as(config or EvaluateConfig())
    scorers = [open_as(model, settings) for model in models]
    datasets, split, read = choose_for_each(data, scorers, settings)
    settings = replace(read, split=split)
    rows = []
    for name, scorer, dataset in zip(_names(models, scorers), scorers, datasets, strict=True):
        report = evaluate_on(scorer, dataset, settings, progress=progress, quality=False)
        rows.append(Row(name, report, profile(scorer)))
    rows.sort(key=lambda row: -row.report.scores.accuracy)
    words = " ".join(shell_word(word) for word in (data, *models))
    return Comparison(
        data=rows[0].report.data,
        tta=_views(rows),
        rows=tuple(rows),
        best_two=_tested(rows, settings) if len(rows) > 1 else None,
        notes=_notes(rows),
        provenance=provenance(
            command or f"mien compare {words}", [*(one.path for one in scorers), *separate_paths(data)]
        ),
    )


def _views(rows: Sequence[Row]) -> Mapping[str, str]:
    told = [row.report.tta for row in rows]
    return told[0] if all(one == told[0] for one in told) else described(AUTO)


def _tested(rows: Sequence[Row], config: EvaluateConfig) -> PairedTest:
    first, second = rows[:2]
    return paired_test(
        first.name,
        second.name,
        first.report.predictions.right,
        second.report.predictions.right,
        resamples=config.resamples,
        seed=config.seed,
        groups=first.report.predictions.groups,
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


@dataclass(frozen=True, kw_only=True)
class CompareConfig(TrainConfig):
    """What `mien compare` does: every training setting, for the networks that it trains, and how all are scored."""

    networks: tuple[str, ...] = setting((), "train these networks first, or load them where they are trained")
    recipes: tuple[str, ...] = setting((), "train these recipes first, or load them where they are trained")
    split: str | None = setting_of(EvaluateConfig, "split")
    head: str | None = setting_of(EvaluateConfig, "head")
    tta: str = setting_of(EvaluateConfig, "tta")
    resamples: int = setting_of(EvaluateConfig, "resamples")
    labels: tuple[str, ...] = setting_of(EvaluateConfig, "labels")
    input_range: tuple[float, ...] = setting_of(EvaluateConfig, "input_range")
    logits: bool = setting_of(EvaluateConfig, "logits")

    def evaluation(self) -> EvaluateConfig:
        """Return the part that scoring needs."""
        reading = {found.name: getattr(self, found.name) for found in fields(DataConfig)}
        shared = {name: getattr(self, name) for name in (*_SHARED, *_TRAINED_WITH)}
        return EvaluateConfig(**{**reading, **shared})

    def _check_labels(self) -> None:
        """The labels of external networks are checked where they are used, those of the data as everywhere."""


def train_several(
    data: Path,
    runs: Path,
    *,
    networks: Sequence[str] = (),
    recipes: Sequence[str] = (),
    asked: Mapping[str, Any],
    show: ProgressBar,
) -> list[Path]:
    """Train each on `data` into runs/DATA-NAME, where `mien train` puts it too; finished runs are loaded.

    asked: settings of TrainConfig that hold for all of them. Returns the run folders, networks first. Raises
    ConfigError before anything is trained where a name or a setting is wrong.
    """
    from mien.train.recipes import config_from, default_run, load_recipe
    from mien.train.run import train

    if "network" in asked or "init_from" in asked:
        raise ConfigError("name what to compare with --networks; --network and --from are for mien train")
    if "labels" in asked:  # the words that are no pairs are for foreign networks
        asked = {**asked, "labels": tuple(word for word in asked["labels"] if "=" in word)}
    configs = {name: config_from(None, {**asked, "network": name}) for name in networks}
    flags = {name: f"--network {shlex.quote(name)}" for name in networks}
    places = {name: default_run(data, config, None, asked, runs) for name, config in configs.items()}
    for name in recipes:
        recipe = load_recipe(name)
        if recipe.name in configs:
            raise ConfigError(f"{recipe.name} is asked for twice; leave it out of --networks or --recipes")
        configs[recipe.name] = config_from(recipe, asked)
        places[recipe.name] = default_run(data, configs[recipe.name], recipe, asked, runs)
        flags[recipe.name] = f"--recipe {shlex.quote(name)}"
    folders = []
    for name, config in configs.items():
        folder = places[name]
        show.line(f"{name}: {folder}")
        command = f"mien train {shell_word(data)} {flags[name]} --to {shell_word(folder)}"
        train(config, data, folder, command=command, show=show)
        folders.append(folder)
    return folders
