"""Drawing on pictures: mien's colours, real type in any script, smooth shapes, and layout on paper.

Everything takes and returns RGB uint8 arrays; what is drawn is blended into the array in place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mien.errors import OutputError
from mien.files import whole_file
from mien.images.marks import marked
from mien.labels import canonical

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]  # RGB, 0-255
Rect = tuple[float, float, float, float]  # x and y of the upper left corner, width, height

# Okabe & Ito 2008 (jfly.uni-koeln.de/color), told apart with red-green blindness as well; neutral stays in the
# background, happy is what people expect to be yellow, angry red, sad blue. The page has the same (page/colours.js).
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
# Of the page (page/style.css, light): ground, what is drawn on it, fainter text, lines, and the ground of bars.
PAPER, INK, SOFT, RAIL = (244, 244, 242), (23, 24, 26), (91, 94, 99), (236, 236, 234)
_LIGHT_FROM = 0.18  # relative luminance from which dark letters stand out more than white ones
DARK, WHITE = (20, 20, 20), (255, 255, 255)


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
    """Return near-black or white, whichever stands out more on a colour (relative luminance of WCAG 2.2)."""
    shares = (level / 255 for level in colour)
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return DARK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > _LIGHT_FROM else WHITE


def as_rgb(image: Picture) -> Picture:
    """Return a copy of a picture, grey (with or without an axis for it) or RGB, as (height, width, 3)."""
    if image.ndim == 3 and image.shape[2] == 3:
        return np.ascontiguousarray(image).copy()
    return np.asarray(
        cv2.cvtColor(np.ascontiguousarray(image.reshape(image.shape[:2])), cv2.COLOR_GRAY2RGB), np.uint8
    )


# --- type

_FONTS = Path(__file__).parent / "fonts"
# Licences and origin: fonts/ORIGIN.md. The first that has a letter draws it.
_SHIPPED = (
    _FONTS / "Roboto-Medium.woff2",
    *sorted(_FONTS.glob("NotoSans*.woff2")),
    _FONTS / "DroidSansFallback.woff2",
)
# Where fontconfig is missing: what Windows and macOS have for scripts that the shipped fonts lack.
_ELSEWHERE = (
    "segoeui.ttf",
    "Nirmala.ttc",
    "Nirmala.ttf",
    "seguisym.ttf",
    "Arial Unicode.ttf",
    "Apple Symbols.ttf",
)
_CAPITAL = 0.711  # height of a capital letter of Roboto, in ems
_ASCENT, _DESCENT = 1.05, 0.35  # ems above and below the base line that hold every script
_NOBODYS = "\U0010ffff"  # a character that no font has


def text_width(text: str, px: float) -> int:
    """Return how wide a line of text is. px: size of the type, in pixels an em."""
    return int(_mask(text, max(1, round(px))).shape[1])


def line_height(px: float) -> int:
    """Return the distance between two lines of text."""
    return round(1.4 * px)


def draw_text(picture: Picture, text: str, at: tuple[float, float], px: float, colour: Colour) -> None:
    """Write a line of text. at: its left end, and the middle of its capital letters; px: pixels an em."""
    size = max(1, round(px))
    mask = _mask(text, size)
    top = round(at[1] + size * _CAPITAL / 2) - round(size * _ASCENT)
    _blend(picture, mask, (round(at[0]), top), colour)


@lru_cache(maxsize=1024)
def _mask(text: str, px: int) -> NDArray[np.uint8]:
    """Return the coverage of a line of text, 0 to 255, with the base line _ASCENT ems below the top."""
    runs = [(part, _font(path, px)) for part, path in _runs(text)]
    wide = [font.getlength(part) for part, font in runs]
    ascent, height = round(px * _ASCENT), round(px * _ASCENT) + round(px * _DESCENT)
    image = Image.new("L", (max(1, round(sum(wide))), height))
    pen, left = ImageDraw.Draw(image), 0.0
    for (part, font), width in zip(runs, wide, strict=True):
        pen.text((left, ascent), part, fill=255, font=font, anchor="ls")
        left += width
    mask = np.asarray(image, np.uint8)
    mask.setflags(write=False)  # it is kept and given out again
    return mask


def _runs(text: str) -> list[tuple[str, Path]]:
    """Cut a line into parts that one font has all letters of. Marks stay with the letter that they belong to."""
    runs: list[tuple[str, Path]] = []
    for letter in unicodedata.normalize("NFC", " ".join(text.split("\n"))):
        joins = runs and (letter.isspace() or unicodedata.category(letter)[0] in "MC")
        path = runs[-1][1] if joins else _font_with(letter)
        if runs and runs[-1][1] == path:
            runs[-1] = (runs[-1][0] + letter, path)
        else:
            blanks = ""
            if runs and unicodedata.bidirectional(runs[-1][0].rstrip()[-1:] or " ") in ("R", "AL"):
                # Within a part letters run from right to left: a blank at its end would stand on the left of it.
                before, font = runs[-1]
                runs[-1] = (before.rstrip(), font)
                blanks = before[len(before.rstrip()) :]
            runs.append((blanks + letter, path))
    return runs


@cache
def _font_with(letter: str) -> Path:
    """Return a font that has a letter: a shipped one, else one of the system's, else one that shows its empty box."""
    for path in _SHIPPED:
        if _has(path, letter):
            return path
    return next((path for path in _system_fonts(letter) if _has(path, letter)), _SHIPPED[0])


