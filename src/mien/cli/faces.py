"""`mien faces`: photographs, folders and films in, a face set to be labelled and trained on out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mien.cli.inputs import add_detector_options, new_folder
from mien.errors import ConfigError
from mien.faceset.settings import FacesConfig
from mien.settings import add_settings, from_options

if TYPE_CHECKING:
    from mien.faceset.extract import Extraction

HELP = "Cut the faces out of photographs and films, as a face set: crops and one table, to be labelled and trained on."
EXAMPLES = """examples:
  mien faces photos film.mp4 --to my-faces          photographs, folders and films in any mix; they are only read
  mien faces more-photos --to my-faces              adds what is new, keeps every label
  mien faces film.mp4 --to my-faces --per-track 40  more of each person in a film
  mien faces photos --to my-faces --group "person-(\\d+)"   which faces belong to one person, by their paths
  mien faces pictures --to my-faces --label "([^/]+)/[^/]+$"   labelled already: each picture's folder is its class
  mien faces answers.csv --to my-faces              what mien predict --csv, --json or --parquet wrote
  mien faces talk-faces/talk-faces.csv --to my-faces   what mien video wrote
  mien faces bobs-faces --to my-faces               another face set, with all that people said about its faces
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="photograph, film, folder (with all below it), glob, another face set, or a table that mien predict "
        "or mien video wrote",
    )
    parser.add_argument(
        "--to",
        type=new_folder,
        required=True,
        metavar="DIR",
        help="folder of the face set; one that is there is added to",
    )
    add_detector_options(parser, "auto")
    add_settings(parser, FacesConfig)


def run(options: argparse.Namespace) -> int:
    from mien.faceset.extract import extract_faces
    from mien.terminal import ProgressBar
    from mien.video.reader import configure_ffmpeg

    if "-" in options.paths:
        raise ConfigError("mien faces takes no picture from standard input; save it and name the file")
    configure_ffmpeg()
    bar = ProgressBar()
    try:
        done = extract_faces(
            options.paths,
            options.to,
            from_options(FacesConfig, options),
            detector=options.detector,
            detector_file=options.detector_file,
            progress=bar.stage,
            warn=lambda line: bar.line(f"mien: {line}"),
        )
    finally:
        bar.end()
    for note in done.notes:
        bar.line(f"mien: {note}")
    print(summary(done))
    return 1 if done.problems else 0


def summary(done: Extraction) -> str:
    """Return for people what a run did and what to do next."""
    from mien.faceset.row import SET_ASIDE, SHOWN
    from mien.faceset.table import label_next
    from mien.terminal import counted

    looked = [(done.photographs, "photograph"), (done.films, "film")]
    sources = " and ".join(counted(count, what) for count, what in looked if count) or "nothing new"
    # Also of a first run: the copy of a photograph gives nothing that is not there.
    passed = f"; passed over {done.known:,}: copies, or looked at before" if done.known else ""
    looked_at_none = not any(count for count, _ in looked) and not done.known  # other face sets alone
    lines = [] if looked_at_none else [f"looked at {sources}{passed}"]
    if done.without:
        lines.append(f"{counted(done.without, 'source')} without a face")
    aside = [f"{done.new[status]:,} {status}" for status in SET_ASIDE if done.new.get(status)]
    new = sum(done.new.values())
    added = f"added {counted(new, 'face')}"
    lines.append(
        f"{added}: {done.new.get(SHOWN, 0):,} to be labelled; set aside: {', '.join(aside)}"
        if aside
        else added
    )
    labelled = len(done.faces.labelled())
    lines.append(
        f"{done.faces.folder} holds {counted(len(done.faces), 'face')}, {labelled:,} of them labelled"
    )
    if done.problems:
        lines.append(f"{counted(len(done.problems), 'problem')}, each named above")
    if len(done.faces):
        lines.append(f"next: {label_next(done.faces.folder)}")
    else:
        lines.append(
            "no face was found; pictures that are faces already are taken whole with --detector whole, small faces in "
            "large pictures are looked for with a larger --detect-size"
        )
    return "\n".join(lines)
