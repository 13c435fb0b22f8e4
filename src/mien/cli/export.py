"""`mien export`: a trained network becomes a model folder, or a file for other programs."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.cli.inputs import new_folder, real
from mien.data.dataset import DataConfig, Dataset
from mien.errors import ConfigError, need
from mien.model.folder import BEST_FILE, METADATA_FILE, MODEL_FOLDER, model_path, read_model_folder
from mien.model.metadata import Metadata
from mien.settings import add_settings, from_mapping, given, setting
from mien.train.external_models import LABELS_OF_BOTH, Description

if TYPE_CHECKING:
    from mien.evaluate.models import Match

HELP = "Write a trained network as a checked model folder, or as a LiteRT, .h5 or .keras file."
EXAMPLES = """examples:
  mien export runs/faces-small --to models/mine             model.onnx, model.json and CARD.md
  mien export runs/faces-small --to models/mine --int8 faces   with an int8 form, about three times faster
  mien export best.keras --to models/mine --name mine       from a bare file, under a name of its own
  mien export runs/faces-small --litert mine.tflite         for phones (needs the TensorFlow backend)
  mien export models/mine --keras mine.keras                back to a file that Keras opens
  mien export other.h5 --to models/other --labels angry,happy --input-range=-1,1    a network that mien did not save
"""


_FILES = {"litert": ".tflite", "h5": ".h5", "keras": ".keras"}  # option -> what it writes


@dataclass(frozen=True, kw_only=True)
class ExportConfig(DataConfig, Description):
    """How --int8 reads its DATA, and what is to be known of a network that mien did not save."""

    labels: tuple[str, ...] = setting((), LABELS_OF_BOTH)

    def _check_labels(self) -> None:
        """Words that are no pairs are the network's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="run folder, model folder, .keras, .h5 or .onnx file")
    parser.add_argument("--to", type=_model_folder, metavar="DIR", help="write a model folder here")
    parser.add_argument(
        "--int8",
        type=Path,
        metavar="DATA",
        help="with --to: also an int8 form, set up on the training faces of DATA and checked on its validation faces",
    )
    parser.add_argument("--name", help="name of the model in its card (default: the name that it has)")
    parser.add_argument(
        "--litert", type=Path, metavar="FILE", help="write a LiteRT file (.tflite), calibrated"
    )
    parser.add_argument("--h5", type=Path, metavar="FILE", help="write a .h5 file, not calibrated")
    parser.add_argument("--keras", type=Path, metavar="FILE", help="write a .keras file, not calibrated")
    add_settings(parser, ExportConfig)


def run(options: argparse.Namespace) -> int:
    if not (options.to or options.litert or options.h5 or options.keras):
        raise ConfigError(
            "export to what? Give --to DIR for a model folder, or --litert, --h5 or --keras with a FILE"
        )
    if options.int8 and not options.to:
        raise ConfigError("--int8 DATA is a form in a model folder; add --to DIR")
    _check_suffixes(options)
    run = options.to.parent if options.to and options.to.name == MODEL_FOLDER else None
    if run and (run / BEST_FILE).is_file() and real(run) != real(Path(options.model)):
        raise ConfigError(
            f"--to {options.to} is the model of the run {run}, as mien train wrote it; name another place"
        )
    need("onnx", "train", "exporting")
    from mien.train import backend

    backend.import_keras()
    from mien.train.external_models import description, is_external, remembered, to_folder
    from mien.train.transfer import open_network

    told = description(vars(options))
    if is_external(Path(options.model)):
        if not options.to or options.litert or options.h5 or options.keras:
            raise ConfigError(
                f"{options.model} was not saved by mien: it becomes a model folder only, with --to DIR"
            )
        model = Path(options.model)
        metadata = to_folder(model, options.to, remembered(model, told), options.name)
        print(f"model    {options.to}")
        if options.int8:
            _add_int8(options.to, *_int8_data(options, metadata))
        return 0
    network, metadata = open_network(options.model, told)
    metadata = _calibrated(Path(options.model), metadata)
    if options.name:
        metadata = replace(metadata, name=options.name)
    _write(options, network, metadata)
    return 0


def _model_folder(text: str) -> Path:
    for name, suffix in _FILES.items():
        if Path(text).suffix.lower() == suffix and not Path(text).is_dir():
            raise argparse.ArgumentTypeError(
                f"{text!r} is named like a file; such a file is written by --{name} {text}"
            )
    return new_folder(text)


def _check_suffixes(options: argparse.Namespace) -> None:
    """Refuse a file name that would be read as another format, before any work."""
    for name, suffix in _FILES.items():
        path = getattr(options, name)
        if path and path.suffix != suffix:
            raise ConfigError(f"--{name} must name a file that ends in {suffix}, got {path}")


def _calibrated(model: Path, metadata: Metadata) -> Metadata:
    """Prefer the metadata of a run's model folder: they have the temperatures and scores of the same network."""
    folder = model / MODEL_FOLDER
    return read_model_folder(folder).metadata if (folder / METADATA_FILE).is_file() else metadata


def _int8_data(options: argparse.Namespace, metadata: Metadata) -> tuple[Dataset, Match]:
    """Read the DATA of --int8, before anything is written: its classes may not be those of the model."""
    from mien.data import open_dataset
    from mien.evaluate.models import match_classes

    dataset = open_dataset(options.int8, data_config(options))
    return dataset, match_classes(metadata, dataset.classes, metadata.heads[0].name)


def data_config(options: argparse.Namespace) -> DataConfig:
    """Return how DATA is read; of --labels the pairs, as the other words are the labels of a network."""
    values = given(DataConfig, options)
    if "labels" in values:
        values["labels"] = tuple(word for word in values["labels"] if "=" in word)
    return from_mapping(DataConfig, values, "options")


def _add_int8(folder: Path, dataset: Dataset, match: Match) -> None:
    from mien.train.export.int8 import MOST_LOST, add_int8

    found, kept = add_int8(folder, dataset.split("train"), dataset.split("validation"), columns=match.columns)
    verdict = "kept" if kept else f"not kept, because it may lose {100 * MOST_LOST:g}"
    print(
        f"int8     {found.bytes / 1e3:,.0f} kB; loses {100 * found.lost:.2f} points on {found.n:,} validation faces: "
        f"{verdict}"
    )


def _write(options: argparse.Namespace, network: Any, metadata: Metadata) -> None:
    from mien.train.export.folder import export
    from mien.train.export.keras_io import save_network
    from mien.train.run_folder import pass_on_learnt

    if options.to:
        faces = _int8_data(options, metadata) if options.int8 else None
        export(network, options.to, metadata)
        pass_on_learnt(model_path(options.model), options.to)
        written = read_model_folder(options.to).metadata.network
        print(f"model    {options.to}")
        print(
            f"         {written['parameters']:,} parameters, {written['bytes'] / 1e3:,.0f} kB; ONNX Runtime "
            f"and Keras differ by at most {written['parity']['max_abs_difference']:.1g}"
        )
        if faces:
            _add_int8(options.to, *faces)
    if options.litert:
        from mien.train.export.litert import export_litert

        print(f"litert   {export_litert(network, options.litert, metadata)}")
    for path in (options.h5, options.keras):
        if path:
            print(f"{path.suffix[1:]:8} {save_network(network, path, metadata.uncalibrated())}")
