"""`mien train`: labelled faces in, a run folder with a trained network, a report and a model folder out."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mien.cli.inputs import new_folder
from mien.data.dataset import DataConfig
from mien.errors import ConfigError
from mien.files import joined_paths, separate_paths, shell_word
from mien.settings import add_settings, given, to_options
from mien.terminal import ProgressBar, clock, counted
from mien.train.config import TrainConfig
from mien.train.recipes import config_from, default_run, load_recipe, recipe_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mien.train.run import Run

HELP = "Train a network on labelled faces; the same command resumes or loads it."
EXAMPLES = """examples:
  mien train faces                                  folders of pictures, one a class
  mien train fer2013.csv --recipe fer2013-cnn       one of the originals, as it was
  mien train photos --from runs/faces-small         start from a trained network
  mien train faces --folds 5                        a small set: accuracy over every picture, network on all
  mien train faces --time-limit 90m                 plan the epochs to fit
  mien train --list                                 recipes and networks
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        type=Path,
        nargs="*",
        metavar="DATA",
        help="folder, CSV, table or archive of labelled faces; several are combined",
    )
    parser.add_argument("--recipe", metavar="NAME", help="settings by name, or a recipe file of your own")
    parser.add_argument(
        "--to",
        type=new_folder,
        metavar="RUN",
        help="run folder (default: runs/DATA-RECIPE-SETTINGS)",
    )
    parser.add_argument(
        "--retrain", action="store_true", help="train again where a finished run lies, replacing it"
    )
    parser.add_argument("--no-report", action="store_true", help="leave the report out")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--list", action="store_true", help="list recipes and networks, and do nothing else")
    hosts = parser.add_argument_group("several hosts (JAX; see docs/training.md)")
    hosts.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="host 0's address; auto: as Slurm, Open MPI or Kubernetes say",
    )
    hosts.add_argument("--hosts", type=int, metavar="N", help="how many hosts train together")
    hosts.add_argument(
        "--host", type=int, metavar="I", help="which of them this is, from 0; host 0 writes the run"
    )
    add_settings(parser, TrainConfig)


def run(options: argparse.Namespace) -> int:
    if options.list:
        return _list()
    if not options.data:
        raise ConfigError(
            "which faces? Give a folder, a CSV or a table: mien train DATA; see mien train --help"
        )
    options.data = joined_paths(options.data)
    asked = given(TrainConfig, options)
    name = options.recipe or ("fine-tune" if asked.get("init_from") else None)
    recipe = load_recipe(name) if name else None
    config = config_from(recipe, asked)
    out = options.to or default_run(options.data, config, recipe, asked)
    from mien.train.hosts import joined

    with joined(options.coordinator, options.hosts, options.host):
        return _train(options, config, out)


def _train(options: argparse.Namespace, config: TrainConfig, out: Path) -> int:
    from mien.train import hosts, run_folder
    from mien.train.run import train

    show = ProgressBar(quiet=options.quiet or not hosts.is_first())
    command = shlex.join(["mien", *sys.argv[1:]])
    done = train(config, options.data, out, retrain=options.retrain, command=command, show=show)
    if not hosts.is_first():
        print(f"{hosts.named()} has done its part; host 0 writes the run")
        return 0
    if done.trained:
        count, best = done.progress.epoch, done.progress.best_epoch
        print(f"trained {counted(count, 'epoch')} in {clock(done.progress.seconds)}, best {best}")
    else:
        print(f"{out} is trained already with these settings; --retrain trains again")
    report = out / run_folder.REPORT_FOLDER / "report.html"
    if not options.no_report and (done.trained or not report.exists()):
        _report(done, options.data)
    print(f"run      {out}")
    if report.exists():
        print(f"report   {report}")
    print(f"model    {done.model}")
    for place, line in enumerate(_next(done.config, options.data, out)):
        print(f"{'' if place else 'next':9}{line}")
    return 0


def _next(config: TrainConfig, data: Path, out: Path) -> Iterator[str]:
    """Yield the commands to try next and what they do; what reads the data reads it as the training did."""
    from mien.data.readers.face_sets import is_face_set

    model = f"--model {shell_word(out)}"
    yield f"mien predict PHOTO.jpg {model}    finds and names the faces in a picture, or a whole folder"
    if config.faces != "crop" or is_face_set(data):  # `mien data` looks at whole pictures
        parts = " ".join(map(shell_word, separate_paths(data)))
        reading = "".join(f" {shlex.quote(word)}" for word in to_options(config, DataConfig))
        yield f"mien data {parts} --label-errors {model}{reading}    finds labels that are most likely wrong"


def _report(run: Run, data: Path) -> None:
    """Score the exported model, and let its card say how good it is."""
    from mien.evaluate.config import EvaluateConfig
    from mien.evaluate.evaluate import evaluate
    from mien.train.export.card import record_scores
    from mien.train.run_folder import OUT_OF_FOLD, REPORT_FOLDER

    config = EvaluateConfig.reading_as(run.config)
    if run.config.folds:
        config = replace(config, split=OUT_OF_FOLD)
    report = evaluate(run.folder, data, config=config, to=run.folder / REPORT_FOLDER)
    record_scores(run.model, report.recorded())
    print(report.headline())


def _list() -> int:
    print("recipes (mien train DATA --recipe NAME):")
    for name in recipe_names():
        print(f"  {name:24} {load_recipe(name).description}")
    print("networks (mien train DATA --network NAME):")
    from mien.train import backend

    backend.import_keras()
    from mien.train.networks import backbones, own_networks

    for name, network in own_networks().items():
        print(f"  {name:24} {network.source}")
    print("  and the backbones of keras.applications:")
    print(textwrap.fill(", ".join(backbones.names()), 100, initial_indent="  ", subsequent_indent="  "))
    return 0
