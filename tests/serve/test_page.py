"""The page in a real browser against a real server: photo, camera and video, light and dark, desktop and phone.

Any error on the console and any request to another host is a failure.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

import mien
from mien.images.canvas import label_colours, track_colour
from mien.labels import FER2013
from mien.terminal import sure

from .browser import IN_A_BROWSER, PATIENCE_S, launcher, until
from .mood_onnx import write_mood
from .page_media import SAMPLES, SIZE, write_camera, write_picture, write_webm
from .test_page_files import contrast

pytestmark = IN_A_BROWSER

COMMAND = (sys.executable, "-c", "import sys; from mien.cli.main import main; sys.exit(main(sys.argv[1:]))")
TOKEN = "a-token-for-the-tests"
# The share of a canvas that is not empty, and where that lies on average, as a share of the width.
PAINTED = """selector => {
    const canvas = document.querySelector(selector);
    if (!canvas?.width || !canvas.height) return [0, 0];
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let [sum, count] = [0, 0];
    for (let at = 3; at < data.length; at += 4) {
        if (data[at]) { sum += (at >> 2) % canvas.width; count += 1; }
    }
    return [4 * count / data.length, count ? sum / count / canvas.width : 0];
}"""
LOOKS = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]
PORTRAIT = SAMPLES / "eileen-collins.jpg"
Open = Callable[..., Any]


@contextmanager
def serving(model: Path, *words: str) -> Iterator[str]:
    """Run `mien serve` on a free port; gives its address."""
    command = [*COMMAND, "serve", "--model", str(model), "--detector", "haar", "--port", "0", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            heard = []
            for line in process.stderr:
                heard.append(line)
                if found := re.search(r"listening on (http://\S+)", line):
                    yield found[1]
                    break
            else:
                pytest.fail(f"mien serve ended: {''.join(heard)}")
        finally:
            process.terminate()
            process.stderr.read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_mood(folder / "model")
    write_camera(folder / "camera.mjpeg")
    write_picture(folder / "two.jpg")
    write_webm(folder / "short.webm", 24)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with serving(folder / "model") as address:
        yield address


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    with launcher() as launch:
        yield launch


@pytest.fixture(scope="module")
def browser(folder: Path, launch: Callable[..., Any]) -> Iterator[Any]:
    film = folder / "camera.mjpeg"
    browser = launch("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}")
    yield browser
    browser.close()


class Watch:
    """Collects what must not happen. allowed: part of a line on the console that a test provokes."""

    def __init__(self, page: Any, address: str, allowed: str | None) -> None:
        self.trouble: list[str] = []
        host = urlsplit(address).netloc

        def console(message: Any) -> None:
            if message.type == "error" and not (allowed and allowed in message.text):
                self.trouble.append(f"{message.type}: {message.text} at {message.location['url']}")

        def request(asked: Any) -> None:
            parts = urlsplit(asked.url)
            if parts.scheme not in ("blob", "data") and parts.netloc != host:
                self.trouble.append(f"asked another host: {asked.url}")

        page.on("console", console)
        page.on("pageerror", lambda error: self.trouble.append(f"exception: {error}"))
        page.on("request", request)
        page.on("websocket", request)


@pytest.fixture
def open_page(browser: Any, server: str) -> Iterator[Open]:
    """Open the page in a window of its own: open_page(view, theme, width, ...)."""
    opened: list[tuple[Any, Any, Watch]] = []

    def opening(
        view: str = "photo",
        theme: str = "light",
        width: int = 1280,
        *,
        address: str = server,
        camera: bool = True,
        allowed: str | None = None,
        within: Any = browser,
    ) -> Any:
        phone = width < 500
        context = within.new_context(
            viewport={"width": width, "height": 844 if phone else 800},
            color_scheme=theme,
            has_touch=phone,
            permissions=["camera"] if camera else [],
            reduced_motion="reduce",  # so that nothing moves while it is measured
        )
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        opened.append((context, page, Watch(page, address, allowed)))
        page.goto(f"{address}#{view}")
        return page

    yield opening
    for context, page, watch in opened:
        fits = page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        context.close()
        assert watch.trouble == []
        assert fits, "the page is wider than the window"


def test_the_api_is_described_without_another_host(open_page: Open, server: str) -> None:
    page = open_page("/default/analyze_v1_analyze_post", address=f"{server}docs")
    page.get_by_text("Send one picture as bytes, or several as a form").wait_for()
    assert page.locator(".opblock").count() >= 9
    assert "this server, at the address of this page" in page.inner_text(".servers")


def analysed(server: str, picture: bytes) -> dict[str, Any]:
    """Ask the API without the page."""
    request = urllib.request.Request(f"{server}v1/analyze", picture, {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    assert isinstance(found, dict)
    return found


def saved(page: Any, button: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.click(button)
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


@pytest.mark.parametrize(("theme", "width"), LOOKS)
def test_photo(open_page: Open, server: str, theme: str, width: int) -> None:
    page = open_page("photo", theme, width)
    assert page.get_attribute("html", "data-theme") == theme
    heading = page.locator("h1:visible")
    assert heading.inner_text().replace("\xa0", " ") == "What does this face show?"
    page.click(f"[data-sample='{PORTRAIT.name}']")
    box = page.locator(".box")
    box.wait_for()
    assert heading.inner_text() == "What these faces show"
    known = analysed(server, PORTRAIT.read_bytes())
    (face,) = known["pictures"][0]["faces"]
    shares = sorted(face["probabilities"].items(), key=lambda pair: -pair[1])
    rows = page.locator("#photo-panel .bars li").all()
    assert [row.locator(".label").inner_text().lower() for row in rows] == [label for label, _ in shares]
    assert [row.locator(".share").inner_text() for row in rows] == [sure(share) for _, share in shares]
    assert page.inner_text("#photo-panel .word") == face["emotion"].capitalize() + "?" * face["uncertain"]
    assert page.inner_text("#status").startswith(f"1 face found. Face 1: {face['emotion'].capitalize()}, ")
    shown, around = box.bounding_box(), page.locator("#photo-stage img").bounding_box()
    x, y, wide, high = face["box"]
    scale = around["width"] / 512
    expected = [around["x"] + scale * x, around["y"] + scale * y, scale * wide, scale * high]
    assert [shown[key] for key in ("x", "y", "width", "height")] == pytest.approx(expected, abs=1.5)
    name, text = saved(page, "#photo-json")
    assert (name, json.loads(text)["pictures"][0]["faces"]) == ("eileen-collins.json", [face])
    name, copy = saved(page, "#photo-save")
    assert name == "eileen-collins-faces.jpg"
    marked, plain = cv2.imdecode(np.frombuffer(copy, np.uint8), 1), cv2.imread(str(PORTRAIT))
    assert marked.shape == plain.shape
    changed = np.abs(marked.astype(int) - plain).max(axis=2) > 60
    assert 0.005 < changed.mean() < 0.1  # a frame and a name
    assert changed[int(y) - 3 : int(y) + 3, int(x + wide / 2)].any()


def test_what_speaks_against_an_answer_is_said(open_page: Open, tmp_path: Path) -> None:
    """A mouth behind a mask, by the network that ships."""
    picture = cv2.imread(str(PORTRAIT))
    (face,) = mien.load()(picture)
    (_, nose, right, left) = face.landmarks[1:]
    wide = left[0] - right[0]
    begin, end = (right[0] - wide / 2, nose[1]), (left[0] + wide / 2, right[1] + wide)
    cv2.rectangle(
        picture, *(tuple(round(at) for at in corner) for corner in (begin, end)), (120, 120, 120), -1
    )
    cv2.imwrite(str(tmp_path / "masked.png"), picture)
    with serving(Path("mien"), "--detector", "mien") as address:
        page = open_page(address=address)
        page.set_input_files("#photo-file", tmp_path / "masked.png")
        page.locator(".doubt").wait_for()
        assert page.inner_text(".doubt").startswith("Something seems to cover a part of the face.")
        assert page.inner_text("#status").endswith(", covered?.")
        assert page.get_attribute(".box", "aria-label").endswith(", covered?")


def test_the_name_of_a_face_as_tall_as_its_picture_stays_on_it(open_page: Open, tmp_path: Path) -> None:
    portrait = cv2.imread(str(PORTRAIT))
    cv2.imwrite(str(tmp_path / "close.jpg"), portrait[58:180, 100:350])
    page = open_page()
    page.set_input_files("#photo-file", tmp_path / "close.jpg")
    page.wait_for_selector(".box")
    picture, tag = (page.locator(place).bounding_box() for place in ("#photo-stage img", ".tag"))
    assert tag["y"] >= picture["y"]
    assert tag["y"] + tag["height"] <= picture["y"] + picture["height"]


def test_pictures_are_chosen_dropped_and_pasted_and_a_broken_one_says_why(
    open_page: Open, folder: Path, tmp_path: Path
) -> None:
    page = open_page(allowed="status of 422")
    (tmp_path / "broken.jpg").write_bytes(PORTRAIT.read_bytes()[:400])
    (tmp_path / "odd.jpg").write_bytes(PORTRAIT.read_bytes()[:-2])  # without its end marker
    (tmp_path / "text.jpg").write_bytes(b"hello")
    given = [folder / "two.jpg", *(tmp_path / f"{name}.jpg" for name in ("broken", "odd", "text"))]
    page.set_input_files("#photo-file", given)
    page.wait_for_selector(".frame:nth-child(2)[aria-label*=problem]")
    boxes = page.locator(".box")
    boxes.nth(1).wait_for()
    assert boxes.count() == 2
    assert boxes.nth(0).get_attribute("aria-pressed") == "true"
    page.keyboard.press("Tab")  # the keyboard begins at the top of the page
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.box:nth-child(2)')"):
            break
    assert boxes.nth(1).get_attribute("aria-pressed") == "true"
    assert page.inner_text(".stepper") == "Face 2 of 2"
    label = boxes.nth(1).get_attribute("aria-label")
    assert label.startswith(f"Face 2: {page.inner_text('#photo-panel .word').rstrip('?')}, ")
    page.click("[aria-label='Next face']")
    assert boxes.nth(0).get_attribute("aria-pressed") == "true"
    page.click(".frame:nth-child(2)")
    assert "broken.jpg" in page.inner_text("#photo-notice")
    page.click(".frame:nth-child(4)")
    assert "text.jpg is not a picture (it begins with 'hello')" in page.inner_text("#photo-notice")
    assert page.inner_text("#photo-stage > p") == "This browser cannot show this picture."
    broken = "[...document.images].filter((one) => one.complete && !one.naturalWidth && one.checkVisibility()).length"
    assert page.evaluate(broken) == 0
    page.click(".frame:nth-child(3)")
    page.wait_for_selector("#photo-stage > p", state="detached")
    page.wait_for_selector("#photo-panel .warning")
    assert page.inner_text("#photo-panel .warning").startswith(
        "odd.jpg is written oddly (its end marker is missing)"
    )
    assert page.inner_text("#photo-panel .word")
    give = """async ([event, url]) => {
        const data = new DataTransfer();
        const blob = await (await fetch(url)).blob();
        data.items.add(new File([blob], 'given.jpg', {type: 'image/jpeg'}));
        const kind = event === 'paste' ? ClipboardEvent : DragEvent;
        dispatchEvent(new kind(event, {clipboardData: data, dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    for event, sample in (("drop", "grace-hopper.jpg"), ("paste", "eileen-collins.jpg")):
        page.evaluate("location.hash = 'video'")
        page.evaluate(give, [event, f"samples/{sample}"])
        page.wait_for_selector(".boxes.alone")
        assert page.is_visible("#photo") and not page.is_visible("#photo-notice")
        page.evaluate("document.querySelector('.boxes').remove()")


def test_the_theme_is_switched_and_stays(open_page: Open) -> None:
    page = open_page("photo", "light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    dark = page.evaluate(ground)
    assert dark != light and page.get_attribute("#theme", "aria-pressed") == "true"
    page.reload()
    assert page.evaluate(ground) == dark
    page.click("#about")
    assert "Article 5(1)(f)" in page.inner_text("#about-dialog")
    page.keyboard.press("Escape")
    page.wait_for_selector("#about-dialog", state="hidden")
    page.focus("#tab-photo")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#camera-go")
    assert page.url.endswith("#camera")


@pytest.mark.parametrize(("theme", "width"), [LOOKS[0], LOOKS[3]])
def test_camera(open_page: Open, theme: str, width: int) -> None:
    page = open_page("camera", theme, width)
    page.click("#camera-go")
    page.wait_for_selector("#camera-cards .card")
    until(page, "document.getElementById('camera-rate').textContent > '0'")
    assert re.fullmatch(r"\d+ ms", page.inner_text("#camera-latency"))
    bars = page.locator("#camera-cards .card").nth(0).locator(".bars li")
    assert [row.inner_text().split()[0].lower() for row in bars.all()] == list(FER2013)
    assert painted(page, "#camera-overlay")[0] > 0.002
    assert bands(page, "#camera-cards .rolling") <= set(label_colours(FER2013))
    for _ in range(5):  # a face may be missed for a moment, between one look and the other
        overlays = [middle(page, mirrored=mirrored) for mirrored in (True, False)]
        if sum(overlays) == pytest.approx(1, abs=0.12):  # what was left is right
            break
    else:
        pytest.fail(f"mirrored and plain, the overlay lies at {overlays}")
    page.click("#camera-stop")
    page.wait_for_selector("#camera-go")
    assert page.evaluate("document.getElementById('camera-video').srcObject") is None
    assert page.locator("#camera-cards .card").count() == 0


def middle(page: Any, *, mirrored: bool) -> float:
    """Return where what is drawn over the camera lies on average, as a share of the width."""
    if (page.get_attribute("#camera-mirror", "aria-pressed") == "true") != mirrored:
        page.click("#camera-mirror")
    page.wait_for_timeout(400)
    return painted(page, "#camera-overlay")[1]


def painted(page: Any, canvas: str) -> tuple[float, float]:
    """See PAINTED; waits until something is there, because a face may be missed for a moment."""
    ends = time.monotonic() + PATIENCE_S
    while not (found := page.evaluate(PAINTED, canvas))[0]:
        assert time.monotonic() < ends, f"{canvas} stays empty"
        page.wait_for_timeout(50)
    return found[0], found[1]


def bands(page: Any, canvas: str) -> set[tuple[int, ...]]:
    """Return the colours of a timeline, once something is there; the rows where two of them meet are left out."""
    painted(page, canvas)
    seen = page.eval_on_selector(
        canvas,
        """canvas => {
            const {width, height} = canvas;
            const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, width, height).data.buffer);
            const same = pixels.filter((pixel, at) => pixel >>> 24 === 255 && pixel === pixels[at - width]);
            return [...new Set(same)];
        }""",
    )
    return {tuple(int(pixel).to_bytes(4, "little")[:3]) for pixel in seen}


def test_a_camera_that_is_refused_or_missing_says_what_to_do(
    open_page: Open, launch: Callable[..., Any]
) -> None:
    bare = launch()  # without the fake camera
    for page, words in (
        (open_page("camera", camera=False), "not allowed"),
        (open_page("camera", within=bare), "No camera was found"),
    ):
        page.click("#camera-go")
        page.wait_for_selector("#camera-notice:not([hidden])")
        assert words in page.inner_text("#camera-notice")
        assert page.is_enabled("#camera-go")


@pytest.mark.parametrize(("theme", "width"), [LOOKS[1], LOOKS[2]])
def test_video(open_page: Open, folder: Path, theme: str, width: int) -> None:
    page = open_page("video", theme, width)
    page.set_input_files("#video-file", folder / "short.webm")
    page.wait_for_selector("#video-work:not([hidden])")
    until(page, "document.getElementById('video-player').videoWidth > 0")
    assert page.locator(".lane").count() == 2
    assert bands(page, ".lane[data-track='1'] .band") <= set(label_colours(FER2013))
    until(page, "[...document.querySelectorAll('.thumb')].every(canvas => canvas.style.length)")
    axis = page.locator("#axis").bounding_box()
    page.mouse.click(axis["x"] + 0.5 * axis["width"], axis["y"] - 40)
    until(page, "Math.abs(document.getElementById('video-player').currentTime - 1.2) < 0.1")
    assert page.get_attribute("#timeline", "aria-valuetext").startswith("0:01.2, face 1 ")
    assert page.locator("#video-cards .card").count() == 2
    assert painted(page, "#video-overlay")[0] > 0.002
    page.focus("#timeline")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    until(page, "Math.abs(document.getElementById('video-player').currentTime - 1) < 0.1")
    assert float(page.get_attribute("#timeline", "aria-valuenow")) == pytest.approx(1)
    name, text = saved(page, "#video-json")
    result = json.loads(text)
    assert (name, result["labels"], len(result["rows"])) == ("short.json", list(FER2013), 24)
    assert (result["width"], result["height"]) == SIZE
    name, text = saved(page, "#video-csv")
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    assert name == "short.csv" and len(rows) == sum(len(row["faces"]) for row in result["rows"])
    page.click("#video-again")
    page.wait_for_selector("#video-choose")


def test_a_video_is_cancelled_here_and_on_the_server_and_what_is_none_says_so(
    open_page: Open, folder: Path
) -> None:
    page = open_page("video", allowed="status of 4")
    film = write_webm(folder / "long.webm", 100)
    with page.expect_response(lambda answer: answer.request.method == "POST") as begun:
        page.set_input_files("#video-file", film)
    job = begun.value.json()["id"]
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as dropped:
        page.click("#video-cancel")
    assert dropped.value.status == 204
    page.wait_for_selector("#video-choose")
    page.wait_for_selector("#video-notice", state="hidden")
    state = page.evaluate("job => fetch(`v1/videos/${job}`).then(answer => answer.json())", job)
    assert state["status"] in ("cancelled", 404)
    page.set_input_files(
        "#video-file", {"name": "poem.mp4", "mimeType": "video/mp4", "buffer": b"no film " * 9}
    )
    page.wait_for_selector("#video-notice:not([hidden])")
    assert "not a video" in page.inner_text("#video-notice")


def test_a_video_goes_on_over_a_dropped_connection(open_page: Open, folder: Path) -> None:
    page = open_page("video", allowed="Failed to load resource")
    dropped: list[str] = []

    def drop_some(route: Any) -> None:
        if route.request.method == "GET" and len(dropped) < 2:
            dropped.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/v1/videos/*", drop_some)
    page.set_input_files("#video-file", write_webm(folder / "dropped.webm", 24))
    until(page, "document.getElementById('video-notice').textContent.includes('Trying again')")
    page.wait_for_selector("#video-work:not([hidden])")
    assert len(dropped) == 2 and not page.is_visible("#video-notice")
    assert len(json.loads(saved(page, "#video-json")[1])["rows"]) == 24


def test_a_server_with_a_token_is_asked_once(open_page: Open, folder: Path) -> None:
    with serving(folder / "model", "--token", TOKEN) as address:
        page = open_page("photo", address=address, allowed="status of 401")
        page.wait_for_selector("#token-dialog[open]")
        page.fill("#token", "a-wrong-token-is-no-token")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-wrong:not([hidden])")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        until(page, "document.getElementById('model').textContent.includes('strips')")
        page.click(f"[data-sample='{PORTRAIT.name}']")
        page.wait_for_selector(".box")
        page.evaluate("location.hash = 'camera'")
        page.click("#camera-go")
        page.wait_for_selector("#camera-cards .card")
        assert page.evaluate("[sessionStorage.length, Object.values({...localStorage}).length]") == [1, 0]


def test_colours_on_the_page_are_those_of_mien(open_page: Open) -> None:
    page = open_page()
    ask = """async words => {
        const {labelColours, trackColour, inkOn} = await import(new URL('static/colours.js', document.baseURI));
        const colours = labelColours(words);
        return [colours, [...Array(9).keys()].map(place => trackColour(place + 1)), colours.map(inkOn)];
    }"""
    for labels in (FER2013, ("Anger", "joy", "calm", "proud"), tuple("abcdefghijk"), ("happy", "nothappy")):
        colours, tracks, inks = page.evaluate(ask, labels)
        assert [tuple(colour) for colour in colours] == label_colours(labels)
        assert [tuple(colour) for colour in tracks] == [track_colour(number) for number in range(1, 10)]
        for colour, ink in zip(colours, inks, strict=True):
            assert contrast(*("#" + bytes(levels).hex() for levels in (colour, ink))) >= 4.5
