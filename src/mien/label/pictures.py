"""What the page shows of a face: small crops by the hundred, and the photograph or frame that it was found in."""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import resized, tilt_degrees
from mien.errors import DataError, ImageError, MienError
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet
from mien.files import clipped
from mien.images.decode import decode_image, read_bytes
from mien.video.reader import configure_ffmpeg, open_video

SIZES_PX = (96, 192, 384)  # sides of the small crops
MOST = 120  # small crops that one request may ask for
_PHOTO_PX = 1600  # the longer side of a photograph as it is sent
_CACHE_BYTES = 192_000_000
_FILE_BYTES = 512_000_000  # a photograph has less


class Pictures:
    """Makes JPEG files of faces, and keeps the small ones in memory, the last used longest. Safe across threads."""

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, "pictures")
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._bytes = 0
        configure_ffmpeg()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def small(self, faceset: FaceSet, faces: Sequence[FaceRow], side_px: int) -> bytes:
        """Return small crops, one after the other, each as its length (4 bytes, little endian) and a JPEG file.

        side_px: one of SIZES_PX; the crop's longer side. They are upright. A crop that cannot be read has the length 0.
        """
        found = self._pool.map(lambda face: self._small(faceset, face, side_px), faces)
        return b"".join(struct.pack("<I", len(data)) + data for data in found)

    def crop(self, faceset: FaceSet, face: FaceRow) -> bytes:
        """Return a crop in full size, upright. Raises DataError where it is not to be had."""
        return _jpeg(_crop(faceset, face), 92)

    def photograph(self, faceset: FaceSet, face: FaceRow) -> tuple[bytes, tuple[float, ...]]:
        """Return the whole photograph, or the frame of a film, at most 1600 pixels long, and where the face is.

        The box is (left, top, width, height) in shares of the picture; empty where the table has none. Only what the
        table names as the source of a face is opened. Raises DataError, in one line, where it is gone or changed.
        """
        path = faceset.source_path(face)
        if path is None:
            raise DataError("the table does not say which photograph this face is from")
        name = clipped(Path(face.source).name)
        # No address of a network, no device, no folder: FFmpeg and OpenCV would open those too.
        if not path.is_file():
            raise DataError(f"{name} is not where it was when its faces were found; the crop is all there is")
        if path.stat().st_size > _FILE_BYTES and face.time_s is None:
            raise DataError(f"{name} is larger than any photograph; the crop is all there is")
        if face.time_s is not None:
            try:
                with open_video(path) as film:
                    image = film.at(face.time_s)
            except ImageError as error:  # its line has the whole path, which is nobody's business
                raise DataError(
                    f"{name} cannot be shown at {face.time_s:.1f} s; the crop is all there is"
                ) from error
        else:
            data = read_bytes(path, name)
            if not face.is_from(data):
                raise DataError(f"{name} has changed since its faces were found; the crop is all there is")
            image = decode_image(data, name)
        high, wide = image.shape[:2]
        box: tuple[float, ...] = ()
        if face.box is not None:
            x, y, width, height = face.box
            if not (0 <= x + width / 2 <= wide and 0 <= y + height / 2 <= high):
                raise DataError(f"{name} has changed since its faces were found (it is {wide}x{high} now)")
            box = (x / wide, y / high, width / wide, height / high)
        return _jpeg(_fitted(image, _PHOTO_PX), 88), box

    def _small(self, faceset: FaceSet, face: FaceRow, side_px: int) -> bytes:
        key = (face.id, face.file, side_px)
        with self._lock:
            if (data := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return data
        try:
            data = _jpeg(_fitted(_crop(faceset, face), side_px), 84)
        except MienError:
            return b""
        with self._lock:
            if key not in self._cache:
                self._cache[key] = data
                self._bytes += len(data)
            while self._bytes > _CACHE_BYTES:
                self._bytes -= len(self._cache.popitem(last=False)[1])
        return data


def _crop(faceset: FaceSet, face: FaceRow) -> NDArray[np.uint8]:
    """Return a crop with the face upright, to an eighth of a turn."""
    path = faceset.crop_path(face)
    name = clipped(face.file)
    # A link in the folder may lead anywhere; what is outside is none of ours.
    if not path.resolve().is_relative_to(faceset.folder.resolve()):
        raise DataError(f"{name} leads out of the folder of the face set")
    if not path.is_file():
        raise ImageError(f"{name} is not there any more")
    image = decode_image(read_bytes(path, name), name)
    # People read a lying face badly. By quarters, as no corner of the crop is lost so; training levels the rest.
    turns = round(tilt_degrees(face.landmarks) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _fitted(image: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    return resized(image, min(longest_px, max(image.shape[:2])))[0]


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    if image.ndim == 3:
        image = image[:, :, ::-1]
    made, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not made:
        raise ImageError("the picture cannot be shown")
    return data.tobytes()
