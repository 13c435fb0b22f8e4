"""Our side: the pipeline and the loop that `mien train` runs.

Run by training_speed.py in a process of its own: `python our_side.py JOB FOLDER JSON`, and ends with JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from meter import EpochClock, metered, report
from mien.data import open_dataset
from mien.model.preprocess import Preprocess
from mien.train import loader
from mien.train.loader import Inputs, Loader
from networks import built, settings


def pipeline(folder: Path, options: dict[str, Any]) -> dict[str, float]:
    """Go once through the training pictures as an epoch does, without a network."""
    config = replace(settings(options["recipe"]), batch_size=options["batch_size"])
    how = Preprocess(size=options["size"], colour=options["colour"])
    if options["stream"]:
        loader.MEMORY_LIMIT = 0  # small numbers of pictures are to be read from disk as many would be
    costs: dict[str, float] = {}
    with metered(costs):
        dataset = open_dataset(folder, config)
        split = dataset.split("train")
        made = Loader(split, Inputs(split, how), (dataset.classes,), config)
    prepared = dict(costs)
    with metered(costs):
        seen = [len(batch.inputs) for batch in made.epoch(0, mix=False, class_weights=config.class_weights)]
    costs["pictures"] = sum(seen)
    costs["prepare_s"] = prepared["cpu_s"]
    costs["peak_growth_mib"] += prepared[
        "peak_growth_mib"
    ]  # what is held counts as well as what passes through
    return costs


def epoch(folder: Path, options: dict[str, Any]) -> dict[str, float]:
    """Train with the loop behind `mien train`, validation and state included. Costs of the last epoch."""
    from mien.terminal import ProgressBar
    from mien.train.classifier_loop import ClassifierLoop, Validation

    dataset = open_dataset(folder, settings(options["recipe"]))
    train, valid = dataset.split("train"), dataset.split("validation")
    network, config = built(options["recipe"], dataset.classes)
    config = replace(config, epochs=options["epochs"], phases=()).for_pictures(len(train))
    how = Preprocess(size=network.input_shape[1], colour="grey" if network.input_shape[-1] == 1 else "rgb")
    run = Path(tempfile.mkdtemp(dir=folder.parent))
    clock = EpochClock()
    ClassifierLoop(
        network,
        Loader(train, Inputs(train, how), (dataset.classes,), config),
        Validation(Inputs(valid, how), valid.labels),
        config,
        folder=run,
        on_best=lambda: network.save(run / "best.keras"),
        on_epoch=lambda _: clock.tick(),
        prepare_phase=lambda _: None,
        show=ProgressBar(quiet=True),
    ).run()
    return clock.last()


def hold(folder: Path, options: dict[str, Any]) -> dict[str, float]:
    """Hold the whole training set as `mien train` does."""
    how = Preprocess(size=options["size"], colour=options["colour"])
    costs: dict[str, float] = {}
    with metered(costs):
        split = open_dataset(folder, settings(options["recipe"])).split("train")
        inputs = Inputs(split, how)
    costs["pictures"] = len(inputs)
    return costs


if __name__ == "__main__":
    job = {"pipeline": pipeline, "epoch": epoch, "hold": hold}[sys.argv[1]]
    report(job(Path(sys.argv[2]), json.loads(sys.argv[3])))