def _system_fonts(letter: str) -> list[Path]:
    program = shutil.which("fc-list")
    if program is None:
        return [Path(name) for name in _ELSEWHERE]
    asked = [program, "--format", "%{file}\n", f":charset={ord(letter):x}:outline=true"]
    said = subprocess.run(asked, capture_output=True, check=False, stdin=subprocess.DEVNULL).stdout
    names = {os.fsdecode(name) for name in said.splitlines()}
    # Sans serif and upright first, then by name, so that every run chooses alike.
    return [Path(name) for name in sorted(names, key=lambda name: (_dress(name), name))]


def _dress(name: str) -> int:
    plain = name.lower()
    return sum(
        word in plain for word in ("serif", "mono", "italic", "oblique", "bold", "light", "thin", "black")
    )


def _has(path: Path, letter: str) -> bool:
    try:
        font = _font(path, 24)
    except OSError:  # it is not on this system
        return False
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NOBODYS))


@lru_cache(maxsize=64)
def _font(path: Path, px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), px)


# --- shapes


def fill(picture: Picture, rect: Rect, colour: Colour, radius: float = 0.0) -> None:
    """Fill a rectangle with round corners."""
    _draw(picture, [_outline(rect, radius)], colour, None)


def outline(
    picture: Picture,
    rect: Rect,
    colour: Colour,
    width: float,
    *,
    radius: float = 0.0,
    dashed: bool = False,
    opacity: float = 1.0,
) -> None:
    """Draw the border of a rectangle with round corners. width: of the line, half of it outside; dashed: broken."""
    path = _outline(rect, radius)
    lines = _dashes(path, 2.7 * width, 2.3 * width) if dashed else [np.vstack([path, path[:1]])]
    _draw(picture, lines, colour, max(1, round(width)), opacity)


def polygon(picture: Picture, points: NDArray[np.floating], colour: Colour, width: float) -> None:
    """Draw a closed line through points, (n, 2), x first."""
    _draw(picture, [np.vstack([points, points[:1]])], colour, max(1, round(width)))


def _outline(rect: Rect, radius: float) -> NDArray[np.float64]:
    """Return points along the border of a rectangle with round corners, (n, 2)."""
    x, y, width, height = rect
    radius = max(0.0, min(radius, width / 2, height / 2))
    steps = max(2, min(24, round(radius)))
    quarter = np.linspace(0, np.pi / 2, steps)
    arc = radius * np.column_stack([np.cos(quarter), np.sin(quarter)])
    centres = (
        (x + width - radius, y + height - radius), (x + radius, y + height - radius),
        (x + radius, y + radius), (x + width - radius, y + radius),
    )  # fmt: skip
    turns = (arc, arc[:, ::-1] * (-1, 1), -arc, arc[:, ::-1] * (1, -1))
    corners = (np.array(centre) + turn for centre, turn in zip(centres, turns, strict=True))
    return np.vstack(list(corners))


