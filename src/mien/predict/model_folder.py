"""The model folder: what it says about a network, and how it is read and checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, ModelError
from mien.preprocess import Preprocess

FORMAT = 1  # version of model.json; a reader refuses newer ones
MODEL_FILE, FACTS_FILE, CARD_FILE = "model.onnx", "model.json", "CARD.md"
INT8_FILE = "model-int8.onnx"  # the same network in eight bits; not every folder has it
SHIPPED = Path(__file__).parent.parent / "models"  # one model folder each
METADATA_KEY = "mien"  # where the facts lie inside a .onnx, .keras or .h5 file


@dataclass(frozen=True, kw_only=True)
class Head:
    """One answer of the network: a distribution over its labels.

    temperature: what the logits were divided by inside the exported graph (Guo et al. 2017,
    arXiv:1706.04599); its outputs are calibrated already. 1.0 in a `.keras` file, whose outputs are not.
    threshold: below this probability the decision is 'uncertain'; the probabilities stay what they are.
    Raises ModelError for fewer than two labels, a label twice, or a number out of range.
    """

    name: str  # also the name of the output tensor
    labels: tuple[str, ...]
    temperature: float = 1.0
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
        if not 0 <= self.threshold <= 1:
            raise ModelError(f"head {self.name!r}: threshold must be from 0 to 1, got {self.threshold}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "labels": list(self.labels),
            "temperature": float(self.temperature),
            "threshold": float(self.threshold),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Build from `to_dict()`; ModelError when a field is missing, unknown or of the wrong type."""
        needed = ("name", "labels") if cls is Head else ("name", "labels", "shares")
        named = stored.get("name", "?") if isinstance(stored, Mapping) else "?"
        values = _known_fields(cls, stored, needed, f"head {named!r}")
        if not isinstance(values["labels"], list) or not all(isinstance(x, str) for x in values["labels"]):
            raise ModelError(f"head {named!r}: labels must be a list of names, got {values['labels']!r}")
        for name in ("temperature", "threshold"):
            if not isinstance(values.get(name, 1.0), int | float):
                raise ModelError(f"head {named!r}: {name} must be a number, got {values[name]!r}")
        return cls(**{**values, "labels": tuple(values["labels"])})


@dataclass(frozen=True, kw_only=True)
class Blend(Head):
    """An answer that no output of the network gives: other heads' answers, mixed.

    shares: weight of each of those heads, by name; they sum to one. Its probabilities p are the weighted mean of
    theirs, given that the answer is one of its labels, which all of those heads must know; then
    softmax(log(p) / temperature).
    """

    shares: Mapping[str, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = [share for share in self.shares.values() if isinstance(share, int | float)]
        if len(numbers) < 2 or len(numbers) < len(self.shares) or abs(math.fsum(numbers) - 1) > 1e-6:
            raise ModelError(
                f"blend {self.name!r}: shares must name two heads or more, with numbers that sum to one, got "
                f"{dict(self.shares)}"
            )

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "shares": {name: float(share) for name, share in self.shares.items()}}

    def of(self, answers: Mapping[str, NDArray[np.floating]], heads: Sequence[Head]) -> NDArray[np.float32]:
        """Mix the answers of `heads`: each (n, its labels), calibrated; returns (n, labels) float32."""
        mean = np.zeros((len(next(iter(answers.values()))), len(self.labels)))
        for head in heads:
            if share := self.shares.get(head.name):
                places = [head.labels.index(label) for label in self.labels]
                mean += share * _scaled(answers[head.name][:, places].astype(np.float64))
        mixed: NDArray[np.float32] = _scaled(mean ** (1 / self.temperature)).astype(np.float32)
        return mixed


