"""What an analysis returns: a `Face` a face, `Faces` a picture, and what speaks against relying on an answer.

Also their table, a row a face, as `mien predict --csv`, `--parquet` and `mien batch` write it.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from mien.detect.base import Box, Detection, Landmarks, checked, tilt_degrees
from mien.errors import ConfigError, DataError, ImageError, need, optional_package
from mien.files import given_path
from mien.terminal import sure

_SUM_TOLERANCE = 1e-4  # far above the rounding of a float32 softmax, far below what anyone would notice
# Decimals in JSON, CSV and tables of data: of a probability, of a detector's score, of a place in pixels.
_SHARE_DIGITS, _SCORE_DIGITS, _PLACE_DIGITS = 4, 3, 1
_SHOWN_PX = 480  # longer side of the picture in a notebook
# Of CSV, Parquet and pandas; p_LABEL follows for each label. In files `path` comes first.
COLUMNS = (
    *("face", "emotion", "probability", "uncertain", "reasons", "head", "prior"),
    *("x", "y", "width", "height", "score"),
)

SMALL, TURNED, PALE, UNSURE, COVERED = "small", "turned", "low contrast", "unsure", "covered?"
NO_FACE = "no face?"  # a whole picture in which the detector sees hardly anything
REASONS = (SMALL, TURNED, PALE, UNSURE, COVERED, NO_FACE)
_SMALL_PX = 24.0  # longer side of the box below which the network is given more pixels than there are
_TURNED_DEGREES = 45.0  # of the line of the eyes
_UNSURE_SCORE = 0.5  # of the detector
_COVERED = 0.5  # how likely it has to be
_NO_FACE_SCORE = 0.25  # see `MienDetector.face_score`
_TYPES = {  # of Parquet's columns; the others are numbers
    **dict.fromkeys(("path", "emotion", "reasons", "head", "prior", "problem", "source", "error"), "string"),
    **dict.fromkeys(("face", "frame", "track"), "int32"),
    **dict.fromkeys(("uncertain", "interpolated"), "bool"),
}


class Probabilities(dict[str, float]):
    """Label to probability, read-only, in the network's order. A dict, so that JSON, pickle and pandas take it."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the probabilities of a result are read-only; copy them first: dict(probabilities)")

    __setitem__ = __delitem__ = update = pop = popitem = clear = setdefault = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return Probabilities, (dict(self),)


