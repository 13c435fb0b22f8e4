"""`mien evaluate-detector`: photographs with face boxes in, a table of face detectors out."""

from __future__ import annotations

import argparse
from pathlib import Path

from mien.cli.inputs import new_folder
from mien.detect.evaluate import DetectorEvaluation
from mien.settings import add_settings, from_options
from mien.terminal import ProgressBar

HELP = "Measure face detectors on photographs with face boxes: recall by size, false positives, landmarks, speed."
EXAMPLES = """examples:
  mien evaluate-detector faces                                       the one that ships
  mien evaluate-detector faces --detectors runs/faces-detector/detector,mien,haar    several in one table
  mien evaluate-detector faces --detectors haar --limit 100 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="folder with labels.jsonl and the photographs or their archives",
    )
    parser.add_argument(
        "--to",
        type=new_folder,
        metavar="DIR",
        help="report folder: table, values, sheets of the worst (default: none)",
    )
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_settings(parser, DetectorEvaluation)


def run(options: argparse.Namespace) -> int:
    from mien.detect.evaluate import PAGE_FILE, evaluate_detectors, text_of, values_of

    config = from_options(DetectorEvaluation, options)
    bar = ProgressBar(quiet=options.quiet)
    report = evaluate_detectors(options.data, config, options.to, bar.stage)
    bar.end()
    if options.json:
        import json

        print(json.dumps(values_of(report.measured), indent=2))
        return 0
    print(text_of(report.measured, config.false_positives))
    if options.to:
        print(f"report   {options.to / PAGE_FILE}")
    return 0
