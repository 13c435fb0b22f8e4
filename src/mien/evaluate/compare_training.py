"""Training what is to be compared: networks and recipes by name, each in a run folder of its own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.data.dataset import DataConfig
from mien.errors import ConfigError
from mien.evaluate.config import EvaluateConfig
from mien.settings import setting
from mien.train.config import TrainConfig

if TYPE_CHECKING:
    from mien.terminal import ProgressBar

_SHARED = ("split", "head", "views", "resamples", "labels", "input_range", "logits")


def _same(name: str) -> Any:
    """Declare a setting of EvaluateConfig here too: same default, same help."""
    found = EvaluateConfig.__dataclass_fields__[name]
    return field(default=found.default, metadata=found.metadata)


@dataclass(frozen=True, kw_only=True)
class CompareConfig(TrainConfig):
    """What `mien compare` does: every training setting, for the networks that it trains, and how all are "
    "scored."""

    networks: tuple[str, ...] = setting((), "train these networks first, or load them where they are trained")
    recipes: tuple[str, ...] = setting((), "train these recipes first, or load them where they are trained")
    split: str | None = _same("split")
    head: str | None = _same("head")
    views: str = _same("views")
    resamples: int = _same("resamples")
    labels: tuple[str, ...] = _same("labels")
    input_range: tuple[float, ...] = _same("input_range")
    logits: bool = _same("logits")

    def evaluation(self) -> EvaluateConfig:
        """Return the part that scoring needs."""
        reading = {found.name: getattr(self, found.name) for found in fields(DataConfig)}
        shared = {name: getattr(self, name) for name in (*_SHARED, "faces", "size", "colour")}
        return EvaluateConfig(**reading, **shared)


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
    from mien.train.recipes import config_from, load_recipe
    from mien.train.run import train
    from mien.train.run_folder import default_folder

    if "network" in asked or "init_from" in asked:
        raise ConfigError("name what to compare with --networks; --network and --from are for mien train")
    configs = {name: config_from(None, {**asked, "network": name}) for name in networks}
    flags = {name: f"--network {shlex.quote(name)}" for name in networks}
    for name in recipes:
        recipe = load_recipe(name)
        if recipe.name in configs:
            raise ConfigError(f"{recipe.name} is asked for twice; leave it out of --networks or --recipes")
        configs[recipe.name] = config_from(recipe, asked)
        flags[recipe.name] = f"--recipe {shlex.quote(name)}"
    folders = []
    for name, config in configs.items():
        folder = default_folder(data, name, runs)
        show.line(f"{name}: {folder}")
        command = f"mien train {shlex.quote(str(data))} {flags[name]} --out {shlex.quote(str(folder))}"
        train(config, data, folder, command=command, show=show)
        folders.append(folder)
    return folders
