"""`mien demo`: what mien does, on two portraits that come with it."""

from __future__ import annotations

import argparse
from pathlib import Path

from mien.cli.inputs import add_network_options, new_folder, open_analyzer
from mien.files import shell_word

HELP = "Recognise the expressions in two portraits that come with mien: no picture of your own is needed."
EXAMPLES = """examples:
  mien demo                                 a table, and the marked portraits in the folder mien-demo
  mien demo --save shown                    another folder
  mien demo --model runs/faces-small        a network of your own
"""
_SAMPLES = ("eileen-collins.jpg", "grace-hopper.jpg")  # where they are from: samples/ORIGIN.md


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_network_options(parser)
    parser.add_argument(
        "--save",
        type=new_folder,
        default=Path("mien-demo"),
        metavar="DIR",
        help="where the marked portraits are written (default: mien-demo)",
    )


def run(options: argparse.Namespace) -> int:
    from mien.cli.inputs import Source
    from mien.cli.predict import answer, targets_of
    from mien.cli.predict_output import print_table

    folder = Path(__file__).parent.parent / "samples"
    sources = [Source(name, folder / name, Path(name)) for name in _SAMPLES]
    targets = targets_of(sources, options.save)
    failed = answer(open_analyzer(options), sources, targets, print_table)
    model = f" --model {shell_word(options.model)}" if options.model else ""
    print(f"marked   {' '.join(str(target) for target in targets if target)}")
    own = f"mien predict PHOTO.jpg{model}"
    print(f"next     {own}    a photograph of yours, or a whole folder")
    print(f"         {'mien predict --help':{len(own)}}    all that it can do")
    return 1 if failed else 0
