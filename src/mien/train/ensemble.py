"""Several networks as one: a model folder whose network answers with the mean of its members, calibrated as a whole.

The members' graphs are put side by side into one (Hansen & Salamon 1990; deep ensembles: Lakshminarayanan et al. 2017,
arXiv:1612.01474), so the folder is used like any other, and as a teacher. It costs what its members cost together.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from mien.data.dataset import Dataset
from mien.data.pictures import fingerprints_of
from mien.errors import ConfigError
from mien.files import separate_paths
from mien.model.folder import model_path
from mien.model.metadata import Head, Metadata
from mien.model.preprocess import Preprocess
from mien.settings import from_mapping
from mien.terminal import ProgressBar, counted
from mien.train import run_folder
from mien.train.calibrate import calibrated_metadata
from mien.train.classifier_loop import predict
from mien.train.config import TrainConfig
from mien.train.export.folder import export
from mien.train.loader import Inputs
from mien.train.start import heads_for, opened
from mien.train.transfer import columns_of, open_network

_LEAST = 1e-8  # added to probabilities before their logarithm


@dataclass(frozen=True, eq=False)
class _Member:
    """A network, and what its answers mean. name: as the user called it."""

    name: str
    network: keras.Model
    metadata: Metadata


def make_ensemble(
    models: Sequence[str],
    out: Path,
    *,
    data: Path | None = None,
    command: str = "",
    show: ProgressBar | None = None,
) -> Metadata:
    """Write the model folder `out`, which averages the models; returns what its model.json says.

    models: two or more runs, model folders or files of mien that know the same classes. data: labelled faces, whose
    validation part it is calibrated on; unset: what the first model was trained on, read as then. Raises ConfigError
    where the models do not fit together, and the errors of opening, reading and exporting.
    """
    show = show or ProgressBar(quiet=True)
    keras.config.set_dtype_policy("float32")  # whatever was trained before in this process
    if len(set(models)) < 2:
        raise ConfigError("an ensemble needs two or more different models; name them one after the other")
    members = [_Member(model, *open_network(model)) for model in models]
    _check_different(members)
    trained = members[0].metadata.training
    config = _config_of(trained)
    runs = [run for model in models if (run := run_folder.run_of(model_path(model)))]
    known = run_folder.learnt(*runs)
    dataset = _held_out(opened(config, data or _data_of(members[0]), show).dataset, known, show)
    network, metadata = combine(members, dataset, config)
    split = dataset.split("validation")
    answers = predict(network, Inputs(split, metadata.preprocess))
    metadata = replace(
        metadata,
        name=out.name,
        training={
            "ensemble": [member.metadata.name for member in members],
            "settings": trained.get("settings", {}),
            "data": trained.get("data", {}),
            "command": command,
        },
        licences=members[0].metadata.licences,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    metadata = calibrated_metadata(
        metadata, answers, dataset, share=config.blend, adjustment=config.logit_adjustment
    )
    export(network, out, metadata)
    # So that nobody scores it on them; half of it would let the other half be scored.
    if len(runs) == len(models):
        run_folder.write_seen(
            out,
            {"train": sorted(known), "validation": fingerprints_of(split.pictures).keys},
            run_folder.seen_sources(*runs),
        )
    return metadata


def _check_different(members: Sequence[_Member]) -> None:
    """Raise ConfigError where two are one network: a run and its model folder, or a copy, would count twice."""
    known: dict[tuple[bytes, ...], str] = {}
    for member in members:
        arrays = map(keras.ops.convert_to_numpy, member.network.weights)
        # Sorted, because a network that is read from ONNX may name its weights in another order.
        weights = tuple(
            sorted(hashlib.sha256(np.ascontiguousarray(one).tobytes()).digest() for one in arrays)
        )
        if weights in known:
            raise ConfigError(f"{known[weights]} and {member.name} are one network; name each network once")
        known[weights] = member.name


def _held_out(dataset: Dataset, known: frozenset[bytes], show: ProgressBar) -> Dataset:
    """Leave the pictures out of validation that a member has learnt: on those it is surer than it should be.

    Members need not have set the same ones aside. Raises ConfigError where none are left.
    """
    split = dataset.split("validation")
    rows = np.flatnonzero([key not in known for key in fingerprints_of(split.pictures).keys])
    if not len(rows):
        raise ConfigError(
            f"the models have learnt all of {counted(len(split), 'validation picture')} of {dataset.source}, "
            "so that nothing says how sure they are together; name other labelled faces with --data"
        )
    if len(rows) < len(split):
        show.line(
            f"note      left out, as a member was trained on them: {len(split) - len(rows):,} of "
            f"{counted(len(split), 'validation picture')}"
        )
    return replace(dataset, splits={**dataset.splits, "validation": split.take(rows)})


def combine(
    members: Sequence[_Member], dataset: Dataset, config: TrainConfig
) -> tuple[keras.Model, Metadata]:
    """Return one network over all members, not calibrated, with the heads for this data that every member knows."""
    how = _common([member.metadata.preprocess for member in members])
    columns = {
        name: [_answer(member, labels) for member in members]
        for name, labels in heads_for(dataset, config).items()
    }
    first = next(iter(columns))
    for member, found in zip(members, columns[first], strict=True):
        if found is None:
            raise ConfigError(
                f"{member.name} does not know all of {', '.join(dataset.classes)}; an ensemble's members answer alike"
            )
    faces = keras.Input(how.shape, name="faces")
    answers: list[list[Any]] = []
    for number, member in enumerate(members, start=1):
        network = keras.Model(member.network.inputs, member.network.outputs, name=f"member{number}")
        network.trainable = False
        given = network(_prepared(faces, how, member.metadata.preprocess, number))
        answers.append(list(given) if isinstance(given, list | tuple) else [given])
    outputs, heads = [], []
    for name, told in columns.items():
        known = [one for one in told if one is not None]
        if len(known) < len(told):
            continue  # such as the votes, where one member never learnt them
        labels = heads_for(dataset, config)[name]
        chosen = [
            _chosen(answers[number][place], order, f"{name}_of{number + 1}")
            for number, (place, order) in enumerate(known)
        ]
        mean = layers.Average(name=f"{name}_mean")(chosen)
        # softmax(log p) is p again: a network ends in a softmax, before which its temperature is put at export.
        logits = keras.ops.log(layers.Rescaling(1.0, offset=_LEAST, name=f"{name}_positive")(mean))
        outputs.append(layers.Softmax(dtype="float32", name=name)(logits))
        heads.append(Head(name=name, labels=labels))
    model = keras.Model(faces, outputs[0] if len(outputs) == 1 else outputs, name="ensemble")
    return model, Metadata(name="ensemble", preprocess=how, heads=tuple(heads), network={"name": "ensemble"})


def _answer(member: _Member, labels: tuple[str, ...]) -> tuple[int, list[int]] | None:
    heads = member.metadata.heads
    names = list(member.network.output_names) if len(heads) > 1 else [heads[0].name]
    return columns_of(heads, labels, {name: place for place, name in enumerate(names)})


def _chosen(answer: Any, columns: list[int], name: str) -> Any:
    """Put the columns of an answer into the common order, with a fixed matrix where they are not in it already."""
    count = answer.shape[-1]
    if columns == list(range(count)):
        return answer
    kernel = np.zeros((count, len(columns)), np.float32)
    kernel[columns, range(len(columns))] = 1
    order = layers.Dense(len(columns), use_bias=False, trainable=False, dtype="float32", name=name)
    found = order(answer)
    order.set_weights([kernel])
    return found


def _common(hows: Sequence[Preprocess]) -> Preprocess:
    """Return the input that has all that any member looks at: the largest side, and colour where one uses it."""
    margins = {how.margin for how in hows}
    if len(margins) > 1:
        raise ConfigError(
            f"the members cut faces out with different margins ({', '.join(f'{one:g}' for one in sorted(margins))}); "
            "train them with one --margin"
        )
    if all(how == hows[0] for how in hows):
        return hows[0]
    side = max(how.resize or how.size for how in hows)
    colour = "grey" if all(how.colour == "grey" for how in hows) else "rgb"
    return Preprocess(size=side, colour=colour, margin=hows[0].margin)


def _prepared(faces: Any, common: Preprocess, own: Preprocess, number: int) -> Any:
    """Turn the common input into a member's: colour, scale, centre."""
    x = _coloured(faces, common.colour, own.colour, number)
    if common.resize:  # all members are alike and take the input as it is
        return x
    side = own.resize or own.size
    if side != common.size:
        x = layers.Resizing(side, side, name=f"resize{number}")(x)
    if cut := (side - own.size) // 2:
        rest = side - own.size - cut
        x = layers.Cropping2D(((cut, rest), (cut, rest)), name=f"centre{number}")(x)
    return x


