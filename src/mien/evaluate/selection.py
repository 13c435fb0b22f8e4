"""Which pictures are scored, and how they are read: as the model's own training read them, and none that it learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mien.data import open_dataset
from mien.data.classes import join_splits
from mien.data.crops import crop_faces, file_keys, stored_faces, with_margin
from mien.data.dataset import DataConfig, Dataset, Split
from mien.data.pictures import fingerprints_of
from mien.errors import DataError, MienError
from mien.evaluate.config import EvaluateConfig
from mien.evaluate.models import Scorer
from mien.settings import from_mapping, to_options
from mien.terminal import counted, first_names
from mien.train.run_folder import OUT_OF_FOLD

NAMED = 5  # names in a note, before "and more"
_Config = TypeVar("_Config", bound=DataConfig)
_CLASSES = ("labels", "merge", "classes")  # settings that hold for other data as well


def choose_split(
    data: Path, scorers: Sequence[Scorer], config: EvaluateConfig
) -> tuple[Dataset, str, EvaluateConfig]:
    """Open DATA as the first model's training did, and name the split to score; config: how it was read.

    Faces are cut as for the first model; `choose_for_each` cuts them for every one. What a model was fitted on is left
    out, known by content, whatever has been added, removed, renamed or moved since; only a picture that lies in the
    data's own train split as well stays where else it lies: it is a copy, and the report counts those. Raises DataError
    where nothing is left to score.
    """
    dataset, name, read = _chosen(data, scorers, config)
    cut, without = _cut_for(scorers[0], dataset, name, config)
    if without:
        cut = replace(cut, notes=(*cut.notes, f"no face found, left out: {first_names(without, NAMED)}"))
    return cut, name, read


def choose_for_each(
    data: Path, scorers: Sequence[Scorer], config: EvaluateConfig
) -> tuple[list[Dataset], str, EvaluateConfig]:
    """As `choose_split`, with the same pictures for each model, in which each sees faces as in its own training.

    A picture in which the face detector of one of them finds no face is left out for all.
    """
    whole, name, read = _chosen(data, scorers, config)
    # Rows instead of names, so that it can be told which pictures are left.
    numbered = {
        key: replace(split, names=list(map(str, range(len(split))))) for key, split in whole.splits.items()
    }
    cut = [_cut_for(scorer, replace(whole, splits=numbered), name, config)[0] for scorer in scorers]
    kept = {key: set.intersection(*(set(one.splits[key].names) for one in cut)) for key in numbered}
    if not kept[name]:
        raise DataError(f"no picture of {data} shows a face that the face detectors of all models find")
    lost = [
        whole.splits[name].names[row] for row in range(len(whole.split(name))) if str(row) not in kept[name]
    ]
    found = []
    for one in cut:
        splits = {}
        for key, split in one.splits.items():
            left = split.take(np.flatnonzero([row in kept[key] for row in split.names]))
            splits[key] = replace(left, names=[whole.splits[key].names[int(row)] for row in left.names])
        note = (f"no face found, left out for all models: {first_names(lost, NAMED)}",) if lost else ()
        found.append(replace(one, splits=splits, notes=(*one.notes, *note)))
    return found, name, read


def _chosen(
    data: Path, scorers: Sequence[Scorer], config: EvaluateConfig
) -> tuple[Dataset, str, EvaluateConfig]:
    dataset, read = _read_as_trained(data, scorers[0], config)
    dataset, name = _to_score(dataset, scorers, read)
    return dataset, name, read


def _cut_for(
    scorer: Scorer, dataset: Dataset, name: str, given: EvaluateConfig
) -> tuple[Dataset, Sequence[str]]:
    """Cut faces as one model takes them; also names the pictures without a face, which are left out.

    given: what the user asked for, before anything was taken from a training.
    """
    config = _cut_as_trained(given, scorer)
    if config.faces == "crop" and given.faces is None and not _all_stored(dataset):
        note = "faces are cut out as in the training of this model; where the pictures are faces already: --faces whole"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    return _cut(dataset, name, scorer, config)


def _to_score(dataset: Dataset, scorers: Sequence[Scorer], config: EvaluateConfig) -> tuple[Dataset, str]:
    seen = frozenset[bytes]().union(*(scorer.seen for scorer in scorers))
    if seen:
        seen |= _cut_from(dataset, frozenset[str]().union(*(scorer.seen_sources for scorer in scorers)))
    if config.split == OUT_OF_FOLD:
        return _out_of_fold(dataset, scorers), OUT_OF_FOLD
    if config.split:
        dataset.split(config.split)
        return (
            dataset if config.split == "train" else _without_moved(dataset, config.split, seen)
        ), config.split
    if len(dataset.splits.get("test", ())):
        return _without_moved(dataset, "test", seen), "test"
    if seen:
        return _by_content(dataset, scorers, seen)
    name = "validation" if len(dataset.splits.get("validation", ())) else "train"
    if not len(dataset.splits.get(name, ())):
        raise DataError(f"{dataset.source} has no pictures to score")
    return dataset, name


def _cut_from(dataset: Dataset, sources: frozenset[str]) -> frozenset[bytes]:
    """Return the fingerprints of the photographs out of which faces were cut that a model has learnt."""
    if not sources:
        return frozenset()
    return frozenset(
        key
        for split in dataset.splits.values()
        for key, file in zip(fingerprints_of(split.pictures).keys, file_keys(split.pictures), strict=True)
        if file in sources
    )


def _without_moved(dataset: Dataset, name: str, seen: frozenset[bytes]) -> Dataset:
    """Leave out of a split what the models were fitted on, unless it lies in the data's train split as well."""
    split = dataset.split(name)
    train = dataset.splits.get("train")
    copied = frozenset(fingerprints_of(train.pictures).keys) if train is not None else frozenset()
    new = np.array([key not in seen or key in copied for key in fingerprints_of(split.pictures).keys], bool)
    if not new.any():
        raise _all_seen(dataset, len(split))
    if new.all():
        return dataset
    kept = {**dataset.splits, name: split.take(np.flatnonzero(new))}
    return replace(
        dataset, splits=kept, notes=(*dataset.notes, _left_out(int((~new).sum()), len(split), name))
    )


