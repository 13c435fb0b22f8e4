"""`mien train-finder`: photographs with face boxes in, a face finder out."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from mien.errors import ConfigError
from mien.settings import add_settings, from_options
from mien.train.finder.config import FinderConfig

HELP = "Train a face finder on photographs with face boxes; the same command resumes."
EXAMPLES = """examples:
  mien train-finder faces                           a folder with labels.jsonl and the photographs
  mien train-finder faces --time-limit 90m          plan the epochs to fit
  mien train-finder faces --out runs/trial --epochs 2 --crops 256 --limit 200    a quick trial
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="folder with labels.jsonl and the photographs or their archives",
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder (default: runs/DATA-finder)")
    parser.add_argument(
        "--retrain", action="store_true", help="train again where a finished run lies, replacing it"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_settings(parser, FinderConfig)


def run(options: argparse.Namespace) -> int:
    from mien.terminal import ProgressBar, clock
    from mien.train.finder.run import train_finder
    from mien.train.run_folder import default_folder

    if not options.data.is_dir():
        raise ConfigError(
            f"DATA must be a folder with labels.jsonl, got {options.data}; see mien train-finder --help"
        )
    config = from_options(FinderConfig, options)
    out = options.out or default_folder(options.data, "finder")
    show = ProgressBar(quiet=options.quiet)
    command = shlex.join(["mien", *sys.argv[1:]])
    done = train_finder(config, options.data, out, retrain=options.retrain, command=command, show=show)
    if done.trained:
        print(f"trained {done.progress.epoch} epochs in {clock(done.progress.seconds)}")
    else:
        print(f"{out} is trained already with these settings; --retrain trains again")
    print(f"finder   {done.finder}")
    print(
        f"next     mien evaluate-finder {shlex.quote(str(options.data))} --finders {shlex.quote(str(done.finder))},mien"
    )
    return 0
