"""Bringing a model's labels and a data set's classes together by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError
from mien.labels import matching_place
from mien.model.metadata import Head, Metadata


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
