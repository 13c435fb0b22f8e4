"""The door for pictures that Pillow holds already. mien itself does not need Pillow."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images.decode import over_white, upright

_EXIF_ORIENTATION = 274
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


class PillowImage(Protocol):
    """What is used of a `PIL.Image.Image`."""

    @property
    def mode(self) -> str: ...
    @property
    def info(self) -> dict[Any, Any]: ...
    def convert(self, mode: str) -> Any: ...
    def getexif(self) -> Any: ...


def from_pillow(image: PillowImage) -> NDArray[np.uint8]:
    """Turn a Pillow image into what `decode_image` would give for its file.

    Returns (height, width) or (height, width, 3) uint8, RGB, upright, over white, 16 bits scaled to 8. Raises
    ImageError for what is no Pillow image, cannot be decoded, or holds floating-point or 32-bit values.
    """
    if not all(hasattr(image, name) for name in ("mode", "info", "convert", "getexif")):
        raise ImageError(
            f"a Pillow image is needed here, got {type(image).__name__}; there are other doors for arrays, "
            "bytes and files"
        )
    try:
        pixels = _pixels(image)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)  # after decoding: a TIFF is turned by then
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises when it decodes late
        raise ImageError(f"the Pillow image cannot be decoded: {error}") from error
    return np.ascontiguousarray(upright(pixels, orientation))


def _pixels(image: PillowImage) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or image.mode == "I":
        return _from_16_bits(np.asarray(image))
    if image.mode == "F":
        raise ImageError("a Pillow image of mode F holds any number; scale it to 0-255 and convert it to L")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return over_white(np.asarray(image.convert("RGBA"), np.uint8))
    grey = image.mode in ("L", "1")
    return np.asarray(image.convert("L" if grey else "RGB"), np.uint8)


def _from_16_bits(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = levels.astype(np.int64)
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise ImageError(
            f"a Pillow image with levels from {values.min()} to {values.max()} has no known scale; make it 8 bits"
        )
    return ((values + 128) // 257).astype(np.uint8)
