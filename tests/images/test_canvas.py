"""The canvas: letters of any script, smooth shapes that stay inside, and the page's colours."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

import mien
from mien.errors import OutputError
from mien.images import canvas
from mien.images.canvas import (
    beside,
    check_suffix,
    draw_text,
    fill,
    fitted,
    ink_on,
    outline,
    paper,
    stacked,
    text_block,
    text_width,
    write_picture,
)

STYLE = (Path(mien.__file__).parent / "serve" / "page" / "style.css").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "word",
    [
        "Überrascht",
        "Счастье",
        "χαρά",
        "開心",
        "しあわせ",
        "행복",
        "سعيد",
        "שמח",
        "ความสุข",
        "खुश",
        "খুশি",
        "சிரிப்பு",
    ],
)
def test_names_in_any_script_are_drawn(word: str) -> None:
    """By the fonts that ship: no letter is an empty box, whatever the system has."""
    for letter in word:
        assert canvas._font_with(letter) in canvas._SHIPPED, letter
    drawn, boxes = (paper(60, 400) for _ in range(2))
    draw_text(drawn, word, (10, 30), 30, (0, 0, 0))
    draw_text(boxes, canvas._NOBODYS * len(word), (10, 30), 30, (0, 0, 0))
    assert (drawn < 128).all(axis=2).sum() > 100
    assert not np.array_equal(drawn, boxes)


@pytest.mark.parametrize("word", ["سعيد", "שמח", "開心", "Happy"])
def test_a_name_and_its_number_stand_apart(word: str) -> None:
    """A blank behind a name that is read from right to left does not stand before it."""
    sheet = paper(60, 400)
    draw_text(sheet, f"{word} 84%", (10, 30), 30, (0, 0, 0))
    inked = (sheet < 128).all(axis=2).any(axis=0)
    end, blank = 10 + text_width(word, 30), text_width(" ", 30)
    assert inked[10 : round(end)].any() and inked[round(end + blank) :].any()
    assert not inked[round(end) + 1 : round(end + blank) - 1].any()


def test_a_letter_that_no_font_has_is_a_box() -> None:
    sheet = paper(40, 60)
    draw_text(sheet, canvas._NOBODYS, (10, 20), 30, (0, 0, 0))
    assert (sheet == 0).any()


def test_text_is_as_wide_as_measured_and_its_capitals_are_centred() -> None:
    sheet = paper(100, 400)
    draw_text(sheet, "HEI", (20, 50), 40, (0, 0, 0))
    rows, columns = np.nonzero((sheet < 128).all(axis=2))
    assert columns.min() >= 20 and columns.max() < 20 + text_width("HEI", 40)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(50, abs=1)
    assert rows.max() - rows.min() + 1 == pytest.approx(0.711 * 40, abs=1)


def test_what_leaves_the_picture_is_cut_off() -> None:
    sheet = paper(20, 20)
    for at in ((-30, 10), (15, -4), (15, 25), (100, 10), (3, 90)):
        draw_text(sheet, "wide words", at, 12, (0, 0, 0))
        fill(sheet, (at[0], at[1], 50, 30), (1, 2, 3), 5)
        outline(sheet, (at[0], at[1], 50, 30), (1, 2, 3), 3, radius=5, dashed=True)
    assert sheet.shape == (20, 20, 3)


def test_an_outline_has_its_width_and_a_dashed_one_has_gaps() -> None:
    whole, dashed = paper(100, 100), paper(100, 100)
    outline(whole, (20, 20, 60, 60), (0, 0, 0), 4, radius=8)
    outline(dashed, (20, 20, 60, 60), (0, 0, 0), 4, radius=8, dashed=True)
    assert (whole[50, 10:30] < 128).all(axis=1).sum() == pytest.approx(4, abs=1)
    assert (whole[50, 30:70] == 255).all()
    assert 0.3 < (dashed < 128).sum() / (whole < 128).sum() < 0.8
    half = paper(100, 100)
    outline(half, (20, 20, 60, 60), (0, 0, 0), 4, opacity=0.45)
    assert half.min() == pytest.approx(255 * 0.55, abs=1)


def test_colours_are_those_of_the_page() -> None:
    light = STYLE[STYLE.index(":root {") : STYLE.index("}", STYLE.index(":root {"))]
    page = {name: tuple(bytes.fromhex(value)) for name, value in re.findall(r"--(\w+): #(\w{6})", light)}
    ours = {name: getattr(canvas, name.upper()) for name in ("paper", "ink", "soft", "rail")}
    assert ours == {name: page[name] for name in ours}


def test_letters_stand_out_from_every_colour() -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""

    def luminance(colour: tuple[int, ...]) -> float:
        shares = np.array(colour) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    for colour in [*canvas._COLOURS.values(), *canvas._TRACKS]:
        low, high = sorted((luminance(colour), luminance(ink_on(colour))))
        assert (high + 0.05) / (low + 0.05) >= 4.5, colour


def test_paper_is_laid_out() -> None:
    red, blue = (np.full((10, width, 3), colour, np.uint8) for width, colour in ((4, 200), (8, 50)))
    below = stacked([red, blue], 3)
    assert below.shape == (23, 8, 3)
    assert (below[:10, :4] == 200).all() and (below[10:13] == 255).all() and (below[13:] == 50).all()
    assert beside([red, blue], 3).shape == (10, 15, 3)
    square = fitted(np.zeros((10, 20), np.uint8), 40)
    assert (square[10:30] == 0).all() and (square[:10] == 255).all() and (square[30:] == 255).all()


def test_a_block_of_text_has_as_many_lines_as_it_needs() -> None:
    one = text_block("one", 60, 14)
    assert one.shape[1] == 60
    assert text_block("", 60, 14).shape == one.shape
    assert len(text_block("one two three four five six seven", 60, 14)) > 2 * len(one)
    assert len(text_block("one\ntwo", 60, 14)) == 2 * len(one)


def test_only_pictures_can_be_written() -> None:
    check_suffix(Path("a.PNG"))
    with pytest.raises(OutputError, match=r"cannot write a.txt: .*must end in .png"):
        check_suffix(Path("a.txt"))


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("a.xyz", (8, 8, 3), r"its name must end in a kind of picture, such as \.png"),
        ("a", (8, 8, 3), r"its name must end in a kind of picture, such as \.png"),
        ("a.png", (0, 8, 3), r"the picture is empty \(8x0 pixels\)"),
        ("a.jpg", (1, 70_000, 3), "writes no 70000x1 picture of that kind; make it smaller"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path: Path, name: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(OutputError, match=said):
        write_picture(tmp_path / name, np.zeros(shape, np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="asks a shell's program for fonts")
def test_a_font_whose_name_is_no_utf8_is_asked_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "fc-list"
    program.write_text("#!/bin/sh\nprintf '/nowhere/police\\351e.ttf\\n'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert canvas._system_fonts("\U00013000") == [Path(os.fsdecode(b"/nowhere/police\xe9e.ttf"))]
    assert text_width("\U00013000", 20) > 0
