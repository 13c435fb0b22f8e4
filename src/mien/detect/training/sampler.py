"""From labelled photographs to crops and batches, a function of (seed, epoch).

Photographs without faces are drawn more often the surer the detector was of a face in them (hard negatives).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

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
from mien.detect.training.photos import Photo, Photos
from mien.detect.training.targets import COLUMNS, Faces, cell_count, targets
from mien.errors import DataError
from mien.train.loader import Batch

Picture = NDArray[np.uint8]
# How sure the network was of a face in each photograph without one, and where: (n, 3) score, x, y in [0, 1].
HardNegatives = NDArray[np.float32]
_LEAST_HARD = 0.05  # added to every score, so that each photograph stays in play
_FILLED = 0.8  # share of crops that the photograph fills where it is large enough
_FITTING = 0.8  # smallest scale of a photograph, as a share of the one at which it just fits its part
_DEEPEST = 2  # mosaics within mosaics: parts of a quarter of the crop's side
_CENTRE = (0.2, 0.8)  # where in its part of the crop the chosen face lies, as shares
_SMALLEST_AIM = 12.0  # pixels: the smallest size that a face is scaled to on purpose


class Region(NamedTuple):
    """Pixels to fill."""

    width: int
    height: int


class Sampler:
    """Where crops come from: all photographs, which of them show faces, and the hard negatives in the others.

    with_faces, without: places of the photographs with a face, and of those with neither face nor doubtful box.
    hard_negatives: (len(without), 3); None: none known yet. Raises DataError when there is no face at all.
    """

    def __init__(
        self, photos: Photos, config: DetectorConfig, hard_negatives: HardNegatives | None = None
    ) -> None:
        self.photos, self.config = photos, config
        self.with_faces = np.flatnonzero([len(row.boxes) > 0 for row in photos.rows])
        self.without = np.flatnonzero([not len(row.boxes) and not len(row.ignore) for row in photos.rows])
        self.hard_negatives = (
            np.zeros((len(self.without), 3), np.float32) if hard_negatives is None else hard_negatives
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
    angle = rng.uniform(-config.rotation, config.rotation) if rng.random() < config.rotated else 0.0
    transform = AffineTransform(scale, angle, bool(rng.random() < 0.5))
    matrix = transform.matrix(anchor, _target(row, anchor, transform, region, rng))
    background = np.full(
        (region.height, region.width, 3), 128 if rng.random() < 0.5 else rng.integers(256), np.uint8
    )
    picture = warped(sampler.photos.read(index), matrix, scale, background)
    faces = transform_faces(Faces(row.boxes, row.scores, row.landmarks, row.ignore), matrix, transform)
    return photometric_augment(picture, rng), clip_boxes(
        faces, region.width, region.height, config.smallest_px
    )


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
    """Choose a photograph without a face, often one that the network took for one, and then near that place."""
    without = sampler.without
    place, anchor = int(rng.integers(len(without))), rng.random(2)
    if rng.random() < sampler.config.hard:
        weight = sampler.hard_negatives[:, 0].astype(np.float64) + _LEAST_HARD
        place = int(rng.choice(len(without), p=weight / weight.sum()))
        if sampler.hard_negatives[place, 0] > 0:
            anchor = sampler.hard_negatives[place, 1:].astype(np.float64)
    row = sampler.photos.rows[int(without[place])]
    scale = _scale(sampler.config, row, region, (0.0, np.inf), rng)
    return int(without[place]), scale, anchor * (row.width, row.height)


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


_AHEAD = 4  # batches waiting


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
