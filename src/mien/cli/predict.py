"""`mien predict`: pictures and a trained network in, faces and their expressions out."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mien.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from mien.cli.predict_sources import Source
    from mien.predict.analyzer import Analyzer
    from mien.predict.results import Face

HELP = "Find the faces in pictures and name their expressions, with a network that you trained."
EXAMPLES = """examples:
  mien predict photo.jpg --model runs/faces-small            a table: each face, its expression, how sure
  mien predict photos --model models/mine --save marked      a folder and all below it; marked copies to look at
  mien predict "photos/*.jpg" --model models/mine --csv      a row a face, with all probabilities
  mien predict faces --model models/mine --detector whole    every picture is one face already
  mien predict - --model models/mine --json                  a picture from standard input
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="picture, folder (with all below it), glob, or - for stdin"
    )
    # Not required by the parser: `load` has the line that says what to name, and since when none is needed.
    parser.add_argument(
        "--model", metavar="MODEL", help="run folder, model folder, .onnx file of mien, or shipped model"
    )
    parser.add_argument("--head", metavar="NAME", help="which answer of the network (default: its first)")
    parser.add_argument(
        "--detector",
        default="auto",
        metavar="NAME",
        help="face finder: auto (yunet where its file is, otherwise haar), yunet, haar, or whole (each picture is "
        "one face) (default: auto)",
    )
    parser.add_argument(
        "--detector-file", type=Path, metavar="FILE", help="a YuNet file for --detector yunet"
    )
    parser.add_argument(
        "--save", type=Path, metavar="DIR", help="write copies of the pictures with the faces marked"
    )
    forms = parser.add_mutually_exclusive_group()
    for form, what in (
        ("json", "print one JSON list, an object a picture"),
        ("jsonl", "print a line of JSON a picture, as soon as it is done"),
        ("csv", "print a row a face; a picture without a face has a row without one"),
    ):
        forms.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, default="table", help=what
        )


def run(options: argparse.Namespace) -> int:
    from mien.cli.predict_sources import find_sources
    from mien.cli.predict_text import WRITERS
    from mien.predict.analyzer import load

    sources, problems = find_sources(options.paths, options.save)
    targets = _targets(sources, options.save)
    for problem in problems:
        print(f"mien: {problem}", file=sys.stderr)
    if not sources:
        return 2
    analyzer = load(
        options.model, detector=options.detector, detector_file=options.detector_file, head=options.head
    )
    if analyzer.detector.note:
        print(f"mien: {analyzer.detector.note}", file=sys.stderr)
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a name that this console has no letters for is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    results = _Results(analyzer, sources, targets)
    WRITERS[options.form](iter(results), sources, analyzer.head.labels)
    return 1 if problems or results.failed else 0


class _Results:
    """The faces of each picture, one after the other; a picture that fails is reported and left out."""

    def __init__(self, analyzer: Analyzer, sources: list[Source], targets: list[Path | None]) -> None:
        self.failed = 0
        self._analyzer, self._sources, self._targets = analyzer, sources, targets
        self._shows_progress = sys.stderr.isatty() and not sys.stdout.isatty() and len(sources) > 1

    def __iter__(self) -> Iterator[tuple[Source, tuple[Face, ...]]]:
        for done, (source, target) in enumerate(zip(self._sources, self._targets, strict=True), start=1):
            try:
                faces = self._one(source, target)
            except ImageError as error:
                self.failed += 1
                clear = "\r\x1b[K" if self._shows_progress else ""
                print(f"{clear}mien: {error}", file=sys.stderr)
            else:
                yield source, faces
            self._progress(done)

    def _one(self, source: Source, target: Path | None) -> tuple[Face, ...]:
        image = source.read()
        faces = self._analyzer.analyze(image)
        if target is not None:
            from mien.predict.annotate import annotated, write_picture

            write_picture(target, annotated(image, faces))
        return faces

    def _progress(self, done: int) -> None:
        if self._shows_progress:
            from mien.cli.evaluate import show_progress

            show_progress("looking at pictures", done, len(self._sources))


def _targets(sources: list[Source], folder: Path | None) -> list[Path | None]:
    """Return where each marked picture goes; ConfigError where that is in the way of something."""
    from mien.cli.predict_sources import save_places

    if folder is None:
        return [None] * len(sources)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--save needs a folder, {folder} is a file; name another place")
    targets: list[Path | None] = [folder / place for place in save_places(sources)]
    originals = {source.path.resolve() for source in sources if source.path}
    for target in targets:
        if target and target.resolve() in originals:
            raise ConfigError(f"--save {folder} would write over the picture {target}; name another folder")
    return targets
