"""`evaluate`: a model and labelled pictures in, a report out, and a folder with its files where asked."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import DataConfig, Dataset, Split
from mien.errors import DataError, need
from mien.evaluate.config import EvaluateConfig
from mien.evaluate.metrics import (
    Calibration,
    QualityGroup,
    Scores,
    VotesScores,
    by_quality,
    five_fold_temperature,
    reliability,
    score,
    score_votes,
    selective,
    transferred_temperature,
    votes_head,
)
from mien.evaluate.models import Match, Scorer, match_classes, open_as
from mien.evaluate.profile import provenance
from mien.evaluate.render import REPORT_JSON, write_report
from mien.evaluate.report import DataSummary, Mistake, ModelSummary, Predictions, Report
from mien.evaluate.selection import NAMED, choose_split, trained_on
from mien.evaluate.significance import group_numbers
from mien.files import check_replaceable, check_writable, separate_paths, shell_word, without_folders
from mien.images.decode import workers
from mien.labels import FERPLUS
from mien.model.views import SINGLE, Probabilities, described
from mien.settings import to_options
from mien.terminal import OnStage, counted, first_names
from mien.train.run_folder import OUT_OF_FOLD


def evaluate(
    model: str | Path,
    data: Path,
    *,
    config: DataConfig | None = None,
    to: Path | None = None,
    command: str = "",
    progress: OnStage | None = None,
) -> Report:
    """Score a model on labelled pictures; write the report folder `to` where one is named.

    model: run, model folder, shipped name, `.keras`, `.h5` or `.onnx`. config: an EvaluateConfig, or the
    settings with which another command read the same data. The default split is test, or validation where
    there is no test; a set that has only one part is scored whole, unless the model was trained on it.
    Raises ModelError, DataError and OutputError, each with one line.
    """
    check_packages()
    if to is not None:
        # Now rather than after minutes of scoring.
        check_replaceable(to, "a report", REPORT_JSON)
        check_writable(to.parent)
    settings = EvaluateConfig.reading_as(config or EvaluateConfig())
    scorer = open_as(model, settings)
    dataset, split, read = choose_split(data, [scorer], settings)
    words = ["mien", "evaluate", str(model), str(data), *to_options(settings, EvaluateConfig)]
    command = command or shlex.join(words)
    report = evaluate_on(scorer, dataset, replace(read, split=split), command=command, progress=progress)
    if to is not None:
        write_report(report, to)
    return report


def check_packages() -> None:
    """Raise MissingExtra before anything is read, rather than after minutes of scoring."""
    for package in ("sklearn", "matplotlib", "jinja2"):
        need(package, "train", "evaluating")


def evaluate_on(
    scorer: Scorer,
    dataset: Dataset,
    config: EvaluateConfig,
    *,
    command: str = "",
    progress: OnStage | None = None,
    quality: bool = True,
) -> Report:
    """Score an open model on an open data set. config.split names the split; unset means test.

    quality: whether calibration by quality is measured, for which every picture is read once more.
    """
    name = config.split or "test"
    split = dataset.split(name)
    match = match_classes(scorer.metadata, dataset.classes, config.head)

    def answers(part: str) -> Probabilities:
        if part == OUT_OF_FOLD:
            return _fold_answers(scorer, dataset.split(part))
        tell = None if progress is None else partial(progress, f"scoring {part}")
        return scorer.probabilities(dataset.split(part), tta=config.tta, progress=tell)

    outputs = answers(name)
    probabilities = match.probabilities(outputs[match.head.name])
    copies = _copies(dataset, name)
    predictions = Predictions(
        tuple(split.names), dataset.classes, split.labels, probabilities, copies, group_numbers(split.groups)
    )
    validation = None
    if name != "validation" and len(dataset.splits.get("validation", ())):
        on_validation = match.probabilities(answers("validation")[match.head.name])
        validation = (on_validation, dataset.split("validation").labels)
    return Report(
        model=_model_summary(scorer, match),
        data=_data_summary(scorer, dataset, name, copies),
        tta=described(SINGLE if name == OUT_OF_FOLD else scorer.views(config.tta)),
        scores=_scores(predictions, np.ones(len(split), bool), config),
        deduplicated=_without(predictions, copies, config),
        without_near_copies=_without(predictions, _any_copies(dataset, name, copies), config),
        calibration=_calibration(probabilities, split.labels, validation, config),
        reliability=reliability(probabilities, split.labels),
        selective=selective(probabilities, split.labels, match.head.threshold),
        quality=_quality(probabilities, split) if quality else (),
        votes=_votes(scorer, outputs, split),
        top_losses=_top_losses(predictions, split, config.top_losses),
        notes=_notes(scorer, dataset, name, match),
        provenance=provenance(command, [scorer.path, *separate_paths(dataset.source)]),
        predictions=predictions,
    )


def _fold_answers(scorer: Scorer, split: Split) -> Probabilities:
    """Return what the folds of a run said of the pictures of a split, as calibrated as the network that ships."""
    found = scorer.fold_answers
    known = found.for_pictures(split) if found else None
    if known is None:
        raise DataError(f"the folds of {scorer.path} did not answer all of these pictures")
    return known.calibrated(scorer.metadata)


def _unreadable(dataset: Dataset) -> str:
    names = [found.name for found in dataset.unreadable]
    look = f"mien data {shell_word(without_folders(dataset.source))}"
    return f"cannot be read, left out: {first_names(names, NAMED)}; {look} says why" if names else ""


def _copies(dataset: Dataset, name: str) -> NDArray[np.bool_] | None:
    """Say which pictures of a split are copies of training pictures; None where there is nothing to compare with."""
    if name == "train" or not len(dataset.splits.get("train", ())):
        return None
    from mien.data.duplicates import copies_of_training

    return copies_of_training(dataset, name)


def _any_copies(dataset: Dataset, name: str, copies: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Say which pictures are pixel or near copies of training pictures.

    None where that is not known, or where there are no near copies, so that it would say nothing new.
    """
    if copies is None:
        return None
    from mien.data.duplicates import near_copies_of_training

    near = near_copies_of_training(dataset, name)
    return copies | near if near is not None and near.any() else None


