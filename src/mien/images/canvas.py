"""The colour of each expression, the same in every picture that mien draws of a video."""

from __future__ import annotations

from collections.abc import Sequence

from mien.labels import canonical

Colour = tuple[int, int, int]  # RGB, 0-255

# Okabe & Ito 2008 (jfly.uni-koeln.de/color), told apart with red-green blindness as well; neutral stays in the
# background, happy is what people expect to be yellow, angry red, sad blue.
_COLOURS: dict[str, Colour] = {
    "angry": (213, 94, 0),
    "disgust": (0, 158, 115),
    "fear": (204, 121, 167),
    "happy": (240, 205, 50),
    "sad": (0, 114, 178),
    "surprise": (86, 180, 233),
    "neutral": (205, 205, 205),
    "contempt": (110, 90, 75),
}
_OTHERS: tuple[Colour, ...] = (
    (213, 94, 0),
    (0, 114, 178),
    (240, 205, 50),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (110, 90, 75),
    (150, 150, 150),
)
# Of the numbers that faces keep: dark enough for white digits.
_TRACKS: tuple[Colour, ...] = (
    (0, 92, 175), (176, 58, 0), (0, 110, 80), (140, 60, 110), (120, 90, 0), (70, 70, 70),
)  # fmt: skip


def label_colours(labels: Sequence[str]) -> list[Colour]:
    """Return a colour for each label: its own where mien knows the expression, otherwise one that is free."""
    known = [_COLOURS.get(canonical(label)) for label in labels]
    free = [colour for colour in _OTHERS if colour not in known] or list(_OTHERS)
    strangers = (free[place % len(free)] for place in range(len(labels)))
    return [colour or next(strangers) for colour in known]


def track_colour(number: int) -> Colour:
    """Return the colour of a face's number, which is from 1."""
    return _TRACKS[(number - 1) % len(_TRACKS)]


def ink_on(colour: Colour) -> Colour:
    """Return black or white, whichever is easier to read on a colour (luma of ITU-R BT.601)."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (20, 20, 20) if luma > 140 else (255, 255, 255)
