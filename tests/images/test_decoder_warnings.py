"""What libjpeg has to say of a JPEG: damage is noticed whenever it notices it, oddities are answered with a warning."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.errors import ImageError
from mien.images import DecoderWarning, decode, decode_image

SAMPLES = Path(__file__).parents[2] / "src" / "mien" / "samples"
PICTURE = Image.open(SAMPLES / "eileen-collins.jpg").resize((256, 256))
ZEROS, TEXT = bytes(300), b"Panorama_Shot_Info 4000x900, a sweep from left to right, made with a telephone"
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 20


def jpeg(picture: Image.Image = PICTURE, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def scan_of(data: bytes) -> int:
    return data.index(b"\xff\xda")


def padded(data: bytes, padding: bytes) -> bytes:
    """With bytes before each restart marker, as some webcams write."""
    start = scan_of(data)
    return data[:start] + re.sub(rb"\xff[\xd0-\xd7]", lambda marker: padding + marker[0], data[start:])


KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "small": {"quality": 40},
}
NO_END, CLOSED_BY_MORE = "its end marker is missing)", "its end marker is missing before what lies behind it)"
ODD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no end": (lambda data: data[:-2], NO_END),
    "zeros for an end": (lambda data: data[:-2] + ZEROS, "bytes of padding lie behind the picture's data)"),
    "a video for an end": (lambda data: data[:-2] + VIDEO, CLOSED_BY_MORE),
    "text for an end": (lambda data: data[:-2] + TEXT, CLOSED_BY_MORE),
    "a block for an end": (lambda data: data[:-2] + b"SEFH" + bytes(range(90)) + b"SEFT", CLOSED_BY_MORE),
    "a part for an end": (lambda data: data[:-2] + b"\xff\xe1\0\x20Exif\0\0" + bytes(24), NO_END),
    "a picture for an end": (lambda data: data[:-2] + data, NO_END),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", ODD)
def test_a_whole_jpeg_that_is_written_oddly_is_answered_with_a_warning(kind: str, odd: str) -> None:
    data, (change, words) = jpeg(**KINDS[kind]), ODD[odd]
    found = decode(change(data), "it")
    np.testing.assert_array_equal(found.pixels, decode(data, "it").pixels)
    assert found.warning == f"it is written oddly ({words}, but nothing of its picture is missing"


@pytest.mark.parametrize("padding", [b"\0", b"\0\0", b"\x55\xaa\x11"])
def test_padding_before_restart_markers_is_no_damage(padding: bytes) -> None:
    data = jpeg(restart_marker_rows=1)
    found = decode(padded(data, padding), "it")
    np.testing.assert_array_equal(found.pixels, decode(data, "it").pixels)
    assert "padding lies before its restart markers" in found.warning


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"quality": 30}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_zeros_that_fill_words_before_restart_markers_are_no_damage(
    mode: str, options: dict[str, int]
) -> None:
    """As many as each interval needs, and some intervals end in a zero of their own."""
    rng = np.random.default_rng(4)
    data = jpeg(PICTURE.convert(mode).crop((0, 0, 250, 251)), restart_marker_blocks=5, **options)
    start = scan_of(data)
    filled = re.sub(rb"\xff[\xd0-\xd7]", lambda marker: bytes(int(rng.integers(4))) + marker[0], data[start:])
    found = decode(data[:start] + filled, "it")
    np.testing.assert_array_equal(found.pixels, decode(data, "it").pixels)
    assert "padding lies before its restart markers" in found.warning


@pytest.mark.parametrize("trailer", [ZEROS, VIDEO, TEXT, jpeg(quality=5), b"\xff\xd8\xff\xda"])
def test_what_lies_behind_the_end_marker_is_not_looked_at(trailer: bytes) -> None:
    found = decode(jpeg() + trailer, "it")
    assert found.warning == "" and found.pixels.shape == (256, 256, 3)


def test_the_door_for_arrays_warns_in_pythons_way() -> None:
    with pytest.warns(DecoderWarning, match="its end marker is missing"):
        assert decode_image(jpeg()[:-2], "it").shape == (256, 256, 3)


def eight_bytes(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(8):
        data[int(rng.integers(scan_of(data) + 14, len(data) - 2))] = int(rng.integers(256))


def one_bit(data: bytearray, rng: np.random.Generator) -> None:
    data[int(rng.integers(scan_of(data) + 14, len(data) - 2))] ^= 1 << int(rng.integers(8))


def a_run(data: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(scan_of(data) + 14, len(data) - 66))
    data[at : at + 64] = rng.integers(0, 256, 64, dtype=np.uint8).tobytes()


def a_cut(data: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(scan_of(data) + 14, len(data) - 514))
    del data[at : at + int(rng.integers(1, 512))]


def a_lost_end(data: bytearray, rng: np.random.Generator) -> None:
    data[int(rng.integers(scan_of(data) + 14, len(data) - 2)) :] = b"\xff\xd9"


def sixty() -> list[bytes]:
    """Sixty JPEGs of two portraits: sizes, qualities, kinds."""
    portraits = [Image.open(path) for path in sorted(SAMPLES.glob("*.jpg"))]
    found = []
    for number in range(60):
        side = 96 + 16 * (number % 7)
        options = list(KINDS.values())[number % 3]
        found.append(
            jpeg(portraits[number % 2].resize((side, side)), **{"quality": 50 + 9 * (number % 6), **options})
        )
    return found


# Of sixty each. libjpeg cannot notice more: a code that stands for another one of its length is not wrong.
NOTICED = {eight_bytes: 50, a_run: 48, a_cut: 50, a_lost_end: 60, one_bit: 17}


@pytest.mark.parametrize("damage", NOTICED, ids=lambda damage: damage.__name__)
def test_damage_is_noticed(damage: Callable[[bytearray, np.random.Generator], None]) -> None:
    rng = np.random.default_rng(20)
    said: Counter[str] = Counter()
    for whole in sixty():
        data = bytearray(whole)
        damage(data, rng)
        try:
            found = decode(bytes(data), "it")
        except ImageError as error:
            assert re.match(
                r"it is (damaged|cut short) \(|it is a JPEG file that cannot be decoded", str(error)
            ), error
            said["noticed"] += 1
        else:
            said["warned"] += bool(found.warning)
    assert said["noticed"] >= NOTICED[damage], said
    assert said["warned"] == 0, "damage was taken for an oddity"


def test_nobody_elses_stderr_is_touched(capfd: pytest.CaptureFixture[str]) -> None:
    """Another thread's lines arrive while pictures are decoded, damaged ones among them, and none are added."""
    damaged = bytearray(jpeg())
    a_run(damaged, np.random.default_rng(1))
    stop = threading.Event()

    def decode_on() -> None:
        while not stop.is_set():
            with pytest.raises(ImageError):
                decode(bytes(damaged), "it")

    thread = threading.Thread(target=decode_on)
    thread.start()
    for number in range(200):
        os.write(2, b"line %d\n" % number)
    stop.set()
    thread.join()
    assert capfd.readouterr() == ("", "".join(f"line {number}\n" for number in range(200)))


def test_a_size_that_the_decoder_does_not_see_is_refused() -> None:
    """A second frame header: the walk and libjpeg must agree on which one counts."""
    data = jpeg()
    start = data.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", data, start + 2)
    small = bytearray(data[start : start + 2 + length])
    small[5:9] = struct.pack(">HH", 8, 8)
    for made_up in (
        data[:start] + bytes(small) + data[start:],
        data[: start + 2 + length] + bytes(small) + data[start + 2 + length :],
    ):
        with pytest.raises(ImageError):
            decode(made_up, "it")
