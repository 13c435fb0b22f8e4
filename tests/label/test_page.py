"""The page of labels in a real browser against a real server. Errors on the console are failures."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from mien.cli.main import main
from mien.faceset.table import FaceSet
from mien.images import read_image
from mien.label.store import FILE
from mien.video.writer import constant_rate, encoder, suffix

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
    browser: Any,
    server: Labelling,
    who: str = "ann",
    *,
    width: int = 1280,
    height: int = 820,
    theme: str = "light",
    out_of_reach: bool = False,
) -> Iterator[Any]:
    """Open the page in a window of its own, as one person. out_of_reach: the server is, at times."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,
        has_touch=width < 500,
        reduced_motion="reduce",
    )
    trouble: list[str] = []
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    leaves = lambda dialog: out_of_reach and dialog.type == "beforeunload"  # noqa: E731
    page.on("dialog", lambda one: one.accept() if leaves(one) else trouble.append(f"dialog {one.message}"))
    page.add_init_script(f"if (location.host) localStorage.setItem('mien-label-who', '{who}')")
    page.goto(f"http://127.0.0.1:{server.port}/")
    # The first that fits is waited for, and a tile that is kept for later use stays hidden however long one waits.
    page.wait_for_selector(".tile:not([hidden]) img[src], #empty:not([hidden])")
    yield page
    fits = page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    context.close()
    assert [line for line in trouble if not out_of_reach or "Failed to load resource" not in line] == []
    assert fits, "the page is wider than the window"


def until(page: Any, expression: str) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression):
        assert time.monotonic() < ends, expression
        page.wait_for_timeout(50)


def says(page: Any, place: int) -> str:
    return str(page.inner_text(f"#face-{place} .says"))


STORED = "document.getElementById('stored').textContent === 'all stored'"


HEADINGS = (
    "[...document.querySelectorAll('h1')].filter((one) => one.checkVisibility()).map((one) => one.innerText)"
)
CLASSES = ("happy", "surprise")


@pytest.fixture
def photographs(shared: Path, tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Photographs of two expressions and a film of two of them, in a folder; and what each photograph shows."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    with (shared / "data" / "web-faces" / "labels.csv").open(encoding="utf-8") as file:
        rows = [(Path(row["file"]).name, row["emotion"]) for row in csv.DictReader(file)]
    truth = {name: kind for one in CLASSES for name, kind in [row for row in rows if row[1] == one][:13]}
    for name in truth:
        shutil.copy(shared / "data" / "web-faces" / "images" / name, folder)
    film = tmp_path / f"film{suffix()}"
    out = encoder(film, (320, 320), constant_rate(10.0))
    for kind in CLASSES:
        name = [row[0] for row in rows if row[1] == kind][13]
        picture = cv2.resize(read_image(shared / "data" / "web-faces" / "images" / name), (320, 320))
        for _ in range(15):
            out.write(picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB))
    out.close()
    return [str(folder), str(film)], truth


