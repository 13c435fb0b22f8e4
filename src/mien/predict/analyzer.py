"""Pictures in, faces with their expressions out: face detector, crop and network in one object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.detect.align import align
from mien.detect.base import Detection, Detector
from mien.detect.registry import WholePicture, open_detector
from mien.errors import DataError, ModelError
from mien.images import PillowImage, decode_image, from_pillow, read_image
from mien.model.classifier import Classifier
from mien.model.folder import KERAS_SUFFIXES, METADATA_FILE, MODEL_FOLDER, SETTINGS_FILE, model_path
from mien.model.heads import Head
from mien.model.preprocess import to_model_inputs
from mien.predict.results import Face

DEFAULT_MODEL = "mien"  # the network that ships


class Analyzer:
    """Finds the faces in pictures and names their expressions. Safe to use from several threads.

    head: which of the network's answers to give; None: its default one. Raises ModelError for an unknown head.
    Every kind of input has its own door; behind each lies the same way, so they give the same numbers.
    """

    def __init__(self, classifier: Classifier, detector: Detector, head: str | None = None) -> None:
        self.metadata = classifier.metadata
        self.detector = detector
        self.head: Head = classifier.metadata.head(head)
        self._classifier = classifier

    def analyze(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Return the faces in a picture, the largest first; no face is an empty tuple.

        image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB, levels 0-255. A picture
        that OpenCV read is BGR: turn it round first (`image[:, :, ::-1]`). Raises DataError for another shape or
        type.
        """
        return self.analyze_batch([image])[0]

    def analyze_file(self, path: str | Path) -> tuple[Face, ...]:
        """Like analyze, for a picture file; raises ImageError when it cannot be opened or decoded."""
        return self.analyze(read_image(Path(path)))

    def analyze_bytes(self, data: bytes, name: str = "the picture") -> tuple[Face, ...]:
        """Like analyze, for the content of a picture file. name: what to call it in an ImageError."""
        return self.analyze(decode_image(data, name))

    def analyze_pil(self, image: PillowImage) -> tuple[Face, ...]:
        """Like analyze, for a Pillow image of any mode; the rotation that its Exif asks for is applied."""
        return self.analyze(from_pillow(image))

    def analyze_batch(self, images: Sequence[NDArray[np.uint8]]) -> tuple[tuple[Face, ...], ...]:
        """Return the faces of each picture, with one call of the network for all of them.

        images: as for analyze, of any sizes. What is kept of each picture is only its prepared faces.
        """
        for image in images:
            _check(image)
        return self.classify_faces(images, [self.detector.detect(image) for image in images])

    def classify_faces(
        self, images: Sequence[NDArray[np.uint8]], found: Sequence[Sequence[Detection]]
    ) -> tuple[tuple[Face, ...], ...]:
        """Name the expressions of faces that were found already, with one call of the network for all of them.

        images: as for analyze. found: the faces of each picture, in any order; the answers keep it.
        """
        inputs = [to_model_inputs([], self.metadata.preprocess)]
        for image, faces in zip(images, found, strict=True):
            inputs.append(
                to_model_inputs([self.cut(image, face) for face in faces], self.metadata.preprocess)
            )
        rows = iter(self.probabilities(np.concatenate(inputs)).tolist())
        return tuple(tuple(_face(face, next(rows), self.head) for face in faces) for faces in found)

    def probabilities(self, inputs: NDArray[np.uint8 | np.float32]) -> NDArray[np.float32]:
        """Return the chosen head's distributions, (n, labels) float32, for prepared faces.

        inputs: (n, size, size, channels) uint8 or float, levels in [0, 255], from
        `mien.model.preprocess.to_model_inputs`.
        """
        return self._classifier.probabilities(inputs)[self.head.name]

    def cut(self, image: NDArray[np.uint8], face: Detection) -> NDArray[np.uint8]:
        """Return the crop of a face, not yet scaled, that `mien.model.preprocess.to_model_input` takes.

        As training does it: a picture that is a face already goes in as it is, without margin.
        """
        if isinstance(self.detector, WholePicture):
            return image
        return align(image, face, self.metadata.preprocess.margin)


def load(
    model: str | Path | None = None,
    *,
    detector: str = "auto",
    detector_file: str | Path | None = None,
    head: str | None = None,
    precision: str = "auto",
) -> Analyzer:
    """Open a trained network together with a face detector.

    model: a run folder, a model folder, an `.onnx` file that mien wrote, or the name of a model that ships with
    mien; None: `mien`, the one that ships. detector: mien, yunet, haar, whole (each picture is one face) or auto.
    detector_file: see `mien.detect.registry.open_detector`. head: one of the network's answers; None: the default one.
    precision: auto (the int8 form where the model has one), float32 or int8. Raises ModelError,
    ConfigError or MissingExtra, each in one line that says what to do.
    """
    classifier = Classifier(model_folder(model), precision)
    file = None if detector_file is None else Path(detector_file)
    return Analyzer(classifier, open_detector(detector, file), head)


def model_folder(model: str | Path | None) -> Path:
    """Return the model folder or `.onnx` file of what the user named, as `load` takes it; ModelError otherwise."""
    path = model_path(str(DEFAULT_MODEL if model is None else model))
    if path.suffix in KERAS_SUFFIXES:
        raise ModelError(
            f"{path} is a Keras file; make a model folder of it first: mien export {path} --to DIR"
        )
    inside = path / MODEL_FOLDER
    if (inside / METADATA_FILE).is_file():
        return inside
    if (path / SETTINGS_FILE).is_file():
        raise ModelError(
            f"the run {path} has no model folder yet, because its training has not finished; let it finish (give "
            f"the same mien train command again), or take its best epoch: mien export {path} --to DIR"
        )
    return path


def _check(image: NDArray[np.uint8]) -> None:
    shape = getattr(image, "shape", None)
    fits = shape is not None and len(shape) in (2, 3) and shape[2:] in ((), (1,), (3,))
    if not fits or image.dtype != np.uint8:
        got = f"{type(image).__name__}" if shape is None else f"shape {shape} of {image.dtype}"
        raise DataError(
            "a picture must be an array (height, width), grey, or (height, width, 3), RGB, of uint8 levels "
            f"0-255, got {got}; for files, bytes and Pillow images use analyze_file, analyze_bytes, analyze_pil"
        )


def _face(found: Detection, shares: Sequence[float], head: Head) -> Face:
    probabilities = dict(zip(head.labels, shares, strict=True))
    emotion = max(head.labels, key=lambda label: probabilities[label])
    return Face(
        emotion=emotion,
        probability=probabilities[emotion],
        probabilities=probabilities,
        head=head.name,
        box=found.box,
        score=found.score,
        landmarks=found.landmarks,
        uncertain=probabilities[emotion] < head.threshold,
    )
