"""`mien label`: a page on which people label the faces of a face set."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HELP = "Label the faces of a face set on a page: keys, several people at once, guesses that learn from you."
EXAMPLES = """examples:
  mien label faces --classes calm,bored,amused --open     the faces that mien faces wrote to the folder faces
  mien label faces                                        go on; everything said before is still there
  mien label faces --host 0.0.0.0 --who ann               with others in the network; $MIEN_TOKEN holds the token
"""
_TOKEN = "MIEN_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from mien.label.config import LabelConfig
    from mien.settings import add_settings

    parser.add_argument(
        "faces", type=Path, metavar="DIR", help="folder of a face set, as mien faces writes it"
    )
    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")
    add_settings(parser, LabelConfig)


def run(options: argparse.Namespace) -> int:
    """Serve the page until told to stop."""
    from mien.cli.serve import needed_packages, open_page

    needed_packages()
    from mien.label.app import run as serve
    from mien.label.config import LabelConfig
    from mien.settings import from_mapping, given

    asked = given(LabelConfig, options)
    if token := os.environ.get(_TOKEN):
        asked.setdefault("token", token)
    config = from_mapping(LabelConfig, asked, "mien label")

    def ready(address: str) -> None:
        print(
            f"mien: listening on {address} (Ctrl-C ends it; every answer is stored at once)",
            file=sys.stderr,
            flush=True,
        )
        if options.open:
            open_page(address)

    return serve(options.faces, config, ready)
