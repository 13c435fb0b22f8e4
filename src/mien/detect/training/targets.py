"""What every cell of the network should say about a crop: fixed centre sampling on the levels of FCOS.

A face belongs to the level, or the two levels, whose range holds its longer side; there the cells near its centre are
positive, at most three by three (centre sampling of FCOS, Tian et al. 2019, arXiv:1904.01355, and its follow-up
arXiv:2006.09214). Not SimOTA (YOLOX, YuNet): faces have nearly one shape, so that little is left to assign, and
targets that depend on the crop alone are made by the thread that makes the crop and can be tested by themselves. What
SimOTA adds, preferring the cell that does best, comes from the score's target: the IoU that the cell reaches
(`loop.detector_loss`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.detect.mien import STRIDES, encode

# Longer side of the faces of each level, in pixels of the crop; they overlap, so that no size falls between.
RANGES = ((0.0, 40.0), (28.0, 96.0), (68.0, float("inf")))
_NEARLY = 1.3  # up to this factor outside its range a face is neither positive nor background on a level
_REACH_STRIDES, _REACH_SIDES = 1.5, 0.3  # how far positive cells lie from the centre: the smaller of both
# Columns of a target: the score's target (of a positive cell: the teacher's score), the score's weight, the weight of
# box and landmarks (0: no face), and what `mien.encode` gives.
QUALITY, WEIGHT, SHARE, BOX, POINTS, COLUMNS = 0, 1, 2, slice(3, 7), slice(7, 17), 17


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces of a crop in its pixels; as in `photos.Photo`."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignore: NDArray[np.float32]

    @classmethod
    def none(cls) -> Faces:
        return cls(
            np.empty((0, 4), np.float32),
            np.empty(0, np.float32),
            np.empty((0, 5, 2), np.float32),
            np.empty((0, 4), np.float32),
        )


def cell_count(side: int) -> int:
    """Return the number of cells of a square crop, over all levels."""
    return sum((side // stride) ** 2 for stride in STRIDES)


def targets(faces: Faces, side: int) -> NDArray[np.float32]:
    """Return (cells, COLUMNS) float32 for a crop of side x side pixels: all levels, finest first, row by row.

    The weights of box and landmarks of one face sum to one on every level that it belongs to, so that a large face with
    nine cells counts no more than a small one with a single cell.
    """
    levels = [_level(faces, side, stride, span) for stride, span in zip(STRIDES, RANGES, strict=True)]
    return np.concatenate([level.reshape(-1, COLUMNS) for level in levels])


def _level(faces: Faces, side: int, stride: int, span: tuple[float, float]) -> NDArray[np.float32]:
    cells = side // stride
    target = np.zeros((cells, cells, COLUMNS), np.float32)
    target[..., WEIGHT] = 1
    for box in faces.ignore:
        # Half a stride more, so that a box between four centres covers the cells round it.
        target[(*_cells(box[:2] + box[2:] / 2, box[2:] / 2 + stride / 2, stride, cells), WEIGHT)] = 0
    largest_first = np.argsort(-faces.boxes[:, 2:].prod(axis=1), kind="stable")
    for face in largest_first:  # where two faces claim a cell, the smaller one gets it
        _place(target, faces, int(face), stride, span)
    return target


def _place(
    target: NDArray[np.float32], faces: Faces, face: int, stride: int, span: tuple[float, float]
) -> None:
    box, cells = faces.boxes[face], len(target)
    longer = float(box[2:].max())
    if not span[0] / _NEARLY <= longer < span[1] * _NEARLY:
        return
    middle = box[:2] + box[2:] / 2
    reach = min(_REACH_STRIDES * stride, _REACH_SIDES * longer)
    ring = np.minimum(2 * reach, box[2:] / 2)
    unsure = _cells(middle, ring, stride, cells)
    target[(*unsure, WEIGHT)] *= target[(*unsure, SHARE)] > 0  # a face inside this one keeps its cells
    if not span[0] <= longer < span[1]:
        return
    rows, columns = _cells(middle, np.full(2, reach), stride, cells)
    if not rows.stop > rows.start or not columns.stop > columns.start:
        return
    down, across = np.mgrid[rows, columns]
    centres = (np.stack([across.ravel(), down.ravel()], axis=1) + 0.5).astype(np.float32) * stride
    count = len(centres)
    said = encode(box[None].repeat(count, 0), faces.landmarks[face][None].repeat(count, 0), centres, stride)
    part = target[rows, columns]
    part[..., QUALITY], part[..., WEIGHT], part[..., SHARE] = faces.scores[face], 1, 1 / count
    part[..., 3:] = said.reshape(*part.shape[:2], -1)


def _cells(
    middle: NDArray[np.float32], reach: NDArray[np.floating], stride: int, cells: int
) -> tuple[slice, slice]:
    """Return rows and columns of the cells whose centres lie within reach (x, y) of a point; at least the nearest.

    A point beyond the crop gives the cells that are within reach, which may be none.
    """
    (across, down), (wide, tall) = middle.tolist(), reach.tolist()
    return _span(down, tall, stride, cells), _span(across, wide, stride, cells)


def _span(middle: float, reach: float, stride: int, cells: int) -> slice:
    nearest = math.floor(middle / stride)
    low = min(math.ceil((middle - reach) / stride - 0.5), nearest)
    high = max(math.ceil((middle + reach) / stride - 0.5), nearest + 1)
    return slice(min(max(low, 0), cells), min(max(high, 0), cells))