def _dashes(path: NDArray[np.float64], dash: float, gap: float) -> list[NDArray[np.float64]]:
    """Cut a closed path into dashes of about that length."""
    closed = np.vstack([path, path[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(2, round(along[-1] / (dash + gap)))
    period = along[-1] / count
    pieces = []
    for start in np.arange(count) * period:
        end = start + period * dash / (dash + gap)
        inner = along[(along > start) & (along < end)]
        places = np.concatenate([[start], inner, [end]])
        pieces.append(np.column_stack([np.interp(places, along, closed[:, axis]) for axis in (0, 1)]))
    return pieces


_SHIFT = 4  # binary digits behind the point of a coordinate


def _draw(
    picture: Picture,
    paths: Sequence[NDArray[np.floating]],
    colour: Colour,
    width: int | None,
    opacity: float = 1.0,
) -> None:
    """Blend paths into a picture, smooth at their edges. width: of the line; None: filled."""
    reach = 2 + (width or 0)
    ends = np.vstack(paths)
    left, top = np.floor(ends.min(axis=0)).astype(int) - reach
    right, bottom = np.ceil(ends.max(axis=0)).astype(int) + reach + 1
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(right, picture.shape[1]), min(bottom, picture.shape[0])
    if right <= left or bottom <= top:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    points = [np.round((path - (left, top)) * (1 << _SHIFT)).astype(np.int32) for path in paths]
    if width is None:
        cv2.fillPoly(mask, points, 255, cv2.LINE_AA, _SHIFT)
    else:
        cv2.polylines(mask, points, False, 255, width, cv2.LINE_AA, _SHIFT)
    _blend(picture, mask, (left, top), colour, opacity)


def _blend(
    picture: Picture, mask: NDArray[np.uint8], corner: tuple[int, int], colour: Colour, opacity: float = 1.0
) -> None:
    """Lay a colour over a picture, as strongly as the mask (0 to 255) says; what leaves the picture is cut off."""
    left, top = corner
    first_row, first_column = max(0, -top), max(0, -left)
    part = picture[
        top + first_row : max(0, top + mask.shape[0]), left + first_column : max(0, left + mask.shape[1])
    ]
    mask = mask[first_row : first_row + part.shape[0], first_column : first_column + part.shape[1]]
    rows, columns = np.nonzero(mask)
    strength = mask[rows, columns, None].astype(np.float32) * (opacity / 255)
    mixed = part[rows, columns] * (1 - strength) + np.array(colour, np.float32) * strength
    part[rows, columns] = np.round(mixed).astype(np.uint8)


# --- paper


def paper(height: int, width: int, colour: Colour = WHITE) -> Picture:
    """Return an empty sheet."""
    return np.full((height, width, 3), colour, np.uint8)


def stacked(pictures: Sequence[Picture], gap: int) -> Picture:
    """Put pictures (RGB) below each other on paper, `gap` pixels apart, their left borders level."""
    height = sum(picture.shape[0] for picture in pictures) + gap * (len(pictures) - 1)
    sheet = paper(height, max(picture.shape[1] for picture in pictures))
    top = 0
    for picture in pictures:
        sheet[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += picture.shape[0] + gap
    return sheet


def beside(pictures: Sequence[Picture], gap: int) -> Picture:
    """Put pictures (RGB) beside each other on paper, their upper borders level."""
    turned = stacked([picture.swapaxes(0, 1) for picture in pictures], gap)
    return np.ascontiguousarray(turned.swapaxes(0, 1))


def framed(picture: Picture, margin: int) -> Picture:
    """Return a picture with paper round it."""
    sheet = paper(picture.shape[0] + 2 * margin, picture.shape[1] + 2 * margin)
    sheet[margin:-margin, margin:-margin] = picture
    return sheet


def fitted(picture: Picture, side: int) -> Picture:
    """Return a picture (grey or RGB) in the middle of a square of paper, as large as fits."""
    scale = side / max(picture.shape[:2])
    height, width = (max(1, round(length * scale)) for length in picture.shape[:2])
    filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    cell, (top, left) = paper(side, side), ((side - height) // 2, (side - width) // 2)
    cell[top : top + height, left : left + width] = cv2.resize(
        as_rgb(picture), (width, height), interpolation=filter_
    )
    return cell


def text_block(words: str, width: int, px: float) -> Picture:
    """Return words on paper, in as many lines as they need at that width; a word that is wider is cut off."""
    lines = [line for part in words.split("\n") for line in _wrapped(part, width, px)]
    sheet = paper(line_height(px) * len(lines), width)
    for number, line in enumerate(lines):
        draw_text(sheet, line, (0, (number + 0.5) * line_height(px)), px, INK)
    return sheet


def _wrapped(words: str, width: int, px: float) -> list[str]:
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, px) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


# --- files

WRITTEN = (".png", ".jpg", ".jpeg", ".webp")  # kinds of picture file that mien makes of its own accord


def check_suffix(path: Path) -> None:
    """Raise OutputError for a name under which no picture can be written; before long work."""
    if path.suffix.lower() not in WRITTEN:
        raise OutputError(f"cannot write {path}: it is a picture; its name must end in {', '.join(WRITTEN)}")


def write_picture(path: Path, picture: Picture, mark: str = "") -> None:
    """Write a picture (RGB uint8) in the format that its name ends in, whole or not at all; else OutputError.

    mark: what the file says it was made of, see `mien.images.marks`.
    """
    try:
        done, encoded = cv2.imencode(path.suffix.lower(), picture[:, :, ::-1])
    except cv2.error:
        done = False
    if not done:  # what OpenCV raises in one version is False in another
        height, width = picture.shape[:2]
        what = f"OpenCV writes no {width}x{height} picture of that kind; make it smaller"
        if not picture.size:
            what = f"the picture is empty ({width}x{height} pixels)"
        elif not path.suffix or not cv2.haveImageWriter(path.name):
            what = f"its name must end in a kind of picture, such as {', '.join(WRITTEN)}"
        raise OutputError(f"cannot write {path}: {what}")
    with whole_file(path) as temporary:  # not by cv2.imwrite: on Windows it fails on non-ASCII names
        temporary.write_bytes(marked(encoded.tobytes(), mark))
