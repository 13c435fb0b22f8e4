"""The page's files, without a browser: what they name is there, and metadata that live elsewhere too are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mien
from mien.images.canvas import label_colours, track_colour
from mien.labels import canonical
from mien.predict.results import REASONS
from mien.serve.app import page_of

PAGE = Path(mien.__file__).parent / "serve" / "page"
HTML = page_of(PAGE)
STYLE = (PAGE / "style.css").read_text(encoding="utf-8")
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.js"))}
Colour = tuple[int, ...]


def block(name: str) -> str:
    """Return what colours.js puts between the brackets of a constant."""
    found = re.search(rf"^const {name} = .(.*?)[}}\]];$", SCRIPTS["colours.js"], re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def triples(text: str) -> list[Colour]:
    return [tuple(map(int, found)) for found in re.findall(r"\[(\d+), (\d+), (\d+)\]", text)]


def test_expressions_have_the_same_colours_as_in_mien_s_own_pictures() -> None:
    table = dict(re.findall(r"(\w+): (\[[\d, ]+\])", block("COLOURS")))
    assert len(table) == 8
    for label, colour in table.items():
        assert triples(colour) == label_colours([label]), label
    strangers = [f"class {number}" for number in range(9)]
    free = triples(block("OTHERS"))
    assert [free[place % len(free)] for place in range(9)] == label_colours(strangers)
    tracks = triples(block("TRACKS"))
    assert tracks == [track_colour(number) for number in range(1, len(tracks) + 1)]
    assert track_colour(len(tracks) + 1) == tracks[0]


def test_every_reason_has_its_sentence() -> None:
    told = re.search(r"const REASONS = \{(.*?)\n\};", SCRIPTS["bars.js"], re.DOTALL)
    assert told is not None
    keys = re.findall(r'^ +"?(.+?)"?: "', told[1], re.MULTILINE)
    assert sorted(keys) == sorted(REASONS)


def test_names_of_expressions_meet_as_in_labels() -> None:
    aliases = dict(re.findall(r'(\w+): "(\w+)"', block("ALIASES")))
    assert len(aliases) == 11
    assert {name: canonical(name) for name in aliases} == aliases


def test_nothing_is_asked_of_another_host_and_nothing_is_inline() -> None:
    for path in PAGE.rglob("*"):
        if path.is_file():
            found = set(re.findall(r"\w+://[\w./-]+", path.read_text(encoding="utf-8")))
            assert found <= {"http://www.w3.org/2000/svg", "http://localhost"}, path.name
    assert not re.search(r"""\s(style|on\w+)=|<style|javascript:""", HTML)  # the content policy refuses them
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", HTML))
    for name, text in SCRIPTS.items():
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name


def test_whatever_is_named_is_there() -> None:
    ids = re.findall(r'\sid="([\w-]+)"', HTML)
    assert len(ids) == len(set(ids))
    for name, text in SCRIPTS.items():
        assert set(re.findall(r'byId\("([\w-]+)"\)', text)) <= set(ids), name
    for attribute in ("aria-labelledby", "aria-controls"):
        assert set(re.findall(rf'{attribute}="([\w-]+)"', HTML)) <= set(ids)
    for address in re.findall(r'(?:href|src)="static/([\w./-]+)', HTML):
        assert (PAGE / address).is_file(), address
    for sample in re.findall(r'data-sample="([\w.-]+)"', HTML):
        assert (Path(mien.__file__).parent / "samples" / sample).is_file()
        assert f'src="samples/{sample}"' in HTML
    symbols = set(re.findall(r'<symbol id="icon-(\w+)"', HTML))
    used = set(re.findall(r'<use href="#icon-(\w+)"', HTML))
    assert used | set(re.findall(r'icon\("(\w+)"\)', "".join(SCRIPTS.values()))) <= symbols


def test_all_modules_are_asked_for_at_once_and_the_page_is_small() -> None:
    modules = set(re.findall(r'rel="modulepreload" href="static/(\w+\.js)"', HTML))
    assert modules == set(SCRIPTS) - {
        "app.js",
        "theme.js",
        "docs.js",
    }  # two the page names itself, one is not its own
    assert sum(path.stat().st_size for path in PAGE.rglob("*") if path.is_file()) < 120_000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_ground(theme: str) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    start = STYLE.index(":root {" if theme == "light" else ':root[data-theme="dark"] {')
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", STYLE[start : STYLE.index("}", start)]))
    pairs = [(ink, ground) for ink in ("ink", "soft") for ground in ("paper", "card", "sunk", "chosen")]
    for ink, ground in [*pairs, ("danger", "danger-paper"), ("paper", "ink")]:
        if (ink, ground) != ("soft", "chosen"):  # the chosen tab is written in ink
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    lights = sorted(_luminance(colour) for colour in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
