"""The page of labels in a real browser against a real server. Errors on the console are failures."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mien.faceset.table import FaceSet
from mien.label.store import Store

from .conftest import MARK, Labelling, StartLabel, write_face_set

pytest.importorskip("playwright", reason="needs Playwright: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Any, server: Labelling, who: str = "ann", width: int = 1280, theme: str = "light"
) -> Iterator[Any]:
    """Open the page in a window of its own, as one person."""
    context = browser.new_context(
        viewport={"width": width, "height": 820},
        color_scheme=theme,
        has_touch=width < 500,
        reduced_motion="reduce",
    )
    trouble: list[str] = []
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: trouble.append(f"dialog {dialog.message}"))
    page.add_init_script(f"if (location.host) localStorage.setItem('mien-label-who', '{who}')")
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.wait_for_selector(".tile img[src]")
    yield page
    fits = page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    context.close()
    assert trouble == []
    assert fits, "the page is wider than the window"


def until(page: Any, expression: str) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression):
        assert time.monotonic() < ends, expression
        page.wait_for_timeout(50)


def says(page: Any, place: int) -> str:
    return str(page.inner_text(f"#face-{place} .says"))


STORED = "document.getElementById('stored').textContent === 'all stored'"


def test_two_people_label_by_keys_and_a_kill_loses_nothing(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with (
        start_label(folder, "--classes", "calm,bored", "--no-learn") as server,
        opened(browser, server) as ann,
        opened(browser, server, "ben") as ben,
    ):
        for key in "1120x":
            ann.keyboard.press(key)
        until(ann, STORED)
        assert [says(ann, place) for place in range(5)] == [
            "calm",
            "calm",
            "bored",
            "cannot tell",
            "no face",
        ]
        until(ben, "document.querySelector('#face-2 .says').textContent === 'bored'")  # without a key of his
        ben.keyboard.press("Home")
        for key in "21":
            ben.keyboard.press(key)
        until(ann, "document.querySelector('#face-0 .says').textContent === 'calm / bored'")
        assert "α" in ben.inner_text("#progress .agreement")
        ann.keyboard.press("z")
        until(ann, "document.querySelector('#face-4 .says').textContent === ''")
        for key in ("Shift+ArrowRight", "Shift+ArrowRight", "2"):
            ann.keyboard.press(key)
        until(ann, STORED)
        for page in (ann, ben):  # or their consoles would tell that nobody answers
            page.goto("about:blank")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with start_label(folder, "--no-learn") as server, opened(browser, server) as ann:
        ann.select_option("#show", "labelled")
        until(ann, "document.querySelectorAll('.tile:not([hidden])').length >= 4")
        assert server.state()["people"] == {"ann": 7, "ben": 2}
        ann.keyboard.press("z")
        until(ann, "document.querySelectorAll('.tile.done:not([hidden])').length <= 3")
    with Store.open(folder) as store:
        assert store.people() == {"ann": 4, "ben": 2}
    assert FaceSet.open(folder)["id-002"].label == "bored"


def test_mouse_band_filters_classes_and_the_photograph(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with start_label(folder, "--no-learn") as server, opened(browser, server, theme="dark") as page:
        page.keyboard.press("n")
        page.fill("#class-name", "<b>平静</b>, very")
        page.keyboard.press("Enter")
        until(page, "document.querySelectorAll('.chip').length === 1")
        assert page.inner_text(".chip .name") == "<b>平静</b>, very"
        first, third = (page.locator(f"#face-{place}").bounding_box() for place in (0, 2))
        page.mouse.move(first["x"] + 5, first["y"] + 5)
        page.mouse.down()
        page.mouse.move(third["x"] + 40, third["y"] + 60, steps=6)
        page.mouse.up()
        assert page.inner_text("#shown") == "3 of 23 faces chosen"
        page.click(".chip .give")
        until(page, STORED)
        assert page.inner_text(".chip .count") == "3"
        page.click(".chip .pen")
        page.fill("#class-name", "calm")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#face-1 .says').textContent === 'calm'")
        page.keyboard.press("r")
        assert page.locator("#face-1").count() == 0 or not page.is_visible("#face-1")
        page.click("#more")
        page.select_option("#show", "all")
        page.select_option("#by-source", "0")
        assert page.inner_text("#shown") == "2 faces"
        page.click("#face-0")
        until(page, "document.querySelector('#photo .whole img')?.complete")
        assert MARK in page.inner_text("#photo .facts"), "a name is shown as it is, and is no HTML"
        page.keyboard.press("Enter")
        mark = page.locator("#photo-large .marked").bounding_box()
        photo = page.locator("#photo-large .whole img").bounding_box()
        assert (mark["x"] - photo["x"]) / photo["width"] == pytest.approx(0.1, abs=0.01)
        assert mark["height"] / photo["height"] == pytest.approx(0.5, abs=0.01)


def test_a_phone(browser: Any, folder: Path, start_label: StartLabel) -> None:
    options = ("--no-learn", "--classes", ",".join(f"class {number}" for number in range(40)))
    with start_label(folder, *options) as server, opened(browser, server, width=390) as page:
        page.locator("#face-0").tap()
        page.locator("#face-1").tap()
        assert page.inner_text("#shown") == "3 of 23 faces chosen" or "2 of 23" in page.inner_text("#shown")
        page.locator("[data-class='class 39']").tap()
        until(page, "document.querySelector('#face-1 .says').textContent === 'class 39'")
        page.keyboard.press("g")
        page.fill("#find-name", "ss 21")
        page.keyboard.press("Enter")
        until(page, "[...document.querySelectorAll('.says')].some((one) => one.textContent === 'class 21')")


def test_a_wall_of_thousands_has_no_holes(browser: Any, tmp_path: Path, start_label: StartLabel) -> None:
    write_face_set(tmp_path / "set")
    faces = FaceSet.open(tmp_path / "set")
    rows = faces.faces
    faces.add(
        dataclasses.replace(rows[number % 24], id=f"more {number}", status="") for number in range(5000)
    )
    faces.write()
    filled = """() => {
        const wall = document.getElementById('wall').getBoundingClientRect();
        const tiles = [...document.querySelectorAll('.tile:not([hidden])')].filter((tile) => {
            const box = tile.getBoundingClientRect();
            return box.bottom > wall.top && box.top < wall.bottom;
        });
        return tiles.length >= 12 && tiles.every((tile) => tile.querySelector('img').src);
    }"""
    with start_label(tmp_path / "set", "--no-learn") as server, opened(browser, server) as page:
        assert page.inner_text("#shown") == "5,023 faces"
        for share in (0.5, 0.999, 0.2):
            page.evaluate(
                f"document.getElementById('wall').scrollTop = {share} * document.getElementById('canvas').offsetHeight"
            )
            until(page, f"({filled})()")
        assert page.locator(".tile").count() < 300, "only what is near the window exists"
        page.keyboard.press("End")
        until(page, "document.querySelector('#face-5023.here') !== null")
