"""Every kind of picture file comes out as an upright RGB or grey array, or as one clear line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.errors import ImageError
from mien.images import decode_image, read_image

RED, GREEN, BLUE, GREY = (200, 20, 20), (20, 180, 20), (20, 20, 200), (128, 128, 128)


def corners(width: int = 32, height: int = 24) -> Image.Image:
    """A picture whose four quarters have different colours: which way is up can be seen."""
    picture = Image.new("RGB", (width, height), RED)
    for colour, place in (
        (GREEN, (width // 2, 0)),
        (BLUE, (0, height // 2)),
        (GREY, (width // 2, height // 2)),
    ):
        picture.paste(colour, (*place, place[0] + width // 2, place[1] + height // 2))
    return picture


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG"])
def test_every_kind_gives_the_same_rgb(kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    found = decode_image(encoded(corners(), kind, **options), "x")
    assert found.shape == (24, 32, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(found, np.asarray(corners()), atol=4 if kind == "JPEG" else 0)


def test_grey_stays_grey():
    assert decode_image(encoded(corners().convert("L"), "JPEG"), "x").shape == (24, 32)
    assert decode_image(encoded(corners().convert("L"), "PNG"), "x").shape == (24, 32)
    assert decode_image(encoded(corners().convert("1"), "PNG"), "x").shape == (24, 32)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_is_honoured_in_every_kind(kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    # What the camera would have stored so that the picture is upright after the rotation.
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = corners() if orientation == 1 else corners().transpose(back[orientation])
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    found = decode_image(encoded(stored, kind, exif=exif, **options), "x")
    assert found.shape == (24, 32, 3)
    np.testing.assert_allclose(found, np.asarray(corners()), atol=4 if kind == "JPEG" else 0)


def test_sixteen_bits_are_scaled_and_not_clipped():
    levels = np.array([[0, 257, 256 * 128, 65535]], np.uint16)
    png = cv2.imencode(".png", levels)[1].tobytes()
    assert decode_image(png, "x").tolist() == [[0, 1, 128, 255]]
    colour = np.dstack([levels, levels // 2, levels * 0])  # BGR
    found = decode_image(cv2.imencode(".png", colour)[1].tobytes(), "x")
    assert found[0, 3].tolist() == [0, 127, 255]


def test_a_tiff_of_16_bits_whose_zero_is_white_is_no_negative():
    levels = np.array([[0, 257, 256 * 128, 65535]], np.uint16)
    written = encoded(Image.fromarray(65535 - levels), "TIFF")
    photometric = struct.pack("<HHIH", 262, 3, 1, 1)  # 1: zero is black
    assert written.count(photometric) == 1
    turned = written.replace(photometric, struct.pack("<HHIH", 262, 3, 1, 0))
    assert decode_image(turned, "x.tif").tolist() == [[0, 1, 128, 255]]


def test_the_transparent_level_of_16_bits_is_laid_over_white():
    png = cv2.imencode(".png", np.array([[0, 257, 256 * 128, 65535]], np.uint16))[1].tobytes()
    body = b"tRNS" + struct.pack(">H", 257)
    part = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    at = png.index(b"IDAT") - 4
    assert decode_image(png[:at] + part + png[at:], "x").tolist() == [[0, 255, 128, 255]]


def test_whole_numbers_of_32_bits_that_are_levels_stay_levels():
    """As NumPy's int32 becomes a TIFF: not a picture of 16 bits that is nearly black."""
    levels = np.array([[0, 7, 128, 255]], np.int32)
    assert decode_image(encoded(Image.fromarray(levels), "TIFF"), "x.tif").tolist() == [[0, 7, 128, 255]]
    bright = encoded(Image.fromarray(levels * 257), "TIFF")
    assert decode_image(bright, "x.tif").tolist() == [[0, 7, 128, 255]]


def test_transparency_is_laid_over_white():
    picture = corners().convert("RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 16, 12))
    alpha.paste(51, (16, 0, 32, 12))
    picture.putalpha(alpha)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        found = decode_image(encoded(picture, kind, **options), "x")
        assert found[2, 2].tolist() == [255, 255, 255]
        np.testing.assert_allclose(found[2, 20], [208, 240, 208], atol=1)  # a fifth of green, the rest white
        assert found[20, 2].tolist() == list(BLUE)


def test_grey_with_transparency_is_grey():
    assert decode_image(encoded(corners().convert("LA"), "PNG"), "x").shape == (24, 32)


def test_cmyk_jpeg_is_mixed_to_rgb():
    found = decode_image(encoded(corners().convert("CMYK"), "JPEG", quality=95), "x")
    assert np.abs(found[2, 2].astype(int) - RED).max() < 12
    assert np.abs(found[20, 2].astype(int) - BLUE).max() < 12


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind):
    second = Image.new("RGB", (32, 24), GREEN)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(corners(), kind, save_all=True, append_images=[second], duration=50, **options)
    np.testing.assert_array_equal(decode_image(data, "x"), np.asarray(corners()))


def test_one_pixel_is_a_picture():
    assert decode_image(encoded(Image.new("RGB", (1, 1), RED), "PNG"), "x").tolist() == [[list(RED)]]


