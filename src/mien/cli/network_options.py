"""Which network and which face finder: the options that all commands on pictures share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mien.predict.analyzer import Analyzer


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which network and which face finder to use."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="shipped model, run folder, model folder, or .onnx file of mien (default: mien)",
    )
    parser.add_argument(
        "--head", metavar="NAME", help="which answer of the network (default: its own choice)"
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "int8"),
        help="form of the network (default: auto, the int8 form where there is one)",
    )
    add_finder_options(parser, "auto")


def add_finder_options(parser: argparse.ArgumentParser, default: str | None, said: str = "auto") -> None:
    """Add what says which face finder to use. said: the default in words, for help."""
    parser.add_argument(
        "--detector",
        default=default,
        metavar="NAME",
        help="face finder: auto (yunet where its file is, otherwise haar), yunet, haar, or whole (each picture is "
        f"one face) (default: {said})",
    )
    parser.add_argument(
        "--detector-file",
        type=Path,
        metavar="FILE",
        help="a YuNet file (default: $MIEN_YUNET, or the one in the folder for caches)",
    )


def open_analyzer(options: argparse.Namespace) -> Analyzer:
    """Load what `add_network_options` asked for; the face finder's note goes to stderr."""
    from mien.predict.analyzer import load

    analyzer = load(
        options.model,
        detector=options.detector,
        detector_file=options.detector_file,
        head=options.head,
        precision=options.precision,
    )
    if analyzer.detector.note:
        print(f"mien: {analyzer.detector.note}", file=sys.stderr)
    return analyzer
