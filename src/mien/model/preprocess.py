"""How a face crop becomes network input: the one home, for training and for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, DataError

COLOURS = ("grey", "rgb", "bgr")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What is done to a crop, recorded in model.json so that nobody has to guess.

    The network itself takes levels in [0, 255]: its first layer rescales, so nobody can forget to divide.
    """

    size: int = 48  # pixels a side of the square input
    # Pixels a side that the crop is scaled to before its centre of size x size is cut out; None: size itself.
    resize: int | None = None
    colour: str = "grey"  # channel order of the input: grey (1 channel), rgb or bgr (3)
    margin: float = 1.0  # side of the crop over the longer side of the face box, where a detector cuts it out

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and 8 <= self.size <= 1024):
            raise ConfigError(f"size must be a whole number from 8 to 1024 pixels, got {self.size!r}")
        if self.resize is not None and not (
            isinstance(self.resize, int) and self.size <= self.resize <= 1024
        ):
            raise ConfigError(f"resize must be a whole number from size to 1024 pixels, got {self.resize!r}")
        if self.colour not in COLOURS:
            raise ConfigError(f"colour must be one of {', '.join(COLOURS)}, got {self.colour!r}")
        if not (isinstance(self.margin, int | float) and 0.5 <= self.margin <= 4):
            raise ConfigError(f"margin must be from 0.5 to 4 times the face box, got {self.margin!r}")

    @property
    def channels(self) -> int:
        return 1 if self.colour == "grey" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one input."""
        return (self.size, self.size, self.channels)

    @property
    def uncut(self) -> Preprocess:
        """The same without the centre cut: what training varies, so that shifts bring in real pixels."""
        return replace(self, size=self.resize or self.size, resize=None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Preprocess:
        """Build from `to_dict()`; unknown keys (from a newer version) raise ConfigError."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(stored) - known):
            raise ConfigError(f"preprocessing has unknown settings {', '.join(unknown)}; update mien")
        return cls(**stored)


def to_model_input(crop: NDArray[np.uint8], how: Preprocess) -> NDArray[np.uint8]:
    """Turn one face crop into what the network was trained on.

    crop: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB, at least 1x1.
    Returns (size, size, channels) uint8, levels in [0, 255]. The aspect ratio is not kept. Shrinks a side by area
    averaging and enlarges one bilinearly, and cuts the centre out where `resize` asks for it. Training and prediction
    both come through here, because another filter moves a portrait by several grey levels on average. Raises
    DataError on another shape or type: levels in [0, 1] would become black without a word.
    """
    if (
        crop.dtype != np.uint8
        or crop.ndim not in (2, 3)
        or crop.shape[2:] not in ((), (1,), (3,))
        or not crop.size
    ):
        raise DataError(
            "a face crop must be (height, width), grey, or (height, width, 3), RGB, of uint8 levels 0-255 and at "
            f"least one pixel; got shape {crop.shape} of {crop.dtype}"
        )
    if crop.ndim == 3 and crop.shape[2] == 1:
        crop = crop[:, :, 0]
    if how.colour == "grey":
        plane = crop if crop.ndim == 2 else cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    elif crop.ndim == 2:
        plane = cv2.cvtColor(crop, cv2.COLOR_GRAY2RGB)
    else:
        plane = crop if how.colour == "rgb" else crop[:, :, ::-1]
    side = how.resize or how.size
    if max(plane.shape[:2]) > side:  # one side after the other: area averaging of OpenCV enlarges none
        height, width = (min(length, side) for length in plane.shape[:2])
        plane = cv2.resize(np.ascontiguousarray(plane), (width, height), interpolation=cv2.INTER_AREA)
    if plane.shape[:2] != (side, side):
        plane = cv2.resize(np.ascontiguousarray(plane), (side, side), interpolation=cv2.INTER_LINEAR)
    cut = (side - how.size) // 2
    plane = plane[cut : cut + how.size, cut : cut + how.size]
    return np.ascontiguousarray(plane.reshape(how.shape))


def to_model_inputs(crops: Sequence[NDArray[np.uint8]], how: Preprocess) -> NDArray[np.uint8]:
    """Prepare many crops: returns (n, size, size, channels) uint8."""
    inputs = np.empty((len(crops), *how.shape), np.uint8)
    for row, crop in enumerate(crops):
        inputs[row] = to_model_input(crop, how)
    return inputs
