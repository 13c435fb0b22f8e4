"""Little videos made by the tests, a face detector for bright squares, and changes to an MP4's tables."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from mien.detect.base import Detection, largest_first

BACKGROUND = 10
CLUSTER = b"\x1f\x43\xb6\x75"
PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


class Squares:
    """Finds squares that are brighter than the background: a face detector whose answers a test knows."""

    name, searches, note, metadata = "squares", True, "", {"name": "squares"}

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        self.sizes.append(image.shape)
        mask = (image[..., 0] > BACKGROUND + 20).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        boxes = [tuple(map(float, stats[row, :4])) for row in range(1, count) if stats[row, 4] > 30]
        return largest_first([Detection(box, 0.9) for box in boxes])  # type: ignore[arg-type]


def scene(
    squares: Iterable[tuple[int, int, int]], size: tuple[int, int] = (160, 96), side: int = 24
) -> np.ndarray:
    """Draw (x, y, level) squares on a dark frame; size: (width, height). Returns RGB uint8, grey in fact."""
    frame = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    for x, y, level in squares:
        frame[y : y + side, x : x + side] = level
    return frame


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float = 10.0, code: str = "mp4v") -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[:, :, ::-1])
    writer.release()
    return path


def with_shares_of_time(data: bytes, shares: Sequence[float]) -> bytes:
    """Give the frames of an MP4 other lengths: shares of the length that all had. Their sum must be their number."""
    place = data.index(b"stts") - 4
    size, _, _, entries, _, delta = struct.unpack_from(">I4sIIII", data, place)
    assert entries == 1
    table = b"".join(struct.pack(">II", 1, round(share * delta)) for share in shares)
    body = b"stts" + struct.pack(">II", 0, len(shares)) + table
    grown = len(body) + 4 - size
    assert data.index(b"mdat") < data.index(b"moov")  # so that no offset changes
    longer = bytearray(data)
    for name in PARENTS:
        start = data.rindex(name, 0, place) - 4
        struct.pack_into(">I", longer, start, struct.unpack_from(">I", data, start)[0] + grown)
    longer[place : place + size] = struct.pack(">I", len(body) + 4) + body
    return bytes(longer)


def turned(data: bytes) -> bytes:
    """Ask players of an MP4 to turn it by a quarter to the right, as phones do for portraits."""
    place = data.index(b"tkhd") + 4 + 40
    one, minus = 0x00010000, 0xFFFF0000
    matrix = struct.pack(">9I", 0, one, 0, minus, 0, 0, 0, 0, 0x40000000)
    return data[:place] + matrix + data[place + 36 :]


def stretched(data: bytes, across: int) -> bytes:
    """Ask players of an MP4 to show it so many times as wide, as recorders with pixels that are no squares do."""
    place = data.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9I", across << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 0x40000000)
    return data[:place] + matrix + data[place + 36 :]


def without_first_cluster(data: bytes) -> tuple[bytes, int]:
    """Blank the first cluster of a Matroska file, so that its clock begins later; how many frames that held as well."""
    begin = data.index(CLUSTER)
    length = data[begin + 4 : begin + 6]  # of two bytes in files as small as these
    assert length[0] >> 6 == 1
    size = 6 + (int.from_bytes(length, "big") & 0x3FFF)
    void = b"\xec\x01" + (size - 9).to_bytes(7, "big") + bytes(size - 9)
    frames = data[begin : begin + size].count(b"\xff\xd8\xff")  # pictures of an MJPEG video
    return data[:begin] + void + data[begin + size :], frames
