"""`mien ensemble`: several trained networks become one model folder that answers with their mean."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from mien.cli.inputs import new_folder, real
from mien.errors import ConfigError, need
from mien.model.folder import MODEL_FOLDER
from mien.terminal import ProgressBar, columns

HELP = "Join trained networks into one model folder that answers with their mean, calibrated as a whole."
EXAMPLES = """examples:
  mien ensemble runs/faces-small-seed-1 runs/faces-small-seed-2 --to models/faces
  mien ensemble runs/a runs/b runs/c --to models/teacher --data faces    calibrated on validation pictures of faces
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="RUN", help="runs, model folders or files of mien")
    parser.add_argument("--to", type=new_folder, required=True, metavar="MODEL", help="model folder to write")
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="calibrate on this (default: what the first was trained on)"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(options: argparse.Namespace) -> int:
    need("onnx", "train", "exporting")
    from mien.train import backend

    backend.import_keras()
    from mien.train.ensemble import make_ensemble

    members = {real(place) for word in options.models for place in (Path(word), Path(word) / MODEL_FOLDER)}
    if options.to.exists() and real(options.to) in members:
        raise ConfigError(f"--to {options.to} is one of the models that are joined; name another place")
    command = shlex.join(["mien", *sys.argv[1:]])
    show = ProgressBar(quiet=options.quiet)
    made = make_ensemble(options.models, options.to, data=options.data, command=command, show=show)
    rows = [["head", "pictures", "accuracy", "ECE"]]
    for score in made.scores:
        rows.append([f"{score['head']} ({score['split']})", f"{score['n']:,}", f"{score['accuracy']:.1%}",
                     f"{score['ece']:.3f}"])  # fmt: skip
    print(columns(rows))
    print(f"model    {options.to}")
    return 0
