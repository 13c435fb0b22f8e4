"""A face's box in the columns of a table: two corners, or a corner or the centre and a size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mien.data.readers.words import plain_column

_PREFIX = re.compile(r"(?:(?:face|bbox|bounding_?box|box|bb|rectangle|rect|roi)_?)+(?=[a-z])")
_CORNERS = ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("x0", "y0", "x1", "y1")
_SIDES = ("left", "top", "right", "bottom")
_STARTS = ("x", "y"), ("left", "top"), ("xmin", "ymin"), ("x1", "y1"), ("x0", "y0")
_CENTRES = ("cx", "cy"), ("xc", "yc"), ("centerx", "centery"), ("xcenter", "ycenter"), ("centrex", "centrey")
_SIZES = ("w", "h"), ("width", "height")
# Corners come first: where they are, columns of a width and a height are often those of the picture.
_WAYS = (
    *((names, "corners") for names in (*_CORNERS, _SIDES)),
    *(((*start, *size), "size") for start in _STARTS for size in _SIZES),
    *(((*centre, *size), "centre") for centre in _CENTRES for size in _SIZES),
)
_OF_A_PLACE = frozenset(word for names in (*_CORNERS, _SIDES, *_STARTS, *_CENTRES) for word in names)


@dataclass(frozen=True)
class BoxColumns:
    """Where four numbers of a box stand, and what they are: two `corners`, or a corner or the centre and a `size`."""

    places: tuple[int, ...]
    way: str

    def edges(self, numbers: Sequence[float]) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the box whose numbers stand in these columns."""
        first, second, third, fourth = numbers
        if self.way == "size":
            return first, second, first + third, second + fourth
        if self.way == "centre":
            return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2
        return first, second, third, fourth


def find_box_columns(header: Sequence[str], taken: Sequence[int | None] = ()) -> BoxColumns | None:
    """Return the columns of a face's box; None where there are none. taken: columns that say something else.

    >>> find_box_columns(["path", "bbox_x_min", "bbox_y_min", "bbox_x_max", "bbox_y_max"])
    BoxColumns(places=(1, 2, 3, 4), way='corners')
    >>> find_box_columns(["path", "FaceX", "FaceY", "FaceW", "FaceH", "width", "height"])
    BoxColumns(places=(1, 2, 3, 4), way='size')
    """
    for columns in _by_prefix(header, taken).values():
        for names, way in _WAYS:
            if all(name in columns for name in names) and not _are_points(names, columns):
                return BoxColumns(tuple(columns[name] for name in names), way)
    return None


def _are_points(names: Sequence[str], columns: Mapping[str, int]) -> bool:
    """Say whether corners with numbers (x1, x2) go on (x3): then they are landmarks, or a polygon."""
    last = names[2]
    return last[1:].isdecimal() and f"x{int(last[1:]) + 1}" in columns


def incomplete_box(header: Sequence[str], taken: Sequence[int | None] = ()) -> list[int]:
    """Return columns that are named like two or more numbers of a box, though four of them are not there."""
    found = [
        place
        for columns in _by_prefix(header, taken).values()
        for name, place in columns.items()
        if name in _OF_A_PLACE
    ]
    return found if len(found) > 1 else []


def _by_prefix(header: Sequence[str], taken: Sequence[int | None]) -> dict[str, dict[str, int]]:
    """Sort the columns by what stands before their names (bbox_, face_), the plain ones last."""
    found: dict[str, dict[str, int]] = {}
    for place, name in enumerate(header):
        plain = plain_column(name)
        told = _PREFIX.match(plain)
        prefix = told[0] if told else ""
        if place not in taken:
            found.setdefault(prefix, {}).setdefault(plain[len(prefix) :].replace("_", ""), place)
    return dict(sorted(found.items(), key=lambda one: not one[0]))
