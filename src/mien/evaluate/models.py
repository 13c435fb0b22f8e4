"""Anything that can be scored, opened by one call: run, model folder, shipped model, `.keras`, `.h5`, `.onnx`.

What a network that mien did not save cannot say about itself is asked for, never guessed from values. A model's labels
and a data set's classes are brought together by name (`match_classes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Pictures, Split
from mien.errors import DataError, ModelError
from mien.evaluate.config import EVALUATED, EvaluateConfig
from mien.images.decode import workers
from mien.labels import matching_place
from mien.model.classifier import Classifier
from mien.model.folder import BEST_FILE, MODEL_FILE, MODEL_FOLDER, is_model_folder, model_path
from mien.model.metadata import KERAS_SUFFIXES, METADATA_KEY, Head, Metadata
from mien.model.preprocess import Preprocess, to_model_input
from mien.model.session import open_session
from mien.model.views import AUTO, Network, Probabilities, average, chosen
from mien.terminal import OnProgress, counted
from mien.train import run_folder
from mien.train.external_models import HEAD, Description, as_probabilities, metadata_of, remember, remembered
from mien.train.folds import FoldAnswers, answers_of

_BATCH = 64
_CHUNK_BYTES = 32 * 2**20  # prepared pictures held at once


@dataclass(frozen=True, eq=False)
class Scorer:
    """A network that is ready to be scored.

    metadata: what is known of it. path: the file or folder that was opened. kind: run, model folder, keras,
    onnx. network: prepared inputs to the probabilities of each head. note: one line for the user, or ''.
    parameters: weights of the network, None where nobody has counted them. form: of a folder, the file that runs.
    run: the run folder that it lies in.
    """

    metadata: Metadata
    path: Path
    kind: str
    network: Network
    parameters: int | None = None
    note: str = ""
    form: Path | None = None
    run: Path | None = None

    @property
    def heads(self) -> tuple[Head, ...]:
        return self.metadata.answers

    @property
    def seen(self) -> frozenset[bytes]:
        """Fingerprints of what it learnt, also before the run that it lies in, where that run knows them."""
        return run_folder.learnt(self.run) if self.run else frozenset()

    @property
    def learnt_before(self) -> frozenset[bytes]:
        """Those of the pictures that the network learnt from which its run started."""
        return run_folder.learnt_before(self.run) if self.run else frozenset()

    @property
    def fitted_on(self) -> frozenset[bytes]:
        """Those of the training pictures of its run alone."""
        return run_folder.seen(self.run) if self.run else frozenset()

    @property
    def seen_sources(self) -> frozenset[str]:
        """Content keys of the photographs out of which the faces of a face set were cut that it was fitted on."""
        return run_folder.seen_sources(self.run) if self.run else frozenset()

    @property
    def chosen_on(self) -> frozenset[bytes]:
        """Fingerprints of the pictures by which its best epoch and its calibration were chosen."""
        return run_folder.seen(self.run, "validation") if self.run else frozenset()

    @property
    def fold_answers(self) -> FoldAnswers | None:
        """What the networks of its folds said of pictures that they had not seen; None without folds."""
        return answers_of(self.run) if self.run else None

    @property
    def is_keras(self) -> bool:
        """Whether Keras runs it, rather than ONNX Runtime."""
        return self.path.suffix in KERAS_SUFFIXES

    @property
    def size_bytes(self) -> int:
        """Size of the network file that runs: of the int8 form where that one is used."""
        return (self.form or self.path).stat().st_size

    def views(self, tta: str) -> str:
        """Return what a setting of test-time augmentation means for this network."""
        return chosen(tta, self.metadata, EVALUATED)

    def probabilities(
        self, split: Split, *, tta: str = AUTO, progress: OnProgress | None = None
    ) -> Probabilities:
        """Return each head's (n, labels) float32 for the pictures of a split, in order.

        tta: see `mien.model.views`. Pictures are read in parallel and in chunks, so memory stays flat
        however many there are.
        """
        parts: dict[str, list[NDArray[np.float32]]] = {head.name: [] for head in self.heads}
        done, views = 0, self.views(tta)
        for inputs in prepared_chunks(split.pictures, self.metadata.preprocess):
            for name, values in average(self.network, inputs, views).items():
                parts[name].append(values)
            done += len(inputs)
            if progress:
                progress(done, len(split))
        empty = {head.name: np.empty((0, len(head.labels)), np.float32) for head in self.heads}
        return {name: np.concatenate(found) if found else empty[name] for name, found in parts.items()}


def open_model(path: str | Path, *, labels: tuple[str, ...] = ()) -> Scorer:
    """Open a run folder, a model folder, the name of a shipped model, or a `.keras`, `.h5` or `.onnx` file.

    labels: for a network that mien did not save; others keep their own. The input is read from its shape.
    Raises ModelError for anything else. `open_as` takes more settings.
    """
    return open_as(path, EvaluateConfig(labels=labels))


def open_as(path: str | Path, config: EvaluateConfig) -> Scorer:
    """Like `open_model`, with every setting that a foreign network may need."""
    found = model_path(str(path))
    return replace(_opened(found, config), run=run_folder.run_of(found))


def _opened(found: Path, config: EvaluateConfig) -> Scorer:
    if found.is_dir():
        return _open_folder(found, config)
    if found.suffix == ".onnx":
        return _open_onnx(found, "onnx", config)
    if found.suffix in KERAS_SUFFIXES:
        return _open_keras(found, "keras", config)
    raise ModelError(
        f"{found} is not a model; name a run folder, a model folder, or a .keras, .h5 or .onnx file"
    )


def _open_folder(folder: Path, config: EvaluateConfig) -> Scorer:
    """Prefer the exported model of a run, because what we score is what people use."""
    if (folder / MODEL_FOLDER / MODEL_FILE).is_file():
        return _open_onnx(folder / MODEL_FOLDER, "run", config)
    if (folder / BEST_FILE).is_file():
        return _open_keras(folder / BEST_FILE, "run", config)
    if is_model_folder(folder):
        return _open_onnx(folder, "model folder", config)
    raise ModelError(
        f"{folder} is neither a run (no {MODEL_FOLDER}/{MODEL_FILE} and no {BEST_FILE}) nor a model folder "
        f"(no {MODEL_FILE}); has its training finished an epoch?"
    )


def _open_onnx(path: Path, kind: str, config: EvaluateConfig) -> Scorer:
    if path.is_file() and not is_mien_onnx(path):
        told = remembered(path, config.description())
        metadata, network, note = open_onnx(path, told)
        remember(path, told)
        return Scorer(metadata, path, kind, network, note=note)
    classifier = Classifier(path, config.precision)
    return Scorer(
        classifier.metadata,
        path,
        kind,
        classifier.probabilities,
        _count(classifier.metadata),
        form=classifier.file,
    )


def _open_keras(path: Path, kind: str, config: EvaluateConfig) -> Scorer:
    from mien.train import backend

    backend.import_keras()  # first of all: quietly, or with the line that says what to install
    from mien.train.export.keras_io import load_network

    model, metadata = load_network(path)
    if metadata is None:
        told = remembered(path, config.description())
        metadata, network, note = wrap_keras(model, path, told)
        remember(path, told)
        return Scorer(metadata, path, kind, network, int(model.count_params()), note)
    return Scorer(metadata, path, kind, _keras_network(model, metadata, path), int(model.count_params()))


def _keras_network(model: Any, metadata: Metadata, path: Path) -> Network:
    outputs = list(model.output_names)
    heads = [head.name for head in metadata.heads]
    if len(heads) > 1 and sorted(outputs) != sorted(heads):
        raise ModelError(
            f"{path}: its metadata name the heads {', '.join(heads)}, the network has {', '.join(outputs)}"
        )
    names = outputs if len(heads) > 1 else heads

    def network(inputs: NDArray[np.uint8]) -> Probabilities:
        parts = [_listed(model.predict_on_batch(batch)) for batch in batches(inputs)]
        return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(names)}

    return network


def _listed(answers: Any) -> list[NDArray[np.float32]]:
    if isinstance(answers, Mapping):
        return list(answers.values())
    return list(answers) if isinstance(answers, list | tuple) else [answers]


def batches(inputs: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """Yield (at most 64, size, size, channels) float32, levels in [0, 255]."""
    for start in range(0, len(inputs), _BATCH):
        yield inputs[start : start + _BATCH].astype(np.float32)


def prepared_chunks(pictures: Pictures, how: Preprocess) -> Iterator[NDArray[np.uint8]]:
    """Yield all pictures once, in order, prepared as `how` says: (chunk, size, size, channels) uint8."""
    step = max(_BATCH, _CHUNK_BYTES // (how.size * how.size * how.channels))
    with ThreadPoolExecutor(workers(), "mien-read") as pool:
        for start in range(0, len(pictures), step):
            places = range(start, min(start + step, len(pictures)))
            prepared = np.empty((len(places), *how.shape), np.uint8)

            def fill(place: int, into: NDArray[np.uint8] = prepared, first: int = start) -> None:
                into[place - first] = to_model_input(pictures.read(place), how)

            for _ in pool.map(fill, places, chunksize=16):
                pass  # map() raises here what a worker raised
            yield prepared


def _count(metadata: Metadata) -> int | None:
    found = metadata.network.get("parameters")
    return int(found) if found is not None else None


def is_mien_onnx(path: Path) -> bool:
    """Say whether mien wrote this `.onnx` file. Raises ModelError when it is not an ONNX file."""
    return METADATA_KEY in open_session(path, path).get_modelmeta().custom_metadata_map


def open_onnx(path: Path, told: Description) -> tuple[Metadata, Network, str]:
    """Open an external `.onnx` file with one picture input, channels last or first, and take its first output."""
    session = open_session(path, path)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {len(inputs)} inputs; a network for mien takes one, the picture")
    shape = [side if isinstance(side, int) else None for side in inputs[0].shape]
    metadata, channels_first, note = metadata_of(path, shape, told)
    wanted = session.get_outputs()[0].name

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = session.run([wanted], {inputs[0].name: batch})[0]
        return values

    return metadata, _network(run, shape[0], channels_first, path, told), note


def wrap_keras(model: Any, path: Path, told: Description) -> tuple[Metadata, Network, str]:
    """Wrap an external Keras network with one picture input and one output."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{path} has {counted(len(model.inputs), 'input')} and {counted(len(model.outputs), 'output')}; a network "
            "that mien did not save must have one of each"
        )
    shape = list(model.inputs[0].shape)
    metadata, channels_first, note = metadata_of(path, shape, told)
    return metadata, _network(model.predict_on_batch, shape[0], channels_first, path, told), note


