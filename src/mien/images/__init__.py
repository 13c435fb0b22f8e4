"""Decoding pictures: each kind of input has its own door; below them everything is an RGB or grey array.

In go paths, bytes or Pillow images; out come upright uint8 arrays, with a warning where a file is written oddly, or one
ImageError. Begin with `decode.py`, which also finds out what is damaged. `kinds.py` and `headers.py` know what a file
is, and its size, before anything is decoded; `listing.py` which files of a folder are pictures; `prefetch.py` decodes
many in parallel; `canvas.py` draws.
"""

from mien.images.decode import (
    Decoded,
    DecoderWarning,
    PillowImage,
    decode,
    decode_each,
    decode_image,
    decode_or_error,
    from_pillow,
    read_image,
)
from mien.images.headers import MAX_PIXELS
from mien.images.listing import Listing, list_pictures, no_picture, passed_over_note

__all__ = [
    "MAX_PIXELS",
    "Decoded",
    "DecoderWarning",
    "Listing",
    "PillowImage",
    "decode",
    "decode_each",
    "decode_image",
    "decode_or_error",
    "from_pillow",
    "list_pictures",
    "no_picture",
    "passed_over_note",
    "read_image",
]