def _without(
    predictions: Predictions, copies: NDArray[np.bool_] | None, config: EvaluateConfig
) -> Scores | None:
    if copies is None or not copies.any() or copies.all():
        return None
    return _scores(predictions, ~copies, config)


def _scores(predictions: Predictions, rows: NDArray[np.bool_], config: EvaluateConfig) -> Scores:
    groups = predictions.groups
    return score(
        predictions.probabilities[rows],
        predictions.labels[rows],
        predictions.classes,
        resamples=config.resamples,
        seed=config.seed,
        groups=None if groups is None else np.unique(groups[rows], return_inverse=True)[1].reshape(-1),
    )


def _calibration(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    validation: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    config: EvaluateConfig,
) -> tuple[Calibration, ...]:
    found = [five_fold_temperature(probabilities, labels, seed=config.seed)]
    if validation is not None:
        found.append(transferred_temperature(probabilities, labels, validation))
    return tuple(calibration for calibration in found if calibration)


_MEASURED = 4000  # pictures whose quality is measured, drawn evenly from more
_QUALITY_PX = 112  # side at which sharpness is measured, as in face sets


def _quality(probabilities: NDArray[np.float32], split: Split) -> tuple[QualityGroup, ...]:
    """Return calibration by what the pictures are like: size, light, contrast, sharpness."""
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), _MEASURED)).astype(int))
    with ThreadPoolExecutor(workers()) as pool:
        found = np.array(list(pool.map(lambda row: _qualities(split.pictures.read(int(row))), rows)))
    names = (
        "smallest / largest",
        "darkest / brightest",
        "flattest / most contrasted",
        "most blurred / sharpest",
    )
    return by_quality(probabilities[rows], split.labels[rows], dict(zip(names, found.T, strict=True)))


