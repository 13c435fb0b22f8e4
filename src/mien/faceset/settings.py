"""What can be chosen when a face set is made. Imports nothing heavy, because the command line reads it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from mien.errors import ConfigError
from mien.settings import COMMON, setting

FILMS, LIMITS = "films", "what is set aside (shown as such, never left out)"


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """How faces are found, cut out and chosen. Raises ConfigError."""

    margin: float = setting(
        1.6,
        "side of a crop over the longer side of the face box: room for training to turn and shift",
        group=COMMON,
    )
    crop_size: int = setting(256, "side in pixels above which a crop is shrunk to it", group=COMMON)
    detect_size: int | None = setting(
        None,
        "longer side in pixels at which pictures are searched; unset: at most 1280 for photographs, 640 for films",
        group=COMMON,
    )
    group: str | None = setting(
        None,
        "regular expression; what it (or its first group) matches in the path of a source is the group that training "
        "keeps on one side, for instance the person; unset: the source itself",
        group=COMMON,
    )
    label: str | None = setting(
        None,
        "regular expression; what it (or its first group) matches in the path of a source is the label of its largest "
        "face, in a film of all faces, unless somebody labelled them; '([^/]+)/[^/]+$' is the folder; unset: none",
        group=COMMON,
    )
    film: Path | None = setting(  # noqa: RUF009
        None, "the film that a table of mien video is about; unset: looked for beside the table", group=FILMS
    )
    every: float = setting(0.2, "seconds of a film from one search for faces to the next", group=FILMS)
    per_track: int = setting(
        20, "faces taken from one track of a film, at most: those that differ most", group=FILMS
    )
    spacing: float = setting(1.0, "seconds between two faces of a track, at least", group=FILMS)
    per_film: int = setting(
        300, "faces taken from one film, at most, shared out among its tracks", group=FILMS
    )
    min_size: float = setting(
        32.0, "pixels of the longer side of the box below which a face is tiny", group=LIMITS
    )
    min_score: float = setting(
        0.5, "detector's score from 0 to 1 below which a face is doubtful", group=LIMITS
    )
    min_sharpness: float = setting(
        20.0, "sharpness below which a face is blurred; half of sharp ones have 200", group=LIMITS
    )

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and 1 <= self.margin <= 4):
            raise ConfigError(f"margin must be from 1 (the face box itself) to 4, got {self.margin}")
        if not 48 <= self.crop_size <= 2048:
            raise ConfigError(f"crop_size must be from 48 to 2048 pixels, got {self.crop_size}")
        if self.detect_size is not None and self.detect_size < 64:
            raise ConfigError(f"detect_size must be 64 pixels or more, got {self.detect_size}")
        for name in ("per_track", "per_film"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 face or more, got {getattr(self, name)}")
        for name in ("every", "spacing", "min_size", "min_sharpness"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"min_score must be from 0 to 1, got {self.min_score}")
        for name in ("group", "label"):
            try:
                re.compile(getattr(self, name) or "")
            except re.error as error:
                raise ConfigError(
                    f"{name} {getattr(self, name)!r} is no regular expression ({error})"
                ) from error

    @property
    def limits(self) -> str:
        """What is set aside, in words, as sources.csv has it."""
        return f"size {self.min_size:g}, score {self.min_score:g}, sharpness {self.min_sharpness:g}"
