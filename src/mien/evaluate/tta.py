"""Looking at a face more than once: its mirror image, and ten crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Probabilities = dict[str, NDArray[np.float32]]
Network = Callable[[NDArray[np.uint8]], Probabilities]

# Side of a crop over the side of the input: 44 of 48 pixels, as the ten-crop results on FER-2013 use
# (training scripts of Khaireddin & Chen 2021, arXiv:2105.03588, crop 40 of 48; others 44).
CROP_SHARE = 11 / 12


def average(network: Network, inputs: NDArray[np.uint8], tta: str) -> Probabilities:
    """Return the mean of the network's probabilities over the views of each face.

    inputs: (n, size, size, channels) uint8. tta: single, flip (2 views) or ten (10 views).
    """
    views = _views(inputs, tta)
    total: dict[str, NDArray[np.float64]] = {}
    for view in views:
        for head, values in network(view).items():
            total[head] = total.get(head, np.zeros(values.shape)) + values
    return {head: (values / len(views)).astype(np.float32) for head, values in total.items()}


def _views(inputs: NDArray[np.uint8], tta: str) -> list[NDArray[np.uint8]]:
    bases = five_crops(inputs) if tta == "ten" else [inputs]
    if tta == "single":
        return bases
    return [view for base in bases for view in (base, np.ascontiguousarray(base[:, :, ::-1]))]


def five_crops(inputs: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the four corners and the centre of each face, each enlarged to the full size again.

    Enlarged bilinearly because a network's input has one size. Same shapes as `inputs`.
    """
    size = inputs.shape[1]
    middle = max(1, round(size * (1 - CROP_SHARE) / 2))  # the centre lies exactly between the corners
    far, side = 2 * middle, size - 2 * middle
    corners = ((0, 0), (0, far), (far, 0), (far, far), (middle, middle))
    return [_enlarged(inputs[:, top : top + side, left : left + side], size) for top, left in corners]


def _enlarged(crops: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    out = np.empty((len(crops), size, size, crops.shape[3]), np.uint8)
    for row, crop in enumerate(crops):
        scaled = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_LINEAR)
        out[row] = scaled.reshape(size, size, -1)
    return out


def described(tta: str) -> Mapping[str, str]:
    """Return the words for a report: how many views a face, and which."""
    words = {
        "single": "one view of each face",
        "flip": "mean of each face and its mirror image",
        "ten": "mean of ten views of each face (four corners, centre, and their mirror images)",
    }
    return {"tta": tta, "words": words[tta]}
