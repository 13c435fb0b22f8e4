"""Explaining an answer: the settings, opening a network for it, one face, and labelled faces class by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data import open_dataset
from mien.data.crops import stored_faces, with_margin
from mien.data.dataset import SPLITS, DataConfig, Dataset
from mien.detect.base import Detection, place_of_aligned
from mien.detect.registry import WholePicture
from mien.errors import ConfigError, DataError, need
from mien.evaluate.models import match_classes
from mien.evaluate.selection import read_as_trained
from mien.explain.occlusion import Answers, Faithfulness, measure_faithfulness, rise
from mien.labels import matching_place
from mien.model.classifier import Classifier
from mien.model.metadata import KERAS_SUFFIXES, Head, Metadata
from mien.model.preprocess import to_model_input
from mien.predict.analyzer import Analyzer, detector_for, load
from mien.settings import FROM_1, SEED, setting
from mien.terminal import counted

GRID = 8  # cells a side of the map as numbers
_FAINT = 0.05  # a difference of less than this is nothing to colour strongly

# One prepared face, (size, size, channels) uint8, and the place of a label, to (size, size) float32.
Mapper = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]
RISE, GRAD_CAM = "rise", "grad-cam"
METHODS = (RISE, GRAD_CAM)
FACES = 8  # of each class, where the user names no limit
Progress = Callable[[int, int], None]  # faces done, faces in all


@dataclass(frozen=True, eq=False, kw_only=True)
class SaliencyMap:
    """Where in a face the answer lies.

    values: (size, size) float32 in the frame of the network's input. By RISE: how much higher the
    probability is with the place seen than with it covered, negative where it is lower. By Grad-CAM: 0 to 1, in
    shares of the largest value.
    face: (size, size, channels) uint8, what the network saw. label: what the map is of; probability: the network's,
    for that label. decision: the label that the network finds likeliest.
    """

    method: str
    head: str
    label: str
    probability: float
    decision: str
    face: NDArray[np.uint8]
    values: NDArray[np.float32]
    faithfulness: Faithfulness

    @property
    def scale(self) -> float:
        """The value that is coloured fully: the largest, but at least what is worth colouring."""
        return 1.0 if self.method == GRAD_CAM else max(_FAINT, float(np.abs(self.values).max()))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes; `grid` holds the means of 8 x 8 cells, row by row from the top."""
        return {
            "method": self.method,
            "head": self.head,
            "label": self.label,
            "probability": self.probability,
            "decision": self.decision,
            "grid": cell_means(self.values),
            "faithfulness": self.faithfulness.to_dict(),
        }


class Explainer:
    """Makes maps of one head's answers.

    answers: prepared faces to that head's probabilities. mapper: how a map is made; None: by RISE. seed: of its masks,
    and of the random maps that each map is compared with.
    """

    def __init__(self, head: Head, answers: Answers, mapper: Mapper | None = None, *, seed: int = 0) -> None:
        self.head = head
        self.method = RISE if mapper is None else GRAD_CAM
        self._answers = answers
        self._mapper = mapper or partial(rise, answers, seed=seed)
        self._seed = seed

    def explain(self, face: NDArray[np.uint8], label: str | None = None) -> SaliencyMap:
        """Explain the answer about one face.

        face: (size, size, channels) uint8, as `mien.model.preprocess.to_model_input` prepares it. label: what to
        explain; None: the network's decision. Raises ConfigError for a label that the head does not have.
        """
        wanted = None if label is None else find_label(self.head, label)
        shares = self._answers(face[None])[0]
        target = int(shares.argmax()) if wanted is None else wanted
        values = self._mapper(face, target)
        return SaliencyMap(
            method=self.method,
            head=self.head.name,
            label=self.head.labels[target],
            probability=float(shares[target]),
            decision=self.head.labels[int(shares.argmax())],
            face=face,
            values=values,
            faithfulness=measure_faithfulness(self._answers, face, values, target, self._seed),
        )


def find_label(head: Head, label: str) -> int:
    """Return the place of a label in a head, in any spelling that mien knows; ConfigError where it has none."""
    place = matching_place(label, head.labels)
    if place is None:
        raise ConfigError(f"the head {head.name!r} has no label {label!r}; it has: {', '.join(head.labels)}")
    return place


def cell_means(values: NDArray[np.float32]) -> list[list[float]]:
    """Return a map, (size, size), as GRID x GRID means."""
    small = cv2.resize(values, (GRID, GRID), interpolation=cv2.INTER_AREA)
    return [[float(value) for value in row] for row in small]


