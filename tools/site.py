"""What MkDocs cannot read from docs/ alone: pages made from the code, and pages that lie elsewhere in the repository.

A hook of mkdocs.yml. README.md becomes the start page; commands, settings and the API reference are made from the
parser, the settings classes and the packages, so they cannot grow old. Links out of docs/ lead to these pages.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "mien"
# Files of the repository and the address of their page or copy in the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE.txt",
    "CITATION.cff": "CITATION.cff",
    "src/mien/models/mien/CARD.md": "model-card.md",
    "src/mien/models/mien-detector/CARD.md": "detector-card.md",
    "src/mien/samples/ORIGIN.md": "samples.md",
}
ROOMS = (
    "predict",
    "batch",
    "video",
    "explain",
    "detect",
    "model",
    "images",
    "faceset",
    "data",
    "train",
    "evaluate",
    "serve",
)
DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.M)
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    pages = {target: (ROOT / path).read_text(encoding="utf-8") for path, target in ELSEWHERE.items()}
    pages["reference/commands.md"] = commands()
    pages["reference/settings.md"] = settings()
    pages["reference/api/index.md"] = api_start()
    pages |= {f"reference/api/{room}.md": api(room) for room in ROOMS}
    for address, text in pages.items():
        if address not in files.src_uris:
            files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Lead links between files of the repository to where these lie in the site."""
    source = {target: path for path, target in ELSEWHERE.items()}.get(page.file.src_uri)
    here = posixpath.dirname(source or f"docs/{page.file.src_uri}")
    markdown = re.sub(r"^<!-- [\w ]+ -->\n", "", markdown, flags=re.M)  # marks for the tests

    def led(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(here, found[2]))
        if "://" in found[2] or not (ROOT / path).exists():
            return found[0]
        target = ELSEWHERE.get(path) or path.removeprefix("docs/")
        return found[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".") + found[3]

    return LINK.sub(led, markdown)


class Doctests(griffe.Extension):
    """Examples in docstrings become blocks of code; named in mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the lines from `>>>` to the next empty one."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)


def commands() -> str:
    """Return a page with the help of every command, as it prints it."""
    from mien.cli.main import COMMANDS, parser

    subparsers = next(action for action in parser()._actions if isinstance(action.choices, dict))
    parts = ["# Commands\n\nEvery command answers `--help`; this is what it says.\n"]
    for name in COMMANDS:
        sub = dict(subparsers.choices or {})[name]
        sub.formatter_class = _Wide
        parts.append(f"## mien {name}\n\n```text\n{sub.format_help()}```\n")
    return "\n".join(parts)


def settings() -> str:
    """Return a page with every setting of training: key in a recipe, default, meaning."""
    from dataclasses import MISSING, fields

    from mien.data.dataset import DataConfig
    from mien.train.config import TrainConfig

    parts = [
        "# Training settings\n\nA key of a recipe's `[train]` or `[[phases]]`, a field of `TrainConfig` and an option "
        "(`weight_decay`, `--weight-decay`) have one name and one default.\n"
    ]
    for heading, config in (("Training", TrainConfig), ("How the data is read", DataConfig)):
        parts.append(f"## {heading}\n\n| setting | default | meaning |\n|---|---|---|")
        for field in fields(config):
            if "help" not in field.metadata:
                continue
            default = "" if field.default in (MISSING, None, ()) else f"`{field.default}`"
            within = field.metadata["within"]
            told = f"{field.metadata['help']}{f' ({within.words})' if within else ''}"
            meaning = told.replace("|", "\\|").replace("<", "&lt;")
            parts.append(f"| `{field.name}` | {default} | {meaning} |")
    return "\n".join(parts) + "\n"


def api_start() -> str:
    """Return the first page of the API reference: the rooms, each with the first line of its docstring."""
    rows = [
        f"| [`mien.{room}`]({room}.md) | {_first_line(SOURCE / room / '__init__.py')} |" for room in ROOMS
    ]
    return (
        "# API\n\nMade from the docstrings. `import mien` gives what most programs need: see "
        "[mien in Python](../../how-to/python.md).\n\n| room | what it holds |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def api(room: str) -> str:
    """Return the page of one room: its docstring, then its modules in order of name."""
    modules = [_dotted(path) for path in sorted(_modules(SOURCE / room))]
    return f"# mien.{room}\n\n" + "\n".join(f"::: {name}\n" for name in (f"mien.{room}", *modules))


def _modules(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.py"):
        private = any(part.startswith("_") for part in path.relative_to(folder).parts)
        if not private and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))):
            yield path


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]


def _Wide(prog: str) -> Any:
    import argparse

    return argparse.RawDescriptionHelpFormatter(prog, width=100, max_help_position=28)
