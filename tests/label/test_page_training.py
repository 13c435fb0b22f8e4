"""From photographs to a network on the page of labels, in a real browser."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import pytest

from mien.cli.main import main
from mien.faceset.table import FaceSet
from mien.images import read_image
from mien.video.writer import constant_rate, encoder, suffix

from ..serve.browser import IN_A_BROWSER, until
from .browser import STORED, opened
from .conftest import StartLabel

pytestmark = IN_A_BROWSER

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
            assert ann.inner_text(".check-words .quiet >> nth=0").startswith("You said ")
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
