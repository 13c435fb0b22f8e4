"""Random and mutated files: a picture or one ImageError, never a crash, a hang or noise. In a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

FUZZ = """
import sys, zlib
import cv2, numpy as np
from mien.errors import ImageError
from mien.images import MAX_PIXELS, decode

suffix, rounds = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(sum(map(ord, suffix)))
picture = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
picture[:12] = 90
if suffix == ".pgm":
    picture = picture[:, :, 0]
whole = b"" if suffix == "random" else cv2.imencode(suffix, picture)[1].tobytes()


def mutated():
    if not whole:
        return rng.integers(0, 256, rng.integers(0, 400), dtype=np.uint8).tobytes()
    data = bytearray(whole)
    kind = rng.integers(4)
    if kind == 0:  # some bytes, mostly near the start, where sizes and tables are
        for _ in range(rng.integers(1, 8)):
            data[int(len(data) * rng.random() ** 3)] = rng.integers(256)
    elif kind == 1:
        del data[rng.integers(len(data)):]
    elif kind == 2:
        start = rng.integers(len(data))
        del data[start:start + rng.integers(1, 40)]
    else:
        start = rng.integers(len(data))
        data[start:start] = rng.integers(0, 256, rng.integers(1, 40), dtype=np.uint8).tobytes()
    if suffix == ".png" and rng.integers(2):
        with_right_checksums(data)
    return bytes(data)


def with_right_checksums(data):
    # libpng refuses a chunk whose sum is wrong, and then nothing behind it would be tried.
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at:at + 4], "big")
        data[end:end + 4] = zlib.crc32(data[at + 4:end]).to_bytes(4, "big")
        at = end + 4


pictures = errors = 0
for _ in range(rounds):
    try:
        found = decode(mutated(), "it").pixels
    except ImageError as error:
        assert str(error).startswith("it ") and "\\n" not in str(error), error
        errors += 1
    else:
        assert found.dtype == np.uint8 and found.ndim in (2, 3) and found.shape[2:] in ((), (3,)), found.shape
        assert 0 < found.shape[0] * found.shape[1] <= MAX_PIXELS, found.shape
        pictures += 1
print(pictures, errors)
"""


@pytest.mark.parametrize(
    "suffix", [".jpg", ".png", ".gif", ".webp", ".bmp", ".tiff", ".ppm", ".pgm", "random"]
)
def test_damaged_bytes_are_a_picture_or_an_error(suffix: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, suffix, "150"], capture_output=True, text=True, check=False, timeout=120
    )
    lines = [
        line for line in done.stderr.splitlines() if not line.startswith("tempfile.tif: ")
    ]  # libtiff's own
    assert (done.returncode, lines) == (0, [])
    pictures, errors = map(int, done.stdout.split())
    assert errors > 5
    assert pictures > 3 or suffix in (".png", "random")  # a PNG has checksums of everything
