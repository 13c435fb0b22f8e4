"""What a training starts from: its pictures, and a network of ours, a backbone of others, or a trained network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mien.data import open_dataset
from mien.data.crops import crop_faces, stored_faces, with_margin
from mien.data.dataset import Dataset
from mien.data.pictures import fingerprints_of
from mien.errors import ConfigError, ModelError
from mien.labels import FER2013, FERPLUS
from mien.model.folder import BEST_FILE, METADATA_FILE, MODEL_FOLDER, model_path, read_model_folder
from mien.model.metadata import KERAS_SUFFIXES, Metadata
from mien.model.preprocess import Preprocess
from mien.terminal import ProgressBar, counted
from mien.train import run_folder
from mien.train.config import TrainConfig


@dataclass(frozen=True)
class Faces:
    """The pictures of a training. detector: facts about the one that cut them out; cut, lost: pictures.

    stored: how many are faces of a face set, which were found before.
    """

    dataset: Dataset
    detector: Mapping[str, Any] = field(default_factory=dict)
    cut: int = 0
    lost: tuple[str, ...] = ()
    stored: int = 0


def opened(config: TrainConfig, data: Path, show: ProgressBar) -> Faces:
    """Open DATA as the settings say, faces cut out where they ask for it; say what was left out."""
    config = config.cutting_like(None)
    assert config.detector is not None
    assert config.margin is not None
    dataset = open_dataset(data, config, carve_validation=not config.folds)
    for bad in dataset.unreadable:
        show.line(f"cannot be read, left out: {bad.name}: {bad.reason}")
    dataset = with_margin(dataset, config.margin)
    stored = sum(int(stored_faces(split.pictures).sum()) for split in dataset.splits.values())
    if config.faces == "whole" or stored == sum(map(len, dataset.splits.values())):
        return Faces(dataset, stored=stored)
    from mien.detect.registry import open_detector

    found = open_detector(config.detector, Path(config.detector_file) if config.detector_file else None)
    cropped, lost = crop_faces(dataset, found, config.margin)
    for name in lost:
        show.line(f"no face found, left out: {name}")
    cut = sum(map(len, cropped.splits.values())) - stored
    return Faces(cropped, dict(found.metadata), cut, lost, stored)


def limited(dataset: Dataset, config: TrainConfig) -> Dataset:
    """Return the data with as many training pictures as the settings want, drawn with the seed."""
    train_split = dataset.split("train")
    if config.limit is None or config.limit >= len(train_split):
        return dataset
    drawn = np.random.default_rng(config.seed).permutation(len(train_split))[: config.limit]
    return replace(dataset, splits={**dataset.splits, "train": train_split.take(np.sort(drawn))})


def learnt_before(config: TrainConfig) -> dict[str, Path]:
    """Return the folders that say what the networks have learnt from which a training learns, by their names.

    Those of --from and of --teacher: what a teacher learnt of a held-out picture reaches its student by its answers to
    others (Mansurov et al. 2024, arXiv:2412.15255). One of which nobody knows what it learnt is left out.
    """
    models = [*([str(config.init_from)] if config.init_from else []), *config.teacher]
    return {model: run for model in models if (run := run_folder.run_of(model_path(model)))}


def noting_learnt(dataset: Dataset, config: TrainConfig) -> Dataset:
    """Note which held-out pictures were learnt by networks of --from and --teacher: scores on them would be too good.

    The report leaves them out. Raises ConfigError where nothing would be left to choose an epoch or to report on.
    """
    places = learnt_before(config)
    known = run_folder.learnt(*places.values())
    if not known:
        return dataset
    names = ", ".join(places)
    parts = ["train"] if config.folds else [name for name in dataset.splits if name != "train"]
    own = frozenset() if config.folds else frozenset(fingerprints_of(dataset.split("train").pictures).keys)
    notes, left = [], 0
    for name in parts:
        keys = fingerprints_of(dataset.split(name).pictures).keys
        count = sum(key in known and key not in own for key in keys)
        left += len(keys) - count
        what = "picture" if config.folds else f"{name} picture"
        if count:
            notes.append(
                f"leak: {names}, from which this training learns, has learnt {count:,} of "
                f"{counted(len(keys), what)} already; the report leaves them out"
            )
    if notes and not left:
        raise ConfigError(
            f"{names}, from which this training would learn, has learnt all {', '.join(parts)} pictures, so that "
            "nothing could say how good the new network is; add pictures, or name another network"
        )
    return replace(dataset, notes=(*dataset.notes, *notes))


@dataclass(frozen=True)
class Start:
    """The network that a training begins with, and what belongs to it.

    unfreeze: lets its heads and so many layers below them learn. kept: classes that the network it starts from knew
    already.
    """

    network: Any
    preprocess: Preprocess
    heads: dict[str, tuple[str, ...]]
    unfreeze: Callable[[int], None]
    kept: tuple[str, ...] = ()


def start(config: TrainConfig, heads: dict[str, tuple[str, ...]]) -> Start:
    """Build the network that the settings name, or start from a trained one."""
    from mien.train.networks import backbones, network
    from mien.train.networks.spec import NetworkRequest

    if config.init_from:
        return _from_trained(config, heads)
    spec = network(config.network)
    if not spec.several_heads:
        heads = dict(list(heads.items())[:1])
    own = spec.preprocess
    preprocess = replace(
        own,
        size=config.size or own.size,
        resize=config.resize,
        colour=config.colour or own.colour,
        margin=1.0 if config.margin is None else config.margin,
    )
    request = NetworkRequest(
        heads=heads, preprocess=preprocess, dropout=config.dropout, l2=config.l2, weights=config.weights
    )
    built = spec.build(request)
    if backbones.backbone_of(built) is None:
        idle = ("unfreeze",) if config.weights == "none" else ("unfreeze", "weights")
        _refuse_unused(config, idle, f"network {spec.name!r} has no backbone")
    _refuse_unused(config, ("input_range",), "it is about a network that --from names")
    return Start(built, preprocess, heads, lambda layers: backbones.unfreeze(built, layers))


def _refuse_unused(config: TrainConfig, names: tuple[str, ...], why: str) -> None:
    """Raise ConfigError where a setting is not as it is by default, in some phase, and would change nothing."""
    for name in names:
        default = getattr(TrainConfig, name)
        for value in (getattr(phase, name) for phase in config.in_phases()):
            if value != default:
                raise ConfigError(f"{name} is {value}, but {why}; leave {name} out")


def is_pretrained(config: TrainConfig) -> bool:
    """Say whether a training begins with a base that is trained already."""
    if config.init_from:
        return True
    if config.weights == "none" or config.network == TrainConfig.network:
        return False
    from mien.train import backend

    backend.import_keras()
    from mien.train.networks import network

    return network(config.network).pretrained


def _from_trained(config: TrainConfig, heads: dict[str, tuple[str, ...]]) -> Start:
    from mien.train import transfer

    old, metadata = transfer.open_to_start(str(config.init_from), config.input_range, config.colour)
    for name in ("size", "resize", "colour"):
        given, own = getattr(config, name), getattr(metadata.preprocess, name)
        if given not in (None, own):
            raise ConfigError(
                f"--{name} cannot change with --from: that network has {own or f'no {name}'}, got {given}; "
                f"leave --{name} out"
            )
    _refuse_unused(config, ("network", "weights", "l2"), "--from names the network, and it stays as it is")
    known = recorded_metadata(str(config.init_from)) is not None
    if known:
        _refuse_unused(config, ("input_range",), f"{config.init_from} says how its input is prepared")
    # Another program's network does not say how its faces were cut.
    if not known and config.margin is not None:
        metadata = replace(metadata, preprocess=replace(metadata.preprocess, margin=config.margin))
    if config.faces == "crop" and config.margin != metadata.preprocess.margin:
        raise ConfigError(
            f"the faces must be cut out as for the network that --from names, with --margin "
            f"{metadata.preprocess.margin:g}, got {config.margin:g}; leave --margin out"
        )
    new = transfer.with_new_heads(old, metadata, heads, config.dropout)
    kept = transfer.kept_classes(metadata, next(iter(heads.values())))
    return Start(
        new, metadata.preprocess, heads, lambda layers: transfer.unfreeze(new, heads, layers), tuple(kept)
    )


def heads_for(dataset: Dataset, config: TrainConfig) -> dict[str, tuple[str, ...]]:
    """Return the labels of each head by name: what the data says decides, never the name of a file.

    One head `expression` for the classes. Where the pictures are FER-2013's own, with the votes of FER+ beside their
    seven labels, two heads: `fer2013` for the labels and `votes` (unless votes_weight is 0).
    """
    votes = dataset.split("train").votes is not None and set(dataset.classes) == set(FER2013)
    if votes and config.votes_weight:
        return {"fer2013": dataset.classes, "votes": FERPLUS}
    return {"fer2013" if votes else "expression": dataset.classes}


def recorded_metadata(model: str) -> Metadata | None:
    """Return what a model says of itself, without loading its network; None for a file that mien did not write."""
    path = model_path(model)
    for folder in (path, path / MODEL_FOLDER):
        if (folder / METADATA_FILE).is_file():
            return read_model_folder(folder).metadata
    if (path / BEST_FILE).is_file():
        path = path / BEST_FILE
    if path.suffix == ".onnx":
        return _inside_onnx(path)
    if path.suffix not in KERAS_SUFFIXES or not path.is_file():
        return None
    from mien.train import backend

    backend.import_keras()
    from mien.train.export.keras_io import stored_metadata

    return stored_metadata(path)


def _inside_onnx(path: Path) -> Metadata | None:
    from mien.model.classifier import Classifier

    try:
        return Classifier(path).metadata
    except ModelError:  # of another program, or damaged: whoever opens it says which
        return None
