"""The model folder: what it says about a network, and how it is read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mien.preprocess import Preprocess

FORMAT = 1  # version of model.json; a reader refuses newer ones
MODEL_FILE, FACTS_FILE, CARD_FILE = "model.onnx", "model.json", "CARD.md"


@dataclass(frozen=True, kw_only=True)
class Head:
    """One answer of the network: a distribution over its labels.

    temperature: what the logits were divided by inside the exported graph (Guo et al. 2017, arXiv:1706.04599);
    its outputs are calibrated already. 1.0 in a `.keras` file, whose outputs are not.
    threshold: below this probability the decision is 'uncertain'; the probabilities stay what they are.
    """

    name: str  # also the name of the output tensor
    labels: tuple[str, ...]
    temperature: float = 1.0
    threshold: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """All that one must know to use a network; model.json holds exactly this plus the file's SHA-256.

    The same facts travel inside a `.keras` or `.h5` file, so that a bare file is enough as well.
    """

    name: str
    preprocess: Preprocess
    heads: tuple[Head, ...]  # the first one is the default
    network: Mapping[str, Any] = field(default_factory=dict)  # name, parameters, macs, settings of the builder
    training: Mapping[str, Any] = field(default_factory=dict)  # settings, versions, data fingerprint, seconds
    scores: tuple[Mapping[str, Any], ...] = ()  # data, split, n, head, accuracy, ... as the report says them
    licences: Mapping[str, str] = field(default_factory=dict)
    created: str = ""  # ISO 8601, UTC

    # to_dict() / from_dict() to come with the reader