def _by_content(dataset: Dataset, scorers: Sequence[Scorer], seen: frozenset[bytes]) -> tuple[Dataset, str]:
    """Sort the pictures of a set without a test part into those that the models learnt and those to score."""
    chosen_on = frozenset[bytes]().union(*(scorer.chosen_on for scorer in scorers))
    keys = {name: fingerprints_of(split.pictures).keys for name, split in dataset.splits.items()}
    copied = frozenset(keys.get("train", ()))
    learnt = {
        name: np.array([key in seen and (name == "train" or key not in copied) for key in mine], bool)
        for name, mine in keys.items()
    }
    count, total = sum(int(rows.sum()) for rows in learnt.values()), sum(map(len, keys.values()))
    if count == total:
        if all(scorer.fold_answers for scorer in scorers):
            return _out_of_fold(dataset, scorers), OUT_OF_FOLD
        raise _all_seen(dataset, total)
    if not count and set(dataset.splits) == {"train"}:
        return dataset, "train"
    splits = {
        "train": _parts(dataset, learnt),
        "new": _parts(dataset, {name: ~rows for name, rows in learnt.items()}),
    }
    familiar = sum(
        name == "validation" or key in chosen_on
        for name, mine in keys.items()
        for key, out in zip(mine, learnt[name], strict=True)
        if not out
    )
    name = "validation" if familiar else "test"
    notes = []
    if count:
        notes.append(_left_out(count, total))
    if familiar and familiar < total - count:
        notes.append(
            f"of the {total - count:,} pictures that are scored, {familiar:,} chose the model's best epoch and "
            f"calibration; {total - count - familiar:,} are new to it"
        )
    named = {name if key == "new" else key: part for key, part in splits.items() if part is not None}
    return replace(dataset, splits=named, notes=(*dataset.notes, *notes)), name


def _out_of_fold(dataset: Dataset, scorers: Sequence[Scorer]) -> Dataset:
    """Keep the pictures that every model's folds answered, as one part."""
    known = [scorer.fold_answers for scorer in scorers]
    if without := [scorer.metadata.name for scorer, found in zip(scorers, known, strict=True) if not found]:
        raise DataError(
            f"{without[0]} is no run that was trained with --folds; leave --split out-of-fold out"
        )
    both = frozenset.intersection(
        *(frozenset(key.tobytes() for key in found.keys) for found in known if found)
    )
    both -= frozenset[bytes]().union(*(scorer.learnt_before for scorer in scorers))
    rows = {
        name: np.array([key in both for key in fingerprints_of(split.pictures).keys], bool)
        for name, split in dataset.splits.items()
        if name != "test"
    }
    pool = _parts(dataset, rows)
    if pool is None:
        raise DataError(f"{dataset.source} has no picture of the training in folds")
    first = known[0]
    assert first
    found = first.for_pictures(pool)
    assert found
    right = [f"{len(part):,}" for part in (found.fold[found.fold == number] for number in range(first.count))]
    note = (
        f"out of fold: each picture is answered by one of {first.count} networks that were trained without it, its "
        f"group and its copies ({', '.join(right)} pictures); the network that ships was trained on all of them"
    )
    rest = {name: split for name, split in dataset.splits.items() if name == "test"}
    return replace(dataset, splits={OUT_OF_FOLD: pool, **rest}, notes=(*dataset.notes, note))


def _parts(dataset: Dataset, rows: Mapping[str, NDArray[np.bool_]]) -> Split | None:
    """Return the chosen rows of the splits that are named, behind each other; None where there are none."""
    parts = [
        dataset.splits[name].take(np.flatnonzero(chosen)) for name, chosen in rows.items() if chosen.any()
    ]
    return join_splits([("", part) for part in parts], len(dataset.classes)) if parts else None


def _left_out(count: int, total: int, name: str = "") -> str:
    what = f"{name} picture" if name else "picture"
    return f"left out, as the model was trained on them: {count:,} of {counted(total, what)}"


