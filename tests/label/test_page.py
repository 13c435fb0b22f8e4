"""The page of labels in a real browser: the wall, views, small windows, keys."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mien.faceset.table import FaceSet

from ..serve.browser import IN_A_BROWSER, until
from .browser import STORED, opened
from .conftest import MARK, StartLabel, write_face_set

pytestmark = IN_A_BROWSER

HEADINGS = (
    "[...document.querySelectorAll('h1')].filter((one) => one.checkVisibility()).map((one) => one.innerText)"
)


def test_labels_that_are_enough_are_not_asked_for_while_the_guesses_are_being_fitted(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with start_label(folder, "--no-learn", "--classes", "calm,bored") as server:
        server.say("ann", [f"id-{place:03}" for place in range(10)], "label", "calm")
        server.say("ann", [f"id-{place:03}" for place in range(10, 19)], "label", "bored")
        with opened(browser, server) as page:
            # What a server tells that was just started and is still learning from the labels that there are.
            learner = {"learner": {"version": 0, "step": "learning", "note": "", "done": 23, "total": 23}}

            def learning(route: Any) -> None:
                answer = route.fetch()
                route.fulfill(response=answer, json={**answer.json(), **learner})

            page.route("**/v1/changes?*", learning)
            said = "document.getElementById('learning').textContent"
            until(page, f"{said}.includes('Guesses begin when two classes have 10 faces each.')")
            server.say("ann", ["id-019"], "label", "bored")
            until(page, f"{said}.includes('Guesses come in a moment.')")
            page.click("#tab-check")
            assert "Doubts come with the guesses, which come in a moment." in page.inner_text("#view-check")
            page.unroute_all(behavior="wait")


def test_the_wall_does_not_move_for_what_comes_into_the_toolbar(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with start_label(folder, "--no-learn", "--classes", "calm") as server, opened(browser, server) as page:
        top = "document.getElementById('wall').getBoundingClientRect().top"
        before = page.evaluate(top)
        page.keyboard.press("1")
        until(page, "!document.getElementById('tidy').hidden")
        assert page.evaluate(top) == before
        assert page.locator("#size").bounding_box()["width"] > 40


def test_the_head_of_the_page_is_one_row_on_a_small_phone(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    longer = folder.rename(folder.with_name("a set with quite a long name"))
    with (
        start_label(longer, "--no-learn", "--classes", "calm") as server,
        opened(browser, server, width=360) as page,
    ):
        brand, tools = page.locator(".brand").bounding_box(), page.locator(".tools").bounding_box()
        assert abs(brand["y"] + brand["height"] / 2 - tools["y"] - tools["height"] / 2) < 4
        assert brand["x"] + brand["width"] <= tools["x"]


def test_what_a_screen_reader_and_the_tab_key_meet(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with (
        start_label(folder, "--no-learn", "--classes", "calm,bored") as server,
        opened(browser, server) as page,
        opened(browser, server, "ben") as ben,
    ):
        face = page.locator(".tile.here")
        assert [face.get_attribute(f"aria-{name}") for name in ("posinset", "setsize")] == ["1", "23"]
        assert page.get_attribute("#wall", "aria-activedescendant") == "face-0"
        nameless = """[...document.querySelectorAll('button, select, input, a, [role]')]
            .filter((one) => one.offsetParent && !(one.getAttribute('aria-label') || one.innerText.trim()
                || one.closest('label') || ['status', 'alert'].includes(one.getAttribute('role'))))
            .map((one) => one.outerHTML)"""
        server.say("cem", ["id-006"], "duplicate", target="id-007")
        server.say("cem", ["id-008"], "duplicate", target="id-009")
        for tab in ("check", "train", "faces"):
            page.click(f"#tab-{tab}")
            assert page.evaluate(nameless) == []
            assert page.evaluate(HEADINGS) == ["Label faces"]
            current = page.evaluate(
                "[...document.querySelectorAll('[aria-current=page]')].map((one) => one.id)"
            )
            assert current == [f"tab-{tab}"]
        page.dispatch_event("#show", "pointerdown")
        page.select_option("#show", "all")
        page.keyboard.press("2")  # it is about the face, not about the list
        until(page, f"{STORED} && document.querySelector('#face-0 .says').textContent === 'bored'")
        page.click("#tab-check")
        page.locator("#view-check .tabs button").nth(2).focus()
        ben.keyboard.press("1")
        until(page, "document.querySelector('#view-check') !== null")
        page.wait_for_timeout(2500)
        focused = "document.activeElement.textContent"
        assert page.evaluate(focused).startswith("Copies and leaks"), "also after somebody else's answer"


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
        until(page, "document.querySelector('.chip .count').textContent === '3'")
        page.click(".chip .pen")
        page.fill("#class-name", "calm")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#face-1 .says').textContent === 'calm'")
        page.keyboard.press("r")
        page.wait_for_selector("#face-1", state="hidden")
        page.click("#more")
        page.select_option("#show", "all")
        page.select_option("#by-source", "0")
        until(page, "document.getElementById('shown').textContent === '2 faces'")
        page.click("#face-0")
        until(page, "document.querySelector('#photo .whole img')?.complete")
        assert MARK in page.inner_text("#photo .facts"), "a name is shown as it is, and is no HTML"
        page.keyboard.press("Enter")
        mark = page.locator("#photo-large .marked").bounding_box()
        photo = page.locator("#photo-large .whole img").bounding_box()
        assert (mark["x"] - photo["x"]) / photo["width"] == pytest.approx(0.1, abs=0.01)
        assert mark["height"] / photo["height"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("width", "height"),
    [(1280, 720), (1366, 768), (1920, 1080), (1100, 700), (1024, 640), (390, 844), (844, 390)],
)
def test_how_far_the_work_is_stays_in_sight(
    browser: Any, folder: Path, start_label: StartLabel, width: int, height: int
) -> None:
    """Below the photograph, above the foot, whatever the window; and faces above all that."""
    options = ("--no-learn", "--classes", ",".join(f"a longer class {number}" for number in range(9)))
    with start_label(folder, *options) as server:
        for who in ("ann", "ben"):
            server.say(who, ["id-000"], "label", "a longer class 1" if who == "ann" else "a longer class 2")
        with opened(browser, server, width=width, height=height) as page:
            page.select_option("#show", "all")
            page.click("#face-0")
            until(page, "document.getElementById('progress').textContent.includes('1 of 23')")
            if width > 980:
                until(page, "document.querySelector('#photo .whole img')?.complete")
                assert "ben" in page.inner_text("#photo .facts")
            bottom = page.evaluate("document.querySelector('#progress > p').getBoundingClientRect().bottom")
            foot = page.evaluate("document.getElementById('dock').getBoundingClientRect().top")
            assert bottom <= foot, "the line of what is left to do"
            assert page.evaluate("document.getElementById('wall').clientHeight") > 100
            assert page.evaluate("document.getElementById('dock').getBoundingClientRect().bottom") <= height


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


def test_a_press_is_about_the_face_under_it_also_where_the_wall_is_laid_out_anew_meanwhile(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    """Tiles are used again for other faces: by number, the tile that was pressed shows another face at the end."""
    with start_label(folder, "--no-learn", "--classes", "calm") as server, opened(browser, server) as page:
        box = page.locator("#face-3").bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        for width in (1180, 1000):
            page.set_viewport_size({"width": width, "height": 700})
            page.wait_for_timeout(100)
        page.mouse.up()
        assert page.get_attribute(".tile.here", "id") == "face-3"


def test_the_wall_stays_where_it_was_while_another_view_is_shown(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with start_label(folder, "--no-learn", "--classes", "calm") as server, opened(browser, server) as page:
        page.evaluate("document.getElementById('size').value = 320")
        page.keyboard.press("+")
        page.keyboard.press("End")
        before = page.evaluate("document.getElementById('wall').scrollTop")
        assert before > 300
        page.click("#tab-check")
        page.wait_for_timeout(200)
        page.click("#tab-faces")
        page.wait_for_timeout(200)
        assert page.evaluate("document.getElementById('wall').scrollTop") == before
        page.wait_for_selector("#face-23 img")  # crops are fetched


def test_faces_that_are_added_meanwhile_stand_behind_the_others(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with (
        start_label(folder, "--no-learn", "--classes", "calm,bored") as server,
        opened(browser, server) as page,
    ):
        page.keyboard.press("1")
        until(page, STORED)
        page.keyboard.press("Shift+ArrowRight")
        page.select_option("#order", "sharp")
        before = page.inner_text("#shown")
        first = page.get_attribute(".tile.here", "id")
        other = FaceSet.open(folder)
        row = other.faces[0]
        other.add(
            [
                dataclasses.replace(row, id=f"new {number}", label="", status="", sharpness=99.0)
                for number in (0, 1)
            ]
        )
        other.write()
        until(page, "document.getElementById('shown').textContent.includes('of 24 faces chosen')")
        assert (before, page.inner_text("#shown")) == ("2 of 22 faces chosen", "2 of 24 faces chosen")
        assert page.get_attribute(".tile.here", "id") == first, "nothing moves under a hand"
        page.wait_for_selector("#face-25 img")  # crops are fetched
        page.keyboard.press("2")
        until(page, STORED)
        said = {place: label for place, label, *_ in server.state()["answers"] if label}
        assert said == {0: "calm", 1: "bored", 2: "bored"}


def test_a_long_press_shows_the_photograph_until_it_is_closed(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    is_open = "document.getElementById('photo-dialog').open"
    with (
        start_label(folder, "--no-learn", "--classes", "calm") as server,
        opened(browser, server, width=390) as page,
    ):
        box = page.locator("#face-2").bounding_box()
        finger = page.context.new_cdp_session(page)
        spot = {"x": box["x"] + 30, "y": box["y"] + 30}
        finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [spot]})
        until(page, is_open)
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_timeout(500)
        assert page.evaluate(is_open), "also after the finger has left the glass"
        until(page, "document.querySelector('#photo-large .whole img')?.complete")
        page.touchscreen.tap(5, 5)  # beside it
        until(page, f"!{is_open}")
        assert page.inner_text("#shown") == "23 faces", "nothing was chosen by it"


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


def test_the_time_left_of_a_few_faces_is_less_than_a_minute(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with start_label(folder, "--no-learn", "--classes", "calm") as server:
        for face in FaceSet.open(folder).shown()[:12]:
            server.say("ann", [face.id], "label", "calm")
        with opened(browser, server) as page:
            words = "11 faces to do: less than a minute at your pace"
            until(page, f"document.getElementById('progress').textContent.includes({words!r})")
