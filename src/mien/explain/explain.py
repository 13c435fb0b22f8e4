"""Opening a network so that its answers can be explained, whichever way."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mien.errors import need
from mien.evaluate.matching import match_classes
from mien.explain.config import ExplainConfig
from mien.explain.heat import GRAD_CAM, RISE, Explainer, Heat, find_label
from mien.predict.analyzer import Analyzer, load
from mien.predict.detect import detector
from mien.predict.found_face import FoundFace
from mien.predict.heads import Head
from mien.predict.model_facts import ModelFacts
from mien.predict.recognizer import Recognizer
from mien.preprocess import to_model_input

_KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")


def open_explainer(
    model: str,
    config: ExplainConfig,
    *,
    finder: str = "auto",
    finder_file: Path | None = None,
    classes: tuple[str, ...] = (),
) -> tuple[Analyzer, Explainer]:
    """Open a network, a face finder, and the maker of maps for one head.

    model: run folder, model folder, shipped name or `.onnx` file of mien; for Grad-CAM also a `.keras` or `.h5` file
    of mien. classes: of the data that will be explained; the head must know them unless a target is asked for.
    Raises ModelError, ConfigError, DataError or MissingExtra, in one line.
    """
    method = config.method or (GRAD_CAM if Path(model).suffix in _KERAS_SUFFIXES else RISE)
    if method == GRAD_CAM:
        return _with_grad_cam(model, config, finder, finder_file, classes)
    head = _head(load(model, detector="whole").facts, config, classes)
    analyzer = load(model, detector=finder, detector_file=finder_file, head=head.name)
    return analyzer, Explainer(head, analyzer.probabilities, seed=config.seed)


def explain_face(
    analyzer: Analyzer,
    explainer: Explainer,
    image: NDArray[np.uint8],
    face: FoundFace,
    label: str | None = None,
) -> Heat:
    """Explain the answer about one found face; see Explainer.explain."""
    crop = analyzer.cut(image, face)
    return explainer.explain(to_model_input(crop, analyzer.facts.preprocess), label)


def _with_grad_cam(
    model: str, config: ExplainConfig, finder: str, finder_file: Path | None, classes: tuple[str, ...]
) -> tuple[Analyzer, Explainer]:
    need("onnx", "train", "explaining with Grad-CAM")
    from mien.train import backend

    backend.import_keras()
    from mien.explain.grad_cam import GradCam, KerasNetwork
    from mien.train.transfer import open_network

    network, facts = open_network(model)
    head = _head(facts, config, classes)
    mapper = GradCam(network, head)
    # An Analyzer uses a recogniser's facts and probabilities, and this one has both.
    recognizer = cast(Recognizer, KerasNetwork(network, facts))
    analyzer = Analyzer(recognizer, detector(finder, finder_file), head.name)
    return analyzer, Explainer(analyzer.head, analyzer.probabilities, mapper, seed=config.seed)


def _head(facts: ModelFacts, config: ExplainConfig, classes: tuple[str, ...]) -> Head:
    """Choose the head: the named one, or the first that knows the target, or the data's classes."""
    if config.target is None:
        return match_classes(facts, classes, config.head).head if classes else facts.head(config.head)
    candidates = (facts.head(config.head),) if config.head else facts.heads
    for head in candidates:
        try:
            find_label(head, config.target)
        except ValueError:
            continue
        return head
    find_label(candidates[0], config.target)
    raise AssertionError("find_label raises for a label that no head has")
