"""Test-time augmentation: which views of a face a network is asked about, and the mean of what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.model.metadata import Metadata

Probabilities = dict[str, NDArray[np.float32]]
Inputs = NDArray[Any]  # (n, size, size, channels), uint8 or float32
Network = Callable[[Inputs], Probabilities]
AUTO, SINGLE, ADAPTIVE, FLIP, TEN = "auto", "single", "adaptive", "flip", "ten"
TTA = (AUTO, SINGLE, ADAPTIVE, FLIP)  # what prediction offers
WORDS = {
    AUTO: "each network asked about one view of each face, or two where it is unsure, as in prediction",
    SINGLE: "one view of each face",
    ADAPTIVE: "one view of each face, and where no expression reaches 50 % the mean of it and its mirror image",
    FLIP: "mean of each face and its mirror image",
    TEN: "mean of ten views of each face (four corners, centre, and their mirror images)",
}
TTA_HELP = (
    "test-time augmentation: single, one view of each face; adaptive, its mirror image as well where no expression "
    "reaches one half; flip, the mirror image of each; auto, adaptive where the network was trained on mirror images"
)
# Below it the mirror image is looked at as well. That of all other faces, too, would bring a tenth of a point of
# PublicTest for .8 times the network's time more: benchmarks/two_views.py.
SURE = 0.5
# Side of a crop over the side of the input: 44 of 48 pixels, as the ten-crop results on FER-2013 use
# (training scripts of Khaireddin & Chen 2021, arXiv:2105.03588, crop 40 of 48; others 44).
CROP_SHARE = 11 / 12


def chosen(tta: str, metadata: Metadata, known: tuple[str, ...] = TTA) -> str:
    """Return what `auto` means for a network; any other of the known ways as it is. ConfigError for another word."""
    if tta not in known:
        raise ConfigError(f"tta must be one of {', '.join(known)}, got {tta!r}")
    if tta != AUTO:
        return tta
    return ADAPTIVE if metadata.mirrors else SINGLE


def average(network: Network, inputs: Inputs, tta: str, first: Probabilities | None = None) -> Probabilities:
    """Return the mean of the network's probabilities over the views of each face, by head.

    inputs: (n, size, size, channels). tta: as `chosen` returns it: single, adaptive (a second view of the faces of
    which a head is less sure than `SURE`; each head by itself, whatever stands beside a face), flip (2 views) or ten
    (10 views). first: what the network says of the faces as they are, where that is known already.
    """
    if tta == TEN:
        views = [view for base in five_crops(inputs) for view in (base, mirrored(base))]
        said = [network(view) for view in views]
        return {name: _mean([one[name] for one in said]) for name in said[0]}
    answers = dict(network(inputs) if first is None else first)
    if tta == SINGLE:
        return answers
    sure = SURE if tta == ADAPTIVE else np.inf
    asked = {name: values.max(axis=1) < sure for name, values in answers.items()}
    rows = np.flatnonzero(np.logical_or.reduce([*asked.values()]))
    if not len(rows):
        return answers
    for name, values in network(mirrored(inputs[rows])).items():
        both = asked[name][rows]
        answers[name] = answers[name].copy()
        answers[name][rows[both]] = (answers[name][rows[both]] + values[both]) / 2
    return answers


def _mean(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = np.mean(np.stack(values), axis=0)
    return mean


def mirrored(inputs: Inputs) -> Inputs:
    """Return the mirror image of each face; (n, height, width, channels) of any type."""
    return np.ascontiguousarray(inputs[:, :, ::-1])


def five_crops(inputs: Inputs) -> list[Inputs]:
    """Return the four corners and the centre of each face, each enlarged to the full size again.

    Enlarged bilinearly because a network's input has one size. Same shapes and type as `inputs`.
    """
    size = inputs.shape[1]
    middle = max(1, round(size * (1 - CROP_SHARE) / 2))  # the centre lies exactly between the corners
    far, side = 2 * middle, size - 2 * middle
    corners = ((0, 0), (0, far), (far, 0), (far, far), (middle, middle))
    return [_enlarged(inputs[:, top : top + side, left : left + side], size) for top, left in corners]


def _enlarged(crops: Inputs, size: int) -> Inputs:
    out = np.empty((len(crops), size, size, crops.shape[3]), crops.dtype)
    for row, crop in enumerate(crops):
        scaled = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_LINEAR)
        out[row] = scaled.reshape(size, size, -1)
    return out


def described(tta: str) -> Mapping[str, str]:
    """Return the words for a report: which views of a face, and how many."""
    return {"tta": tta, "words": WORDS[tta]}
