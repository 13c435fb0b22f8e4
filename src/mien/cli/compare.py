"""`mien compare`: several networks on the same faces, in one table and one picture."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from mien.cli.inputs import new_folder
from mien.evaluate.compare import CompareConfig
from mien.files import check_replaceable, check_writable, plain_name
from mien.images.marks import taken_note
from mien.settings import add_settings, from_options, given
from mien.terminal import ProgressBar
from mien.train.config import TrainConfig

HELP = "Train or load several networks and compare them: accuracy, calibration, size, speed, in one table."
EXAMPLES = """examples:
  mien compare faces runs/faces-small other.onnx     trained models
  mien compare faces --networks small,lenet5         trained first; finished runs are loaded
  mien compare fer2013.csv --recipes default,lenet5 --epochs 5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="folder, CSV or table of labelled faces")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="runs, model folders or network files")
    parser.add_argument(
        "--to", type=new_folder, metavar="DIR", help="folder of the comparison (default: comparison-DATA)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where trainings go (default: runs)"
    )
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_settings(parser, CompareConfig)


def run(options: argparse.Namespace) -> int:
    from mien.evaluate.compare import compare
    from mien.evaluate.render import (
        COMPARISON_JSON,
        COMPARISON_PAGE,
        comparison_text,
        own_place,
        write_comparison,
    )

    config = from_options(CompareConfig, options)
    wanted = options.to or Path(f"comparison-{plain_name(options.data)}")
    # Now rather than after minutes of training.
    if options.to:
        check_replaceable(options.to, "a comparison", COMPARISON_JSON)
    check_writable(wanted.parent)
    models = [*options.models, *_trained(options, config)]
    bar = ProgressBar(quiet=options.quiet)
    command = shlex.join(["mien", *sys.argv[1:]])
    found = compare(models, options.data, config=config.evaluation(), command=command, progress=bar.stage)
    bar.end()
    out = options.to or own_place(wanted, found)
    write_comparison(found, out)
    if note := taken_note(wanted, out):
        print(f"mien: {note}", file=sys.stderr)
    if options.json:
        print(found.to_json())
        return 0
    print(comparison_text(found))
    print(found.headline())
    for note in found.notes:
        print(f"note     {note}")
    print(f"page     {out / COMPARISON_PAGE}")
    return 0


def _trained(options: argparse.Namespace, config: CompareConfig) -> list[Path]:
    if not (config.networks or config.recipes):
        return []
    from mien.evaluate.compare import train_several

    return train_several(
        options.data,
        options.runs,
        networks=config.networks,
        recipes=config.recipes,
        asked=given(TrainConfig, options),
        show=ProgressBar(quiet=options.quiet),
    )
