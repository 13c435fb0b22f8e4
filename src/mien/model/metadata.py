"""All that one must know to use a network, its heads above all: a model.json, and the same in a `.keras` or `.h5`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, ModelError
from mien.files import command_without_folders, without_folders
from mien.model.preprocess import Preprocess

FORMAT = 1  # version of model.json; a reader refuses newer ones
_OF_PROBABILITIES = ("ece", "nll", "brier")  # scores of calibrated answers
METADATA_KEY = "mien"  # where the metadata lie inside a .onnx, .keras or .h5 file
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")  # of files that Keras opens


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
            mean *= np.array([self.prior[label] for label in self.labels]) ** -self.adjustment
        mixed: NDArray[np.float32] = _scaled(mean ** (1 / self.temperature)).astype(np.float32)
        return mixed


def _numbers(stored: Any) -> dict[str, float]:
    """Return the entries of a mapping that are numbers; none where it is no mapping."""
    entries = stored.items() if isinstance(stored, Mapping) else ()
    return {name: number for name, number in entries if isinstance(number, int | float)}


def _scaled(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let each row sum to one; a row of zeros (another head's label was certain) becomes even."""
    total = weights.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64]
    if total.all():
        shares = weights / total
    else:
        shares = np.divide(weights, total, out=np.full_like(weights, 1 / weights.shape[1]), where=total > 0)
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


@dataclass(frozen=True, kw_only=True)
class Features:
    """Where a network gives the numbers that its last layer answers from. tensor: name of the output, (batch, size)."""

    tensor: str
    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.tensor, str) or type(self.size) is not int or self.size < 1:
            raise ModelError(
                f"features of the model must name a tensor and its size, got {self.tensor!r} and {self.size!r}"
            )

    @classmethod
    def from_dict(cls, stored: Any) -> Features:
        """Build from what `to_dict` of the metadata holds; ModelError for anything else."""
        return cls(**known_fields(cls, stored, ("tensor", "size"), "features of the model"))


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How much less sure answers about small, doubtful and covered faces are made: a temperature divides their logits.

    Its logarithm is size * ln(below_px / px), for a face whose longer side px is below `below_px`, plus
    score * (below_score - s), for one of which mien's detector is less sure, s, than `below_score`, plus covered * p,
    p being how likely something hides a part of the face (`Classifier.probabilities_and_cover`). Other faces are
    answered as they are. See `mien.model.calibration.quality_temperature`; `tools/fit_quality.py` finds the numbers.
    """

    size: float
    score: float
    covered: float = 0.0
    below_px: float = 28.0
    below_score: float = 0.75

    def __post_init__(self) -> None:
        numbers = vars(self)
        if not all(isinstance(one, int | float) and 0 <= one < math.inf for one in numbers.values()):
            raise ModelError(f"quality of the model must hold numbers from 0 on, got {numbers}")

    @classmethod
    def from_dict(cls, stored: Any) -> Quality:
        """Build from what `to_dict` of the metadata holds; ModelError for anything else."""
        return cls(**known_fields(cls, stored, ("size", "score"), "quality of the model"))


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """All that one must know to use a network; model.json holds exactly this plus the file's SHA-256.

    The same metadata travel inside a `.keras`, `.h5` or `.onnx` file, so that a bare file is enough as well.
    Raises ModelError without a head or with two heads of one name.
    """

    name: str
    preprocess: Preprocess
    heads: tuple[Head, ...]  # the network's outputs
    blend: Blend | None = None  # a mixture of them
    features: Features | None = None  # None where the file gives none, as those of earlier versions
    quality: Quality | None = None  # None: small and doubtful faces are answered like any other
    # Name, parameters, macs, settings of the builder.
    network: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)  # settings, versions, data fingerprint, seconds
    scores: tuple[Mapping[str, Any], ...] = ()  # data, split, n, head, accuracy, ... as the report says them
    licences: Mapping[str, str] = field(default_factory=dict)
    created: str = ""  # ISO 8601, UTC

    def __post_init__(self) -> None:
        names = [head.name for head in self.heads]
        if not names or len(set(names)) != len(names):
            raise ModelError(f"a model needs one or more heads of different names, got {names}")

        if self.blend:
            known = {head.name: set(head.labels) for head in self.heads}
            for name in self.blend.shares:
                if not set(self.blend.labels) <= known.get(name, set()):
                    raise ModelError(
                        f"blend {self.blend.name!r} mixes the head {name!r}, which does not know all of its labels"
                    )

    @property
    def answers(self) -> tuple[Head, ...]:
        """All that the model can answer with: the network's heads, then the blend."""
        return (*self.heads, self.blend) if self.blend else self.heads

    def head(self, name: str | None = None) -> Head:
        """Return the answer of that name. None: the default, which is the blend or else the first head.

        Raises ModelError with the names that exist.
        """
        if name is None:
            return self.blend or self.heads[0]
        for head in self.answers:
            if head.name == name:
                return head
        raise ModelError(
            f"there is no head {name!r}; this model has: {', '.join(h.name for h in self.answers)}"
        )

    @property
    def face_detector(self) -> tuple[str, str | None] | None:
        """Name and file of the face detector that cut out the faces that it was trained on.

        None where it was trained on whole pictures, or nobody recorded it.
        """
        settings = self.training.get("settings")
        if not isinstance(settings, Mapping) or settings.get("faces") != "crop":
            return None
        file = settings.get("detector_file")
        return str(settings.get("detector") or "mien"), str(file) if file else None

    @property
    def mirrors(self) -> bool:
        """Whether it is known that the network was trained on mirror images of the pictures as well."""
        settings = self.training.get("settings")
        told = settings if isinstance(settings, Mapping) else {}
        return bool(told.get("augment") and told.get("flip"))

    def uncalibrated(self) -> Metadata:
        """Return the metadata for a file whose network gives raw probabilities: a `.keras` or `.h5` file."""
        raw = tuple(Head(name=head.name, labels=head.labels) for head in self.heads)
        known = {head.name for head in raw}
        scores = tuple(
            {key: value for key, value in score.items() if key not in _OF_PROBABILITIES}
            for score in self.scores
            if score.get("head", raw[0].name) in known
        )
        return replace(self, heads=raw, blend=None, features=None, quality=None, scores=scores)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes: tuples become lists, a NaN or infinity becomes None (JSON has neither).

        Paths of this machine stay behind.
        """
        return {
            "format": FORMAT,
            "name": self.name,
            "preprocess": self.preprocess.to_dict(),
            "heads": [head.to_dict() for head in self.heads],
            "blend": self.blend.to_dict() if self.blend else None,
            "features": vars(self.features) if self.features else None,
            "quality": dict(vars(self.quality)) if self.quality else None,
            "network": _plain(self.network),
            "training": travelling(_plain(self.training)),
            "scores": _plain(self.scores),
            "licences": _plain(self.licences),
            "created": self.created,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Metadata:
        """Build from `to_dict()`. Raises ModelError on a newer format, a missing or an unknown field."""
        if not isinstance(stored, Mapping) or not isinstance(stored.get("format"), int):
            raise ModelError(
                "the metadata of the model have no format number; was this file written by mien?"
            )
        if stored["format"] > FORMAT:
            raise ModelError(
                f"the metadata of the model have format {stored['format']}, this version of mien reads up to "
                f"{FORMAT}; update mien: pip install . in a newer copy of it"
            )
        body = {key: value for key, value in stored.items() if key != "format"}
        values = known_fields(cls, body, ("name", "preprocess", "heads"), "the metadata of the model")
        try:
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
        except (ConfigError, TypeError) as error:
            raise ModelError(f"the preprocessing of the model cannot be used: {error}") from error
        if not isinstance(values["heads"], list):
            raise ModelError(f"heads must be a list, got {values['heads']!r}")
        values["heads"] = tuple(Head.from_dict(head) for head in values["heads"])
        if values.get("blend") is not None:
            values["blend"] = Blend.from_dict(values["blend"])
        if values.get("features") is not None:
            values["features"] = Features.from_dict(values["features"])
        if values.get("quality") is not None:
            values["quality"] = Quality.from_dict(values["quality"])
        _check_kinds(values)
        values["scores"] = tuple(values.get("scores", ()))
        return cls(**values)

    def to_json(self) -> str:
        """Return the metadata as one line of JSON, the form in which they travel inside a file."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: Path) -> Metadata:
        """Read `to_json()`. source: the file it came from, for the message of the ModelError."""
        return cls.from_dict(parse_metadata(text, source))


