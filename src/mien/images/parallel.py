"""Decoding many pictures at once, each with the verdict that `decode_image` alone would give."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images.decode import decode_image, decode_known, is_damage
from mien.images.noise import damage_heard

Decoded = NDArray[np.uint8] | ImageError


def decode_each(files: Sequence[tuple[bytes, str]], pool: Executor) -> list[Decoded]:
    """Decode (content, name) pairs in the threads of a pool; return a picture or its ImageError for each.

    decode_image listens to what the C libraries print, for which threads would wait for each other. So we
    listen to all pictures together, and only where one is damaged ask each of them by itself.
    """
    with damage_heard() as heard:
        found = list(pool.map(_at_once, files))
    return [decode_or_error(*file) for file in files] if any(map(is_damage, heard)) else found


def decode_or_error(data: bytes, name: str) -> Decoded:
    """Like decode_image, with the ImageError returned."""
    try:
        return decode_image(data, name)
    except ImageError as error:
        return error


def _at_once(file: tuple[bytes, str]) -> Decoded:
    try:
        return decode_known(*file)
    except ImageError as error:
        return error