@pytest.mark.shared
def test_the_whole_way_from_photographs_to_a_network(
    browser: Any,
    photographs: tuple[list[str], dict[str, str]],
    tmp_path: Path,
    start_label: StartLabel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Faces, labels by keys, two people, a kill, check, train, predict; a simulated hand looks the answers up."""
    paths, truth = photographs
    folder = tmp_path / "my-faces"
    assert main(["faces", *paths, "--to", str(folder)]) == 0
    opened_set = FaceSet.open(folder)
    sources = {Path(face.source).name for face in opened_set}
    assert sources >= {Path(paths[1]).name} and len(sources) >= 25

    def key_for(page: Any) -> str:
        source, time_s = page.evaluate(
            """async () => {
                const { state } = await import(new URL('label/faces.js', document.baseURI));
                const place = document.querySelector('.tile.here').place;
                return [state.sources[state.source[place]], state.time[place]];
            }"""
        )
        kind = truth.get(Path(source).name) or CLASSES[time_s > 1.4]
        return str(1 + CLASSES.index(kind))

    with (
        start_label(folder, "--classes", ",".join(CLASSES)) as server,
        opened(browser, server) as ann,
        opened(browser, server, "ben") as ben,
    ):
        until(ann, "document.getElementById('order').value === 'alike'")  # sorted by what the network sees
        todo = len(opened_set.shown())
        for number in range(todo):
            key = key_for(ann)
            if number == 4:
                ann.keyboard.press("0")
                until(ann, STORED)
                ann.keyboard.press("z")
                until(
                    ann, f"{STORED} && document.getElementById('status').textContent.startsWith('Taken back')"
                )
            ann.keyboard.press({"1": "2", "2": "1"}[key] if number == 8 else key)  # a slip of the finger
        until(ann, STORED)
        # Not a key of his.
        until(ben, f"document.getElementById('progress').textContent.startsWith('{todo} of {todo}')")
        for page in (ann, ben):
            page.select_option("#show", "all")
        ben.keyboard.press("Home")
        before = key_for(ben)
        ben.keyboard.press({"1": "2", "2": "1"}[before])
        until(ann, "[...document.querySelectorAll('.says')].some((one) => one.textContent.includes(' / '))")
        until(ben, "document.querySelector('#progress .agreement')?.textContent.includes('α')")
        ben.keyboard.press("z")
        until(ann, "![...document.querySelectorAll('.says')].some((one) => one.textContent.includes(' / '))")
        said = server.state()["people"]
        for page in (ann, ben):  # or their consoles would tell that nobody answers
            page.goto("about:blank")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()

    with start_label(folder) as server:
        assert server.state()["people"] == said == {"ann": todo}, "not one label is lost"
        with opened(browser, server, theme="dark") as ann:
            until(ann, "document.getElementById('doubts').textContent !== ''")
            ann.click("#tab-check")
            wrong = [
                face.id
                for face in FaceSet.open(folder)
                if (kind := truth.get(Path(face.source).name)) and face.label and face.label != kind
            ]
            assert len(wrong) == 1
            place = next(number for number, face in enumerate(FaceSet.open(folder)) if face.id == wrong[0])
            while ann.get_attribute(".check-face img", "alt") != f"Face {place + 1}":
                ann.keyboard.press("k")  # the others are right
            ann.keyboard.press("c")
            until(ann, STORED)
            assert (
                FaceSet.open(folder)[wrong[0]].label
                == truth[Path(FaceSet.open(folder)[wrong[0]].source).name]
            )
            ann.click("#tab-train")
            ann.select_option("#epochs", "5")
            ann.click("#train")
            ann.wait_for_selector("#report", timeout=300_000)
            with ann.context.expect_page() as popped:
                ann.click("#report")
            popped.value.wait_for_load_state()
            assert popped.value.title() == "network-1 on my-faces"
            policy = ann.context.request.get(popped.value.url).headers["content-security-policy"]
            assert "default-src 'none'" in policy and "sandbox" in policy, "nothing in a report may run"
            assert (
                popped.value.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none"
            )
            ann.click(".batch button >> nth=0")
            ann.wait_for_selector(".tile.here")
            lines = ann.evaluate("[...document.querySelectorAll('.use code')].map((one) => one.textContent)")
    assert [line.split()[1] for line in lines] == ["predict", "serve", "export"]
    capsys.readouterr()
    command = [*lines[0].split()[1:], "--json"]
    command[command.index("holiday.jpg")] = paths[0]
    assert main(command) == 0
    answers = json.loads(capsys.readouterr().out)
    right = [
        face["emotion"] == truth[Path(answer["path"]).name]
        for answer in answers
        for face in answer["faces"][:1]
    ]
    assert sum(right) > 0.8 * len(right) > 19, "it learnt from these, so it knows them"


def test_what_is_said_while_the_server_is_out_of_reach_is_stored_later(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    waits = "document.getElementById('notice').textContent.includes('waits in this page')"
    options = ("--no-learn", "--classes", "calm,bored")
    with ExitStack() as until_the_end:
        with start_label(folder, *options) as server:
            page = until_the_end.enter_context(opened(browser, server, out_of_reach=True))
            page.keyboard.press("1")
            until(page, STORED)
            page.context.set_offline(True)
            for key in ("2", "1", "z", "2"):
                page.keyboard.press(key)
            until(page, waits)
            assert says(page, 1) == "bored", "it shows at once"
            leaves = "dispatchEvent(new Event('beforeunload', { cancelable: true }))"
            assert not page.evaluate(leaves), "the browser asks before what waits is lost"
            assert server.state()["people"] == {"ann": 1}
            page.context.set_offline(False)
            until(page, f"{STORED} && document.getElementById('notice').hidden")
            assert page.evaluate(leaves)
            labels = [(place, label) for place, label, *_ in server.state()["answers"] if label]
            assert labels == [(0, "calm"), (1, "bored"), (3, "bored")], (
                "in their order, one of them taken back"
            )
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            page.keyboard.press("1")
            until(page, waits)
        with start_label(folder, *options, "--port", str(server.port)) as server:
            until(page, f"{STORED} && document.getElementById('notice').hidden")
            assert server.state()["people"] == {"ann": 4}
            page.goto("about:blank")


def test_an_answer_whose_reply_was_lost_is_stored_once(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    """It reaches the server and is stored; the reply breaks off, so the page sends it again."""
    lost: list[str] = []

    def lose_the_first(route: Any) -> None:
        answer = route.fetch()
        assert answer.status == 200
        if route.request.url in lost:
            route.fulfill(response=answer)
        else:
            lost.append(route.request.url)
            route.abort("connectionreset")

    with (
        start_label(folder, "--no-learn", "--classes", "calm,bored") as server,
        opened(browser, server, out_of_reach=True) as page,
    ):
        for address in ("answers", "undo", "classes"):
            page.route(f"**/v1/{address}", lose_the_first)
        page.keyboard.press("1")
        until(page, STORED)
        session = server.state()["session"]
        history = server.ask("GET", f"/v1/history/0?session={session}").json["history"]
        assert [(one["who"], one["class"]) for one in history] == [("ann", "calm")]
        page.keyboard.press("2")
        until(page, f"{STORED} && document.querySelector('#face-1 .says').textContent === 'bored'")
        page.keyboard.press("z")  # its reply is lost as well
        until(page, "document.getElementById('status').textContent === 'Taken back: bored'")
        assert server.state()["people"] == {"ann": 1}, "one press takes back one answer"
        page.keyboard.press("n")
        page.fill("#class-name", "keen")
        page.keyboard.press("Enter")
        until(
            page,
            "document.querySelectorAll('.chip').length === 3 && document.getElementById('notice').hidden",
        )
        assert len(lost) == 3


def test_pictures_that_did_not_come_are_asked_for_again(
    browser: Any, tmp_path: Path, start_label: StartLabel
) -> None:
    write_face_set(tmp_path / "set", 240)
    with (
        start_label(tmp_path / "set", "--no-learn", "--classes", "calm") as server,
        opened(browser, server, out_of_reach=True) as page,
    ):
        page.context.set_offline(True)
        page.keyboard.press("End")
        until(page, "document.querySelector('#photo-frame p') !== null")  # it says why there is no photograph
        assert page.locator("#face-239 img").get_attribute("src") is None
        page.context.set_offline(False)
        until(page, "[...document.querySelectorAll('.tile:not([hidden]) img')].every((one) => one.src)")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        until(page, "document.querySelector('#photo .whole img')?.complete")


def test_a_photograph_asked_of_a_server_that_was_started_again_is_asked_for_again(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    """It refuses to say anything of faces until the next news; that was shown for good in place of the photograph."""
    with (
        start_label(folder, "--no-learn", "--classes", "calm") as server,
        opened(browser, server, out_of_reach=True) as page,
    ):
        anew = {
            "status": 409,
            "json": {"detail": "the faces have changed since the page was loaded; load it anew"},
        }
        page.route("**/v1/photograph/1?*", lambda route: route.fulfill(**anew), times=1)
        page.keyboard.press("ArrowRight")
        until(page, "document.querySelector('#photo-frame p') !== null")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        until(page, "document.querySelector('#photo .whole img')?.complete")


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


def test_what_waits_outlives_a_reload(browser: Any, folder: Path, start_label: StartLabel) -> None:
    reached: list[str] = []

    def lose(route: Any) -> None:
        reached.append(str(route.fetch().status))  # it is stored, and nobody hears of it
        route.abort("connectionreset")

    with (
        start_label(folder, "--no-learn", "--classes", "calm,bored") as server,
        opened(browser, server, out_of_reach=True) as page,
    ):
        page.route("**/v1/answers", lose)
        for key in "121":
            page.keyboard.press(key)
        until(page, "document.getElementById('notice').textContent.includes('waits in this page (3)')")
        assert reached[:1] == ["200"]
        page.unroute("**/v1/answers")
        page.reload()
        page.wait_for_selector(".tile:not([hidden]) img[src]")
        until(page, f"{STORED} && document.getElementById('notice').hidden")
        state = server.state()
        assert [(place, label) for place, label, *_ in state["answers"] if label] == [
            (0, "calm"),
            (1, "bored"),
            (2, "calm"),
        ]
        history = server.ask("GET", f"/v1/history/0?session={state['session']}").json["history"]
        assert len(history) == 1, "the one that had been stored is not stored again"
        assert page.evaluate("sessionStorage.getItem('mien-label-waiting')") == "[]"


def test_training_says_that_it_learns_the_votes_for_disputed_faces(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    with start_label(folder, "--no-learn", "--classes", "calm,bored") as server:
        faces = [face.id for face in FaceSet.open(folder).shown()]
        assert server.say("ann", faces[:3], "label", "calm").status == 200
        assert server.say("bob", faces[:1], "label", "bored").status == 200
        with opened(browser, server) as page:
            page.click("#tabs >> text=Train")
            words = "From 2 labels, the votes for 1 disputed face and the network that comes with mien."
            until(page, f"document.getElementById('view-train').textContent.includes({words!r})")


def test_why_an_answer_was_refused_is_told_until_one_is_stored(
    browser: Any, folder: Path, start_label: StartLabel
) -> None:
    held = "document.getElementById('notice').textContent.includes('held by another program')"
    with (
        start_label(folder, "--no-learn", "--classes", "calm") as server,
        opened(browser, server, out_of_reach=True) as page,
    ):
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            page.keyboard.press("1")
            until(page, held)
            assert says(page, 0) == "", "it is taken off again"
        page.wait_for_timeout(4000)  # the page asks for news every 1.5 seconds
        assert page.evaluate(f"{held} && !document.getElementById('notice').hidden")
        page.keyboard.press("1")
        until(page, f"{STORED} && document.getElementById('notice').hidden")


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
