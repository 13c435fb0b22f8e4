"""How often expressions occur where a network is used: Bayes' rule on its calibrated probabilities.

A network learns how often each label occurred in its training pictures, and answers accordingly: where it is not sure,
it says what is common. That is right for pictures in which the labels are as common (`everyday`) and wrong where they
are not, such as a set with as many faces of each kind (`balanced`) or a collection whose shares one knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.labels import canonical
from mien.model.metadata import Blend, Head, Metadata

EVERYDAY, BALANCED = "everyday", "balanced"
_LEAST = 1e-4  # of a share: below it the label would be ruled out by what is only a guess


@dataclass(frozen=True)
class Prior:
    """What is taken for granted about how often labels occur. name: as results state it.

    shares: of labels; the others share what is left evenly. Raises ConfigError for numbers that are no shares.
    """

    name: str = EVERYDAY
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = list(self.shares.values())
        if self.name not in (EVERYDAY, BALANCED) and not numbers:
            raise ConfigError(_wanted(self.name))
        if any(not (isinstance(one, int | float) and math.isfinite(one) and one >= 0) for one in numbers):
            raise ConfigError(f"the shares of a prior must be numbers from 0 on, got {dict(self.shares)}")
        if numbers and (sum(numbers) <= 0 or sum(numbers) > 1 + 1e-6):
            raise ConfigError(f"the shares of a prior must sum to one at most, got {sum(numbers):g}")

    def over(self, labels: tuple[str, ...]) -> NDArray[np.float64]:
        """Return the share of each label, (labels,), summing to one; ConfigError for a label that is not among them."""
        places = {canonical(label): place for place, label in enumerate(labels)}
        given = {canonical(label): float(share) for label, share in self.shares.items()}
        if unknown := sorted(set(given) - set(places)):
            raise ConfigError(f"the prior names {', '.join(unknown)}; the labels are: {', '.join(labels)}")
        rest = len(labels) - len(given)
        shares = np.full(len(labels), (1 - sum(given.values())) / rest if rest else 0.0)
        for label, share in given.items():
            shares[places[label]] = share
        shares = np.maximum(shares, _LEAST)
        return np.asarray(shares / shares.sum(), np.float64)


def read_prior(given: str | Mapping[str, float] | Prior | None) -> Prior:
    """Return what a user named: `everyday`, `balanced`, or shares, as a mapping or as `happy=0.4,neutral=0.4`.

    >>> read_prior("happy=0.5, sad=0.2").shares
    {'happy': 0.5, 'sad': 0.2}
    """
    if given is None or isinstance(given, Prior):
        return given or Prior()
    if isinstance(given, Mapping):
        return Prior(_spelt(given), dict(given))
    if not isinstance(given, str):
        raise ConfigError(_wanted(given))
    if given in (EVERYDAY, BALANCED):
        return Prior(given)
    shares: dict[str, float] = {}
    for part in given.split(","):
        label, equals, share = part.partition("=")
        try:
            shares[label.strip()] = float(share)
        except ValueError:
            raise ConfigError(_wanted(given)) from None
        if not equals or not label.strip():
            raise ConfigError(_wanted(given))
    return Prior(_spelt(shares), shares)


def reweighting(prior: Prior, head: Head, metadata: Metadata) -> NDArray[np.float64] | None:
    """Return by what each label's probability is multiplied before all are scaled to sum to one; None: nothing to do.

    Bayes' rule: p(label | face) is in proportion to p(face | label) p(label), so a probability that was calibrated
    under one prior is divided by that and multiplied by the other (Saerens et al. 2002,
    doi:10.1162/089976602753284446). Raises ConfigError where the network does not say how often its labels occurred in
    training.
    """
    if prior.name == EVERYDAY:
        return None
    return prior.over(head.labels) / base_rates(head, metadata)


def base_rates(head: Head, metadata: Metadata) -> NDArray[np.float64]:
    """Return the share of each label that is inside the head's answers, (labels,), summing to one."""
    if isinstance(head, Blend) and head.prior:
        # The blend has taken `adjustment` of the training shares out, and divides the logits by its temperature.
        shares = np.array([head.prior[label] for label in head.labels]) ** (1 - head.adjustment)
    else:
        data = metadata.training.get("data")
        counts = (data or {}).get("counts", {}).get("train", {}) if isinstance(data, Mapping) else {}
        shares = np.array([float(counts.get(label, 0)) for label in head.labels])
    if not shares.all():
        raise ConfigError(
            f"the network {metadata.name} does not say how often the labels of its head {head.name!r} occurred in "
            "training, so that no other prior can be put in its place; choose another head, or leave the prior out"
        )
    return np.asarray(shares / shares.sum(), np.float64)


def _spelt(shares: Mapping[str, float]) -> str:
    return ",".join(f"{label}={share:g}" for label, share in shares.items())


def _wanted(given: object) -> str:
    return f"a prior must be {EVERYDAY}, {BALANCED}, or shares such as happy=0.4,neutral=0.4, got {given!r}"
