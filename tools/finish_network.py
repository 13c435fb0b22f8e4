"""Make a model folder of weights that were trained elsewhere: calibrated on validation, exported, in int8 as well.

    python tools/finish_network.py mien.npz fer2013.csv --recipe mien --network slim --size 48 --margin 1 --to model \
        --how "tools/distil.py"

WEIGHTS is an .npz of arrays by Keras path, as `tools/train_on_gpu.py` and `tools/distil.py` write it; of several, one
of which was trained on from the other, the mean is taken (Wortsman et al. 2022, arXiv:2203.05482). Network, size,
margin and mixture come from the recipe, unless they are named. --how is recorded in model.json: what trained the
weights. Afterwards `tools/refit_blend.py` tries other mixtures, `tools/fit_cover.py` lets the network tell what covers
a face, and `tools/fit_quality.py` fits how much less sure it should be of covered, small and doubtful faces.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from distil import load_weights
from mien.data import open_dataset
from mien.evaluate.evaluate import evaluate
from mien.files import whole_folder
from mien.model.folder import INT8_FILE, read_model_folder
from mien.model.metadata import Head, Metadata
from mien.model.preprocess import Preprocess
from mien.train import backend, run_folder
from mien.train.calibrate import calibrated_metadata
from mien.train.recipes import config_from, load_recipe
from mien.train.start import heads_for


def main() -> None:
    """Write the model folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", help="file, or several with commas between them")
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="mien")
    parser.add_argument("--network", help="another than the recipe's")
    parser.add_argument("--size", type=int, help="another than the recipe's, pixels a side")
    parser.add_argument("--margin", type=float, help="another than the recipe's, times the face box")
    parser.add_argument("--name", help="another than the recipe's")
    parser.add_argument(
        "--int8-only", action="store_true", help="leave out the float32 form, four times as large"
    )
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--how", required=True)
    options = parser.parse_args()
    others = {name: getattr(options, name) for name in ("network", "size", "margin")}
    given = {name: value for name, value in others.items() if value is not None}
    config = config_from(load_recipe(options.recipe), given).cutting_like(None)
    dataset = open_dataset(options.data, config)
    config = config.for_pictures(len(dataset.split("train")))
    backend.prepare(config)

    from mien.train.classifier_loop import predict
    from mien.train.export.card import record_scores
    from mien.train.export.folder import export
    from mien.train.export.int8 import add_int8
    from mien.train.loader import Inputs
    from mien.train.networks import network
    from mien.train.networks.spec import NetworkRequest

    heads = heads_for(dataset, config)
    spec = network(config.network)
    how = Preprocess(
        size=config.size or spec.preprocess.size,
        resize=config.resize,
        colour=config.colour or spec.preprocess.colour,
        margin=config.margin or 1.0,
    )
    built = spec.build(NetworkRequest(heads=heads, preprocess=how, dropout=config.dropout, l2=config.l2))
    several = []
    for file in options.weights.split(","):
        load_weights(built, Path(file))
        several.append(built.get_weights())
    built.set_weights([np.mean(one, axis=0) for one in zip(*several, strict=True)])
    metadata = Metadata(
        name=options.name or options.recipe,
        preprocess=how,
        heads=tuple(Head(name=name, labels=labels) for name, labels in heads.items()),
        network={"name": built.name},
        training={
            **run_folder.described(config, dataset, Path(options.data.name)),  # no path of this machine ships
            "command": options.how,
            "versions": backend.versions(),
        },
        licences={"data": "as its owners state; no picture is part of this model"},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    answers = predict(built, Inputs(dataset.split("validation"), how))
    metadata = calibrated_metadata(
        metadata, answers, dataset, share=config.blend, adjustment=config.logit_adjustment
    )
    export(built, options.to, metadata)
    if config.int8:
        found, kept = add_int8(
            options.to, dataset.split("train"), dataset.split("validation"), seed=config.seed
        )
        print(f"int8: {100 * found.lost:+.2f} points lost, {'kept' if kept else 'not kept'}")
        if options.int8_only and kept:
            int8_alone(options.to)
    report = evaluate(options.to, options.data)
    record_scores(options.to, report.recorded())
    print(report.headline())


def int8_alone(folder: Path) -> None:
    """Take the float32 form out of a model folder."""
    from mien.train.export.card import describe

    metadata = read_model_folder(folder).metadata
    with whole_folder(folder) as temporary:
        shutil.copyfile(folder / INT8_FILE, temporary / INT8_FILE)
        network = {name: value for name, value in metadata.network.items() if name != "bytes"}
        describe(temporary, replace(metadata, network=network))


if __name__ == "__main__":
    main()
