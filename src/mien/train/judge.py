"""Calibrating a trained network on validation, before it is exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.calibrate import (
    expected_calibration_error,
    fit_temperature,
    uncertain_threshold,
    with_temperature,
)
from mien.data.dataset import Split
from mien.predict.model_folder import Head


def calibrated_heads(
    heads: Mapping[str, tuple[str, ...]], answers: Sequence[NDArray[np.float32]], split: Split, data: str
) -> tuple[tuple[Head, ...], tuple[dict[str, Any], ...]]:
    """Fit temperature and threshold of each head on validation; return the heads and their scores there.

    answers: one (n, labels) array of probabilities a head. data: name of the data set, for the scores. A head
    about which validation says nothing (votes, where it has none) keeps its raw probabilities and gets no score.
    """
    done, scores = [], []
    for (name, labels), answer in zip(heads.items(), answers, strict=True):
        known, targets = _targets(name, labels, split)
        if not known.any():
            done.append(Head(name=name, labels=labels))
            continue
        raw, truth = answer[known], targets[known].argmax(axis=1)
        temperature = fit_temperature(raw, targets[known])
        sure = with_temperature(raw, temperature)
        threshold = uncertain_threshold(sure, truth)
        done.append(Head(name=name, labels=labels, temperature=temperature, threshold=threshold))
        scores.append(
            {
                "data": data,
                "split": "validation",
                "head": name,
                "n": len(truth),
                "accuracy": float((raw.argmax(axis=1) == truth).mean()),
                "ece": expected_calibration_error(sure, truth),
            }
        )
    return tuple(done), tuple(scores)


def _targets(
    name: str, labels: tuple[str, ...], split: Split
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    """Return which faces count, (n,), and what they should be answered with, (n, labels)."""
    if name != "votes":
        return np.ones(len(split), bool), np.eye(len(labels))[split.labels]
    votes = np.zeros((len(split), len(labels))) if split.votes is None else split.votes
    total = votes.sum(axis=1, keepdims=True)
    return total[:, 0] > 0, votes / np.maximum(total, 1)
