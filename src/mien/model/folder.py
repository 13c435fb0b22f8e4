"""The model folder on disk: found, read, checked and written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mien.errors import ModelError
from mien.files import shell_word
from mien.model.metadata import Metadata, parse_metadata, travelling

MODEL_FILE, METADATA_FILE, CARD_FILE = "model.onnx", "model.json", "CARD.md"
INT8_FILE = "model-int8.onnx"  # the same network in eight bits; not every folder has it
# In a run folder, as `mien train` writes it: what was asked for, the network of the best epoch, its model folder.
SETTINGS_FILE, BEST_FILE, MODEL_FOLDER = "settings.json", "best.keras", "model"
SHIPPED = Path(__file__).parent.parent / "models"  # one model folder each


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model folder whose network files are those that its model.json describes.

    onnx: the float32 network; int8: its int8 form. A folder has one of them or both.
    """

    path: Path
    metadata: Metadata
    onnx: Path | None
    int8: Path | None


def read_model_folder(folder: Path) -> ModelFolder:
    """Read model.json and check the network files against it.

    Raises ModelError when a file is missing, when model.json cannot be read or is of a newer format, and when
    one byte of a network file has changed.
    """
    if not folder.is_dir():
        raise ModelError(
            f"there is no model folder {folder}; make one with: mien export RUN --to {shell_word(folder)}"
        )
    if not is_model_folder(folder):
        missing = MODEL_FILE if (folder / METADATA_FILE).is_file() else METADATA_FILE
        raise ModelError(
            f"{folder} is not a model folder: {missing} is missing; a model folder holds {MODEL_FILE}, "
            f"{METADATA_FILE} and {CARD_FILE}, as `mien export` writes them"
        )
    source = folder / METADATA_FILE
    stored = dict(parse_metadata(_read_text(source), source))
    written = {MODEL_FILE: stored.pop("sha256", None), INT8_FILE: stored.pop("sha256_int8", None)}
    hashes = {name: one for name, one in written.items() if one} or {MODEL_FILE: None}
    try:
        metadata = Metadata.from_dict(stored)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    for name, written in hashes.items():
        _check_hash(folder / name, written)
    if folder.name == MODEL_FOLDER:
        metadata = with_run_paths(metadata, folder.parent)
    return ModelFolder(
        path=folder,
        metadata=metadata,
        onnx=folder / MODEL_FILE if MODEL_FILE in hashes else None,
        int8=folder / INT8_FILE if INT8_FILE in hashes else None,
    )


def with_run_paths(metadata: Metadata, run: Path) -> Metadata:
    """Return the metadata with the paths that do not travel, as settings.json of their own run has them."""
    try:
        stored = json.loads((run / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no run, or a damaged one
        return metadata
    paths = {
        name: stored[name]
        for name in ("settings", "data")
        if name in stored and travelling({name: stored[name]}) == {name: metadata.training.get(name)}
    }
    return replace(metadata, training={**metadata.training, **paths})


def is_model_folder(folder: Path) -> bool:
    """Whether model.json and a network file lie in `folder`."""
    networks = (folder / name for name in (MODEL_FILE, INT8_FILE))
    return (folder / METADATA_FILE).is_file() and any(file.is_file() for file in networks)


def _check_hash(file: Path, written: Any) -> None:
    found = file_sha256(file) if file.is_file() else "missing"
    if found != written:
        raise ModelError(
            f"{file} is not the file that {METADATA_FILE} describes (SHA-256 {found[:12]}…, expected "
            f"{str(written)[:12]}…); it was changed or copied in part: copy or export the folder again"
        )


def model_path(model: str) -> Path:
    """Return where a model lies: the folder of a model that ships with mien, by its name, or a path that exists.

    A shipped name means the shipped model wherever one stands, also beside a clone of mien in a folder `mien`; a folder
    of that name is meant by `./mien`. Raises ModelError with the names of the shipped models for anything else.
    """
    shipped = shipped_models()
    if model in shipped:
        return shipped[model]
    if model.strip() and Path(model).exists():
        return Path(model)
    names = ", ".join(sorted(shipped)) or "none"
    raise ModelError(
        f"there is no model {model or repr(model)}; shipped with mien: {names}; or name a file or folder that exists"
    )


def shipped_models() -> dict[str, Path]:
    """Return the model folders that ship with mien, by name."""
    return {file.parent.name: file.parent for file in sorted(SHIPPED.glob(f"*/{METADATA_FILE}"))}


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Write model.json beside a model.onnx, a model-int8.onnx or both, that lie in `folder` already."""
    stored = metadata.to_dict()
    for key, name in (("sha256", MODEL_FILE), ("sha256_int8", INT8_FILE)):
        if (folder / name).is_file():
            stored[key] = file_sha256(folder / name)
    text = json.dumps(stored, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / METADATA_FILE).write_text(text + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path}: {error}; copy or export the folder again") from error
