"""Learning from trained networks: starting from one (`--from`), or imitating some (`--teacher`).

`--from MODEL` takes a network, fits a new head, then the trunk. Teachers' answers are soft targets: knowledge
distillation (Hinton, Vinyals & Dean 2015, arXiv:1503.02531). They are asked once about each picture and its mirror
image; or in every epoch about the very variation that the student looks at (Beyer et al. 2022, arXiv:2106.05237).
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Split
from mien.data.pictures import fingerprints_of
from mien.errors import ConfigError, ModelError
from mien.files import read_arrays, write_arrays
from mien.labels import matching_place
from mien.model.calibration import with_temperature
from mien.model.folder import BEST_FILE, MODEL_FILE, is_model_folder, model_path
from mien.model.metadata import KERAS_SUFFIXES, Blend, Head, Metadata
from mien.model.preprocess import Preprocess
from mien.terminal import ProgressBar, clock, counted
from mien.train.export.keras_io import load_network, stored_metadata
from mien.train.export.onnx import keras_from_onnx
from mien.train.external_models import Description, adopt_keras, remember, remembered
from mien.train.loader import Batch, Inputs, taught
from mien.train.networks.backbones import LEVELS
from mien.train.networks.spec import heads_on
from mien.train.run_folder import TEACHERS_FILE, TEACHERS_PARTS

_PART = 2048  # pictures about which teachers are asked between two files: a kill loses no more
_ASKED = "asked"  # in TEACHERS_FILE: of whom, about what
_Predict = Callable[..., list[NDArray[np.float32]]]  # see `mien.train.classifier_loop.predict`


def open_network(model: str, told: Description | None = None) -> tuple[keras.Model, Metadata]:
    """Load a run folder, a model folder, the name of a shipped model, or a `.keras`, `.h5` or `.onnx` file.

    told: of a Keras file that mien did not save; None: what was told of it before. Raises ModelError for anything
    else, and for a file of which nobody said what its labels and input are.
    """
    path = model_path(model)
    if (path / BEST_FILE).is_file():
        path = path / BEST_FILE
    elif (path / MODEL_FILE).is_file():
        path = path / MODEL_FILE
    elif is_model_folder(path):
        raise ModelError(
            f"{path.name} has its int8 form alone: it answers, but cannot be trained on, teach, be joined or exported; "
            f"name mien, a run, or a model folder with a {MODEL_FILE}"
        )
    if path.suffix == ".onnx":
        return keras_from_onnx(path)
    network, metadata = load_network(path)
    if metadata is None:
        known = remembered(path, told)
        network, metadata, _ = adopt_keras(network, path, known)
        remember(path, known)
    return network, metadata


def open_to_start(
    model: str, input_range: tuple[float, ...], colour: str | None
) -> tuple[keras.Model, Metadata]:
    """Load a network whose head is to be replaced: of a foreign one only its input must be known, not its labels."""
    path = model_path(model)
    if path.suffix not in KERAS_SUFFIXES or not path.is_file() or stored_metadata(path) is not None:
        return open_network(model)
    known = remembered(path, None)
    if not input_range and not known.labels:
        raise ModelError(
            f"{path} was not saved by mien and does not say how its input is prepared; say it with --input-range 0,255 "
            "or 0,1 or -1,1 (and --colour bgr where that is its order)"
        )
    network, _ = load_network(path)
    count = max(2, network.outputs[0].shape[-1])
    labels = known.labels or tuple(f"output {number}" for number in range(1, count + 1))
    told = replace(
        known,
        labels=labels,
        input_range=input_range or known.input_range,
        colour=colour or known.colour,
        logits=True,  # its outputs are not used
    )
    return adopt_keras(network, path, told)[:2]


def with_new_heads(
    network: keras.Model, metadata: Metadata, heads: Mapping[str, tuple[str, ...]], dropout: float | None
) -> keras.Model:
    """Return the network with its heads replaced; trunk layers keep their names and weights.

    The features are what the first old head looked at. A class that the network's default answer knew, in whatever
    place and spelling, keeps the weights by which it was told; class names need have nothing in common. dropout: rate
    of the trunk's dropout layers, None to leave them. Raises ConfigError for a rate where there is no such layer.
    """
    features = network.get_layer(metadata.heads[0].name).input
    if dropout is not None:
        found = [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
        if not found:
            raise ConfigError(
                f"dropout is {dropout:g}, but the network that --from names has no dropout layer; leave dropout out"
            )
        for layer in found:
            layer.rate = dropout
    new = keras.Model(network.inputs[0], heads_on(features, heads), name=network.name)
    if known := _answer(network, metadata):
        for name, labels in heads.items():
            _keep_known(*known, new.get_layer(name), labels)
    return new


def kept_classes(metadata: Metadata, labels: Sequence[str]) -> list[str]:
    """Return those of the labels whose weights a new head takes over from the network's default answer."""
    kept = [label for label in labels if matching_place(label, metadata.head().labels) is not None]
    return kept if len(kept) > 1 else []  # one alone says nothing beside others


