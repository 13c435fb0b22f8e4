"""A few bytes take no gigabytes and no minutes: the limits hold for what the decoder will do, in every format."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image, features

from mien.errors import ImageError
from mien.images import decode

RED = (200, 20, 20)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def riff_part(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def webp_of_two_sizes() -> bytes:
    """libwebp takes the first VP8X, a reader that takes the last sees 10x10."""

    def size(side: int) -> bytes:
        return riff_part(b"VP8X", bytes(4) + 2 * (side - 1).to_bytes(3, "little"))

    pixels = encoded(Image.new("RGB", (10, 10), RED), "WEBP", lossless=True)[12:]
    body = b"WEBP" + size(16_383) + size(10) + pixels
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif_that_claims_less() -> bytes:
    """The boxes say 10x10, the AV1 data 6000x6000."""
    data = encoded(Image.new("RGB", (6000, 6000), RED), "AVIF", speed=10)
    return data.replace(struct.pack(">II", 6000, 6000), struct.pack(">II", 10, 10))


def jp2_that_claims_less() -> bytes:
    data = encoded(Image.new("RGB", (4000, 4000), RED), "JPEG2000")
    at = data.index(b"ihdr") + 4
    return data[:at] + struct.pack(">II", 10, 10) + data[at + 8 :]


def tiff_of_giant_tiles() -> bytes:
    """An 8x8 picture whose tile has four gigapixels, compressed, so that the decoder makes room for it first."""
    entries = [
        (256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), (322, 4, 65_536),
        (323, 4, 65_536), (324, 4, 8), (325, 4, 40),
    ]  # fmt: skip
    at = 8 + 40
    tags = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    return b"II*\0" + struct.pack("<I", at) + zlib.compress(bytes(64)).ljust(40, b"\0") + tags + bytes(4)


def gif_of_a_giant_frame() -> bytes:
    """The screen is 8x8, its first frame 65535x65535."""
    data = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    at = data.index(b"\x2c\0\0\0\0\x08\0\x08\0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


LIARS = {
    "webp": webp_of_two_sizes,
    "jp2": jp2_that_claims_less,
    "tiff": tiff_of_giant_tiles,
    "gif": gif_of_a_giant_frame,
    **({"avif": avif_that_claims_less} if features.check("avif") else {}),
}


@pytest.mark.parametrize("kind", LIARS)
def test_a_file_that_claims_less_than_it_holds_is_refused_before_memory_is_taken(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "liar"
    path.write_bytes(LIARS[kind]())
    code = """
import resource, sys
from mien.errors import ImageError
from mien.images import decode
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print("decoded", decode(data, "it").pixels.shape)
except ImageError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    words, taken_mb = done.stdout.splitlines()
    assert words.startswith("it is "), words
    assert "made up" in words or kind == "gif", words  # which Pillow refuses itself
    assert int(taken_mb) < 60, done.stdout


def test_compressed_text_in_a_png_is_not_unpacked() -> None:
    """A hundred parts of ten megabytes each: Pillow refuses a picture when it reads them."""
    picture = encoded(Image.new("RGB", (32, 24), RED), "PNG")
    text = b"Comment\0\0" + zlib.compress(bytes(10_000_000))
    part = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    data = picture[:33] + part * 100 + picture[33:]
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(data)).load()
    found = decode(data, "it")
    assert found.pixels[3, 3].tolist() == list(RED) and found.warning == ""


def test_many_scans_of_a_progressive_jpeg_are_refused() -> None:
    """libjpeg writes ten; each costs a pass over all pixels, however short it is."""
    data = encoded(Image.new("RGB", (64, 64), RED), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="more than 32 scans"):
        decode(data[:-2] + data[last:-2] * 99 + data[-2:], "it")


def test_a_check_sum_that_is_wrong_is_damage() -> None:
    data = bytearray(encoded(Image.effect_noise((64, 64), 50), "PNG", compress_level=0))
    data[data.index(b"IDAT") + 2_000] ^= 1
    with pytest.raises(ImageError, match="a check sum of this PNG is wrong"):
        decode(bytes(data), "it")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("options", [{}, {"save_all": True}], ids=["still", "film"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_an_honest_avif_is_read(mode: str, options: dict[str, bool]) -> None:
    picture = Image.new("RGB", (96, 64), RED).convert(mode)
    if mode == "RGBA":
        picture.putalpha(128)
    more = {"append_images": [picture.transpose(Image.Transpose.ROTATE_180)]} if options else {}
    found = decode(encoded(picture, "AVIF", **options, **more), "it").pixels
    assert found.shape == ((64, 96) if mode == "L" else (64, 96, 3))
