"""What is said on the page of labels while the server is out of reach, started again or refuses it."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from mien.label.database import FILE

from ..serve.browser import IN_A_BROWSER, until
from .browser import STORED, opened
from .conftest import StartLabel, write_face_set

pytestmark = IN_A_BROWSER


def says(page: Any, place: int) -> str:
    return str(page.inner_text(f"#face-{place} .says"))


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
