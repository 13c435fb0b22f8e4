"""DetectorEvaluation: every setting of `mien evaluate-detector`."""

from __future__ import annotations

from dataclasses import dataclass

from mien.errors import ConfigError
from mien.settings import setting


@dataclass(frozen=True, kw_only=True)
class DetectorEvaluation:
    """What `mien evaluate-detector` does. Checked when it is made; raises ConfigError with one line."""

    detectors: tuple[str, ...] = setting(
        ("mien",), "face detectors: mien, yunet, haar, a folder of mien train-detector, or a YuNet file"
    )
    split: str = setting("val", "photographs to look at", choices=("train", "val"))
    false_alarms: float = setting(
        2.0, "false alarms in 100 photographs without a face at which recall is compared"
    )
    limit: int | None = setting(None, "look at this many photographs, drawn with the seed; unset: all")
    seed: int = setting(0, "seed of that draw")
    worst: int = setting(48, "pictures on each sheet of misses and false alarms; 0: no sheets")

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ConfigError("detectors must name at least one face detector, such as mien or a file")
        if len(set(self.detectors)) != len(self.detectors):
            raise ConfigError(f"detectors must name each face detector once, got {', '.join(self.detectors)}")
        if self.false_alarms < 0:
            raise ConfigError(f"false_alarms must not be negative, got {self.false_alarms}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be at least 1, got {self.limit}")
        for name in ("seed", "worst"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
