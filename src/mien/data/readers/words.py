"""The words that data sets use: for their splits and for the columns of their tables."""

from __future__ import annotations

from collections.abc import Sequence

from mien.errors import DataError

_NAMED, _LONGEST = 12, 24  # columns in a message, before 'and more'; letters of each

# Every word for a split that the known data sets use, in lower case.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "publictest": "validation",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}


def split_of(word: str) -> str | None:
    """Return train, validation or test for any of the words in use; None for another word."""
    return SPLIT_WORDS.get(word.strip().lower())


def pick_column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Return the place of the first of `names` in a table's header, whatever its blanks and capitals."""
    plain = [word.strip().lower() for word in header]
    return next((plain.index(name) for name in names if name in plain), None)


def need_column(header: Sequence[str], names: Sequence[str], source: str) -> int:
    """Like pick_column, but a DataError where there is none."""
    place = pick_column(header, names)
    if place is None:
        raise DataError(_no_column(header, names, source))
    return place


def _no_column(header: Sequence[str], names: Sequence[str], source: str) -> str:
    if not any(word.strip() for word in header):
        return f"{source} is empty or begins with an empty line; its first line must name the columns"
    # Without its header, what stands there is data: of a FER-2013 face, 9,000 characters.
    have = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for name in map(str.strip, header)]
    more = f" and {len(have) - _NAMED} more" if len(have) > _NAMED else ""
    return (
        f"{source} has no column {' or '.join(names)}; its first line has: {', '.join(have[:_NAMED])}{more}; "
        "that line must name the columns: rename or add one"
    )
