"""`mien train-detector`: photographs with face boxes in, a face detector out."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from mien.cli.inputs import new_folder
from mien.detect.training.config import DetectorConfig
from mien.errors import ConfigError
from mien.files import shell_word
from mien.settings import add_settings, from_options

HELP = "Train a face detector on photographs with face boxes; the same command resumes."
EXAMPLES = """examples:
  mien train-detector faces                           a folder with labels.jsonl and the photographs
  mien train-detector faces --time-limit 90m          plan the epochs to fit
  mien train-detector faces --to runs/trial --epochs 2 --crops 256 --limit 200    a quick trial
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="folder with labels.jsonl and the photographs or their archives",
    )
    parser.add_argument(
        "--to", type=new_folder, metavar="RUN", help="run folder (default: runs/DATA-detector)"
    )
    parser.add_argument(
        "--retrain", action="store_true", help="train again where a finished run lies, replacing it"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_settings(parser, DetectorConfig)


def run(options: argparse.Namespace) -> int:
    from mien.detect.training.run import train_detector
    from mien.terminal import ProgressBar, clock, counted
    from mien.train.run_folder import default_folder

    if not options.data.is_dir():
        raise ConfigError(
            f"DATA must be a folder with labels.jsonl, got {options.data}; see mien train-detector --help"
        )
    config = from_options(DetectorConfig, options)
    out = options.to or default_folder(options.data, "detector")
    show = ProgressBar(quiet=options.quiet)
    command = shlex.join(["mien", *sys.argv[1:]])
    done = train_detector(config, options.data, out, retrain=options.retrain, command=command, show=show)
    if done.trained:
        print(f"trained {counted(done.progress.epoch, 'epoch')} in {clock(done.progress.seconds)}")
    else:
        print(f"{out} is trained already with these settings; --retrain trains again")
    print(f"detector {done.detector}")
    data, detectors = shell_word(options.data), f"{shell_word(done.detector)},mien"
    print(f"next     mien evaluate-detector {data} --detectors {detectors}")
    return 0
