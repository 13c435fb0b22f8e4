"""Pictures in, faces with their expressions out: face detector, crop and network in one object.

`analyze_many` does many pictures: decoded and searched in parallel, answered in order, in memory that does not grow.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._version import __version__
from mien.detect.base import Detection, Detector, align
from mien.detect.mien import MienDetector
from mien.detect.registry import chosen_file, open_detector
from mien.detect.search import PhotoSearch
from mien.errors import DataError, ImageError, ModelError
from mien.files import given_path, shell_word
from mien.images import (
    DecoderWarning,
    PillowImage,
    decode_image,
    from_pillow,
    read_image,
)
from mien.images.prefetch import Picture, PictureFile, process_many
from mien.model.calibration import (
    EVERYDAY,
    Prior,
    quality_temperature,
    read_prior,
    reweighting,
    with_temperature,
)
from mien.model.classifier import Classifier
from mien.model.folder import METADATA_FILE, MODEL_FOLDER, SETTINGS_FILE, model_path
from mien.model.metadata import KERAS_SUFFIXES, Head, Metadata
from mien.model.preprocess import to_model_inputs
from mien.model.views import AUTO, average, chosen
from mien.predict.results import Face, Faces, Probabilities, is_uncertain, reasons

DEFAULT_MODEL = "mien"  # the network that ships
_DOORS = "a path, an RGB array (height, width, 3) of uint8, the bytes of a picture file, or a Pillow image"
_DIGEST = 12  # letters of a SHA-256 in `Analyzer.settings`
Answer = Faces | ImageError
Warn = Callable[[str], None]
Finish = Callable[[int, NDArray[np.uint8], Faces], None]
_Answered = tuple[Answer, str]  # and what is odd about its file


class Analyzer:
    """Finds the faces in pictures and names their expressions. Safe to use from several threads; can be pickled.

    `analyzer(picture)` takes a path, an array, bytes or a Pillow image; each has a method of its own as well. Behind
    all of them lies the same way, so they give the same numbers.

    head: which of the network's answers to give; None: its default one. prior: see `mien.model.calibration`. tta:
    as for `load`. search: how photographs are searched; None: as usual. Raises ModelError for an unknown head,
    ConfigError for a prior that the network cannot be given.
    """

    def __init__(
        self,
        classifier: Classifier,
        detector: Detector,
        head: str | None = None,
        *,
        prior: str | Mapping[str, float] | Prior | None = None,
        tta: str = AUTO,
        search: PhotoSearch | None = None,
    ) -> None:
        self.metadata = classifier.metadata
        self.detector = detector
        self.head: Head = classifier.metadata.head(head)
        self.prior = read_prior(prior)
        self.tta = chosen(tta, classifier.metadata)
        self.search = search or PhotoSearch()
        self._classifier = classifier
        self._reweighting = reweighting(self.prior, self.head, self.metadata)

    def __repr__(self) -> str:
        prior = "" if self.prior.name == EVERYDAY else f", prior={self.prior.name}"
        return (
            f"Analyzer({self.metadata.name}, detector={self.detector.name}, head={self.head.name}{prior}: "
            f"{', '.join(self.head.labels)})"
        )

    def settings(self) -> dict[str, Any]:
        """Return all that answers hang on, as JSON takes it, each as it came out (never auto, never a path).

        Who goes on with earlier answers keeps them beside those and compares: see `difference`.
        """
        return {
            "mien": __version__,
            "model": f"{self.metadata.name} {self._classifier.sha256[:_DIGEST]}",
            "precision": self._classifier.precision,
            "head": self.head.name,
            "prior": self.prior.name,
            "tta": self.tta,
            "detector": f"{self.detector.name} {self.detector.metadata.get('sha256', '')[:_DIGEST]}".strip(),
            **vars(self.search),
        }

    def __call__(self, picture: Any) -> Faces:
        """Return the faces in one picture, the largest first.

        picture: a path (str or Path), an RGB array as for `analyze`, the bytes of a picture file, or a Pillow image.
        Raises ImageError for a file that cannot be read, DataError for anything else. An address is not fetched.
        """
        if isinstance(picture, str | os.PathLike):
            return self.analyze_file(picture)
        if isinstance(picture, bytes | bytearray | memoryview):
            return self.analyze_bytes(bytes(picture))
        if all(hasattr(picture, name) for name in ("mode", "info", "convert", "getexif")):
            return self.analyze_pil(picture)
        if hasattr(picture, "shape"):
            return self.analyze(picture)
        if hasattr(picture, "read"):
            raise DataError(f"a picture must be {_DOORS}; of an open file give its content: file.read()")
        many = isinstance(picture, Iterable)
        raise DataError(
            f"a picture must be {_DOORS}; got {type(picture).__name__}"
            + ("; call it for one picture after the other (analyze_batch takes many arrays)" if many else "")
        )

    def analyze(self, image: NDArray[np.uint8]) -> Faces:
        """Return the faces in a picture, the largest first; no face is empty.

        image: (height, width), (height, width, 1) or (height, width, 3) uint8, RGB, levels 0-255. A picture
        that OpenCV read is BGR: turn it round first (`image[:, :, ::-1]`). Raises DataError for another shape or
        type.
        """
        image = _as_array(image)
        faces = self.analyze_batch([image])[0]
        return Faces(faces, image, coarse=faces.coarse)

    def analyze_file(self, path: str | os.PathLike[str]) -> Faces:
        """Like analyze, for a picture file; raises ImageError when it cannot be opened or decoded."""
        return self.analyze(read_image(given_path(path)))

    def analyze_bytes(self, data: bytes, name: str = "the picture") -> Faces:
        """Like analyze, for the content of a picture file. name: what to call it in an ImageError."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise DataError(f"the content of a picture file must be bytes, got {type(data).__name__}")
        return self.analyze(decode_image(bytes(data), name))

    def analyze_pil(self, image: PillowImage) -> Faces:
        """Like analyze, for a Pillow image of any mode; the rotation that its Exif asks for is applied."""
        return self.analyze(from_pillow(image))

    def analyze_batch(self, images: Iterable[NDArray[np.uint8]]) -> tuple[Faces, ...]:
        """Return the faces of each picture, with one call of the network for all of them.

        images: as for analyze, of any sizes; a generator is read one by one. What is kept of each picture is only its
        prepared faces, so that the results do not hold it.
        """
        if isinstance(images, str | bytes | Mapping) or not isinstance(images, Iterable):
            raise DataError(f"analyze_batch takes arrays, one after the other, got {type(images).__name__}")
        shape = tuple(getattr(images, "shape", ()))
        if len(shape) == 2 or shape[2:] in ((1,), (3,), (4,)):  # its rows would be taken for grey pictures
            raise DataError(
                f"analyze_batch takes many arrays, got one of shape {shape}; use analyze for one picture"
            )
        found: list[tuple[Detection, ...]] = []
        inputs = [to_model_inputs([], self.metadata.preprocess)]
        coarse: list[bool] = []
        for image in map(_as_array, images):
            found.append(self.detect(image))
            inputs.append(self._prepare(image, found[-1]))
            coarse.append(self.search.coarse(self.detector, image))
        named = self._name(np.concatenate(inputs), found)
        return tuple(Faces(faces, coarse=flag) for faces, flag in zip(named, coarse, strict=True))

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Return where the faces of a photograph are, the largest first: `Analyzer.search` with `Analyzer.detector`.

        image: as for analyze.
        """
        return self.search(self.detector, _as_array(image))

    def classify_faces(
        self, images: Sequence[NDArray[np.uint8]], found: Sequence[Sequence[Detection]]
    ) -> tuple[Faces, ...]:
        """Name the expressions of faces that were found already, with one call of the network for all of them.

        images: as for analyze. found: the faces of each picture, in any order; the answers keep it.
        """
        if len(images) != len(found):
            raise DataError(
                f"there must be faces for each picture, got {len(images)} pictures, {len(found)} of them"
            )
        inputs = [to_model_inputs([], self.metadata.preprocess)]
        for image, faces in zip(map(_as_array, images), found, strict=True):
            inputs.append(self._prepare(image, faces))
        return self._name(np.concatenate(inputs), found)

    def probabilities(self, inputs: NDArray[np.uint8 | np.float32]) -> NDArray[np.float32]:
        """Return the chosen head's distributions under the chosen prior, (n, labels) float32, for prepared faces.

        inputs: (n, size, size, channels) uint8 or float, levels in [0, 255], from
        `mien.model.preprocess.to_model_inputs`. All are answered as if they were large and clear.
        """
        return self._weighted(self._asked(inputs)[0])

    def _asked(
        self, inputs: NDArray[np.uint8 | np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the head's answers, (n, labels), and how likely something hides a part of each face, (n,)."""
        answers, cover = self._classifier.probabilities_and_cover(inputs)
        name = self.head.name

        def network(views: NDArray[np.uint8 | np.float32]) -> dict[str, NDArray[np.float32]]:
            return {name: self._classifier.probabilities(views)[name]}

        return average(network, inputs, self.tta, {name: answers[name]})[name], cover

    def _weighted(self, answers: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._reweighting is None:
            return answers
        weighted = answers * self._reweighting
        return np.asarray(weighted / weighted.sum(axis=1, keepdims=True), np.float32)

    def _temperature(self, face: Detection, cover: float) -> float:
        """Return what the logits of a face are divided by; scores of other detectors mean something else."""
        score = face.score if self.detector.name == MienDetector.name and not face.whole else None
        return quality_temperature(self.metadata.quality, max(face.box.width, face.box.height), score, cover)

    def cut(self, image: NDArray[np.uint8], face: Detection) -> NDArray[np.uint8]:
        """Return the crop of a face, not yet scaled, that `mien.model.preprocess.to_model_input` takes.

        As training does it: a picture that is a face already goes in as it is, without margin.
        """
        return align(image, face, self.metadata.preprocess.margin)

    def _prepare(self, image: NDArray[np.uint8], faces: Sequence[Detection]) -> NDArray[np.uint8]:
        return to_model_inputs([self.cut(image, face) for face in faces], self.metadata.preprocess)

    def _name(self, inputs: NDArray[np.uint8], found: Sequence[Sequence[Detection]]) -> tuple[Faces, ...]:
        """Answer faces, small, doubtful and covered ones less surely (`mien.model.metadata.Quality`)."""
        answers, cover = self._asked(inputs)
        faces = [face for faces in found for face in faces]
        by = [self._temperature(face, covered) for face, covered in zip(faces, cover.tolist(), strict=True)]
        if max(by, default=1.0) > 1:
            answers = with_temperature(answers, np.array(by)[:, None]).astype(np.float32)
        rows = iter(zip(self._weighted(answers).tolist(), cover.tolist(), strict=True))
        return tuple(Faces([self.face(face, *next(rows)) for face in faces]) for faces in found)

    def face(self, found: Detection, shares: Sequence[float], cover: float = 0.0) -> Face:
        """Return the answer about a face.

        shares: its probabilities in the order of the head's labels. cover: how likely something hides a part of it.
        """
        probabilities = Probabilities(zip(self.head.labels, shares, strict=True))
        emotion = max(self.head.labels, key=lambda label: probabilities[label])
        said = reasons(found, cover)
        return Face(
            emotion=emotion,
            probability=probabilities[emotion],
            probabilities=probabilities,
            head=self.head.name,
            box=found.box,
            score=found.score,
            landmarks=found.landmarks,
            uncertain=is_uncertain(probabilities[emotion], self.head.threshold, said),
            prior=self.prior.name,
            reasons=said,
        )


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first setting in which a run differs from an earlier one, for 'was begun …'; '' where none does.

    before, now: as `Analyzer.settings` gives them, whatever else was asked for beside.
    """
    for name in {**now, **before}:
        was, value = before.get(name), now.get(name)
        if was != value:
            return f"with {name} {was}, this is {value}: answers would mix"
    return ""


def load(
    model: str | Path | None = None,
    *,
    detector: str = "auto",
    detector_file: str | Path | None = None,
    head: str | None = None,
    precision: str = "auto",
    prior: str | Mapping[str, float] | None = None,
    tta: str = AUTO,
    detect_size: int | None = None,
    min_face: float = 0.0,
    min_score: float = 0.0,
) -> Analyzer:
    """Open a trained network together with a face detector.

    model: a run folder, a model folder, an `.onnx` file that mien wrote, or the name of a model that ships with
    mien; None: `mien`. detector: mien, yunet, haar, whole (each picture is one face) or auto: what
    detector_file or $MIEN_YUNET names, else the one that cut out the faces of the network's training, else mien.
    detector_file: see `mien.detect.registry.open_detector`. head: one of the network's answers; None: the default one.
    precision: auto (the int8 form where the model has one), float32 or int8. prior: how often the labels occur where
    the pictures are from: everyday (None: as in training), balanced, or shares of your own such as {"happy": 0.4}.
    tta: test-time augmentation: single, one view of each face; adaptive, the mean of it and its mirror image where no
    label reaches one half; flip, that mean for each; auto: adaptive where the network was trained on mirror images.
    detect_size, min_face, min_score: see `mien.detect.search.PhotoSearch`. Raises ModelError, ConfigError or
    MissingExtra, each in one line that says what to do.
    """
    classifier = Classifier(model_folder(model), precision)
    file = None if detector_file is None else given_path(detector_file)
    search = PhotoSearch(detect_size=detect_size, min_face=min_face, min_score=min_score)
    return Analyzer(
        classifier,
        detector_for(classifier.metadata, detector, file),
        head,
        prior=prior,
        tta=tta,
        search=search,
    )


def detector_for(metadata: Metadata, name: str = "auto", file: Path | None = None) -> Detector:
    """Return a face detector by name; auto: what the user's file or $MIEN_YUNET names, else that of the training."""
    if name == "auto" and chosen_file(file) is None and (trained := metadata.face_detector):
        name, recorded = trained
        file = Path(recorded) if recorded else None
        if file is not None and not file.exists():
            raise ModelError(
                f"the faces that {metadata.name} was trained on were found with {file}, which is not there; name a "
                "copy with --detector-file, or use another face detector: --detector mien"
            )
    return open_detector(name, file)


def model_folder(model: str | Path | None) -> Path:
    """Return the model folder or `.onnx` file of what the user named, as `load` takes it; ModelError otherwise."""
    path = model_path(str(DEFAULT_MODEL if model is None else model))
    if path.suffix in KERAS_SUFFIXES:
        raise ModelError(
            f"{path} is a Keras file; make a model folder of it first: "
            f"mien export {shell_word(path)} --to DIR"
        )
    inside = path / MODEL_FOLDER
    if (inside / METADATA_FILE).is_file():
        return inside
    if (path / SETTINGS_FILE).is_file():
        raise ModelError(
            f"the run {path} has no model folder yet, because its training has not finished; let it finish (give "
            f"the same mien train command again), or take its best epoch: "
            f"mien export {shell_word(path)} --to DIR"
        )
    return path


def _as_array(image: Any) -> NDArray[np.uint8]:
    """Return an array, or a tensor of another library as one, once it is known to be a picture; else DataError."""
    shape = getattr(image, "shape", None)
    if shape is not None and not isinstance(image, np.ndarray) and hasattr(image, "__array__"):
        try:
            image = np.asarray(image)
        except (TypeError, ValueError, RuntimeError) as error:  # on a graphics card, or with a gradient
            raise DataError(
                f"{type(image).__name__} is no array ({error}); bring it to the CPU first"
            ) from error
        shape = image.shape
    fits = shape is not None and len(shape) in (2, 3) and tuple(shape[2:]) in ((), (1,), (3,))
    if isinstance(image, np.ndarray) and fits and image.dtype == np.uint8:
        return image
    got = (
        f"{type(image).__name__}"
        if shape is None
        else f"shape {tuple(shape)} of {getattr(image, 'dtype', '?')}"
    )
    raise DataError(
        "a picture must be an array (height, width), grey, or (height, width, 3), RGB, of uint8 levels "
        f"0-255, got {got}; {_how_to_mend(image)}"
    )


def _how_to_mend(image: Any) -> str:
    if not isinstance(image, np.ndarray):
        return "for files, bytes and Pillow images use analyze_file, analyze_bytes, analyze_pil"
    if image.ndim == 4:
        return "for several pictures use analyze_batch"
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] > 4:
        return "put the channels last: image.transpose(1, 2, 0)"
    if image.ndim == 3 and image.shape[2] == 4:
        return "leave the fourth channel out: image[:, :, :3]"
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        return "bring it into that shape"
    if image.dtype.kind == "f":
        return "levels from 0 to 1 become such by (255 * image).astype('uint8'), those to 255 by image.astype('uint8')"
    return "bring its levels to 0-255 and call image.astype('uint8')"


