"""Every example in README, CONTRIBUTING and docs is tried, and every file that they name exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import mien
from mien.cli.main import COMMANDS, parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
FENCE = re.compile(r"(?:<!-- (?P<name>[\w ]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
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


def test_every_command_is_in_the_readme() -> None:
    documented = {words[0] for block in blocks(PAGES[0]) for words in mien_commands(block.text)}
    assert documented >= set(COMMANDS)


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
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Run the README's first commands word for word in an empty folder; return it and what each printed."""
    folder = tmp_path_factory.mktemp("newcomer")
    first = "".join(block.text for block in blocks(PAGES[0]) if block.name == "first commands")
    shutil.copy(Path(mien.__file__).parent / "samples" / "grace-hopper.jpg", folder / "holiday.jpg")
    printed = []
    for words in mien_commands(first):
        done = subprocess.run(
            [sys.executable, "-m", "mien.cli.main", *words],
            cwd=folder,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, f"mien {shlex.join(words)}\n{done.stdout}\n{done.stderr}"
        assert not re.search("warning|traceback|error", done.stderr, re.I), done.stderr  # progress alone
        printed.append(done.stdout)
    return folder, printed


@pytest.mark.slow
def test_the_first_commands_train_a_network(newcomer: tuple[Path, list[str]]) -> None:
    folder, printed = newcomer
    (accuracy,) = re.findall(r"^accuracy (\d+\.\d)%", printed[-1], re.M)  # of mien evaluate
    assert float(accuracy) > 60, printed
    (model,) = folder.glob("runs/*/model")
    assert {path.name for path in model.iterdir()} >= {"model.onnx", "model.json", "CARD.md"}


@pytest.mark.slow
def test_the_python_examples_run(newcomer: tuple[Path, list[str]]) -> None:
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
    rows = re.findall(
        r"^\| (`.*?`) \|", PAGES[0].read_text(encoding="utf-8").partition("## Recipes")[2], re.M
    )
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == recipes
