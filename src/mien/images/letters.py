"""Text that OpenCV can draw."""

from __future__ import annotations

import unicodedata


def drawable(text: str) -> str:
    """Return text in OpenCV's letters, which are ASCII: accents are dropped, others become question marks.

    >>> drawable("gêné 怒")
    'gene ?'
    """
    plain = unicodedata.normalize("NFKD", text)
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return letters.encode("ascii", "replace").decode()