def _scaled(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let each row sum to one; a row of zeros (another head's label was certain) becomes even."""
    total = weights.sum(axis=1, keepdims=True)
    even = np.full_like(weights, 1 / weights.shape[1])
    shares: NDArray[np.float64] = np.divide(weights, total, out=even, where=total > 0)
    return shares


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """All that one must know to use a network; model.json holds exactly this plus the file's SHA-256.

    The same facts travel inside a `.keras`, `.h5` or `.onnx` file, so that a bare file is enough as well.
    Raises ModelError without a head or with two heads of one name.
    """

    name: str
    preprocess: Preprocess
    heads: tuple[Head, ...]  # the network's outputs
    blend: Blend | None = None  # a mixture of them
    network: Mapping[str, Any] = field(
        default_factory=dict
    )  # name, parameters, macs, settings of the builder
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

    def uncalibrated(self) -> ModelFacts:
        """Return the facts for a file whose network gives raw probabilities: a `.keras` or `.h5` file."""
        raw = tuple(Head(name=head.name, labels=head.labels) for head in self.heads)
        return replace(self, heads=raw, blend=None)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes: tuples become lists, a NaN or infinity becomes None (JSON has neither)."""
        return {
            "format": FORMAT,
            "name": self.name,
            "preprocess": self.preprocess.to_dict(),
            "heads": [head.to_dict() for head in self.heads],
            "blend": self.blend.to_dict() if self.blend else None,
            "network": _plain(self.network),
            "training": _plain(self.training),
            "scores": _plain(self.scores),
            "licences": _plain(self.licences),
            "created": self.created,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ModelFacts:
        """Build from `to_dict()`. Raises ModelError on a newer format, a missing or an unknown field."""
        if not isinstance(stored, Mapping) or not isinstance(stored.get("format"), int):
            raise ModelError("the facts of the model have no format number; was this file written by mien?")
        if stored["format"] > FORMAT:
            raise ModelError(
                f"the facts of the model have format {stored['format']}, this version of mien reads up to "
                f"{FORMAT}; update mien: pip install --upgrade mien"
            )
        body = {key: value for key, value in stored.items() if key != "format"}
        values = _known_fields(cls, body, ("name", "preprocess", "heads"), "the facts of the model")
        try:
            values["preprocess"] = Preprocess.from_dict(values["preprocess"])
        except (ConfigError, TypeError) as error:
            raise ModelError(f"the preprocessing of the model cannot be used: {error}") from error
        if not isinstance(values["heads"], list):
            raise ModelError(f"heads must be a list, got {values['heads']!r}")
        values["heads"] = tuple(Head.from_dict(head) for head in values["heads"])
        if values.get("blend") is not None:
            values["blend"] = Blend.from_dict(values["blend"])
        values["scores"] = tuple(values.get("scores", ()))
        return cls(**values)

    def to_json(self) -> str:
        """Return the facts as one line of JSON, the form in which they travel inside a file."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: Path) -> ModelFacts:
        """Read `to_json()`. source: the file it came from, for the message of the ModelError."""
        return cls.from_dict(_parsed(text, source))


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model folder whose network files are those that its model.json describes.

    onnx, sha256: of the float32 network. int8: the int8 form, None where the folder has none.
    """

    facts: ModelFacts
    onnx: Path
    sha256: str
    int8: Path | None = None


def read_model_folder(folder: Path) -> ModelFolder:
    """Read model.json and check model.onnx against it.

    Raises ModelError when a file is missing, when model.json cannot be read or is of a newer format, and when
    one byte of a network file has changed.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}; make one with: mien export RUN --to {folder}")
    for name in (FACTS_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder} is not a model folder: {name} is missing; a model folder holds {MODEL_FILE}, "
                f"{FACTS_FILE} and {CARD_FILE}, as `mien export` writes them"
            )
    source = folder / FACTS_FILE
    stored = dict(_parsed(_read_text(source), source))
    hashes = {MODEL_FILE: stored.pop("sha256", None)}
    if int8 := stored.pop("sha256_int8", None):
        hashes[INT8_FILE] = int8
    try:
        facts = ModelFacts.from_dict(stored)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    for name, written in hashes.items():
        _check_hash(folder / name, written)
    return ModelFolder(
        facts=facts,
        onnx=folder / MODEL_FILE,
        sha256=str(hashes[MODEL_FILE]),
        int8=folder / INT8_FILE if INT8_FILE in hashes else None,
    )


def _check_hash(file: Path, written: Any) -> None:
    found = file_sha256(file) if file.is_file() else "missing"
    if found != written:
        raise ModelError(
            f"{file} is not the file that {FACTS_FILE} describes (SHA-256 {found[:12]}…, expected "
            f"{str(written)[:12]}…); it was changed or copied in part: copy or export the folder again"
        )


def model_path(model: str) -> Path:
    """Return where a model lies: a path that exists, or the folder of a model that ships with mien.

    Raises ModelError with the names of the shipped models for anything else.
    """
    if Path(model).exists():
        return Path(model)
    shipped = shipped_models()
    if model in shipped:
        return shipped[model]
    names = ", ".join(sorted(shipped)) or "none"
    raise ModelError(
        f"there is no model {model}; shipped with mien: {names}; or name a file or folder that exists"
    )


def shipped_models() -> dict[str, Path]:
    """Return the model folders that ship with mien, by name."""
    return {file.parent.name: file.parent for file in sorted(SHIPPED.glob(f"*/{FACTS_FILE}"))}


def write_facts(folder: Path, facts: ModelFacts) -> None:
    """Write model.json beside a model.onnx, and perhaps a model-int8.onnx, that lie in `folder` already."""
    stored = {**facts.to_dict(), "sha256": file_sha256(folder / MODEL_FILE)}
    if (folder / INT8_FILE).is_file():
        stored["sha256_int8"] = file_sha256(folder / INT8_FILE)
    text = json.dumps(stored, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / FACTS_FILE).write_text(text + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path}: {error}; copy or export the folder again") from error


def _parsed(text: str, source: Path) -> Mapping[str, Any]:
    try:
        stored = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(f"{source}: the facts are not JSON ({error}); copy or export it again") from error
    if not isinstance(stored, dict):
        raise ModelError(f"{source}: the facts must be a JSON object, got {type(stored).__name__}")
    return stored


def _known_fields(kind: type, stored: Any, needed: tuple[str, ...], what: str) -> dict[str, Any]:
    """Return `stored` as a dict after checking its keys against the dataclass `kind`."""
    if not isinstance(stored, Mapping):
        raise ModelError(f"{what} must be an object with fields, got {stored!r}")
    known = {field.name for field in fields(kind)}
    if missing := [name for name in needed if name not in stored]:
        raise ModelError(f"{what}: {', '.join(missing)} is missing; it needs {', '.join(needed)}")
    if unknown := sorted(set(stored) - known):
        raise ModelError(f"{what}: unknown field {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return dict(stored)


def _plain(value: Any) -> Any:
    """Return nested facts as JSON values; numpy numbers become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
