"""A model's votes head against the ten raters of FER+ (Barsoum et al. 2016, arXiv:1608.01041)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.labels import FERPLUS, canonical
from mien.model.calibration import negative_log_likelihood
from mien.model.heads import Head

RATERS = 10
_OUTLIER = 2  # a label that fewer raters chose counts as a slip


@dataclass(frozen=True, kw_only=True)
class VotesScores:
    """Accuracy under three protocols, with how many faces each keeps, and the cross-entropy in nats.

    clear: faces on which more than five of the ten raters chose one label, single votes counted. Published figures
    do not always say whether 'majority' is this or the authors' own protocol; this one keeps fewer, clearer faces.
    """

    head: str
    majority_accuracy: float | None
    majority_n: int
    plurality_accuracy: float | None
    plurality_n: int
    clear_accuracy: float | None
    clear_n: int
    cross_entropy: float
    cross_entropy_n: int

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def votes_head(heads: tuple[Head, ...]) -> Head | None:
    """Return the head that answers with the eight classes of FER+, in any order; None where there is none."""
    wanted = {canonical(name) for name in FERPLUS}
    return next((head for head in heads if {canonical(label) for label in head.labels} == wanted), None)


def winners(votes: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return each face's winning class and whether the majority and the plurality protocol keep the face.

    votes: (n, 8) counts. As in the authors' own code, a label chosen by a single rater is dropped first.
    Plurality keeps a face whose most chosen label is one of the eight; majority also asks that it has over
    half of the votes that are left. 'Unknown' and 'no face' are not in the array: what is missing from ten
    raters is taken as one such label. On PublicTest this keeps 3,199 and 3,553 faces, exactly as with all
    ten columns; on Training 11 and 8 of 28,709 faces differ.
    """
    other = np.maximum(RATERS - votes.sum(axis=1, keepdims=True), 0)
    counted = np.concatenate([votes, other], axis=1)
    counted = np.where(counted < _OUTLIER, 0, counted)
    winner, best, total = counted.argmax(axis=1), counted.max(axis=1), counted.sum(axis=1)
    plurality = (best > 0) & (winner < votes.shape[1])
    return winner, plurality & (best > total / 2), plurality


def score_votes(head: Head, outputs: NDArray[np.float32], votes: NDArray[np.float32]) -> VotesScores:
    """Score a votes head. outputs: (n, 8) in the head's own order. votes: (n, 8) counts in the order
    FERPLUS.

    The cross-entropy is to the shares of the raters who chose one of the eight labels; faces without any are
    left out of it.
    """
    order = [canonical(label) for label in head.labels]
    answers = outputs[:, [order.index(canonical(name)) for name in FERPLUS]]
    winner, majority, plurality = winners(votes)
    right = answers.argmax(axis=1) == winner
    clear = votes.max(axis=1, initial=0) > RATERS / 2  # then it is also the winner of the other protocols
    total = votes.sum(axis=1)
    rated = total > 0
    shares = votes[rated] / total[rated, None]
    return VotesScores(
        head=head.name,
        majority_accuracy=_mean(right[majority]),
        majority_n=int(majority.sum()),
        plurality_accuracy=_mean(right[plurality]),
        plurality_n=int(plurality.sum()),
        clear_accuracy=_mean(right[clear]),
        clear_n=int(clear.sum()),
        cross_entropy=negative_log_likelihood(answers[rated], shares) if rated.any() else 0.0,
        cross_entropy_n=int(rated.sum()),
    )


def _mean(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None
