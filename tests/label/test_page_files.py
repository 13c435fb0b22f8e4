"""The files of the page of labels, without a browser: what they name is there, nothing is inline or from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import mien
from mien.serve.app import page_of

PAGE = Path(mien.__file__).parent / "label" / "page"
SHARED = Path(mien.__file__).parent / "serve" / "page"
HTML = page_of(PAGE)
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.js"))}
MADE = {"photo-frame", "doubts", "epochs", "folds", "add-class"}  # by scripts


def test_nothing_is_asked_of_another_host_and_nothing_is_inline() -> None:
    for path in PAGE.iterdir():
        assert not re.findall(r"https?://", path.read_text(encoding="utf-8")), path.name
    assert not re.search(r"""\s(style|on\w+)=|<style|javascript:""", HTML)  # the content policy refuses them
    for name, text in SCRIPTS.items():
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name


def test_whatever_is_named_is_there() -> None:
    ids = re.findall(r'\sid="([\w-]+)"', HTML)
    assert len(ids) == len(set(ids))
    for name, text in SCRIPTS.items():
        assert set(re.findall(r'byId\("([\w-]+)"\)', text)) <= {*ids, *MADE}, name
        for module in re.findall(r'from "\./([\w.]+)"', text):
            assert module in SCRIPTS, (name, module)
        for module in re.findall(r'from "\.\./static/([\w.]+)"', text):
            assert (SHARED / module).is_file(), (name, module)
    symbols = set(re.findall(r'<symbol id="icon-(\w+)"', HTML))
    used = set(re.findall(r"#icon-(\w+)", "".join([HTML, *SCRIPTS.values()])))
    assert used | set(re.findall(r'icon\("(\w+)"\)', "".join(SCRIPTS.values()))) <= symbols


def test_all_modules_are_asked_for_at_once() -> None:
    asked = set(re.findall(r'rel="modulepreload" href="label/(\w+\.js)"', HTML))
    assert asked == set(SCRIPTS) - {"label.js"}


def test_it_says_that_labels_are_perceived_expressions() -> None:
    assert "the expression that people perceive. Nobody can read from a face what a person feels" in HTML
