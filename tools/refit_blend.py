"""Give a shipped network another mixture, without training: share of the votes, how much of the prior is taken out.

    python tools/refit_blend.py src/mien/models/mien fer2013.csv --blend 0.65 --logit-adjustment 0.75

Temperature and threshold of the mixture are fitted on the validation faces of the data, to the float32 network's
answers as at the end of a training with these settings, and scored there in the form that people run. model.json,
CARD.md and what the network files say of themselves are written anew. No weight changes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from mien.data import open_dataset
from mien.model.classifier import Classifier
from mien.model.metadata import Metadata
from mien.model.preprocess import to_model_inputs
from mien.model.views import AUTO, WORDS, Inputs, Probabilities, average, chosen
from mien.train.calibrate import blended, favourite_score, favourites, planned
from mien.train.config import TrainConfig
from mien.train.export.card import rewrite_metadata


def main() -> None:
    """Rewrite the model folder that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--blend", type=float, required=True)
    parser.add_argument("--logit-adjustment", type=float, required=True)
    options = parser.parse_args()
    config = TrainConfig(blend=options.blend, logit_adjustment=options.logit_adjustment)
    print(
        rewrite_metadata(
            options.model, lambda metadata, folder: refitted(metadata, folder, options.data, config)
        ).blend
    )


def refitted(metadata: Metadata, folder: Path, data: Path, config: TrainConfig) -> Metadata:
    """Return the metadata with another mixture, fitted to the answers of the folder's float32 network."""
    dataset = open_dataset(data)
    split = dataset.split("validation")
    assert split.votes is not None and len(metadata.heads) == 2, "a mixture needs a votes head, and votes"
    faces = [split.pictures.read(place) for place in range(len(split))]
    answers = Classifier(folder, "float32").predict(faces)
    # What the network answers is calibrated already.
    heads = [replace(head, temperature=1.0, smoothing=0.0) for head in metadata.heads]
    labels = {head.name: head.labels for head in heads}
    plan = planned(labels, config.blend, config.logit_adjustment, dataset.split("train"))
    blend, _ = blended(heads, [answers[name] for name in labels], split, plan, dataset.name)
    assert blend is not None
    known, favourite = favourites(split.votes, heads[1].labels, blend.labels)
    ships = Classifier(folder)

    def mixture(inputs: Inputs) -> Probabilities:
        return {blend.name: blend.of(ships.probabilities(inputs), heads)}

    inputs, views = to_model_inputs(faces, metadata.preprocess), chosen(AUTO, metadata)
    used = average(mixture, inputs, views)[blend.name][known]
    score = favourite_score(used, favourite, dataset.name) | {"views": WORDS[views]}
    settings = {
        **metadata.training["settings"],
        "blend": config.blend,
        "logit_adjustment": config.logit_adjustment,
    }
    kept = tuple(one for one in metadata.scores if one["head"] != blend.name)
    training = {**metadata.training, "settings": settings}
    return replace(metadata, blend=blend, training=training, scores=(*kept, score))


if __name__ == "__main__":
    main()
