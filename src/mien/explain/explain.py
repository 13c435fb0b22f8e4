"""Explaining one answer about one face: opening a network for it, the map, and where in the picture that lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Detection, place_of_aligned
from mien.detect.registry import WholePicture
from mien.errors import ConfigError, need
from mien.evaluate.matching import match_classes
from mien.explain.config import GRAD_CAM, RISE, ExplainConfig
from mien.explain.occlusion import Answers, Faithfulness, measure_faithfulness, rise
from mien.labels import canonical
from mien.model.classifier import Classifier
from mien.model.folder import KERAS_SUFFIXES
from mien.model.metadata import Head, Metadata
from mien.model.preprocess import to_model_input
from mien.predict.analyzer import Analyzer, detector_for, load

GRID = 8  # cells a side of the map as numbers
_FAINT = 0.05  # a difference of less than this is nothing to colour strongly

# One prepared face, (size, size, channels) uint8, and the place of a label, to (size, size) float32.
Mapper = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]


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
    for place, known in enumerate(head.labels):
        if canonical(known) == canonical(label):
            return place
    raise ConfigError(f"the head {head.name!r} has no label {label!r}; it has: {', '.join(head.labels)}")


def cell_means(values: NDArray[np.float32], cells: int = GRID) -> list[list[float]]:
    """Return a map as cells x cells means."""
    small = cv2.resize(values, (cells, cells), interpolation=cv2.INTER_AREA)
    return [[float(value) for value in row] for row in small]


def inverse_transform(analyzer: Analyzer, image: NDArray[np.uint8], face: Detection) -> NDArray[np.float64]:
    """Return the matrix from pixels of the input to pixels of the image: (2, 3), x first, for pixel centres.

    It undoes `Analyzer.cut` and `to_model_input`: the cut and its turn, the scaling, the centre that is taken out.
    """
    how = analyzer.metadata.preprocess
    if isinstance(analyzer.detector, WholePicture):
        cut, (height, width) = np.eye(2, 3), image.shape[:2]
    else:
        cut = place_of_aligned(face, how.margin)
        height = width = analyzer.cut(image, face).shape[0]
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
    """Choose the head: the named one, or the first that knows the target, or the data's classes."""
    if config.target is None:
        return match_classes(metadata, classes, config.head).head if classes else metadata.head(config.head)
    candidates = (metadata.head(config.head),) if config.head else metadata.heads
    for head in candidates:
        try:
            find_label(head, config.target)
        except ValueError:
            continue
        return head
    find_label(candidates[0], config.target)
    raise AssertionError("find_label raises for a label that no head has")
