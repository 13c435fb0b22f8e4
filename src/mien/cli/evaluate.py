"""`mien evaluate`: a trained network and labelled faces in, a report out."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from mien.cli.inputs import new_folder
from mien.evaluate.config import EvaluateConfig
from mien.files import check_writable, joined_paths, plain_name
from mien.images.marks import taken_note
from mien.model.folder import SETTINGS_FILE
from mien.settings import add_settings, from_options
from mien.terminal import ProgressBar

HELP = "Score a trained network on labelled faces: figures with intervals, calibration, mistakes, a page."
EXAMPLES = """examples:
  mien evaluate runs/faces-small faces            a run; its test pictures, or validation where there are none
  mien evaluate model.onnx faces --tta flip     mean of each face and its mirror image
  mien evaluate runs/faces-small faces --split validation --json
  mien evaluate other.h5 faces --labels angry,happy,sad --input-range 0,1   a network that mien did not train
"""

_IN_NAMES = ("split", "head", "tta", "faces", "precision")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="run, model folder, shipped model, or .keras, .h5 or .onnx file"
    )
    parser.add_argument(
        "data",
        type=Path,
        nargs="+",
        metavar="DATA",
        help="folder, CSV, table or archive of labelled faces; several are combined",
    )
    parser.add_argument(
        "--to",
        type=new_folder,
        metavar="DIR",
        help="report folder (default: report-DATA in a run, otherwise in the current directory; what --split, --head, "
        "--tta, --faces and --precision ask for stands behind it)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_settings(parser, EvaluateConfig)


def run(options: argparse.Namespace) -> int:
    from mien.evaluate.evaluate import evaluate
    from mien.evaluate.render import REPORT_PAGE, own_place, write_report

    options.data = joined_paths(options.data)
    config = from_options(EvaluateConfig, options)
    wanted = options.to or default_out(options.model, options.data, config)
    check_writable(wanted.parent)  # now rather than after minutes of scoring
    bar = ProgressBar(quiet=options.quiet)
    command = shlex.join(["mien", *sys.argv[1:]])
    report = evaluate(
        options.model, options.data, config=config, to=options.to, command=command, progress=bar.stage
    )
    bar.end()
    out = options.to
    if out is None:
        out = own_place(wanted, report)
        write_report(report, out)
        if note := taken_note(wanted, out):
            print(f"mien: {note}", file=sys.stderr)
    if options.json:
        print(report.to_json())
        return 0
    print(report.headline())
    for note in report.notes:
        print(f"note     {note}")
    print(f"report   {out / REPORT_PAGE}")
    return 0


def default_out(model: str, data: Path, config: EvaluateConfig) -> Path:
    """Return RUN/report-DATA for a run, else report-MODEL-DATA in the folder where one stands.

    What the user chose that gives other figures stands behind it: a report on one split replaces none on another.
    """
    plain = EvaluateConfig()
    chosen = [
        str(getattr(config, name)) for name in _IN_NAMES if getattr(config, name) != getattr(plain, name)
    ]
    behind = "-".join([plain_name(data), *chosen])
    if (Path(model) / SETTINGS_FILE).is_file():
        return Path(model) / f"report-{behind}"
    return Path(f"report-{plain_name(Path(model))}-{behind}")
