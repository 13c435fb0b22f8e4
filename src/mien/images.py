"""Decoding pictures: each kind of input has its own door; below them everything is an RGB or grey array."""
