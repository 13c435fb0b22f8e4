"""Explaining one answer about one face: the map, what it is of, and how it does against chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.explain.chance import Check, check_map
from mien.explain.covering import Answers
from mien.explain.rise import rise
from mien.labels import canonical
from mien.predict.heads import Head

RISE, GRAD_CAM = "rise", "grad-cam"
METHODS = (RISE, GRAD_CAM)
GRID = 8  # cells a side of the map as numbers
_FAINT = 0.05  # a difference of less than this is nothing to colour strongly

# One prepared face, (size, size, channels) uint8, and the place of a label, to (size, size) float32.
Mapper = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Heat:
    """Where in a face the answer lies.

    values: (size, size) float32 in the frame of the network's input. By RISE: how much higher the
    probability is with the place seen than with it covered, negative where it is lower. By Grad-CAM: 0 to 1, in
    shares of the hottest place.
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
    check: Check

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
            "grid": grid(self.values),
            "check": self.check.to_dict(),
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

    def explain(self, face: NDArray[np.uint8], label: str | None = None) -> Heat:
        """Explain the answer about one face.

        face: (size, size, channels) uint8, as `mien.preprocess.to_model_input` prepares it. label: what to explain;
        None: the network's decision. Raises ConfigError for a label that the head does not have.
        """
        wanted = None if label is None else find_label(self.head, label)
        shares = self._answers(face[None])[0]
        target = int(shares.argmax()) if wanted is None else wanted
        values = self._mapper(face, target)
        return Heat(
            method=self.method,
            head=self.head.name,
            label=self.head.labels[target],
            probability=float(shares[target]),
            decision=self.head.labels[int(shares.argmax())],
            face=face,
            values=values,
            check=check_map(self._answers, face, values, target, self._seed),
        )


def find_label(head: Head, label: str) -> int:
    """Return the place of a label in a head, in any spelling that mien knows; ConfigError where it has none."""
    for place, known in enumerate(head.labels):
        if canonical(known) == canonical(label):
            return place
    raise ConfigError(f"the head {head.name!r} has no label {label!r}; it has: {', '.join(head.labels)}")


def grid(values: NDArray[np.float32], cells: int = GRID) -> list[list[float]]:
    """Return a map as cells x cells means."""
    small = cv2.resize(values, (cells, cells), interpolation=cv2.INTER_AREA)
    return [[float(value) for value in row] for row in small]