def _coloured(faces: Any, common: str, own: str, number: int) -> Any:
    if common == own:
        return faces
    # The other way round there is nothing to do: a grey input is that of grey members alone.
    if own == "grey":
        kernel: NDArray[np.float32] = np.array([[0.299], [0.587], [0.114]], np.float32)
    else:
        kernel = np.eye(3, dtype=np.float32)[::-1]
    fixed = layers.Conv2D(
        kernel.shape[1], 1, use_bias=False, trainable=False, dtype="float32", name=f"colour{number}"
    )
    x = fixed(faces)
    fixed.set_weights([kernel[None, None]])
    return x


def _config_of(training: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that a model was trained with, as far as this version knows them."""
    stored = training.get("settings")
    known = TrainConfig.__dataclass_fields__
    said = stored if isinstance(stored, Mapping) else {}
    values = {name: value for name, value in said.items() if name in known and name != "folds"}
    return from_mapping(TrainConfig, values, "the settings of the first model")


def _data_of(member: _Member) -> Path:
    about = member.metadata.training.get("data")
    path = about.get("path") if isinstance(about, Mapping) else None
    if not path:
        raise ConfigError(
            f"{member.name} does not say what it was trained on; name labelled faces with --data"
        )
    if lacking := [part for part in separate_paths(Path(path)) if not part.exists()]:
        raise ConfigError(
            f"{member.name} was trained on {lacking[0]}, which is not there; name labelled faces with --data"
        )
    return Path(path)