def analyze_many(
    analyzer: Analyzer,
    files: Sequence[PictureFile],
    finish: Finish | None = None,
    warn: Warn | None = None,
    *,
    threads: int | None = None,
) -> Generator[Answer, None, None]:
    """Yield each picture's faces, in the order of `files`; for one that cannot be read, what is wrong with it.

    The numbers are those of `Analyzer.analyze`. finish: called with (place in files, picture, its faces) in one of
    several threads, for instance to write a marked copy; what it raises ends the iteration. warn: called with a
    line about each file that is written oddly but whole, before its faces are yielded; None: a Python warning. threads:
    how many decode and search at once; None: one for each processor. Close the iterator to stop early: pictures that
    nobody has begun with are dropped.
    """
    with closing(process_many(files, lambda some: _analyzed(analyzer, some, finish), threads)) as answers:
        for answer, warning in answers:
            if warning and warn:
                warn(warning)
            elif warning:
                warnings.warn(warning, DecoderWarning, stacklevel=2)
            yield answer


def _analyzed(analyzer: Analyzer, pictures: list[Picture], finish: Finish | None) -> list[_Answered]:
    """Answer some pictures with one call of the network for all their faces."""
    images = [picture.decoded.pixels for picture in pictures if not isinstance(picture.decoded, ImageError)]
    faces = iter(analyzer.analyze_batch(images))
    answers: list[_Answered] = []
    for picture in pictures:
        if isinstance(picture.decoded, ImageError):
            answers.append((picture.decoded, ""))
            continue
        found = next(faces)
        answers.append((found, picture.decoded.warning))
        if finish:
            finish(picture.place, picture.decoded.pixels, found)
    return answers
