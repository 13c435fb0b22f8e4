"""Which network and which face detector: the options that all commands on pictures share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mien.model.metadata import KERAS_SUFFIXES
from mien.settings import add_settings
from mien.train.external_models import Description

if TYPE_CHECKING:
    from mien.predict.analyzer import Analyzer


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which network and which face detector to use."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="shipped model, run folder, model folder or .onnx file; or .keras or .h5, described below (default: mien)",
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
    parser.add_argument(
        "--prior",
        metavar="PRIOR",
        help="how often the expressions occur where the pictures are from: everyday (as in training), balanced, or "
        "shares such as happy=0.4,neutral=0.4 (default: everyday)",
    )
    add_detector_options(parser, "auto")
    add_settings(parser, Description)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add how photographs are searched for faces: see `mien.detect.search.PhotoSearch`."""
    parser.add_argument(
        "--detect-size",
        type=int,
        metavar="PX",
        help="longer side at which a picture is searched, tile by tile above 1280 (default: at most 1280)",
    )
    parser.add_argument(
        "--min-face",
        type=float,
        default=0.0,
        metavar="PX",
        help="leave out faces smaller than this (default: 0)",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="leave out faces of which the detector is less sure than this, 0 to 1 (default: 0)",
    )


def add_detector_options(parser: argparse.ArgumentParser, default: str | None, said: str = "auto") -> None:
    """Add what says which face detector to use. said: the default in words, for help."""
    parser.add_argument(
        "--detector",
        default=default,
        metavar="NAME",
        help="face detector: mien (ships with it), yunet, haar, whole (each picture is one face), or auto: what "
        f"--detector-file or $MIEN_YUNET names, otherwise that of the network's training, or mien (default: {said})",
    )
    parser.add_argument(
        "--detector-file",
        type=Path,
        metavar="FILE",
        help="a folder of mien train-detector, or a YuNet file (default: the one that ships; for yunet $MIEN_YUNET, or "
        "the one in the folder for caches)",
    )


def open_analyzer(options: argparse.Namespace, *, search: bool = False) -> Analyzer:
    """Load what `add_network_options` asked for. search: and `add_search_options`."""
    from mien.predict.analyzer import load

    names = ("detector", "detector_file", "head", "precision", "prior")
    searching = ("detect_size", "min_face", "min_score") if search else ()
    return load(adopted_model(options), **{name: getattr(options, name) for name in (*names, *searching)})


def adopted_model(options: argparse.Namespace) -> str | None:
    """Return the model, or a model folder of it where it is a file that mien did not save and that was described."""
    from mien.train.external_models import cached_folder, description, is_external, remembered

    given: str | None = options.model
    path = Path(given or "")
    if path.suffix not in (*KERAS_SUFFIXES, ".onnx") or not path.is_file():
        return given
    told = remembered(path, description(vars(options)))
    if not told.labels or (path.suffix == ".onnx" and not is_external(path)):
        return given
    return str(cached_folder(path, told))
