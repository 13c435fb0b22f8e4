"""One face out of a picture: its crop, how sharp it is, what speaks against it, and which faces are nearly identical.

Of identical faces (the same photograph smaller or saved again, a frame that shows nothing new) a perceptual hash names
the candidates, in memory that a hundred thousand faces do not fill; the crops then decide, once they are aligned. Faces
with another expression are no copies, however alike the rest is.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.alignment import alikeness
from mien.detect.base import Box, Detection, align, crop, squeeze_channel
from mien.errors import ImageError, OutputError
from mien.faceset.row import BLURRED, DOUBTFUL, SHOWN, TINY, FaceRow
from mien.faceset.settings import FacesConfig
from mien.faceset.table import CROPS, FaceSet
from mien.files import file_name, plain_text, whole_file
from mien.images import read_image
from mien.images.canvas import write_picture
from mien.predict.results import NO_FACE, reasons

Picture = NDArray[np.uint8]
_SHARP_PX, _SHARP_MARGIN, _SHARP_UNIT = 64, 0.9, 1000.0
_LIKENESS_PX, _LIKENESS_MARGIN = 32, 0.9  # of what tells the frames of a track apart
_THUMBNAIL_PX, _THUMBNAIL_MARGIN = 48, 1.2
_HASH_PX, _WAVES = 32, 8
_LONGEST_NAME = 60  # letters of the source's name in that of a crop
HASHES_FILE = "hashes.npz"  # of the shown faces: a cache
_BITS = 14  # of 64 that may differ; of 17 copies among 4,847 faces four have 14; most other faces have 16 and more
# Correlation of all, and of the second worst of 16 blocks, once aligned. Of 75 faces made half or a quarter as large,
# or saved as JPEG of quality 50, 95 % have 0.996 and 0.97 or more. Of five faces, a neutral and a half smiling one have
# 0.991 and 0.97 (medians), a neutral and a smiling one 0.97 and 0.92.
_ALL, _BLOCKS = 0.993, 0.95
_TRIED = 6  # candidates that are aligned, the nearest first; among 1,700 faces one has 1.5 that are no copies
_REMEMBERED = 16_384  # thumbnails in memory, 2.3 kB each
_POPULATION = np.array([bin(value).count("1") for value in range(256)], np.uint8)


@dataclass(frozen=True, eq=False)
class Cut:
    """A face that was found and cut out, but not yet named or written.

    face: in pixels of the source. image: (side, side, 3) or, where the picture is grey, (side, side) uint8, RGB.
    sharpness: see `sharpness`. thumbnail: (48, 48) uint8, what copies are known by.
    """

    face: Detection
    image: Picture
    margin: float | None
    sharpness: float
    thumbnail: Picture

    @property
    def longer_px(self) -> float:
        return max(self.face.box.width, self.face.box.height)


def cut_out(picture: Picture, face: Detection, config: FacesConfig) -> Cut:
    """Cut a face out with its surroundings, shrunk to `config.crop_size` where it is larger.

    picture: (height, width) or (height, width, 3) uint8, RGB, upright. A face that is the whole picture is not cut.
    """
    picture = squeeze_channel(picture)
    image = picture if face.whole else crop(picture, face.box, config.margin)
    if image.ndim == 3 and picture.ndim == 2:
        image = np.ascontiguousarray(image[:, :, 0])
    longer = max(image.shape[:2])
    if longer > config.crop_size:
        scale = config.crop_size / longer
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    margin = None if face.whole else config.margin
    return Cut(face, image, margin, sharpness(picture, face.box), thumbnail(image, margin))


def sharpness(picture: Picture, box: Box) -> float:
    """Return how sharp a face is: a thousand times the variance of its Laplacian over the variance of its levels.

    Of the face box, made 64 pixels wide: so faces of all sizes, bright and dark, compare. The variance of the Laplacian
    is the usual measure (Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548).
    """
    face = _grey(crop(picture, box, _SHARP_MARGIN), _SHARP_PX).astype(np.float32)
    return float(_SHARP_UNIT * cv2.Laplacian(face, cv2.CV_32F).var() / max(face.var(), 1.0))


def likeness(picture: Picture, face: Detection) -> NDArray[np.float32]:
    """Return what the frames of a track are told apart by: (1024,) float32, of length 1; the dot product is likeness.

    The face with its eyes level, grey, its local contrast evened out: so it changes with expression and pose, and
    hardly with place and light.
    """
    levels = _grey(align(picture, face, _LIKENESS_MARGIN), _LIKENESS_PX).astype(np.float32)
    detail = levels - cv2.GaussianBlur(levels, (0, 0), 6.0)
    detail /= np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 6.0)) + 4.0
    return np.asarray(detail.ravel() / (np.linalg.norm(detail) + 1e-6), np.float32)


def thumbnail(image: Picture, margin: float | None) -> Picture:
    """Return the face in a crop as a grey picture of 48x48 pixels. margin: of the crop; None: it is the face."""
    if margin is None or margin <= _THUMBNAIL_MARGIN:
        return _grey(image, _THUMBNAIL_PX)
    side = image.shape[0] / margin
    start = (image.shape[0] - side) / 2
    return _grey(crop(image, Box(start, start, side, side), _THUMBNAIL_MARGIN), _THUMBNAIL_PX)


def perceptual_hash(thumbnail: Picture) -> tuple[int, int]:
    """Return 64 bits of a thumbnail and those of its mirror image: which of its low cosine waves are above the median.

    pHash without the constant wave (Zauner 2010, 'Implementation and Benchmarking of Perceptual Image Hash Functions').
    """
    small = cv2.resize(thumbnail, (_HASH_PX, _HASH_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(small)[:_WAVES, :_WAVES]
    waves[0, 0] = 0.0
    mirrored = waves * np.where(np.arange(_WAVES) % 2, -1, 1)
    return _bits(waves), _bits(mirrored)


def _bits(waves: NDArray[np.float32]) -> int:
    return int.from_bytes(np.packbits(waves.ravel() > np.median(waves)).tobytes(), "big")


def status_of(
    longer_px: float, score: float | None, why: str, sharp: float | None, config: FacesConfig
) -> str:
    """Return why a face is set aside; '' where it is shown. why: `FaceRow.reasons`."""
    if longer_px < config.min_size:
        return TINY
    if (score is not None and score < config.min_score) or NO_FACE.replace(" ", "-") in why.split():
        return DOUBTFUL
    return BLURRED if sharp is not None and sharp < config.min_sharpness else SHOWN


def row_of(
    cut: Cut,
    content: str,
    source: str,
    group: str,
    config: FacesConfig,
    *,
    time_s: float | None = None,
    track: int | None = None,
) -> FaceRow:
    """Return the row of a face that was cut out.

    content: of the source, as `content_key` has it. source: as the table names it.
    """
    face = cut.face
    why = " ".join(reason.replace(" ", "-") for reason in reasons(face))
    name = face_id(content, face.box, time_s)
    stem = file_name(plain_text(Path(source).stem))[:_LONGEST_NAME]
    return FaceRow(
        id=name,
        file=f"{CROPS}/{stem}-{name}.png",
        source=source,
        time_s=time_s,
        track=track,
        box=face.box,
        landmarks=face.landmarks,
        margin=cut.margin,
        score=face.score,
        sharpness=cut.sharpness,
        reasons=why,
        group=group,
        status=status_of(cut.longer_px, face.score, why, cut.sharpness, config),
    )


def write_crop(folder: Path, row: FaceRow, cut: Cut) -> None:
    """Write a crop where its row says. Raises OutputError."""
    image = cut.image if cut.image.ndim == 3 else np.repeat(cut.image[:, :, None], 3, axis=2)
    write_picture(folder / row.file, image)


def face_id(content: str, box: Box, time_s: float | None = None) -> str:
    """Return the id of a face: its source's content, then its box to the pixel and its time to the millisecond.

    >>> face_id("0123456789ab", Box(10.2, 20, 30, 40))
    '0123456789ab-66f6fe'
    """
    place = ",".join(str(round(value)) for value in box)
    moment = "" if time_s is None else f"@{round(time_s * 1000)}"
    return f"{content}-{hashlib.blake2b(f'{place}{moment}'.encode(), digest_size=3).hexdigest()}"


def _grey(picture: Picture, side: int) -> Picture:
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    shrinks = min(grey.shape) >= side
    return np.asarray(
        cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR),
        np.uint8,
    )


class Copies:
    """The shown faces of a set, asked whether another face is one of them."""

    def __init__(self, faces: FaceSet) -> None:
        self._faces = faces
        self._ids: list[str] = []
        self._hashes = np.empty(1024, np.uint64)
        self._recent: OrderedDict[str, Picture] = OrderedDict()
        stored = _load(faces.folder / HASHES_FILE)
        for face in faces:
            if face.status != SHOWN:
                continue
            if face.id in stored:
                self._append(face.id, stored[face.id])
            elif (small := self._thumbnail(face.id)) is not None:
                self._append(face.id, perceptual_hash(small)[0])

    def original(self, small: Picture) -> str:
        """Return the id of the shown face that a thumbnail nearly repeats, mirrored or not; '' where there is none."""
        known = self._hashes[: len(self._ids)]
        tried: list[tuple[int, int, bool]] = []
        for mirrored, bits in enumerate(perceptual_hash(small)):
            far = _differing(known ^ np.uint64(bits))
            near = np.flatnonzero(far <= _BITS)
            tried += [(int(far[place]), int(place), bool(mirrored)) for place in near]
        for _, place, mirrored in sorted(tried)[:_TRIED]:
            other = self._thumbnail(self._ids[place])
            if other is None:
                continue
            everywhere, blocks = alikeness(other, small, mirrored=mirrored)
            if everywhere >= _ALL and blocks >= _BLOCKS:
                return self._ids[place]
        return ""

    def add(self, face: FaceRow, small: Picture) -> None:
        """Take in a face that is shown."""
        self._append(face.id, perceptual_hash(small)[0])
        self._remember(face.id, small)

    def save(self) -> None:
        """Store the hashes, so that the next run need not read the crops. A cache: nothing fails without it."""
        with suppress(OutputError), whole_file(self._faces.folder / HASHES_FILE) as temporary:
            np.savez(temporary, ids=np.array(self._ids, str), hashes=self._hashes[: len(self._ids)])

    def _append(self, face: str, bits: int) -> None:
        if len(self._ids) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
        self._hashes[len(self._ids)] = bits
        self._ids.append(face)

    def _remember(self, face: str, small: Picture) -> None:
        self._recent[face] = small
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _thumbnail(self, face: str) -> Picture | None:
        if face not in self._faces:  # somebody took its row out of the table meanwhile
            return None
        if face not in self._recent:
            row = self._faces[face]
            try:
                self._remember(face, thumbnail(read_image(self._faces.crop_path(row)), row.margin))
            except ImageError:  # somebody removed or changed it: it is a copy of nothing then
                return None
        return self._recent[face]


def _differing(bits: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return how many bits are set in each number."""
    found: NDArray[np.intp] = _POPULATION[bits.view(np.uint8).reshape(-1, 8)].sum(axis=1, dtype=np.intp)
    return found


def _load(path: Path) -> dict[str, int]:
    try:
        with np.load(path) as stored:
            names: Iterable[str] = stored["ids"].tolist()
            return dict(zip(names, stored["hashes"].tolist(), strict=True))
    except Exception:  # missing, damaged or something else: it is made again
        return {}