def inverse_transform(analyzer: Analyzer, image: NDArray[np.uint8], face: Detection) -> NDArray[np.float64]:
    """Return the matrix from pixels of the input to pixels of the image: (2, 3), x first, for pixel centres.

    It undoes `Analyzer.cut` and `to_model_input`: the cut and its turn, the scaling, the centre that is taken out.
    """
    how = analyzer.metadata.preprocess
    cut = place_of_aligned(face, how.margin)
    height, width = analyzer.cut(image, face).shape[:2]
    scaled = how.resize or how.size
    first = (scaled - how.size) // 2 + 0.5  # left edge to the centre of the first pixel that is kept
    steps = np.array([width / scaled, height / scaled])
    to_cut = np.column_stack([np.diag(steps), first * steps - 0.5])
    return np.asarray(cut @ np.vstack([to_cut, [0, 0, 1]]), np.float64)


def open_explainer(
    model: str,
    config: ExplainConfig,
    *,
    detector: str = "auto",
    detector_file: Path | None = None,
    classes: tuple[str, ...] = (),
) -> tuple[Analyzer, Explainer]:
    """Open a network, a face detector, and the maker of maps for one head.

    model: run folder, model folder, shipped name or `.onnx` file of mien; for Grad-CAM also a `.keras` or `.h5` file
    of mien. classes: of the data that will be explained; the head must know them unless a target is asked for.
    Raises ModelError, ConfigError, DataError or MissingExtra, in one line.
    """
    method = config.method or (GRAD_CAM if Path(model).suffix in KERAS_SUFFIXES else RISE)
    if method == GRAD_CAM:
        return _with_grad_cam(model, config, detector, detector_file, classes)
    head = _head(load(model, detector="whole").metadata, config, classes)
    analyzer = load(model, detector=detector, detector_file=detector_file, head=head.name)
    return analyzer, Explainer(head, analyzer.probabilities, seed=config.seed)


def explain_face(
    analyzer: Analyzer,
    explainer: Explainer,
    image: NDArray[np.uint8],
    face: Detection,
    label: str | None = None,
) -> SaliencyMap:
    """Explain the answer about one found face; see Explainer.explain."""
    crop = analyzer.cut(image, face)
    return explainer.explain(to_model_input(crop, analyzer.metadata.preprocess), label)


def _with_grad_cam(
    model: str, config: ExplainConfig, detector: str, detector_file: Path | None, classes: tuple[str, ...]
) -> tuple[Analyzer, Explainer]:
    need("onnx", "train", "explaining with Grad-CAM")
    from mien.train import backend

    backend.import_keras()
    from mien.explain.grad_cam import GradCam, KerasNetwork
    from mien.train.transfer import open_network

    network, metadata = open_network(model)
    head = _head(metadata, config, classes)
    mapper = GradCam(network, head)
    # An Analyzer uses a recogniser's metadata and probabilities, and this one has both.
    classifier = cast(Classifier, KerasNetwork(network, metadata))
    analyzer = Analyzer(classifier, detector_for(metadata, detector, detector_file), head.name)
    return analyzer, Explainer(analyzer.head, analyzer.probabilities, mapper, seed=config.seed)