def _network(
    run: Any, fixed_batch: int | None, channels_first: bool, path: Path, told: Description
) -> Network:
    low, high = told.input_range
    step = fixed_batch or _BATCH

    def network(inputs: NDArray[np.uint8]) -> Probabilities:
        parts = []
        for start in range(0, len(inputs), step):
            batch = inputs[start : start + step].astype(np.float32) * ((high - low) / 255) + low
            missing = step - len(batch) if fixed_batch else 0
            batch = np.concatenate([batch, batch[:1].repeat(missing, axis=0)]) if missing else batch
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if channels_first else batch
            answers = np.asarray(run(batch.astype(np.float32)))[: step - missing]
            parts.append(as_probabilities(answers, path, told))
        return {HEAD: np.concatenate(parts)}

    return network


@dataclass(frozen=True)
class Match:
    """Which output of which head answers each class of the data.

    columns: place in the head's outputs of each class, in the data's order. note: one line for the user, or
    ''.
    """

    head: Head
    columns: tuple[int, ...]
    note: str

    def probabilities(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (n, classes) in the data's order. Where the head knows more labels, the rest is left out and
        the remainder scaled to sum to one: the answer given that it is one of the data's classes."""
        chosen: NDArray[np.float32] = outputs[:, list(self.columns)]
        if len(self.columns) == outputs.shape[1]:
            return chosen
        total = chosen.sum(axis=1, keepdims=True)
        even = np.full_like(chosen, 1 / chosen.shape[1])
        shares: NDArray[np.float32] = np.divide(chosen, total, out=even, where=total > 0)
        return shares


def match_classes(metadata: Metadata, classes: tuple[str, ...], head: str | None = None) -> Match:
    """Find the head that knows all `classes`: the one named `head`, or the first that does.

    Names are compared by `labels.matching_place`, in any order. Raises ModelError for a head that does not exist
    and DataError when a class of the data is not among a head's labels.
    """
    candidates = (metadata.head(head),) if head else metadata.heads
    for candidate in candidates:
        if not _unknown(candidate, classes):
            return _matched(candidate, classes, metadata)
    lacking = _unknown(candidates[0], classes)
    known = ", ".join(candidates[0].labels)
    raise DataError(
        f"the model does not know the data's {_plural('class', lacking)} {', '.join(lacking)} (it knows "
        f"{known}); use --classes to leave some out or --merge NEW=OLD+OLD to rename or join them"
    )


def _matched(head: Head, classes: tuple[str, ...], metadata: Metadata) -> Match:
    columns: list[int] = []
    for name in classes:
        place = matching_place(name, head.labels)
        assert place is not None
        if place in columns:
            raise DataError(
                f"{classes[columns.index(place)]!r} and {name!r} are the same expression to the model, which calls it "
                f"{head.labels[place]!r}; use --merge to join them"
            )
        columns.append(place)
    notes = []
    if head != metadata.heads[0]:
        notes.append(f"answers are those of the head '{head.name}'")
    rest = [label for place, label in enumerate(head.labels) if place not in columns]
    if rest:
        notes.append(
            f"the data has {len(classes)} of the model's {len(head.labels)} classes; its probabilities for "
            f"{', '.join(rest)} are left out and the others scaled to sum to one"
        )
    return Match(head, tuple(columns), "; ".join(notes))


def _unknown(head: Head, classes: tuple[str, ...]) -> list[str]:
    return [name for name in classes if matching_place(name, head.labels) is None]


def _plural(word: str, things: list[str]) -> str:
    return word if len(things) == 1 else word + "es"