_Answer = tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]


def _answer(network: keras.Model, metadata: Metadata) -> _Answer | None:
    """Return labels, kernel (features, labels) and bias of the logits of the default answer.

    Where that is a mixture of heads, it is the mixture of their logits, whose probabilities lie near the mixture of
    theirs. None where a head is no dense layer with a bias, or stands on other features, as in some foreign networks.
    """
    default = metadata.head()
    shares = default.shares if isinstance(default, Blend) else {default.name: 1.0}
    kernel, bias = None, np.zeros(len(default.labels))
    source = network.get_layer(metadata.heads[0].name).input
    for head in metadata.heads:
        if not (share := shares.get(head.name)):
            continue
        layer = network.get_layer(head.name)
        if not (isinstance(layer, keras.layers.Dense) and layer.use_bias and layer.input is source):
            return None
        places = [head.labels.index(label) for label in default.labels]
        weights, offsets = (np.asarray(keras.ops.convert_to_numpy(part), float) for part in layer.weights)
        kernel = (0 if kernel is None else kernel) + share * weights[:, places]
        bias += share * offsets[places]
    if kernel is None:
        return None
    if isinstance(default, Blend) and default.adjustment:
        bias -= default.adjustment * np.log([default.prior[label] for label in default.labels])
    return default.labels, kernel, bias


def _keep_known(
    known: Sequence[str],
    old_kernel: NDArray[np.float64],
    old_bias: NDArray[np.float64],
    new: keras.layers.Layer,
    labels: Sequence[str],
) -> None:
    """Give a new head the old column of every label that was known; the others keep what they began with."""
    places = [matching_place(label, known) for label in labels]
    if sum(place is not None for place in places) < 2:
        return
    kernel, bias = (np.array(keras.ops.convert_to_numpy(part)) for part in new.weights)
    for column, place in enumerate(places):
        if place is not None:
            kernel[:, column], bias[column] = old_kernel[:, place], old_bias[place]
    new.set_weights([kernel, bias])


def unfreeze(network: keras.Model, heads: Mapping[str, tuple[str, ...]], count: int) -> None:
    """Let the heads and the top `count` layers of the trunk learn; -1 means the whole trunk, 0 none of it.

    Batch normalisation keeps the statistics of the first training: a small set cannot estimate them. The fixed
    layer that turns levels into those of a backbone stays fixed.
    """
    trunk = [layer for layer in _leaves(network) if layer.name not in heads]
    learning = {id(layer) for layer in (trunk if count < 0 else trunk[max(0, len(trunk) - count) :])}
    network.trainable = True  # also sets every layer below, hence one by one
    for layer in trunk:
        fixed = isinstance(layer, keras.layers.BatchNormalization) or layer.name == LEVELS
        layer.trainable = id(layer) in learning and not fixed


def _leaves(network: keras.Model) -> list[keras.layers.Layer]:
    """Return all layers in order, those of nested models in place of the models."""
    leaves: list[keras.layers.Layer] = []
    for layer in network.layers:
        leaves += _leaves(layer) if isinstance(layer, keras.Model) else [layer]
    return leaves