def rounded(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Return probabilities to the four decimals that JSON and CSV have."""
    return {label: round(share, _SHARE_DIGITS) for label, share in probabilities.items()}


@dataclass(frozen=True, kw_only=True, repr=False)
class Face:
    """One face in a picture, and the expression that people would see in it.

    emotion: the label with the highest probability; in a video one keeps its name until another is well ahead
    (`mien.video.tracking`). probability: of the emotion, calibrated, 0 to 1.
    probabilities: label to probability, in the network's order; they sum to one. head: the answer of the network
    that they come from. prior: how often the labels were taken to occur, see `mien.model.calibration`. uncertain:
    whether the emotion had better not be relied on: the probability is below the head's threshold, or one of the
    reasons is `no face?`. reasons: what speaks against relying on it, in words: see `reasons`. box, score, landmarks:
    see `Detection`. Raises DataError on values that contradict each other.
    """

    emotion: str
    probability: float
    probabilities: Mapping[str, float] = field(hash=False)
    head: str
    box: Box
    score: float | None = None
    landmarks: Landmarks | None = None
    uncertain: bool = False
    prior: str = "everyday"
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shares = Probabilities(self.probabilities)
        if not all(0 <= share <= 1 for share in shares.values()):
            raise DataError(f"probabilities must be from 0 to 1, got {dict(shares)}")
        if abs(math.fsum(shares.values()) - 1) > _SUM_TOLERANCE:
            raise DataError(
                f"probabilities must sum to one, got {math.fsum(shares.values())} of {dict(shares)}"
            )
        if shares.get(self.emotion) != self.probability:
            raise DataError(
                f"the emotion must be one of {', '.join(shares)} and have its probability there, got "
                f"{self.emotion!r} at {self.probability}, {shares.get(self.emotion)} there"
            )
        box, landmarks = checked(self.box, self.score, self.landmarks)
        for name, value in (("probabilities", shares), ("box", box), ("landmarks", landmarks)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        x, y, width, height = (round(value) for value in self.box)
        doubt = "?" if self.uncertain else ""
        return (
            f"Face({self.emotion}{doubt} {sure(self.probability)}, x={x} y={y} width={width} height={height})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes: probabilities to four decimals, the score to three, pixels to one."""
        return {
            "emotion": self.emotion,
            "probability": round(self.probability, _SHARE_DIGITS),
            "uncertain": self.uncertain,
            "reasons": list(self.reasons),
            "probabilities": rounded(self.probabilities),
            "head": self.head,
            "prior": self.prior,
            "box": [round(value, _PLACE_DIGITS) for value in self.box],
            "score": None if self.score is None else round(self.score, _SCORE_DIGITS),
            "landmarks": self.landmarks
            and [[round(x, _PLACE_DIGITS), round(y, _PLACE_DIGITS)] for x, y in self.landmarks],
        }

    def row(self, number: int) -> list[Any]:
        """Return the values of COLUMNS, then of each label. number: of the face in its picture, from 1."""
        values = self.to_dict()
        return [
            number,
            *(values[name] for name in ("emotion", "probability", "uncertain")),
            " ".join(reason.replace(" ", "-") for reason in self.reasons),
            *(values[name] for name in ("head", "prior")),
            *values["box"],
            values["score"],
            *values["probabilities"].values(),
        ]


class Faces(tuple[Face, ...]):
    """The faces of one picture, the largest first: a tuple, with what one does next.

    image: the picture itself, as `Analyzer.analyze` takes it; None where it was not kept (`analyze_batch`), so that
    many pictures take little memory. coarse: whether the picture is so large that it was searched at a fraction of
    its size, so that small faces may have been missed; a larger `detect_size` searches it closer.
    """

    image: NDArray[np.uint8] | None
    coarse: bool

    def __new__(
        cls, faces: Iterable[Face] = (), image: NDArray[np.uint8] | None = None, *, coarse: bool = False
    ) -> Faces:
        made = super().__new__(cls, faces)
        made.image, made.coarse = image, coarse
        return made

    @overload
    def __getitem__(self, place: SupportsIndex) -> Face: ...
    @overload
    def __getitem__(self, place: slice) -> Faces: ...
    def __getitem__(self, place: Any) -> Any:
        """A part of the faces still knows its picture, so that it can be saved."""
        found = super().__getitem__(place)
        return Faces(found, self.image, coarse=self.coarse) if isinstance(place, slice) else found

    def __repr__(self) -> str:
        return f"Faces({', '.join(map(repr, self))})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the marked picture."""
        caption = html.escape("; ".join(map(_caption, self)) or "no face found")
        if self.image is None or not self.image.size:
            return f"<p>{caption}</p>"
        import cv2

        from mien.detect.base import resized
        from mien.predict.annotate import annotated

        shown = annotated(self.image, self)
        if max(shown.shape[:2]) > _SHOWN_PX:
            shown, _ = resized(shown, _SHOWN_PX)
        data = base64.b64encode(cv2.imencode(".jpg", shown[:, :, ::-1])[1].tobytes()).decode("ascii")
        picture = f'<img src="data:image/jpeg;base64,{data}" alt="{caption}">'
        return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"

    def save(self, path: str | Path, image: NDArray[np.uint8] | None = None) -> Path:
        """Write the picture with the faces marked, in the format that the name ends in; return where.

        image: the picture, where it was not kept. Raises OutputError where it cannot be written, DataError without a
        picture.
        """
        from mien.images.canvas import write_picture
        from mien.images.marks import mark_for
        from mien.predict.annotate import annotated

        place = given_path(path)
        write_picture(place, annotated(self._picture(image), self), mark_for("saved"))
        return place

    def crops(self, margin: float = 1.0, image: NDArray[np.uint8] | None = None) -> list[NDArray[np.uint8]]:
        """Cut each face out, turned so that its eyes are level: (side, side, 3) uint8, RGB.

        margin: side of the square over the longer side of the face box.
        """
        from mien.detect.base import align

        if not isinstance(margin, Real):
            raise ConfigError(f"margin must be a number above 0 (1 is the face box itself), got {margin!r}")
        picture = self._picture(image)
        return [align(picture, Detection(face.box, face.score, face.landmarks), margin) for face in self]

    def to_dict(self) -> list[dict[str, Any]]:
        """Return what JSON takes: one object a face."""
        return [face.to_dict() for face in self]

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`, a row a face, with the columns of `mien predict --csv` but path and problem."""
        pandas = optional_package("pandas")
        labels = list(self[0].probabilities) if self else []
        names = [*COLUMNS, *(f"p_{label}" for label in labels)]
        return pandas.DataFrame([face.row(n) for n, face in enumerate(self, start=1)], columns=names)

    def to_supervision(self) -> Any:
        """Return `supervision.Detections`: boxes as xyxy, confidence: the emotion's probability, class: its label."""
        supervision = optional_package("supervision")
        labels = list(self[0].probabilities) if self else []
        return supervision.Detections(
            xyxy=np.array([face.box.xyxy for face in self], np.float32).reshape(-1, 4),
            confidence=np.array([face.probability for face in self], np.float32),
            class_id=np.array([labels.index(face.emotion) for face in self], int),
            data={"class_name": np.array([face.emotion for face in self], str)},
        )

    def _picture(self, given: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        picture = self.image if given is None else given
        if picture is None:
            raise DataError(
                "these faces do not hold their picture (analyze_batch keeps none, to save memory); give it: image=…"
            )
        return picture


def _caption(face: Face) -> str:
    return f"{face.emotion}{'?' if face.uncertain else ''} {sure(face.probability)}"


def reasons(face: Detection, cover: float = 0.0) -> tuple[str, ...]:
    """Return what speaks against relying on the answer, in words; nothing: an empty tuple.

    cover: how likely it is that something hides a part of the face, 0 to 1, as the network says it.

    small: under 24 pixels. turned: the eyes' line tilts by more than 45 degrees, as training pictures did not, or a
    picture that is the face was turned.
    low contrast: seen only after the levels were stretched, as in a dark picture. unsure: the detector is hardly sure
    that this is a face. no face?: the same for a picture that was said to be one. covered?: sunglasses, a mask, a
    hand, a microphone or the like is likelier than not.
    """
    found = []
    if max(face.box.width, face.box.height) < _SMALL_PX:
        found.append(SMALL)
    if face.quarter_turns or abs(tilt_degrees(face.landmarks)) > _TURNED_DEGREES:
        found.append(TURNED)
    if face.levels is not None:
        found.append(PALE)
    if face.score is not None:
        if face.whole:
            found += [NO_FACE] if face.score < _NO_FACE_SCORE else []
        elif face.score < _UNSURE_SCORE:
            found.append(UNSURE)
    if cover >= _COVERED and NO_FACE not in found:
        found.append(COVERED)
    return tuple(found)


def is_uncertain(probability: float, threshold: float, said: Sequence[str]) -> bool:
    """Whether an answer had better not be relied on. threshold: of its head. said: its reasons."""
    return probability < threshold or NO_FACE in said


def table_columns(labels: Sequence[str]) -> list[str]:
    """Return path, the columns of a face, p_LABEL for each label, problem."""
    return ["path", *COLUMNS, *(f"p_{label}" for label in labels), "problem"]


def table_rows(name: str, faces: Faces | ImageError, labels: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the rows of one picture: one a face; one with the name alone where there is none or it cannot be read.

    name: what the picture is called in the column `path`.
    """
    if isinstance(faces, ImageError) or not faces:
        problem = str(faces) if isinstance(faces, ImageError) else None
        yield [name, *[None] * (len(COLUMNS) + len(labels)), problem]
        return
    for number, face in enumerate(faces, start=1):
        yield [name, *face.row(number), None]


def arrow_schema(names: Sequence[str]) -> Any:
    """Return the `pyarrow.Schema` of these columns; MissingExtra without pyarrow."""
    arrow = need("pyarrow", "parquet", "writing Parquet")
    types = [arrow.type_for_alias(_TYPES.get(name, "float64")) for name in names]
    return arrow.schema(list(zip(names, types, strict=True)))


def arrow_table(rows: Sequence[Sequence[Any]], schema: Any) -> Any:
    """Return rows as a `pyarrow.Table`."""
    arrow = need("pyarrow", "parquet", "writing Parquet")
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return arrow.table(
        [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
