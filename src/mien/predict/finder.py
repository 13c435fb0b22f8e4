"""mien's own face finder: one small network, no download. How it was made: docs/face-finder.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, ModelError
from mien.predict.finder_decode import Floats, decoded, merged
from mien.predict.finder_facts import INPUT, OUTPUTS, SHIPPED, STRIDES, VALUES, read_finder
from mien.predict.found_face import FoundFace, in_order
from mien.predict.looks import plane, resized, too_thin
from mien.predict.session import open_session

_MULTIPLE = STRIDES[-1]  # of which the network takes sides
_PADDING = 128  # level beyond the picture: zero for the network's first convolution
_FEW_PX = 32  # a face smaller than this in the usual look makes a closer look worth its time


class MienDetector:
    """The face finder of a folder (or of its finder.onnx); None: the one that ships with mien.

    threshold: score from which a box is a face; None: the one in its facts. Raises ModelError when the files are
    missing, damaged or no face finder; ConfigError for a threshold outside (0, 1).
    """

    name = "mien"

    def __init__(self, path: Path | None = None, threshold: float | None = None) -> None:
        files = read_finder(path or SHIPPED)
        self._settings = files.facts
        self._threshold = files.facts.threshold if threshold is None else threshold
        if not 0 < self._threshold < 1:
            raise ConfigError(f"the threshold of a face finder must lie between 0 and 1, got {threshold}")
        self._session = open_session(files.network, files.path)
        self._check(files.path)
        self.facts: Mapping[str, str] = {
            "name": self.name,
            "file": files.path.name,
            "sha256": files.sha256,
            "threshold": f"{self._threshold:g}",
        }

    def find(self, image: NDArray[np.uint8]) -> tuple[FoundFace, ...]:
        """See Detector.find."""
        if too_thin(image):
            return ()
        settings, image = self._settings, plane(image)
        longest = max(image.shape[:2])
        first_scale = 1.0
        if longest > settings.closest_px:  # every look shrinks from here
            image, first_scale = resized(image, settings.closest_px)
            longest = settings.closest_px
        usual = min(max(longest, settings.least_px), settings.usual_px)
        found = self._look(image, usual)
        if usual >= 2 * settings.small_px:
            found = np.concatenate([found, self._look(image, settings.small_px)])
        if longest > usual and _wants_closer_look(found, usual / longest):
            found = np.concatenate([found, self._look(image, longest)])
        return in_order([_face(row, first_scale) for row in merged(found, settings.overlap)])

    def _look(self, image: NDArray[np.uint8], longest_px: int) -> Floats:
        """Return the candidates (n, VALUES) in pixels of `image`."""
        view, scale = resized(image, longest_px)
        levels = self._session.run(list(OUTPUTS), {INPUT: _prepared(view)})
        parts = [
            decoded(level[0], stride, self._threshold) for level, stride in zip(levels, STRIDES, strict=True)
        ]
        found = _within(np.concatenate(parts), view.shape[1], view.shape[0])
        found[:, : VALUES - 1] /= scale
        return found

    def _check(self, path: Path) -> None:
        """Raise ModelError for a network that is no face finder of ours."""
        inputs = {node.name: node.shape[-1] for node in self._session.get_inputs()}
        outputs = {node.name: node.shape[1] for node in self._session.get_outputs()}
        if inputs != {INPUT: 3} or any(outputs.get(name) != VALUES for name in OUTPUTS):
            raise ModelError(
                f"{path} is not a face finder of mien: it must take {INPUT!r} with 3 channels and give "
                f"{', '.join(OUTPUTS)} with {VALUES} values a cell, has {inputs} and {outputs}"
            )


def _prepared(view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (1, height, width, 3) float32, padded below and on the right to what the network takes."""
    rgb = cv2.cvtColor(view, cv2.COLOR_GRAY2RGB) if view.ndim == 2 else view
    down, right = (-side % _MULTIPLE for side in rgb.shape[:2])
    if down or right:
        level = (_PADDING, _PADDING, _PADDING)
        rgb = cv2.copyMakeBorder(rgb, 0, down, 0, right, cv2.BORDER_CONSTANT, value=level)
    return rgb[None].astype(np.float32)


def _within(found: Floats, width: int, height: int) -> Floats:
    """Drop what has its centre outside the picture: in the padding, or beyond a border."""
    centre = found[:, :2] + found[:, 2:4] / 2
    return found[((centre >= 0) & (centre <= (width, height))).all(axis=1)]


def _wants_closer_look(found: Floats, scale: float) -> bool:
    """Say whether nothing was found, or something so small that more of its kind may have been missed."""
    return len(found) == 0 or bool((found[:, 2:4].max(axis=1) * scale).min() < _FEW_PX)


def _face(row: Floats, scale: float) -> FoundFace:
    values = [float(value) for value in row[:14] / scale]
    points = list(zip(values[4::2], values[5::2], strict=True))
    x, y, width, height = values[:4]
    score = min(max(float(row[14]), 0.0), 1.0)
    return FoundFace((x, y, width, height), score, (points[0], points[1], points[2], points[3], points[4]))
