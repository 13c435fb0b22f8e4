"""Networks by name.

In: a name, then a `NetworkRequest` (`spec.py`). Out: a Keras network that takes levels 0-255 and ends in a softmax a
head. Begin with `network`; looking a name up imports Keras, this package itself does not. `small.py` holds
mien's own, `backbones` is keras.applications, `reference_models` the networks of the projects before mien.
"""

from __future__ import annotations

from collections.abc import Mapping

from mien.errors import ConfigError
from mien.train.networks.spec import NetworkSpec


def own_networks() -> Mapping[str, NetworkSpec]:
    """Return the networks that mien itself builds, by name."""
    from mien.train.networks import lite0, reference_models, small

    return {**small.NETWORKS, **lite0.NETWORKS, **reference_models.NETWORKS}


def network(name: str) -> NetworkSpec:
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
