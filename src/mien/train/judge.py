"""Calibrating a trained network on validation, before it is exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from mien.predict.heads import Blend, Head

BLEND = "expression"  # name of the answer that mixes label and votes


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


def blended(
    heads: Sequence[Head],
    answers: Sequence[NDArray[np.float32]],
    split: Split,
    share: float | None,
    data: str,
) -> tuple[Blend | None, tuple[dict[str, Any], ...]]:
    """Mix the label head and the votes head, calibrated; nothing where there is no share or no votes head.

    answers: one (n, labels) array of raw probabilities a head. share: weight of the votes. The temperature is
    fitted to the mean of both targets, the label and the raters' shares: what one more person would answer.
    The score counts an answer as right when it is the raters' favourite among the labels.
    """
    if share is None or len(heads) < 2 or split.votes is None:
        return None, ()
    first, votes = heads[0], heads[1]
    shares = {first.name: 1 - share, votes.name: share}
    sure = {
        head.name: with_temperature(answer, head.temperature)
        for head, answer in zip(heads, answers, strict=True)
    }
    raw = Blend(name=BLEND, labels=first.labels, shares=shares)
    raters = split.votes[:, [votes.labels.index(label) for label in first.labels]]
    known = raters.any(axis=1)
    mixed = raw.of(sure, heads)[known]
    rated = raters[known] / raters[known].sum(axis=1, keepdims=True)
    targets = (np.eye(len(first.labels))[split.labels[known]] + rated) / 2
    temperature = fit_temperature(mixed, targets)
    favourite = rated.argmax(axis=1)
    final = with_temperature(mixed, temperature)
    blend = replace(raw, temperature=temperature, threshold=uncertain_threshold(final, favourite))
    score = {
        "data": data, "split": "validation", "head": BLEND, "n": len(favourite),
        "accuracy": float((final.argmax(axis=1) == favourite).mean()),
        "ece": expected_calibration_error(final, favourite),
    }  # fmt: skip
    return blend, (score,)


def _targets(
    name: str, labels: tuple[str, ...], split: Split
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    """Return which faces count, (n,), and what they should be answered with, (n, labels)."""
    if name != "votes":
        return np.ones(len(split), bool), np.eye(len(labels))[split.labels]
    votes = np.zeros((len(split), len(labels))) if split.votes is None else split.votes
    total = votes.sum(axis=1, keepdims=True)
    return total[:, 0] > 0, votes / np.maximum(total, 1)