@dataclass(frozen=True, eq=False)
class _Teacher:
    """One trained network. columns: for each head of the student, output and columns that answer it, or None."""

    network: Any
    preprocess: Preprocess
    columns: tuple[tuple[int, list[int]] | None, ...]


class Teachers:
    """One or several networks whose mean answer is taught."""

    def __init__(
        self,
        models: Sequence[str],
        heads: Mapping[str, tuple[str, ...]],
        *,
        weight: float,
        temperature: float,
    ) -> None:
        """models: runs, model folders or files of mien. heads: labels of each head of the student, by name.

        weight: of the teachers' answers in the targets, in (0, 1]. temperature: their logits are divided by it. Raises
        ConfigError for a teacher that does not know the classes of the student's first head, ModelError for one that
        cannot be opened.
        """
        self._weight, self._temperature = weight, temperature
        self._models, self._heads = list(models), dict(heads)
        self._teachers = [_opened(model, list(heads.values())) for model in models]

    @property
    def preprocesses(self) -> list[Preprocess]:
        return [teacher.preprocess for teacher in self._teachers]

    def soften(self, batch: Batch) -> Batch:
        """Return the batch with targets that are the teachers' answers in part, and without their pictures.

        batch.views: for each teacher its input, (n, size, size, channels), levels in [0, 255].
        """
        said = []
        for teacher, view in zip(self._teachers, batch.views, strict=True):
            outputs = teacher.network.predict_on_batch(view.astype(np.float32))
            said.append(self._answers(teacher, outputs if isinstance(outputs, list) else [outputs]))
        return replace(batch, targets=taught(batch.targets, _means(said), self._weight), views=())

    def answers_to(
        self, split: Split, folder: Path, predict: _Predict, show: ProgressBar, *, cut: str = ""
    ) -> list[NDArray[np.float16] | None]:
        """Return the mean answer to each picture of a split and its mirror image, one (n, labels) array a head.

        None for a head that no teacher knows. They are asked part by part and the parts are kept in the run's folder,
        so that a kill loses one; and once all are asked, so is the whole: then a training that goes on is taught what
        it was taught, also where a teacher has changed since. cut: how faces are cut out of the pictures, in any words.
        """
        file, parts = folder / TEACHERS_FILE, folder / TEACHERS_PARTS
        asked = repr((self._models, self._temperature, self._heads, cut)).encode()
        key = hashlib.sha256(asked + b"".join(fingerprints_of(split.pictures).keys)).hexdigest()
        whole = read_arrays(file)
        if whole and str(whole.get(_ASKED, key)) == key:  # earlier versions kept no key
            return [whole.get(head) for head in self._heads]
        started = time.monotonic()
        same = hashlib.sha256(f"{key}{self._digest()}".encode()).hexdigest()[:16]
        found: list[dict[str, NDArray[np.float16]]] = []
        for start in range(0, len(split), _PART):
            show.step("teachers", start / len(split), f"{start:,} of {len(split):,}", None)
            place = parts / f"{same}-{start}.npz"
            if (part := read_arrays(place)) is None:
                part = self._asked(split.take(np.arange(start, min(start + _PART, len(split)))), predict)
                write_arrays(place, part)
            found.append(part)
        answers = {head: np.concatenate([part[head] for part in found]) for head in found[0]}
        write_arrays(file, {**answers, _ASKED: np.array(key)})
        shutil.rmtree(parts, ignore_errors=True)
        show.line(
            f"teachers  asked once about {counted(len(split), 'picture')}, mirrored too, in "
            f"{clock(time.monotonic() - started)}"
        )
        return [answers.get(head) for head in self._heads]

    def _asked(self, split: Split, predict: _Predict) -> dict[str, NDArray[np.float16]]:
        said = []
        for teacher in self._teachers:
            inputs = Inputs(split, teacher.preprocess)
            for mirrored in (False, True):
                said.append(self._answers(teacher, predict(teacher.network, inputs, mirrored=mirrored)))
        known = zip(self._heads, _means(said), strict=True)
        return {head: answer.astype(np.float16) for head, answer in known if answer is not None}

    def _digest(self) -> str:
        """Return a hash of all weights of all teachers: the parts of a teacher that has changed are of no use."""
        digest = hashlib.sha256()
        for teacher in self._teachers:
            for weight in teacher.network.weights:
                digest.update(np.asarray(keras.ops.convert_to_numpy(weight)).tobytes())
        return digest.hexdigest()

    def _answers(
        self, teacher: _Teacher, outputs: Sequence[NDArray[np.floating]]
    ) -> list[NDArray[np.float32] | None]:
        return [
            None
            if found is None
            else with_temperature(np.asarray(outputs[found[0]])[:, found[1]], self._temperature).astype(
                np.float32
            )
            for found in teacher.columns
        ]


