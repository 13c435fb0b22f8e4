"""`mien predict`: pictures and a trained network in, faces and their expressions out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mien.cli.inputs import SEARCH, add_network_options, add_search_options, open_analyzer
from mien.errors import ConfigError, ImageError
from mien.files import shell_word
from mien.locks import locked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.cli.inputs import Source
    from mien.cli.predict_output import Writer
    from mien.predict.analyzer import Analyzer
    from mien.predict.results import Faces

HELP = "Find the faces in pictures and name the expressions that people would see in them."
EXAMPLES = """examples:
  mien predict photo.jpg                        a table: each face, its expression, how sure
  mien predict photos --save marked             a folder and all below it; marked copies to look at
  mien predict "photos/*.jpg" --csv             a row a face, with all probabilities
  mien predict faces --detector whole           every picture is one face already
  mien predict - --json                         a picture from standard input
  mien predict photo.jpg --model runs/mine      with a network that you trained
  mien predict crowd.jpg --detect-size 4000     searched tile by tile, for small faces
  mien predict photos --resume faces.csv        into a file; again, where it was killed: it goes on
  mien predict photos --prior balanced          where every expression is as common as any other
  mien predict --download-yunet                 once: YuNet, for --detector yunet
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="picture, folder (with all below it), glob, or - for stdin"
    )
    add_network_options(parser)
    add_search_options(parser)
    parser.add_argument(
        "--download-yunet",
        action="store_true",
        help="first fetch YuNet's file (230 kB, from OpenCV Zoo) into the folder for caches, unless it is there",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="write copies of the pictures with the faces marked; of one picture also a file (marked.jpg)",
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
    forms.add_argument(
        "--parquet", type=Path, metavar="FILE", help="write the rows of --csv to a Parquet file"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="write to FILE, in the form of its suffix or of --csv, --json, --jsonl, and keep what a run that was "
        "stopped has left there: only the other pictures are looked at",
    )


def run(options: argparse.Namespace) -> int:
    from mien.cli.inputs import find_sources, refuse_over

    if options.download_yunet:
        _download()
        if not options.paths:
            return 0
    if not options.paths:
        raise ConfigError(
            "which pictures? Name files, folders or globs, or - for standard input: mien predict PATH; "
            "see mien predict --help"
        )
    if options.resume:
        from mien.cli.predict_output import resume_form

        form = resume_form(options.resume, options.form, options.parquet)
    found = find_sources(options.paths, options.save)
    sources, problems = found.sources, found.problems
    targets = targets_of(sources, options.save)
    for line in (*problems, *filter(None, [found.note])):
        print(f"mien: {line}", file=sys.stderr)
    if not sources:
        return 2
    for option, table in (("--parquet", options.parquet), ("--resume", options.resume)):
        if table:
            refuse_over(option, table, (source.path for source in sources))
    write = _writer(options)
    analyzer = open_analyzer(options, search=SEARCH)
    file = options.resume or options.parquet
    # Two that go on behind each other's answers would give each picture twice.
    with locked(file.parent, "being written", file=file.name) if file else nullcontext():
        if options.resume:
            from mien.cli.predict_output import resumed

            left, write = resumed(options.resume, form, analyzer, sources)
            sources = [source for source, wanted in zip(sources, left, strict=True) if wanted]
            targets = [target for target, wanted in zip(targets, left, strict=True) if wanted]
        elif options.parquet:
            from mien.cli.predict_output import note_settings

            note_settings(options.parquet, analyzer)
        try:
            failed = answer(analyzer, sources, targets, write, bar=bool(file))
        except KeyboardInterrupt:
            if file:
                again = "the same command" if options.resume else f"--resume {shell_word(file)}"
                print(f"mien: what is done is kept; {again} goes on", file=sys.stderr)
            raise
    if options.save:
        from mien.terminal import counted

        if written := len(sources) - failed:
            print(f"mien: wrote {counted(written, 'marked picture')} to {options.save}", file=sys.stderr)
    return 1 if problems or failed else 0


def answer(
    analyzer: Analyzer, sources: list[Source], targets: list[Path | None], write: Writer, *, bar: bool = False
) -> int:
    """Write what is in the pictures, and their marked copies to `targets`; return how many could not be read.

    bar: show a progress bar even where the results go to the same terminal.
    """
    results = _Results(analyzer, sources, targets, bar=bar or not sys.stdout.isatty())
    write(iter(results), sources, analyzer.head.labels)
    if results.coarse:
        some = f"{results.coarse:,} picture{'s are' if results.coarse > 1 else ' is'}"
        which = "the picture is" if len(sources) == 1 else some
        print(
            f"mien: {which} so large that faces under about 1% of the longer side may be missed; --detect-size 4000 "
            "searches closer, tile by tile",
            file=sys.stderr,
        )
    return results.failed


class _Results:
    """The faces of each picture, one after the other, or why it could not be read; that is reported as well."""

    def __init__(
        self, analyzer: Analyzer, sources: list[Source], targets: list[Path | None], *, bar: bool
    ) -> None:
        from mien.terminal import ProgressBar

        self.failed = self.coarse = 0
        self._analyzer, self._sources, self._targets = analyzer, sources, targets
        self._bar = ProgressBar("pictures", len(sources), shown=bar)

    def __iter__(self) -> Iterator[tuple[Source, Faces | ImageError]]:
        from mien.predict.analyzer import analyze_many

        with closing(
            analyze_many(self._analyzer, self._sources, _saving(self._sources, self._targets), self._warn)
        ) as answers:
            for done, (source, found) in enumerate(zip(self._sources, answers, strict=True), start=1):
                if isinstance(found, ImageError):
                    self.failed += 1
                    self._bar.line(f"mien: {found}")
                else:
                    self.coarse += found.coarse
                yield source, found
                self._bar.show(done)
        self._bar.end()

    def _warn(self, warning: str) -> None:
        self._bar.line(f"mien: {warning}")


def _saving(
    sources: list[Source],
    targets: list[Path | None],
) -> Callable[[int, NDArray[np.uint8], Faces], None] | None:
    """Return what writes the marked copy of the picture at a place, or None where none are wanted."""
    if not any(targets):
        return None
    from mien.images.canvas import write_picture
    from mien.predict.annotate import annotated

    def save(place: int, image: NDArray[np.uint8], faces: Faces) -> None:
        if target := targets[place]:
            write_picture(target, annotated(image, faces), sources[place].mark)

    return save


def _writer(options: argparse.Namespace) -> Writer:
    from mien.cli.predict_output import WRITERS, parquet_writer

    return WRITERS[options.form] if options.parquet is None else parquet_writer(options.parquet)


def _download() -> None:
    from mien.detect.registry import fetch_yunet

    print(f"mien: YuNet's file is {fetch_yunet()}", file=sys.stderr)


def targets_of(sources: list[Source], folder: Path | None) -> list[Path | None]:
    """Return where each marked picture goes; ConfigError where that is in the way of something."""
    from mien.cli.inputs import is_named_like_file, refuse_over, save_places
    from mien.images.canvas import WRITTEN

    if folder is None:
        return [None] * len(sources)
    one_file = folder.suffix.lower() in WRITTEN and not folder.is_dir()
    if one_file and len(sources) > 1:
        raise ConfigError(f"--save {folder} is one picture, and {len(sources):,} are marked; name a folder")
    parents = folder.parents if one_file else (folder, *folder.parents)
    there = next((place for place in parents if place.exists()), None)
    if there and not there.is_dir():
        raise ConfigError(f"--save needs a folder, {there} is a file; name another place")
    if not one_file and is_named_like_file(folder):
        kinds = ", ".join(WRITTEN)
        raise ConfigError(
            f"--save {folder} is named like a file, and a folder is written; name a folder, or of one picture a file "
            f"that ends in {kinds}"
        )
    if not one_file:
        return list(save_places(sources, folder))
    refuse_over("--save", folder, (source.path for source in sources))
    if folder.exists():
        raise ConfigError(f"--save {folder} is there already; delete it or name another place")
    return [folder]