def parse_metadata(text: str, source: Path) -> Mapping[str, Any]:
    """Return the JSON object in `text`; ModelError naming `source` for anything else."""
    try:
        stored = json.loads(text)
    # ValueError: not JSON, or a number of thousands of digits; RecursionError: thousands of levels.
    except (ValueError, RecursionError) as error:
        reason = str(error).split(";")[0]
        raise ModelError(
            f"{source}: the metadata are not JSON ({reason}); copy or export it again"
        ) from error
    if not isinstance(stored, dict):
        raise ModelError(f"{source}: the metadata must be a JSON object, got {type(stored).__name__}")
    return stored


def _check_kinds(values: Mapping[str, Any]) -> None:
    """Raise ModelError for a field that is not of its kind; heads and preprocessing check their own."""
    kinds: dict[str, tuple[type, str]] = {
        "name": (str, "text"),
        "created": (str, "text"),
        "network": (Mapping, "an object"),
        "training": (Mapping, "an object"),
        "licences": (Mapping, "an object"),
        "scores": (list, "a list"),
    }
    for name, (kind, words) in kinds.items():
        if name in values and not isinstance(values[name], kind):
            raise ModelError(f"{name} of the model must be {words}, got {type(values[name]).__name__}")
    if not all(isinstance(score, Mapping) for score in values.get("scores", ())):
        raise ModelError("scores of the model must be a list of objects")


def travelling(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a training, each absolute path in it by its last part: model folders are passed on."""
    told = dict(training)
    if "settings" in told:
        told["settings"] = without_folders(told["settings"])
    if isinstance(about := told.get("data"), Mapping) and "path" in about:
        told["data"] = {**about, "path": without_folders(about["path"])}
    if isinstance(told.get("command"), str):
        told["command"] = command_without_folders(told["command"])
    return told


def _plain(value: Any) -> Any:
    """Return nested metadata as JSON values; numpy numbers become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
