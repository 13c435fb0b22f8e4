"""The file beside detector.onnx: what one must know to use our face detector, and how both are read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.errors import ConfigError, ModelError
from mien.settings import from_mapping, to_mapping

FORMAT = 1
NETWORK_FILE, METADATA_FILE, CARD_FILE = "detector.onnx", "detector.json", "CARD.md"
SHIPPED = Path(__file__).parent.parent / "models" / "mien-detector"
STRIDES = (8, 16, 32)  # pixels a cell of each level
OUTPUTS = tuple(f"stride{stride}" for stride in STRIDES)
INPUT = "faces"
VALUES = 15  # of a cell: score, centre x and y, width, height, five landmarks


@dataclass(frozen=True, kw_only=True)
class DetectorMetadata:
    """What `detector.json` says.

    threshold: score from which a box is a face. sure, doubtful: a box whose score lies below `sure` is looked at
    again, by itself, and its score becomes the geometric mean of both; below `doubtful` it is dropped at once.
    overlap: intersection over union from which two boxes are one face.
    least_px, usual_px: the longer side of the picture is brought between both before the network sees it.
    small_px: a picture twice as large, or more, is also looked at in this size, for faces that fill it.
    closest_px: a picture larger than usual_px is looked at once more, up to this size, where nothing or only tiny
    faces were found; equal to usual_px: never. sha256: of detector.onnx. training, scores: for the record.
    Raises ConfigError for a number out of range.
    """

    format: int = FORMAT
    name: str = "mien-detector"
    sha256: str = ""
    threshold: float = 0.5
    sure: float = 0.65
    doubtful: float = 0.3
    overlap: float = 0.4
    small_px: int = 160
    least_px: int = 320
    usual_px: int = 640
    closest_px: int = 1280
    created: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("threshold", "sure", "doubtful", "overlap"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} of a face detector must lie between 0 and 1, got {getattr(self, name)}"
                )
        sizes = (self.small_px, self.least_px, self.usual_px, self.closest_px)
        if sizes != tuple(sorted(sizes)) or sizes[0] < 32 or sizes[-1] > 4096:
            raise ConfigError(
                "a face detector's sizes must keep 32 <= small_px <= least_px <= usual_px <= closest_px <= 4096, got "
                f"{', '.join(map(str, sizes))}"
            )

    def to_json(self) -> str:
        return json.dumps(to_mapping(self), indent=2, ensure_ascii=False)


@dataclass(frozen=True)
class DetectorFiles:
    """A face detector on disk, checked: its network's bytes are those that its metadata speak of."""

    path: Path
    network: bytes
    metadata: DetectorMetadata
    sha256: str


def read_detector(path: Path) -> DetectorFiles:
    """Read a detector's folder, or its detector.onnx with detector.json beside it.

    Raises ModelError where one of both is missing, damaged or belongs to another.
    """
    file = path / NETWORK_FILE if path.is_dir() else path
    metadata = _metadata(file.with_name(METADATA_FILE))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read the face detector {file}: {error.strerror}; name a folder with "
            f"{NETWORK_FILE} and {METADATA_FILE}"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != metadata.sha256:
        raise ModelError(
            f"{file} has SHA-256 {digest[:12]}…, {METADATA_FILE} beside it says {metadata.sha256[:12]}…: one of "
            "both was changed; copy both again, or train one with mien train-detector"
        )
    return DetectorFiles(file, content, metadata, digest)


def _metadata(file: Path) -> DetectorMetadata:
    try:
        values: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise ModelError(
            f"cannot read {file} ({reason}); a face detector is a folder with {NETWORK_FILE} and {METADATA_FILE}, "
            "as mien train-detector writes it"
        ) from error
    if (version := values.get("format")) != FORMAT:
        raise ModelError(
            f"{file} is of format {version!r}, this mien reads {FORMAT}; use the mien that wrote it"
        )
    try:
        return from_mapping(DetectorMetadata, values, str(file))
    except ConfigError as error:
        raise ModelError(str(error)) from error
