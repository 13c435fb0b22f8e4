"""Tables with a column for each class: shares of a soft label, or 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

from mien.data.readers import words
from mien.data.readers.box_columns import find_box_columns
from mien.labels import is_expression

_SHARE_PREFIXES = ("p_", "prob_", "share_")
_NO_CLASS = ("unlabeled", "unlabelled", "unknown", "nf", "none")  # beside columns of classes: none of them
_INDEX = ("", "unnamed:_0", "index", "id", "#", "no")  # of the rows
# An export with a column of 0 and 1 for each class, whatever the classes are called.
ROBOFLOW = "_classes.csv"


def share_columns(source: str, header: Sequence[str], label: int | None) -> dict[str, int]:
    """Return the columns with a share for each class: p_angry, p_happy, …; or, without a label, angry, happy, …

    Also where all such names have the same words around the expressions: emotion_angry, emotion_happy; angry (%).
    """
    named = [(place, words.plain_column(name)) for place, name in enumerate(header)]
    for prefix in _SHARE_PREFIXES:
        shares = {
            _after(prefix, header[place].strip(), name): place
            for place, name in named
            if name.startswith(prefix) and name != prefix
        }
        if len(shares) > 1:
            return shares
    if label is not None:
        return {}
    if source == ROBOFLOW:
        picture = words.pick_column(header, words.PATH_COLUMNS)
        return {name: place for place, name in named if place != picture and name not in _NO_CLASS}
    frame = words.frame_of([name for _, name in named])
    inside = [(place, words.unframed(name, frame)) for place, name in named]
    shares = {name: place for place, name in inside if is_expression(name)}
    return shares if len(shares) > 1 else {}


def _after(prefix: str, text: str, plain: str) -> str:
    """Return the class in a column's name as it is written (P_Half-Sad), else as it is compared (p-happy)."""
    return text[len(prefix) :] if text.lower().startswith(prefix) else plain.removeprefix(prefix)


def with_ones(
    shares: dict[str, int], header: Sequence[str], rows: Sequence[Sequence[str]], path: int, notes: list[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the columns of classes, and those that say that a picture shows none (unknown).

    The classes are all columns of 0 and 1 of which every row has exactly one 1; otherwise those that were found by
    their names, and a note names the others of numbers, as they may be classes, too.
    """
    known = (*words.FLAG_COLUMNS, *words.SPLIT_COLUMNS, *words.FOLD_COLUMNS, "")
    box = find_box_columns(header)
    plain = list(map(words.plain_column, header))
    frame = words.frame_of(plain)
    numbers = {
        words.unframed(name, frame): place
        for place, name in enumerate(plain)
        if place not in (path, *(box.places if box else ()))
        and name not in known
        and not words.group_column(name)
        and rows
        and all(words.as_share(row[place]) is not None for row in rows)
    }
    nothing = {name: place for name, place in numbers.items() if name in _NO_CLASS}
    ones = {
        name: place
        for name, place in numbers.items()
        if all(words.yes_or_no(row[place]) is not None for row in rows)
    }
    if (
        len(ones) > 1
        and set(shares.values()) <= set(ones.values())
        and all(sum(words.yes_or_no(row[place]) is True for place in ones.values()) == 1 for row in rows)
    ):
        shares = {name: place for name, place in ones.items() if name not in nothing}
    used = {*shares.values(), *nothing.values()}
    rest = [header[place] for name, place in numbers.items() if place not in used and name not in _INDEX]
    if shares and rest:
        notes.append(
            f"not used, though of numbers as those of the classes: the columns {words.shown_columns(rest)}"
        )
    return shares, nothing
