"""Every example in README, CONTRIBUTING and docs is tried, and every file that they name exists.

Every command of the README runs word for word, in its order; those of the other pages are parsed.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien.cli.main import COMMANDS, parser
from mien.data.drawn import draw_face

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
FENCE = re.compile(r"(?:<!-- (?P<name>[\w ]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
MIEN = (sys.executable, "-m", "mien.cli.main")
ENVIRONMENT = {**os.environ, "PYTHONIOENCODING": "utf-8"}
ENDS = {">", ">>", "2>&1", "|", "&", "&&"}  # what a shell reads after a command's own words


@dataclass(frozen=True)
class Block:
    """One fenced block. name: what the comment right above it says, or empty."""

    place: str
    language: str
    name: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            f"{page.name}:{text[: found.start()].count(chr(10)) + 1}",
            found["language"],
            found["name"] or "",
            found["text"],
        )
        for found in FENCE.finditer(text)
    ]


def mien_commands(text: str) -> list[list[str]]:
    """Return the words after `mien` of each line that calls it, up to a redirection; skips `nohup`."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and (words[0] == "nohup" or re.fullmatch(r"\w+=\S*", words[0])):
            words = words[1:]
        if words[:1] == ["mien"]:
            end = next((place for place, word in enumerate(words) if word in ENDS), len(words))
            commands.append(words[1:end])
    return commands


ALL = [block for page in PAGES for block in blocks(page)]
CALLS = [
    (block.place, words)
    for block in ALL
    if block.language == "console"
    for words in mien_commands(block.text)
]


def test_the_command_detector_reads_what_a_shell_would() -> None:
    text = (
        "# no\nmien data a  # why\nX=1 nohup mien train b \\\n  --epochs 2 > log 2>&1 &\npip install mien\n"
    )
    assert mien_commands(text) == [["data", "a"], ["train", "b", "--epochs", "2"]]


