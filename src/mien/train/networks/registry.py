"""Every network that can be asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mien.errors import ConfigError
from mien.preprocess import Preprocess


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """What a builder is asked for.

    heads: name of each output -> its labels, in order; the output layer carries the head's name and ends in a
    float32 softmax. preprocess: the input is (size, size, channels) float32 in [0, 255], named `faces`.
    """

    heads: Mapping[str, tuple[str, ...]]
    preprocess: Preprocess
    dropout: float | None = None  # None: the network's own
    l2: float | None = None  # None: the network's own
    weights: str = "imagenet"  # backbones only: imagenet, none, or the path of a weight file


@dataclass(frozen=True, kw_only=True)
class Network:
    """A builder and what it wants to be fed with unless the user says otherwise."""

    name: str
    build: Callable[[NetworkRequest], Any]  # returns a keras.Model
    preprocess: Preprocess
    several_heads: bool = False  # whether it can carry a second head (the originals cannot)
    source: str = ""  # paper or project, one line


def own_networks() -> Mapping[str, Network]:
    """Return the networks that mien itself builds, by name."""
    from mien.train.networks import reference_models, small

    return {**small.NETWORKS, **reference_models.NETWORKS}


def network(name: str) -> Network:
    """Return the network of that name; ConfigError with the known names otherwise."""
    from mien.train.networks import backbones

    known = own_networks()
    if name in known:
        return known[name]
    if found := backbones.find(name):
        return found
    raise ConfigError(
        f"there is no network {name!r}; known: {', '.join(known)}, "
        f"and these of keras.applications: {', '.join(backbones.names())}"
    )
