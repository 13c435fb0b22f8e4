"""Decoding pictures: each kind of input has its own door; below them everything is an RGB or grey array."""

from mien.images.decode import IMAGE_SUFFIXES, MAX_PIXELS, decode_image, decode_known, read_image
from mien.images.noise import damage_heard

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "damage_heard", "decode_image", "decode_known", "read_image"]