def _all_seen(dataset: Dataset, count: int) -> DataError:
    return DataError(
        f"this model was trained on all of {counted(count, 'picture')} of {dataset.source}, so they say nothing about "
        "it; score other pictures, or these with --split train"
    )


# Reading as the training did


def _read_as_trained(data: Path, scorer: Scorer, config: EvaluateConfig) -> tuple[Dataset, EvaluateConfig]:
    training = scorer.metadata.training
    return read_as_trained(
        training,
        _cut_as_trained(config, scorer),
        lambda settings: _opened(data, scorer, settings),
        same=_same_place(data, training.get("data")),
    )


def read_as_trained(
    training: Mapping[str, Any], config: _Config, opened: Callable[[_Config], Dataset], *, same: bool
) -> tuple[Dataset, _Config]:
    """Open data with the settings of a model's training where the user gives none of their own.

    How classes are named, joined and chosen is taken over where it fits the data; columns, groups and how validation is
    set aside only for the very data of the training (same).
    """
    stored = training.get("settings")
    recorded: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
    unset = {field.name for field in fields(DataConfig) if getattr(config, field.name) == field.default}
    if not unset.issuperset(_CLASSES):  # they act together
        unset -= set(_CLASSES)
    borrowed = {
        name: value for name, value in recorded.items() if name in unset and (same or name in _CLASSES)
    }
    tries = [borrowed, {name: value for name, value in borrowed.items() if name not in _CLASSES}]
    for values in tries:
        with suppress(MienError):
            known = from_mapping(DataConfig, values, "the settings of the training")
            settings = replace(config, **{name: getattr(known, name) for name in values})
            found = opened(settings)
            words = to_options(replace(DataConfig(), **{n: getattr(known, n) for n in values}), DataConfig)
            note = f"read as in the training of this model: {' '.join(words)}" if words else ""
            return replace(found, notes=(*found.notes, *filter(None, [note]))), settings
    return opened(config), config


def _opened(data: Path, scorer: Scorer, config: EvaluateConfig) -> Dataset:
    """Open DATA; a validation part is set aside where it is asked for, or where a test part is scored beside it.

    Without either the pictures stay together: by content it is known which of them a run has learnt.
    """
    whole = open_dataset(data, config, carve_validation=False)
    if "validation" in whole.splits:
        return whole
    if config.split != OUT_OF_FOLD and (config.split or len(whole.splits.get("test", ()))):
        return _carved(data, config) or whole
    if not scorer.seen:
        carved = _carved(data, config)
        return carved if carved and training_fingerprint(scorer) == carved.fingerprint else whole
    return whole


def _carved(data: Path, config: EvaluateConfig) -> Dataset | None:
    try:
        return open_dataset(data, config)
    except DataError:  # too small to be parted
        if config.split:
            raise
        return None


def _cut_as_trained(config: EvaluateConfig, scorer: Scorer) -> EvaluateConfig:
    known = scorer.metadata.face_detector
    faces = config.faces or ("crop" if known else "whole")
    if faces == "whole" or config.detector or config.detector_file:
        return replace(config, faces=faces)
    name, file = known or ("mien", None)
    return replace(config, faces=faces, detector=name, detector_file=file)


def _same_place(data: Path, about: Any) -> bool:
    path = about.get("path") if isinstance(about, Mapping) else None
    return isinstance(path, str) and data.absolute() == Path(path).absolute()


def training_fingerprint(scorer: Scorer) -> str | None:
    """Return the fingerprint of the data that a model was trained on, as its metadata say it."""
    about = scorer.metadata.training.get("data")
    return about.get("fingerprint") if isinstance(about, dict) else None


def trained_on(scorer: Scorer, dataset: Dataset) -> bool:
    """Say whether this is the data that a model was trained on: all that it learnt lies there, or it says so itself."""
    if training_fingerprint(scorer) == dataset.fingerprint:
        return True
    train = dataset.splits.get("train")
    return (
        bool(scorer.fitted_on)
        and train is not None
        and scorer.fitted_on <= set(fingerprints_of(train.pictures).keys)
    )


# Cutting as the training did


def _all_stored(dataset: Dataset) -> bool:
    return all(stored_faces(split.pictures).all() for split in dataset.splits.values())


def _cut(
    dataset: Dataset, name: str, scorer: Scorer, config: EvaluateConfig
) -> tuple[Dataset, Sequence[str]]:
    """Cut the faces out of what is scored, and of validation; of training pictures only the content is asked.

    Also returns the names of the pictures in which no face is found.
    """
    margin = scorer.metadata.preprocess.margin
    dataset = with_margin(dataset, margin)
    if config.faces == "whole" or _all_stored(dataset):
        return dataset, ()
    from mien.detect.registry import open_detector

    file = Path(config.detector_file) if config.detector_file else None
    found = open_detector(config.detector or "mien", file)
    asked = {key: part for key, part in dataset.splits.items() if key in (name, "validation")}
    cropped, without = crop_faces(replace(dataset, splits=asked), found, margin)
    return replace(cropped, splits={**dataset.splits, **cropped.splits}), without
