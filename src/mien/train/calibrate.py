"""Calibrating a trained network on validation, before it is exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Dataset, Split
from mien.model.calibration import (
    calibrated,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    over_folds,
    uncertain_threshold,
    with_temperature,
)
from mien.model.metadata import Blend, Head, Metadata

BLEND = "expression"  # name of the answer that mixes label and votes
# Validation pictures from which two numbers are fitted instead of one: fewer do not show the S of label smoothing.
_ENOUGH = 1000


def calibrated_metadata(
    metadata: Metadata,
    answers: Sequence[NDArray[np.float32]],
    dataset: Dataset,
    *,
    share: float | None,
    adjustment: float,
) -> Metadata:
    """Return the metadata with heads calibrated on validation, their mixture where one is asked for, and scores.

    answers: of the network to the validation pictures, one (n, labels) array of probabilities a head. share,
    adjustment: of the mixture, see `planned`.
    """
    split = dataset.split("validation")
    labels = {head.name: head.labels for head in metadata.heads}
    heads, scores = calibrated_heads(labels, answers, split, dataset.name)
    plan = planned(labels, share, adjustment, dataset.split("train"))
    blend, more = blended(heads, answers, split, plan, dataset.name)
    return replace(metadata, heads=heads, blend=blend, scores=scores + more)


def calibrated_heads(
    heads: Mapping[str, tuple[str, ...]], answers: Sequence[NDArray[np.float32]], split: Split, data: str
) -> tuple[tuple[Head, ...], tuple[dict[str, Any], ...]]:
    """Fit temperature, smoothing and threshold of each head on validation; return the heads and their scores there.

    answers: one (n, labels) array of probabilities a head. data: name of the data set, for the scores. A head
    about which validation says nothing (votes, where it has none) keeps its raw probabilities and gets no score.
    A score's `ece` is of the same pictures, `ece_five_folds` of those that a calibration was not fitted on.
    """
    done, scores = [], []
    for (name, labels), answer in zip(heads.items(), answers, strict=True):
        known, targets = _targets(name, labels, split)
        if not known.any():
            done.append(Head(name=name, labels=labels))
            continue
        raw, wanted = answer[known], targets[known]
        truth = wanted.argmax(axis=1)
        temperature, smoothing = _fitted(raw, wanted)
        sure = calibrated(raw, temperature, smoothing)
        head = Head(name=name, labels=labels, temperature=temperature, smoothing=smoothing)
        done.append(replace(head, threshold=uncertain_threshold(sure, truth)))
        unseen = np.empty(raw.shape)
        for rest, fold in over_folds(len(raw), 0):
            unseen[fold] = (
                calibrated(raw[fold], *_fitted(raw[rest], wanted[rest])) if len(rest) else raw[fold]
            )
        scores.append(
            {
                "data": data,
                "split": "validation",
                "head": name,
                "n": len(truth),
                "accuracy": float((raw.argmax(axis=1) == truth).mean()),
                "ece": expected_calibration_error(sure, truth),
                "ece_five_folds": expected_calibration_error(unseen, truth),
            }
        )
    return tuple(done), tuple(scores)


def _fitted(raw: NDArray[np.floating], targets: NDArray[np.floating]) -> tuple[float, float]:
    """Return temperature and smoothing. targets: (n, labels); only labels were smoothed, shares of raters never are."""
    if len(raw) < _ENOUGH or ((targets > 0) & (targets < 1)).any():
        return fit_temperature(raw, targets), 0.0
    return fit_calibration(raw, targets)


def planned(
    heads: Mapping[str, tuple[str, ...]], share: float | None, adjustment: float, train: Split
) -> Blend | None:
    """Return the mixture that a training is to end with, its temperature still 1; None without a share or votes head.

    heads: labels by name, the votes head last. share: weight of the votes. adjustment: see `Blend`.
    """
    if share is None or len(heads) < 2:
        return None
    (first, labels), (votes, _) = heads.items()
    counts = np.bincount(train.labels, minlength=len(labels))
    prior = dict(zip(labels, (counts / counts.sum()).tolist(), strict=True)) if adjustment else {}
    shares = {first: 1 - share, votes: share}
    return Blend(name=BLEND, labels=labels, shares=shares, prior=prior, adjustment=adjustment)


def blended(
    heads: Sequence[Head],
    answers: Sequence[NDArray[np.float32]],
    split: Split,
    plan: Blend | None,
    data: str,
) -> tuple[Blend | None, tuple[dict[str, Any], ...]]:
    """Calibrate the mixture of the label head and the votes head; nothing where there is no plan or no votes.

    answers: one (n, labels) array of raw probabilities a head. plan: what is to be mixed, from `planned`. An answer
    is right when it is the raters' favourite among the labels, and the temperature is fitted to that: its probability
    is that of naming what most people would. Fitted to the shares of the raters instead, which is what one more
    person would say, its answers were right 13 points more often than they said on photographs.
    """
    if plan is None or split.votes is None:
        return None, ()
    first, votes = heads
    sure = {
        head.name: calibrated(answer, head.temperature, head.smoothing)
        for head, answer in zip(heads, answers, strict=True)
    }
    known, favourite = favourites(split.votes, votes.labels, first.labels)
    mixed = plan.of(sure, heads)[known]
    temperature = fit_temperature(mixed, np.eye(len(first.labels))[favourite])
    final = with_temperature(mixed, temperature)
    blend = replace(plan, temperature=temperature, threshold=uncertain_threshold(final, favourite))
    return blend, (favourite_score(final, favourite, data),)


def favourites(
    votes: NDArray[np.floating], labels: Sequence[str], among: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return which faces a rater gave one of the labels `among`, (n,), and the one that most gave those faces.

    votes: (n, labels) counts of raters.
    """
    raters = votes[:, [list(labels).index(label) for label in among]]
    known = raters.sum(axis=1) > 0
    return known, raters[known].argmax(axis=1)


def favourite_score(
    answers: NDArray[np.floating], favourite: NDArray[np.integer], data: str
) -> dict[str, Any]:
    """Score the mixture's answers, (n, labels), against the raters' favourite labels, (n,)."""
    return {
        "data": data,
        "split": "validation, FER+ favourite",
        "head": BLEND,
        "n": len(favourite),
        "accuracy": float((answers.argmax(axis=1) == favourite).mean()),
        "ece": expected_calibration_error(answers, favourite),
    }


def _targets(
    name: str, labels: tuple[str, ...], split: Split
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    """Return which faces count, (n,), and what they should be answered with, (n, labels).

    Soft labels of a table are their largest share here, as everywhere where answers are judged: see `blended`.
    """
    if name != "votes":
        return np.ones(len(split), bool), np.eye(len(labels))[split.labels]
    votes = np.zeros((len(split), len(labels))) if split.votes is None else split.votes
    total = votes.sum(axis=1, keepdims=True)
    return total[:, 0] > 0, votes / np.maximum(total, 1)
