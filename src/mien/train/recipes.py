"""Recipes: named experiments, each one TOML file with its settings, its source and what to expect of it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mien.errors import ConfigError
from mien.files import shell_word
from mien.settings import from_mapping, to_mapping
from mien.train.config import TrainConfig
from mien.train.run_folder import default_folder

DEFAULT = "default"  # mien's own defaults: a recipe without a file, because TrainConfig is their home
_TABLES = ("recipe", "expected", "train", "phases")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The table [recipe]: what it is, for a reader."""

    description: str
    source: str
    data: str = ""  # what the source trained on, in words
    published: str = ""  # the source's own figure, with its data and split; empty where it has none
    command: str = ""  # how to run it; empty: `mien train DATA --recipe NAME`


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The table [expected]: what we measured, so that a reader knows when a run went wrong."""

    score: str  # with data and split
    time: str
    hardware: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named experiment. settings: TrainConfig's fields by name; what is left out is the default."""

    name: str
    description: str
    source: str
    data: str = ""
    published: str = ""
    expected: Expected | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with mien, `default` first."""
    files = resources.files("mien").joinpath("recipes").iterdir()
    return (
        DEFAULT,
        *sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")),
    )


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe that comes with mien by name, or a file of one's own: anything that ends in .toml.

    Raises ConfigError with one line that names the file: unknown recipe, broken TOML, unknown table or
    setting, value that is not allowed.
    """
    if name_or_path == DEFAULT:
        return Recipe(
            name=DEFAULT,
            description="mien's own defaults: the small network with all that helps it",
            source="mien",
            command="mien train DATA",
        )
    if name_or_path.endswith(".toml"):
        return _parsed(_text_of(Path(name_or_path)), Path(name_or_path).stem, name_or_path)
    if name_or_path not in recipe_names():
        near = difflib.get_close_matches(name_or_path, recipe_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(recipe_names())};"
        raise ConfigError(f"there is no recipe {name_or_path!r}; {hint} or pass the path of a .toml file")
    file = resources.files("mien").joinpath("recipes", f"{name_or_path}.toml")
    return _parsed(file.read_text(encoding="utf-8"), name_or_path, f"recipe {name_or_path}")


def config_from(recipe: Recipe | None, options: Mapping[str, Any]) -> TrainConfig:
    """Lay the command's options over the recipe, and the recipe over the defaults.

    options: names of TrainConfig's fields to values, only those that the user gave. An option replaces the
    value wherever the recipe gives one, in later phases as well: `epochs=1` makes every phase one epoch long,
    and `unfreeze=50` changes only the phase that unfreezes. Raises ConfigError on unknown names, bad values.
    """
    settings = dict(recipe.settings) if recipe else {}
    phases = [dict(phase) for phase in settings.get("phases", ())]
    if phases:
        settings["phases"] = phases
    for name, value in options.items():
        for part in [part for part in (settings, *phases) if name in part] or [settings]:
            part[name] = value
    return _checked(settings, "settings")


def default_run(
    data: Path,
    config: TrainConfig,
    recipe: Recipe | None,
    options: Mapping[str, Any],
    runs: Path = Path("runs"),
) -> Path:
    """Return the run folder of a training of which nobody said where it goes.

    config: of the recipe and the options, see `config_from`.
    """
    settings = departures(config, recipe, options)
    if recipe is None:  # then the folder is named after the network
        settings.pop("network", None)
    return default_folder(data, recipe.name if recipe else config.network, runs, settings)


def departures(config: TrainConfig, recipe: Recipe | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not as the recipe or the defaults have them, as plain values by name."""
    usual = to_mapping(config_from(recipe, {}))
    return {
        name: value for name, value in to_mapping(config).items() if name in options and value != usual[name]
    }


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the recipe {path}: {error.strerror}; name a .toml file, or one of: "
            f"{', '.join(recipe_names())}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the recipe {path} is not text in UTF-8 ({error.reason}); save it as UTF-8"
        ) from error


def _parsed(text: str, name: str, source: str) -> Recipe:
    """source: how messages call the file."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}; see mien's own recipes for the form") from error
    if unknown := sorted(set(tables) - set(_TABLES)):
        raise ConfigError(f"{source}: there is no table {unknown[0]!r}; known: {', '.join(_TABLES)}")
    about = {"description": f"recipe {name}", "source": source, **_table(tables, "recipe", source)}
    metadata = from_mapping(Facts, about, f"{source}, table recipe")
    expected = _table(tables, "expected", source)
    if expected and (missing := {"score", "time", "hardware"} - set(expected)):
        raise ConfigError(f"{source}: table expected lacks {', '.join(sorted(missing))}")
    settings = _settings(tables, source)
    return Recipe(
        name=name,
        description=metadata.description,
        source=metadata.source,
        data=metadata.data,
        published=metadata.published,
        expected=from_mapping(Expected, expected, f"{source}, table expected") if expected else None,
        settings=settings,
        command=metadata.command
        or f"mien train DATA --recipe {shell_word(source) if source.endswith('.toml') else name}",
    )


def _settings(tables: Mapping[str, Any], source: str) -> dict[str, Any]:
    settings = dict(_table(tables, "train", source))
    if "phases" in settings:
        raise ConfigError(f"{source}: write later phases as [[phases]], not inside the table train")
    phases = tables.get("phases", [])
    if not (isinstance(phases, list) and all(isinstance(phase, dict) for phase in phases)):
        raise ConfigError(f"{source}: write each later phase as a table of its own, [[phases]]")
    if phases:
        settings["phases"] = tuple(phases)
    _checked(settings, source)
    return settings


def _table(tables: Mapping[str, Any], name: str, source: str) -> Mapping[str, Any]:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{source}: {name} must be a table, [{name}], got {table!r}")
    return table


def _checked(settings: Mapping[str, Any], source: str) -> TrainConfig:
    """Build the config with all its phases, so that a mistake in the last one shows before the first runs."""
    try:
        config = from_mapping(TrainConfig, settings, source)
        config.in_phases()
    except ConfigError as error:
        if str(error).startswith(source):
            raise
        raise ConfigError(f"{source}: {error}") from error
    return config
