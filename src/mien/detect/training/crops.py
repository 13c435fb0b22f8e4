"""Training crops: a photograph at some scale, place and tilt, or a mosaic of four."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mien.detect.training.config import DetectorConfig
from mien.detect.training.geometry import Move, joined, moved, seen, shifted, warped
from mien.detect.training.photos import Photo, Photos
from mien.detect.training.spoil import covered, spoiled
from mien.detect.training.targets import Faces
from mien.errors import DataError

Picture = NDArray[np.uint8]
# How sure the network was of a face in each photograph without one, and where: (n, 3) score, x, y in [0, 1].
Alarms = NDArray[np.float32]
_LEAST_ALARM = 0.05  # added to every score, so that each photograph stays in play
_FILLED = 0.8  # share of crops that the photograph fills where it is large enough
_FITTING = 0.8  # smallest scale of a photograph, as a share of the one at which it just fits its part
_DEEPEST = 2  # mosaics within mosaics: parts of a quarter of the crop's side
_CENTRE = (0.2, 0.8)  # where in its part of the crop the chosen face lies, as shares
_SMALLEST_AIM = 12.0  # pixels: the smallest size that a face is scaled to on purpose


class Room(NamedTuple):
    """Pixels to fill."""

    width: int
    height: int


class Supply:
    """Where crops come from: all photographs, which of them show faces, and the alarms of the others.

    with_faces, without: places of the photographs with a face, and of those with neither face nor doubtful box.
    alarms: (len(without), 3); None: none known yet. Raises DataError when there is no face at all.
    """

    def __init__(self, photos: Photos, config: DetectorConfig, alarms: Alarms | None = None) -> None:
        self.photos, self.config = photos, config
        self.with_faces = np.flatnonzero([len(row.boxes) > 0 for row in photos.rows])
        self.without = np.flatnonzero([not len(row.boxes) and not len(row.ignore) for row in photos.rows])
        self.alarms = np.zeros((len(self.without), 3), np.float32) if alarms is None else alarms
        if not len(self.with_faces):
            raise DataError(
                "none of the training photographs has a face box; a detector cannot be trained on them"
            )


def crop(supply: Supply, rng: Generator) -> tuple[Picture, Faces]:
    """Return one crop, (side, side, 3) uint8 RGB, and what is in it, in its pixels."""
    side = supply.config.side
    picture, faces = _area(supply, Room(side, side), rng, _DEEPEST)
    covered(picture, faces, supply.config.occluded, rng)
    return picture, faces


def _area(supply: Supply, room: Room, rng: Generator, deeper: int) -> tuple[Picture, Faces]:
    """Fill a rectangle with one photograph, or with a mosaic whose parts may be mosaics again.

    Photographs are as large as their part, so that the small parts bring small faces and no pixel is wasted.
    """
    if deeper and rng.random() < supply.config.mosaic:
        return _mosaic(supply, room, rng, deeper - 1)
    return _part(supply, room, rng)


def _mosaic(supply: Supply, room: Room, rng: Generator, deeper: int) -> tuple[Picture, Faces]:
    """Four parts round a point near the middle (Bochkovskiy et al. 2020, arXiv:2004.10934)."""
    x, y = (int(rng.integers(round(0.4 * length), round(0.6 * length) + 1)) for length in room)
    canvas, parts = np.empty((room.height, room.width, 3), np.uint8), []
    for left, right in ((0, x), (x, room.width)):
        for top, bottom in ((0, y), (y, room.height)):
            picture, faces = _area(supply, Room(right - left, bottom - top), rng, deeper)
            canvas[top:bottom, left:right] = picture
            parts.append(shifted(faces, left, top))
    return canvas, joined(parts)


def _part(supply: Supply, room: Room, rng: Generator) -> tuple[Picture, Faces]:
    config = supply.config
    negative = rng.random() < config.negatives and len(supply.without) > 0
    index, scale, anchor = (_without_face if negative else _with_face)(supply, room, rng)
    row = supply.photos.rows[index]
    angle = rng.uniform(-config.rotation, config.rotation) if rng.random() < config.rotated else 0.0
    move = Move(scale, angle, bool(rng.random() < 0.5))
    matrix = move.matrix(anchor, _target(row, anchor, move, room, rng))
    background = np.full(
        (room.height, room.width, 3), 128 if rng.random() < 0.5 else rng.integers(256), np.uint8
    )
    picture = warped(supply.photos.read(index), matrix, scale, background)
    faces = moved(Faces(row.boxes, row.scores, row.landmarks, row.ignore), matrix, move)
    return spoiled(picture, rng), seen(faces, room.width, room.height, config.smallest_px)


def _with_face(supply: Supply, room: Room, rng: Generator) -> tuple[int, float, NDArray[np.float64]]:
    """Choose a photograph, one of its faces to lie in the part, and a scale."""
    config = supply.config
    index = int(rng.choice(supply.with_faces))
    row = supply.photos.rows[index]
    box = row.boxes[int(rng.integers(len(row.boxes)))].astype(np.float64)
    longer = box[2:].max()
    span = (_SMALLEST_AIM / longer, config.largest * min(room) / longer)
    scale = _scale(config, row, room, span, rng)
    return index, scale, box[:2] + box[2:] / 2


def _without_face(supply: Supply, room: Room, rng: Generator) -> tuple[int, float, NDArray[np.float64]]:
    """Choose a photograph without a face, often one that the network took for one, and then near that place."""
    without = supply.without
    place, anchor = int(rng.integers(len(without))), rng.random(2)
    if rng.random() < supply.config.hard:
        weight = supply.alarms[:, 0].astype(np.float64) + _LEAST_ALARM
        place = int(rng.choice(len(without), p=weight / weight.sum()))
        if supply.alarms[place, 0] > 0:
            anchor = supply.alarms[place, 1:].astype(np.float64)
    row = supply.photos.rows[int(without[place])]
    scale = _scale(supply.config, row, room, (0.0, np.inf), rng)
    return int(without[place]), scale, anchor * (row.width, row.height)


def _scale(
    config: DetectorConfig, row: Photo, room: Room, span: tuple[float, float], rng: Generator
) -> float:
    """Return a scale, log-uniform from where the photograph about fits its part to where its face fills it.

    span: the smallest scale that makes sense for the face, and the one at which it fills the part.
    """
    fits = _FITTING * min(room.width / row.width, room.height / row.height)
    low = np.clip(max(fits, span[0]), config.least_scale, config.most_scale)
    high = np.clip(max(span[1], span[0]), low, config.most_scale)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _target(
    row: Photo, anchor: NDArray[np.float64], move: Move, room: Room, rng: Generator
) -> NDArray[np.float64]:
    """Return where in the part the anchor comes to lie; mostly so that no more background shows than must."""
    sides = np.array(room, np.float64)
    target: NDArray[np.float64] = rng.uniform(*_CENTRE, 2) * sides
    if rng.random() >= _FILLED:
        return target
    own = np.array([row.width, row.height]) * move.scale
    from_left = np.array([row.width - anchor[0] if move.mirrored else anchor[0], anchor[1]]) * move.scale
    corner = target - from_left
    # A photograph that is too small lies wholly inside instead.
    filled = np.clip(corner, np.minimum(sides - own, 0), np.maximum(sides - own, 0))
    return np.asarray(filled + from_left, np.float64)