def _head(metadata: Metadata, config: ExplainConfig, classes: tuple[str, ...]) -> Head:
    """Choose the head: the named one, else the default or the first with the target, or with the data's classes."""
    if config.target is None:
        return match_classes(metadata, classes, config.head).head if classes else metadata.head(config.head)
    candidates = (metadata.head(config.head), *(() if config.head else metadata.heads))
    for head in candidates:
        try:
            find_label(head, config.target)
        except ConfigError:
            continue
        return head
    find_label(candidates[0], config.target)
    raise AssertionError("find_label raises for a label that no head has")


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(DataConfig):
    """What `mien explain` does. Checked when it is made; raises ConfigError with one line."""

    method: str | None = setting(
        None,
        "rise: occlude random parts and ask again; grad-cam: gradients, needs Keras; unset: grad-cam for a .keras or "
        ".h5 file, otherwise rise",
        choices=METHODS,
    )
    target: str | None = setting(
        None, "label to explain; unset: the network's decision, in a sheet of classes each class's own label"
    )
    head: str | None = setting(
        None, "which answer of the network; unset: its default one where that fits, else its first that does"
    )
    limit: int | None = setting(
        None,
        "at most so many faces, of a picture the largest (unset: 3), of each class of DATA (unset: 8)",
        within=FROM_1,
    )
    split: str | None = setting(
        None, "which part of DATA; unset: test where there is one, or validation, or all", choices=SPLITS
    )
    seed: int = setting(
        0,
        "seed of the masks, of the choice of faces, and of the random maps that each map is compared with",
        within=SEED,
    )


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """The maps of one class. names: of the pictures, as `maps`. available: pictures of the class in the split."""

    name: str
    available: int
    maps: tuple[SaliencyMap, ...]
    names: tuple[str, ...]

    @property
    def values(self) -> NDArray[np.float32]:
        """Mean map: (size, size)."""
        return np.asarray(np.mean([saliency.values for saliency in self.maps], axis=0), np.float32)

    @property
    def face(self) -> NDArray[np.uint8]:
        """Mean face: (size, size, channels)."""
        mean: NDArray[np.float64] = np.mean([saliency.face for saliency in self.maps], axis=0)
        return np.round(mean).astype(np.uint8)

    @property
    def holding(self) -> int:
        """How many of the maps do better than chance."""
        return sum(saliency.faithfulness.holds for saliency in self.maps)

    def mean(self, figure: str) -> float:
        """Mean of a field of `Faithfulness`, or of the probability."""
        return float(
            np.mean(
                [
                    saliency.probability
                    if figure == "probability"
                    else getattr(saliency.faithfulness, figure)
                    for saliency in self.maps
                ]
            )
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "class": self.name,
            "available": self.available,
            "explained": len(self.maps),
            "holding": self.holding,
            "probability": self.mean("probability"),
            "drop": self.mean("drop"),
            "random_drop": self.mean("random_drop"),
            "grid": cell_means(self.values),
            "faces": [
                {"name": n, **saliency.to_dict()} for n, saliency in zip(self.names, self.maps, strict=True)
            ],
        }


def open_split(
    data: Path, config: ExplainConfig, training: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Dataset, str]:
    """Open DATA and name the split to explain; DataError where it is missing or empty.

    training: what the model says of its training; its classes are named, joined and chosen as they were there.
    """

    def opened(settings: ExplainConfig) -> Dataset:
        return open_dataset(data, settings, carve_validation=config.split in ("train", "validation"))

    dataset, _ = read_as_trained(training, config, opened, same=False)
    if config.split:
        dataset.split(config.split)
        return dataset, config.split
    for name in reversed(SPLITS):
        if len(dataset.splits.get(name, ())):
            return dataset, name
    raise DataError(f"{data} has no pictures to explain")


def explain_classes(
    dataset: Dataset,
    split_name: str,
    analyzer: Analyzer,
    explainer: Explainer,
    *,
    config: ExplainConfig,
    progress: Progress | None = None,
) -> tuple[tuple[ClassMaps, ...], tuple[str, ...]]:
    """Explain some faces of each class, chosen at random (seeded).

    Each map is of the target, or of the face's own class: what speaks for 'happy' in happy faces. Returns the
    classes, and a line for each picture in which no face was found. Raises DataError when none has one.
    """
    split = with_margin(dataset, analyzer.metadata.preprocess.margin).split(split_name)
    cut = stored_faces(split.pictures)
    chosen = _chosen(split.labels, len(dataset.classes), config)
    total, done, notes = sum(map(len, chosen)), 0, []
    classes = []
    for label, rows in enumerate(chosen):
        maps, names = [], []
        for row in rows:
            image = split.pictures.read(row)
            found = WholePicture().detect(image) if cut[row] else analyzer.detector.detect(image)
            if found:
                wanted = config.target or dataset.classes[label]
                maps.append(explain_face(analyzer, explainer, image, found[0], wanted))
                names.append(split.names[row])
            else:
                notes.append(f"no face found in {split.names[row]}")
            done += 1
            if progress:
                progress(done, total)
        if maps:
            available = int((split.labels == label).sum())
            classes.append(ClassMaps(dataset.classes[label], available, tuple(maps), tuple(names)))
    if not classes:
        raise DataError(
            f"no face was found in {counted(total, 'picture')} of {dataset.source}; leave --detector out if "
            "each is a face"
        )
    return tuple(classes), tuple(notes)


def _chosen(labels: NDArray[np.int64], classes: int, config: ExplainConfig) -> list[Sequence[int]]:
    """Return the rows of each class, in order, at most `limit`."""
    rng = np.random.default_rng(config.seed)
    most = config.limit or FACES
    return [
        sorted(rng.permutation(np.flatnonzero(labels == label))[:most].tolist()) for label in range(classes)
    ]
