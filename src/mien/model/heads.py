"""What a network answers: its heads, and a blend of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Head:
    """One answer of the network: a distribution over its labels.

    temperature: what the logits were divided by inside the exported graph (Guo et al. 2017,
    arXiv:1706.04599); its outputs are calibrated already. 1.0 in a `.keras` file, whose outputs are not.
    smoothing: what training spread evenly over the labels of every answer (label smoothing) and the graph takes out
    again, after the temperature: see `mien.model.calibration.without_smoothing`. 0.0 in a `.keras` file.
    threshold: below this probability the decision is 'uncertain'; the probabilities stay what they are.
    Raises ModelError for fewer than two labels, a label twice, or a number out of range.
    """

    name: str  # also the name of the output tensor
    labels: tuple[str, ...]
    temperature: float = 1.0
    smoothing: float = 0.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            raise ModelError("a head has an empty name; name it like the network's output layer")
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ModelError(
                f"head {self.name!r} has the labels {list(self.labels)}; it needs two or more, each once, "
                "in the order of the network's outputs"
            )
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ModelError(f"head {self.name!r}: temperature must be above 0, got {self.temperature}")
        if not 0 <= self.smoothing < 1:
            raise ModelError(f"head {self.name!r}: smoothing must be from 0 to below 1, got {self.smoothing}")
        if not 0 <= self.threshold <= 1:
            raise ModelError(f"head {self.name!r}: threshold must be from 0 to 1, got {self.threshold}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "labels": list(self.labels),
            "temperature": float(self.temperature),
            "smoothing": float(self.smoothing),
            "threshold": float(self.threshold),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Build from `to_dict()`; ModelError when a field is missing, unknown or of the wrong type."""
        needed = ("name", "labels") if cls is Head else ("name", "labels", "shares")
        named = stored.get("name", "?") if isinstance(stored, Mapping) else "?"
        values = known_fields(cls, stored, needed, f"head {named!r}")
        if not isinstance(values["name"], str):
            raise ModelError(f"the name of a head must be text, got {values['name']!r}")
        if not isinstance(values["labels"], list) or not all(isinstance(x, str) for x in values["labels"]):
            raise ModelError(f"head {named!r}: labels must be a list of names, got {values['labels']!r}")
        for name in ("temperature", "smoothing", "threshold"):
            if not isinstance(values.get(name, 0.0), int | float):
                raise ModelError(f"head {named!r}: {name} must be a number, got {values[name]!r}")
        return cls(**{**values, "labels": tuple(values["labels"])})


@dataclass(frozen=True, kw_only=True)
class Blend(Head):
    """An answer that no output of the network gives: other heads' answers, mixed.

    shares: weight of each of those heads, by name; they sum to one. Its probabilities p are the weighted mean of
    theirs, given that the answer is one of its labels, which all of those heads must know; then
    softmax((log(p) - adjustment * log(prior)) / temperature).
    prior: share of each label in the training pictures. adjustment: how much of it is taken out of the answers, tau
    in the logit adjustment of Menon et al. 2021 (arXiv:2007.07314); 0: nothing, the prior is not needed then.
    """

    shares: Mapping[str, float]
    prior: Mapping[str, float] = field(default_factory=dict)
    adjustment: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoothing:
            raise ModelError(
                f"blend {self.name!r}: smoothing belongs to the heads that it mixes; leave it out"
            )
        numbers = _numbers(self.shares)
        if len(numbers) < 2 or len(numbers) < len(self.shares) or abs(math.fsum(numbers.values()) - 1) > 1e-6:
            raise ModelError(
                f"blend {self.name!r}: shares must name two heads or more, with numbers that sum to one, got "
                f"{self.shares!r}"
            )
        if not (isinstance(self.adjustment, int | float) and 0 <= self.adjustment <= 1):
            raise ModelError(f"blend {self.name!r}: adjustment must be from 0 to 1, got {self.adjustment!r}")
        prior = _numbers(self.prior)
        if self.adjustment and (set(prior) != set(self.labels) or min(prior.values()) <= 0):
            raise ModelError(
                f"blend {self.name!r}: with an adjustment, prior must give each of its labels a share above 0, got "
                f"{self.prior!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        numbers = {"shares": self.shares, "prior": self.prior}
        plain = {name: {key: float(value) for key, value in one.items()} for name, one in numbers.items()}
        return {**super().to_dict(), **plain, "adjustment": float(self.adjustment)}

    def of(self, answers: Mapping[str, NDArray[np.floating]], heads: Sequence[Head]) -> NDArray[np.float32]:
        """Mix the answers of `heads`: each (n, its labels), calibrated; returns (n, labels) float32."""
        mean = np.zeros((len(next(iter(answers.values()))), len(self.labels)))
        for head in heads:
            if share := self.shares.get(head.name):
                places = [head.labels.index(label) for label in self.labels]
                mean += share * _scaled(answers[head.name][:, places].astype(np.float64))
        if self.adjustment:
            mean = _scaled(mean * np.array([self.prior[label] for label in self.labels]) ** -self.adjustment)
        mixed: NDArray[np.float32] = _scaled(mean ** (1 / self.temperature)).astype(np.float32)
        return mixed


def _numbers(stored: Any) -> dict[str, float]:
    """Return the entries of a mapping that are numbers; none where it is no mapping."""
    entries = stored.items() if isinstance(stored, Mapping) else ()
    return {name: number for name, number in entries if isinstance(number, int | float)}


def _scaled(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let each row sum to one; a row of zeros (another head's label was certain) becomes even."""
    total = weights.sum(axis=1, keepdims=True)
    even = np.full_like(weights, 1 / weights.shape[1])
    shares: NDArray[np.float64] = np.divide(weights, total, out=even, where=total > 0)
    return shares


def known_fields(kind: type, stored: Any, needed: tuple[str, ...], what: str) -> dict[str, Any]:
    """Return `stored` as a dict after checking its keys against the dataclass `kind`."""
    if not isinstance(stored, Mapping):
        raise ModelError(f"{what} must be an object with fields, got {stored!r}")
    known = {field.name for field in fields(kind)}
    if missing := [name for name in needed if name not in stored]:
        raise ModelError(f"{what}: {', '.join(missing)} is missing; it needs {', '.join(needed)}")
    if unknown := sorted(set(stored) - known):
        raise ModelError(f"{what}: unknown field {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return dict(stored)