def _means(said: Sequence[Sequence[NDArray[np.float32] | None]]) -> list[NDArray[np.float32] | None]:
    """Average the answers to each head; None for a head that nobody knows."""
    heads = [[one for one in known if one is not None] for known in zip(*said, strict=True)]
    return [np.mean(known, axis=0, dtype=np.float32) if known else None for known in heads]


def _opened(model: str, heads: Sequence[tuple[str, ...]]) -> _Teacher:
    network, metadata = open_network(model)
    names = list(network.output_names) if len(metadata.heads) > 1 else [head.name for head in metadata.heads]
    order = {name: place for place, name in enumerate(names)}
    columns = tuple(columns_of(metadata.heads, labels, order) for labels in heads)
    if columns[0] is None:
        raise ConfigError(
            f"the teacher {model} does not know all of {', '.join(heads[0])} (it knows "
            f"{', '.join(metadata.heads[0].labels)}); teach with one that does, or use --classes or --merge"
        )
    return _Teacher(network, metadata.preprocess, columns)


def columns_of(
    heads: Sequence[Head], labels: tuple[str, ...], order: Mapping[str, int]
) -> tuple[int, list[int]] | None:
    """Find the teacher's head that knows these labels; one with as many is better than one with more."""
    for head in sorted(heads, key=lambda head: len(head.labels) != len(labels)):
        places = [matching_place(label, head.labels) for label in labels]
        found = [place for place in places if place is not None]
        if len(set(found)) == len(labels):
            return order[head.name], found
    return None


def view_for(
    pictures: NDArray[np.uint8 | np.float32], own: Preprocess, teacher: Preprocess
) -> NDArray[np.uint8 | np.float32]:
    """Turn varied pictures into a teacher's input.

    pictures: (n, side, side, channels) in the colours of `own`, before the student's centre is cut out. Returns
    (n, size, size, channels) as `teacher` says, levels in [0, 255].
    """
    side = teacher.resize or teacher.size
    shaped = pictures if pictures.shape[1] == side else _resized(pictures, side)
    cut = (side - teacher.size) // 2
    shaped = shaped[:, cut : cut + teacher.size, cut : cut + teacher.size]
    return _coloured(shaped, own.colour, teacher.colour)


def _resized(pictures: NDArray[Any], side: int) -> NDArray[Any]:
    filter_ = cv2.INTER_AREA if side < pictures.shape[1] else cv2.INTER_LINEAR
    out = np.empty((len(pictures), side, side, pictures.shape[3]), pictures.dtype)
    for row, picture in enumerate(pictures):
        out[row] = cv2.resize(picture, (side, side), interpolation=filter_).reshape(side, side, -1)
    return out


def _coloured(pictures: NDArray[Any], own: str, wanted: str) -> NDArray[Any]:
    if own == wanted:
        return pictures
    if own == "grey":
        return np.repeat(pictures, 3, axis=3)
    if wanted == "grey":
        weights = np.array([0.299, 0.587, 0.114] if own == "rgb" else [0.114, 0.587, 0.299], np.float32)
        grey = (pictures @ weights)[..., None]
        return np.round(grey).astype(np.uint8) if pictures.dtype == np.uint8 else grey
    return pictures[..., ::-1]
