"""Decoding pictures: each kind of input has its own door; below them everything is an RGB or grey array."""

from mien.images.decode import IMAGE_SUFFIXES, MAX_PIXELS, decode_image, decode_known, read_image
from mien.images.listing import Listing, list_pictures, no_picture, passed_over_note
from mien.images.noise import damage_heard
from mien.images.parallel import decode_each
from mien.images.pillow import PillowImage, from_pillow

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Listing",
    "PillowImage",
    "damage_heard",
    "decode_each",
    "decode_image",
    "decode_known",
    "from_pillow",
    "list_pictures",
    "no_picture",
    "passed_over_note",
    "read_image",
]
