"""What both sides share: settings by recipe, and the network that they name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mien.train.config import TrainConfig
from mien.train.recipes import config_from, load_recipe


def settings(recipe: str | None) -> TrainConfig:
    """Return a recipe's settings, or our defaults."""
    return config_from(load_recipe(recipe) if recipe else None, {})


def built(recipe: str | None, classes: tuple[str, ...], **changes: Any) -> tuple[Any, TrainConfig]:
    """Return the recipe's network with one head over `classes`, not compiled, and its settings.

    changes: settings that differ from the recipe's.
    """
    config = replace(settings(recipe), **changes)
    return build(config, classes), config


def build(config: TrainConfig, classes: tuple[str, ...]) -> Any:
    """Return the network that the settings name, with one head over `classes`, not compiled."""
    from mien.train import backend
    from mien.train.networks import network
    from mien.train.networks.spec import NetworkRequest

    backend.prepare(config)
    spec = network(config.network)
    request = NetworkRequest(
        heads={"expression": classes},
        preprocess=spec.preprocess,
        dropout=config.dropout,
        l2=config.l2,
        weights="none",  # a backbone from random weights costs the same and needs no download
    )
    return spec.build(request)