@pytest.mark.parametrize(
    "words", [words for _, words in CALLS], ids=[f"{place} {words[0]}" for place, words in CALLS]
)
def test_a_command_in_the_documents_is_one_that_mien_takes(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        parser().parse_args(words)
    except SystemExit as stop:
        assert stop.code == 0, capsys.readouterr().err  # --help and --version end with 0


def test_what_a_page_installs_first_comes_from_the_copy() -> None:
    """`pip install "mien[ray]"` adds to a mien that is there; on a new machine it asks an index, which has none."""
    asked = [line for block in ALL if block.language == "console" for line in block.text.splitlines()]
    assert [line for line in asked if re.match(r"pip install .*\bmien\b", line)] == []


def test_every_command_is_in_the_readme() -> None:
    assert set(re.findall(r"`mien ([\w-]+)`", PAGES[0].read_text(encoding="utf-8"))) == set(COMMANDS)


def test_the_readme_is_short_and_shows_what_it_is_about() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(re.findall(r"[^\W_]+", FENCE.sub("", text))) < 1100
    first_screen = text[: text.index("## Install")]
    assert "](docs/pictures/" in first_screen
    assert "perceived expressions" in first_screen
    assert "AI Act" in text


def test_every_named_file_exists() -> None:
    """Files in back quotes with a folder and an ending, and the targets of links."""
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        plain = FENCE.sub("", text)
        names = re.findall(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|toml|md|yml))`", plain)
        links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", plain) if "://" not in link]
        missing += [
            f"{page.name}: {name}"
            for name in names
            if not any((base / name).is_file() for base in (ROOT, ROOT / "src" / "mien"))
        ]
        missing += [f"{page.name}: {link}" for link in links if not (page.parent / link).exists()]
    assert missing == []


@pytest.fixture(scope="session")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Run the README's commands in a folder with what a reader would have; return it and what each printed."""
    folder = tmp_path_factory.mktemp("newcomer")
    samples = Path(mien.__file__).parent / "samples"
    (folder / "photos" / "happy").mkdir(parents=True)
    (folder / "photos" / "tired").mkdir()
    shutil.copy(samples / "grace-hopper.jpg", folder / "holiday.jpg")
    for number in range(12):
        for name, expression in (("happy", "happy"), ("tired", "sad")):
            picture = draw_face(expression, np.random.default_rng((number, len(name))))
            cv2.imwrite(str(folder / "photos" / name / f"{number}.png"), picture[:, :, ::-1])
    shutil.copytree(folder / "photos", folder / "pictures")
    _write_film(folder / "talk.mp4", cv2.imread(str(samples / "eileen-collins.jpg")))
    printed = {}
    for words in (words for block in blocks(PAGES[0]) for words in mien_commands(block.text)):
        if words[0] == "serve":
            continue  # does not end by itself; test_serving_opens_the_page
        if words[0] == "label":
            _label(folder / words[1])  # nor does this; tests/label has the page
            continue
        short = ["--epochs", "4"] if words[0] == "train" and "--from" in words else []  # of 120, on few faces
        done = subprocess.run(
            [*MIEN, *words, *short], cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
            encoding="utf-8", check=False,
        )  # fmt: skip
        command = shlex.join(words)
        assert done.returncode == 0, f"mien {command}\n{done.stdout}\n{done.stderr}"
        assert not re.search("warning|traceback|error", done.stderr, re.I), done.stderr  # progress alone
        printed[command] = done.stdout
    return folder, printed


def _label(folder: Path) -> None:
    """Say what a person would on the page of `mien label`; the drawn faces lie in folders of their expressions."""
    from mien.faceset.table import FaceSet
    from mien.label.history import LABEL
    from mien.label.store import Store

    with Store.open(folder) as store:
        for face in FaceSet.open(folder).shown():
            store.answer([face.id], "me", LABEL, "amused" if "happy" in face.source else "bored")


def _write_film(path: Path, picture: NDArray[np.uint8]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, picture.shape[1::-1])
    assert writer.isOpened()
    for _ in range(10):
        writer.write(picture)
    writer.release()


@pytest.mark.slow
def test_the_commands_of_the_readme_do_what_it_says(newcomer: tuple[Path, dict[str, str]]) -> None:
    folder, printed = newcomer
    faces = list(csv.DictReader(printed["predict photos --csv"].splitlines()))
    assert len(faces) >= 24  # a row per face, and one for a picture without
    assert {path.name for path in (folder / "marked").rglob("*.png")} >= {"0.png", "11.png"}
    assert {path.suffix for path in (folder / "talk-faces").iterdir()} >= {".csv", ".png"}
    assert "tired" in printed["data pictures"]
    (accuracy,) = re.findall(r"^accuracy (\d+\.\d)%", printed["train faces --epochs 30"], re.M)
    assert float(accuracy) > 60, printed
    answer = printed["predict holiday.jpg --model mine"]
    assert "amused" in answer or "bored" in answer
    for run in (folder / "mine", *folder.glob("runs/faces*")):
        assert {path.name for path in (run / "model").iterdir()} >= {"model.onnx", "model.json", "CARD.md"}


@pytest.mark.slow
def test_serving_opens_the_page(tmp_path: Path) -> None:
    """`mien serve --open` says where it listens and calls the browser with that address."""
    pytest.importorskip("uvicorn")
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "opened"}\n')
    browser.chmod(0o755)
    command = [*MIEN, "serve", "--open", "--port", "0"]
    environment = {**ENVIRONMENT, "BROWSER": str(browser)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "listening on" in line)
        deadline = time.monotonic() + 60
        while not (tmp_path / "opened").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.terminate()
        process.stderr.read()
    assert (tmp_path / "opened").read_text().strip().rstrip("/") in line


@pytest.mark.slow
def test_the_python_examples_run(newcomer: tuple[Path, dict[str, str]]) -> None:
    """All Python blocks of a page, in order, in the folder that the first commands made."""
    for page in PAGES:
        source = "\n".join(block.text for block in blocks(page) if block.language == "python")
        if source:
            done = subprocess.run(
                [sys.executable, "-c", source], cwd=newcomer[0], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{page.name}\n{done.stderr}"


def test_the_table_of_recipes_is_complete() -> None:
    recipes = {path.stem for path in (ROOT / "src" / "mien" / "recipes").glob("*.toml")}
    table = (ROOT / "docs" / "reference" / "recipes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", table, re.M)
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == recipes