def _qualities(picture: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Return side in pixels, mean level, standard deviation of the levels, and variance of the Laplacian."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    small = cv2.resize(grey, (_QUALITY_PX, _QUALITY_PX), interpolation=cv2.INTER_AREA)
    sharp = float(cv2.Laplacian(small, cv2.CV_64F).var())
    return float(max(picture.shape[:2])), float(grey.mean()), float(grey.std()), sharp


def _votes(scorer: Scorer, outputs: Probabilities, split: Split) -> VotesScores | None:
    head = votes_head(scorer.heads)
    if head is None or split.votes is None or not split.votes.any():
        return None
    return score_votes(head, outputs[head.name], split.votes)


def _top_losses(predictions: Predictions, split: Split, most: int) -> tuple[Mistake, ...]:
    """Return the wrong answers of which the model was surest, surest first."""
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(~predictions.right)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    answers = predictions.probabilities.argmax(axis=1)
    mistakes = []
    for row in chosen.tolist():
        label = int(predictions.labels[row])
        mistakes.append(
            Mistake(
                name=predictions.names[row],
                label=predictions.classes[label],
                predicted=predictions.classes[int(answers[row])],
                confidence=float(confidence[row]),
                label_probability=float(predictions.probabilities[row, label]),
                raters=_raters(split.votes[row]) if split.votes is not None else "",
                picture=split.pictures.read(row),
            )
        )
    return tuple(mistakes)


def _raters(votes: NDArray[np.float32]) -> str:
    """Return the two most chosen labels with their votes, such as 'fear 5, surprise 3'."""
    most = [place for place in np.argsort(-votes, kind="stable")[:2] if votes[place] > 0]
    return ", ".join(f"{FERPLUS[place]} {votes[place]:.0f}" for place in most)


def _notes(scorer: Scorer, dataset: Dataset, name: str, match: Match) -> tuple[str, ...]:
    notes = [scorer.note, match.note, *dataset.notes, _unreadable(dataset)]
    if name == "train":
        whole = set(dataset.splits) == {"train"}
        notes.append(
            (
                "the data has no split of its own, so all of it was scored; "
                + (
                    "none of it was learnt by this model"
                    if scorer.seen
                    else "it must not have been trained on"
                )
            )
            if whole and not trained_on(scorer, dataset)
            else "these are training pictures: the figures say how well they are remembered, no more"
        )
    if (groups := group_numbers(dataset.split(name).groups)) is not None:
        notes.append(
            f"intervals draw {counted(int(groups.max()) + 1, 'group')} (persons, films), not pictures, "
            "because those of one group are right or wrong together"
        )
    if lacking := [
        label for label, count in dataset.split(name).counts(dataset.classes).items() if not count
    ]:
        notes.append(f"no pictures of {', '.join(lacking)} in this split; means over classes leave them out")
    return tuple(note for note in notes if note)


def _model_summary(scorer: Scorer, match: Match) -> ModelSummary:
    return ModelSummary(
        name=scorer.metadata.name,
        path=without_folders(scorer.path),
        kind=scorer.kind,
        labels=match.head.labels,
        head=match.head.name,
        parameters=scorer.parameters,
        size_bytes=scorer.size_bytes,
        metadata=scorer.metadata.to_dict(),
    )


def _data_summary(
    scorer: Scorer, dataset: Dataset, name: str, copies: NDArray[np.bool_] | None
) -> DataSummary:
    return DataSummary(
        name=dataset.name,
        path=without_folders(dataset.source),
        split=name,
        counts=dataset.split(name).counts(dataset.classes),
        splits={key: len(part) for key, part in dataset.splits.items()},
        fingerprint=dataset.fingerprint,
        copies=None if copies is None else int(copies.sum()),
        trained_on=trained_on(scorer, dataset),
        unreadable=tuple(f"{found.name}: {found.reason}" for found in dataset.unreadable),
    )
