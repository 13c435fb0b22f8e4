"""From labelled photographs to crops, targets and batches, a function of (seed, epoch).

Photographs are drawn more often the surer the detector was of a face where there is none (hard negatives), whether or
not they show faces elsewhere: hands, badges and wheels are in photographs of people.

`targets` says what each cell of the network should answer about a crop: fixed centre sampling on the levels of FCOS. A
face belongs to the level, or the two levels, whose range holds its longer side; there the cells near its centre are
positive, at most three by three (centre sampling of FCOS, Tian et al. 2019, arXiv:1904.01355, and its follow-up
arXiv:2006.09214). Not SimOTA (YOLOX, YuNet): faces have nearly one shape, so that little is left to assign, and
targets that depend on the crop alone are made by the thread that makes the crop and can be tested by themselves. What
SimOTA adds, preferring the cell that does best, comes from the score's target: the IoU that the cell reaches
(`network.detector_loss`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mien.detect.mien import STRIDES, encode
from mien.detect.training.augment import (
    AffineTransform,
    clip_boxes,
    joined,
    photometric_augment,
    random_occlusion,
    shifted,
    transform_faces,
    warped,
)
from mien.detect.training.config import DetectorConfig
from mien.detect.training.photos import Faces, Photo, Photos
from mien.errors import DataError
from mien.train.loader import Batch

Picture = NDArray[np.uint8]
# How sure the network was of a face where each photograph has none, and where: (n, 3) score, x, y in [0, 1].
HardNegatives = NDArray[np.float32]
_LEAST_HARD = 0.05  # added to the score of those without a face, so that each stays in play
_FILLED = 0.8  # share of crops that the photograph fills where it is large enough
_FITTING = 0.8  # smallest scale of a photograph, as a share of the one at which it just fits its part
_DEEPEST = 2  # mosaics within mosaics: parts of a quarter of the crop's side
_CENTRE = (0.2, 0.8)  # where in its part of the crop the chosen face lies, as shares
_SMALLEST_AIM = 12.0  # pixels: the smallest size that a face is scaled to on purpose
_AHEAD = 4  # batches waiting
# Longer side of the faces of each level, in pixels of the crop; they overlap, so that no size falls between.
RANGES = ((0.0, 40.0), (28.0, 96.0), (68.0, float("inf")))
_NEARLY = 1.3  # up to this factor outside its range a face is neither positive nor background on a level
_REACH_STRIDES, _REACH_SIDES = 1.5, 0.3  # how far positive cells lie from the centre: the smaller of both
# Columns of a target: the score's target (of a positive cell: the teacher's score), the score's weight, the weight of
# box and landmarks (0: no face), and what `mien.detect.mien.encode` gives.
QUALITY, WEIGHT, SHARE, BOX, POINTS, COLUMNS = 0, 1, 2, slice(3, 7), slice(7, 17), 17


class Region(NamedTuple):
    """Pixels to fill."""

    width: int
    height: int


class Sampler:
    """Where crops come from: all photographs, which of them show faces, and the hard negatives in all of them.

    with_faces, without: places of the photographs with a face, and of those with neither face nor doubtful box.
    hard_negatives: (len(photos), 3); None: none known yet. Raises DataError when there is no face at all.
    """

    def __init__(
        self, photos: Photos, config: DetectorConfig, hard_negatives: HardNegatives | None = None
    ) -> None:
        self.photos, self.config = photos, config
        self.with_faces = np.flatnonzero([len(row.boxes) > 0 for row in photos.rows])
        self.without = np.flatnonzero([not len(row.boxes) and not len(row.ignore) for row in photos.rows])
        self.hard_negatives = (
            np.zeros((len(photos), 3), np.float32) if hard_negatives is None else hard_negatives
        )
        if not len(self.with_faces):
            raise DataError(
                "none of the training photographs has a face box; a detector cannot be trained on them"
            )


def crop(sampler: Sampler, rng: Generator) -> tuple[Picture, Faces]:
    """Return one crop, (side, side, 3) uint8 RGB, and what is in it, in its pixels."""
    side = sampler.config.side
    picture, faces = _area(sampler, Region(side, side), rng, _DEEPEST)
    random_occlusion(picture, faces, sampler.config.occluded, rng)
    return picture, faces


def _area(sampler: Sampler, region: Region, rng: Generator, deeper: int) -> tuple[Picture, Faces]:
    """Fill a rectangle with one photograph, or with a mosaic whose parts may be mosaics again.

    Photographs are as large as their part, so that the small parts bring small faces and no pixel is wasted.
    """
    if deeper and rng.random() < sampler.config.mosaic:
        return _mosaic(sampler, region, rng, deeper - 1)
    return _part(sampler, region, rng)


def _mosaic(sampler: Sampler, region: Region, rng: Generator, deeper: int) -> tuple[Picture, Faces]:
    """Four parts round a point near the middle (Bochkovskiy et al. 2020, arXiv:2004.10934)."""
    x, y = (int(rng.integers(round(0.4 * length), round(0.6 * length) + 1)) for length in region)
    canvas, parts = np.empty((region.height, region.width, 3), np.uint8), []
    for left, right in ((0, x), (x, region.width)):
        for top, bottom in ((0, y), (y, region.height)):
            picture, faces = _area(sampler, Region(right - left, bottom - top), rng, deeper)
            canvas[top:bottom, left:right] = picture
            parts.append(shifted(faces, left, top))
    return canvas, joined(parts)


def _part(sampler: Sampler, region: Region, rng: Generator) -> tuple[Picture, Faces]:
    config = sampler.config
    negative = rng.random() < config.negatives and len(sampler.without) > 0
    index, scale, anchor = (_without_face if negative else _with_face)(sampler, region, rng)
    row = sampler.photos.rows[index]
    angle = _angle(config, rng)
    transform = AffineTransform(scale, angle, bool(rng.random() < 0.5))
    matrix = transform.matrix(anchor, _target(row, anchor, transform, region, rng))
    background = np.full(
        (region.height, region.width, 3), 128 if rng.random() < 0.5 else rng.integers(256), np.uint8
    )
    picture = warped(sampler.photos.read(index), matrix, scale, background)
    faces = transform_faces(Faces(row.boxes, row.scores, row.landmarks, row.ignore), matrix, transform)
    return photometric_augment(picture, rng, config.faint), clip_boxes(
        faces, region.width, region.height, config.smallest_px
    )


def _angle(config: DetectorConfig, rng: Generator) -> float:
    """Draw by how many degrees a photograph is turned: mostly not, or as heads are held, sometimes by any angle."""
    kind = rng.random()
    if kind < config.rotated:
        return float(rng.uniform(-config.rotation, config.rotation))
    return float(rng.uniform(-180, 180)) if kind < config.rotated + config.turned else 0.0


def _with_face(sampler: Sampler, region: Region, rng: Generator) -> tuple[int, float, NDArray[np.float64]]:
    """Choose a photograph, one of its faces to lie in the part, and a scale."""
    config = sampler.config
    index = int(rng.choice(sampler.with_faces))
    row = sampler.photos.rows[index]
    box = row.boxes[int(rng.integers(len(row.boxes)))].astype(np.float64)
    longer = box[2:].max()
    span = (_SMALLEST_AIM / longer, config.largest * min(region) / longer)
    scale = _scale(config, row, region, span, rng)
    return index, scale, box[:2] + box[2:] / 2


def _without_face(sampler: Sampler, region: Region, rng: Generator) -> tuple[int, float, NDArray[np.float64]]:
    """Choose a photograph without a face, or the place in any photograph that the network took for one."""
    index, anchor = int(rng.choice(sampler.without)), rng.random(2)
    if rng.random() < sampler.config.hard:
        weight = sampler.hard_negatives[:, 0].astype(np.float64)
        weight[sampler.without] += _LEAST_HARD
        index = int(rng.choice(len(weight), p=weight / weight.sum()))
        if sampler.hard_negatives[index, 0] > 0:
            anchor = sampler.hard_negatives[index, 1:].astype(np.float64)
    row = sampler.photos.rows[index]
    scale = _scale(sampler.config, row, region, (0.0, np.inf), rng)
    return index, scale, anchor * (row.width, row.height)


def _scale(
    config: DetectorConfig, row: Photo, region: Region, span: tuple[float, float], rng: Generator
) -> float:
    """Return a scale, log-uniform from where the photograph about fits its part to where its face fills it.

    span: the smallest scale that makes sense for the face, and the one at which it fills the part.
    """
    fits = _FITTING * min(region.width / row.width, region.height / row.height)
    low = np.clip(max(fits, span[0]), config.least_scale, config.most_scale)
    high = np.clip(max(span[1], span[0]), low, config.most_scale)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _target(
    row: Photo, anchor: NDArray[np.float64], transform: AffineTransform, region: Region, rng: Generator
) -> NDArray[np.float64]:
    """Return where in the part the anchor comes to lie; mostly so that no more background shows than must."""
    sides = np.array(region, np.float64)
    target: NDArray[np.float64] = rng.uniform(*_CENTRE, 2) * sides
    if rng.random() >= _FILLED:
        return target
    own = np.array([row.width, row.height]) * transform.scale
    from_left = (
        np.array([row.width - anchor[0] if transform.mirrored else anchor[0], anchor[1]]) * transform.scale
    )
    corner = target - from_left
    # A photograph that is too small lies wholly inside instead.
    filled = np.clip(corner, np.minimum(sides - own, 0), np.maximum(sides - own, 0))
    return np.asarray(filled + from_left, np.float64)


def epoch(sampler: Sampler, number: int) -> Iterator[Batch]:
    """Yield the batches of one epoch; a function of the seed, the epoch's number (from 0) and the sampler alone."""
    config = sampler.config
    sizes = [min(config.batch_size, config.crops - step * config.batch_size) for step in range(config.steps)]
    with ThreadPoolExecutor(1, "mien-crops") as pool:
        jobs = (
            pool.submit(make, sampler, size, np.random.default_rng((config.seed, number, step)))
            for step, size in enumerate(sizes)
        )
        waiting = deque(islice(jobs, _AHEAD))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(islice(jobs, 1))


def make(sampler: Sampler, size: int, rng: np.random.Generator) -> Batch:
    """Return a batch of this many crops.

    inputs: (n, side, side, 3) float32, RGB levels in [0, 255]. targets: one array, (n, cells, COLUMNS) float32.
    """
    side = sampler.config.side
    crops = np.empty((size, side, side, 3), np.float32)
    wanted = np.empty((size, cell_count(side), COLUMNS), np.float32)
    for row in range(size):
        picture, faces = crop(sampler, rng)
        crops[row] = picture
        wanted[row] = targets(faces, side)
    return Batch(crops, [wanted], [])


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
