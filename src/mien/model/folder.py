"""The model folder: how it is found, read, checked and written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import ModelError
from mien.model.metadata import Metadata, parse_metadata

MODEL_FILE, METADATA_FILE, CARD_FILE = "model.onnx", "model.json", "CARD.md"
INT8_FILE = "model-int8.onnx"  # the same network in eight bits; not every folder has it
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")  # of files that Keras opens
# In a run folder, as `mien train` writes it: what was asked for, the network of the best epoch, its model folder.
SETTINGS_FILE, BEST_FILE, MODEL_FOLDER = "settings.json", "best.keras", "model"
SHIPPED = Path(__file__).parent.parent / "models"  # one model folder each


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model folder whose network files are those that its model.json describes.

    onnx, sha256: of the float32 network. int8: the int8 form, None where the folder has none.
    """

    metadata: Metadata
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
    for name in (METADATA_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder} is not a model folder: {name} is missing; a model folder holds {MODEL_FILE}, "
                f"{METADATA_FILE} and {CARD_FILE}, as `mien export` writes them"
            )
    source = folder / METADATA_FILE
    stored = dict(parse_metadata(_read_text(source), source))
    hashes = {MODEL_FILE: stored.pop("sha256", None)}
    if int8 := stored.pop("sha256_int8", None):
        hashes[INT8_FILE] = int8
    try:
        metadata = Metadata.from_dict(stored)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    for name, written in hashes.items():
        _check_hash(folder / name, written)
    return ModelFolder(
        metadata=metadata,
        onnx=folder / MODEL_FILE,
        sha256=str(hashes[MODEL_FILE]),
        int8=folder / INT8_FILE if INT8_FILE in hashes else None,
    )


def _check_hash(file: Path, written: Any) -> None:
    found = file_sha256(file) if file.is_file() else "missing"
    if found != written:
        raise ModelError(
            f"{file} is not the file that {METADATA_FILE} describes (SHA-256 {found[:12]}…, expected "
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
    return {file.parent.name: file.parent for file in sorted(SHIPPED.glob(f"*/{METADATA_FILE}"))}


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Write model.json beside a model.onnx, and perhaps a model-int8.onnx, that lie in `folder` already."""
    stored = {**metadata.to_dict(), "sha256": file_sha256(folder / MODEL_FILE)}
    if (folder / INT8_FILE).is_file():
        stored["sha256_int8"] = file_sha256(folder / INT8_FILE)
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