def damaged_inside(data: bytes) -> bytes:
    """A JPEG whose end is there but whose middle is not: OpenCV alone returns it half grey."""
    return data[: len(data) // 2] + b"\xff\xd9"


def photo() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise), "JPEG")


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def png_with_a_giant_part() -> bytes:
    """A PNG whose pixels claim three gigabytes; OpenCV 4.14 asks for that memory before it looks."""
    data = bytearray(encoded(corners(), "PNG"))
    data[33] = 0xC0  # behind the signature (8) and the header chunk (25)
    return bytes(data)


BAD = {
    "empty": (b"", "empty (0 bytes)"),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid x",
        "fetch the file with git lfs pull",
    ),
    "a web page": (b"\n<!DOCTYPE html><html>", "a web page: the download failed; get the file again"),
    "a failed copy": (bytes(5000), "zeros only: the copy failed"),
    "JPEG XL": (
        b"\xff\x0a" + b"x" * 60,
        "is a JPEG XL picture, for which there is no decoder here; save it as",
    ),
    "text": (b"this is no picture at all", "is not a picture (it begins with 'this is no p')"),
    "truncated jpeg": (photo()[:-200], "is cut short (Corrupt JPEG data: premature end"),
    "jpeg that lost its middle": (damaged_inside(photo()), "is damaged (Corrupt JPEG data"),
    "jpeg start only": (b"\xff\xd8\xff", "cut short"),
    "truncated png": (encoded(corners(), "PNG")[:90], "PNG file that cannot be decoded"),
    "truncated gif": (encoded(corners(), "GIF")[:40], "GIF file that cannot be decoded"),
    "webp of 28 bytes": (encoded(corners(), "WEBP", lossless=True)[:28], "cannot be decoded"),
    "truncated webp": (encoded(corners(), "WEBP")[:60], "WebP file that cannot be decoded"),
    "truncated tiff": (encoded(corners(), "TIFF")[:300], "cut short"),
    "truncated bmp": (encoded(corners(), "BMP")[:300], "BMP file that cannot be decoded"),
    "header only": (b"\x89PNG\r\n\x1a\n", "its header ends early"),
    "too large": (png_of(20_000, 10_001), "20000x10001 pixels, more than 200 megapixels"),
    "giant part": (png_with_a_giant_part(), "one part of it claims 3,221,"),
    "made up": (png_of(10_000, 10_000), "bytes cannot hold 10000x10000 pixels"),
    "no pixels": (png_of(0, 10), "it claims 0x10 pixels"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture"),
    "big tiff": (b"II+\0\x08\0\0\0" + bytes(20), "is a BigTIFF picture, for which"),
    "avif": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "is an AVIF file that cannot be decoded"),
    "mp4": (
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        "is a video, not a picture; it is for mien video",
    ),
    "float tiff": (encoded(corners().convert("F"), "TIFF"), "holds float32 values"),
}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_a_png_of_one_colour_is_small_and_still_read(mode):
    """The smallest file that 16 megapixels can have must not be taken for one that is made up."""
    found = decode_image(encoded(Image.new(mode, (4000, 4000)), "PNG", compress_level=9), "x")
    assert found.shape[:2] == (4000, 4000)


@pytest.mark.parametrize(("data", "words"), BAD.values(), ids=BAD.keys())
def test_bad_files_give_one_line_and_no_noise(data, words, capfd):
    with pytest.raises(ImageError) as caught:
        decode_image(data, "holiday.jpg")
    message = str(caught.value)
    assert message.startswith("holiday.jpg ") and words in message and "\n" not in message
    assert capfd.readouterr() == ("", "")


EMPTY_PARTS = {
    "JPEG": b"\xff\xd8\xff" + b"\xff\xd0" * 5_000_000,
    "PNG": png_of(8, 8)[:33] + bytes(8_000_000),
    "WebP": b"RIFF\x00\x00\x00\x00WEBP" + bytes(8_000_000),
}


@pytest.mark.parametrize("kind", EMPTY_PARTS)
def test_a_file_of_nothing_but_empty_parts_is_refused_after_the_first_of_them(kind):
    """All of them would take eight seconds and more."""
    with pytest.raises(ImageError, match="made up: it has more than 100,000 parts"):
        decode_image(EMPTY_PARTS[kind], "parts")


def test_fill_bytes_of_a_jpeg_are_no_parts():
    with pytest.raises(ImageError, match="cut short"):
        decode_image(b"\xff\xd8\xff" + b"\xff" * 10_000_000, "fill")


def test_a_jpeg_of_a_thousand_scans_is_refused():
    whole = photo()
    start = whole.index(b"\xff\xda")
    again = whole[:-2] + whole[start:-2] * 1000 + whole[-2:]
    with pytest.raises(ImageError, match="more than 32 scans"):
        decode_image(again, "scans")


def test_paths_with_blanks_other_letters_and_200_characters(tmp_path: Path):
    for name in ("a b.png", "жест 面.png", "n" * 196 + ".png"):
        path = tmp_path / name
        path.write_bytes(encoded(corners(), "PNG"))
        assert read_image(path).shape == (24, 32, 3)


def test_a_file_that_cannot_be_opened(tmp_path: Path):
    with pytest.raises(ImageError, match=r"missing\.png cannot be opened: No such file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match=r"a\\x00b\.png' cannot be opened: embedded null byte"):
        read_image(tmp_path / "a\0b.png")
