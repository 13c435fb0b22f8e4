"""What can be chosen when a face set is made. Imports nothing heavy, because the command line reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mien.detect.base import SEARCHED_PX
from mien.errors import ConfigError
from mien.settings import COMMON, FROM_0, FROM_1, SHARE, check_settings, from_to, setting

FILMS, LIMITS = "films", "what is set aside (shown as such, never left out)"


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """How faces are found, cut out and chosen. Raises ConfigError."""

    margin: float = setting(
        1.6,
        "side of a crop over the longer side of the face box: room for training to turn and shift",
        within=from_to(1, 4),
        group=COMMON,
    )
    crop_size: int = setting(
        256, "side in pixels above which a crop is shrunk to it", within=from_to(48, 2048), group=COMMON
    )
    detect_size: int | None = setting(
        None,
        "longer side in pixels at which pictures are searched; unset: at most 1280 for photographs, 640 for films",
        within=SEARCHED_PX,
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
    every: float = setting(
        0.2, "seconds of a film from one search for faces to the next", within=FROM_0, group=FILMS
    )
    per_track: int = setting(
        20,
        "faces taken from one track of a film, at most: those that differ most",
        within=FROM_1,
        group=FILMS,
    )
    spacing: float = setting(
        1.0, "seconds between two faces of a track, at least", within=FROM_0, group=FILMS
    )
    per_film: int = setting(
        300, "faces taken from one film, at most, shared out among its tracks", within=FROM_1, group=FILMS
    )
    min_size: float = setting(
        32.0, "pixels of the longer side of the box below which a face is tiny", within=FROM_0, group=LIMITS
    )
    min_score: float = setting(
        0.5, "detector's score below which a face is doubtful", within=SHARE, group=LIMITS
    )
    min_sharpness: float = setting(
        20.0,
        "sharpness below which a face is blurred; half of sharp ones have 200",
        within=FROM_0,
        group=LIMITS,
    )

    def __post_init__(self) -> None:
        check_settings(self)
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
