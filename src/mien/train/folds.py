"""`--folds K`: every picture answered by a network that never saw it, and one network trained on all of them.

For sets too small to spare validation pictures. The pictures are dealt to K folds; K networks are trained, each
without one fold, and answer the pictures of that fold; a last one is trained on all pictures, and that one ships. Its
accuracy is that of the K others: out of fold, over every picture. Nothing is chosen on pictures that are held out (the
network of the last epoch is kept), so the figure is no better than it should be. The temperature is fitted on the
answers out of fold and given to the network on all.

A fold is a run folder of its own below RUN/folds, so a training that is killed goes on where it was, in whichever fold.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.classes import join_splits
from mien.data.dataset import Dataset, Split
from mien.data.pictures import fingerprints_of
from mien.data.split import kept_together, refuse_small
from mien.errors import ConfigError, DataError, need
from mien.files import read_arrays, write_arrays
from mien.model.calibration import calibrated
from mien.model.metadata import Metadata
from mien.train.config import TrainConfig, seconds_of
from mien.train.run_folder import ANSWERS_FILE, FOLDS_FOLDER
from mien.train.start import limited


@dataclass(frozen=True, eq=False)
class FoldAnswers:
    """What networks said of pictures that they were not trained on, one row a picture.

    keys: (n, 16) uint8, fingerprints. fold: (n,) from 0. answers: (n, labels) probabilities of each head, not
    calibrated.
    """

    keys: NDArray[np.uint8]
    fold: NDArray[np.int64]
    answers: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, split: Split, fold: NDArray[np.int64], answers: Sequence[NDArray[np.float32]]) -> FoldAnswers:
        """Bring answers to the pictures of a split together with what the pictures are known by."""
        keys = np.frombuffer(b"".join(fingerprints_of(split.pictures).keys), np.uint8).reshape(-1, 16)
        return cls(keys, fold, tuple(answers))

    @property
    def count(self) -> int:
        return int(self.fold.max()) + 1

    def write(self, path: Path) -> None:
        arrays = {f"head{place}": head for place, head in enumerate(self.answers)}
        write_arrays(path, {"keys": self.keys, "fold": self.fold, **arrays})

    @classmethod
    def read(cls, path: Path) -> FoldAnswers | None:
        """Return what `write` wrote; None where it is not there, or damaged, as a full disk leaves it."""
        stored = read_arrays(path)
        if not stored or not stored.keys() >= {"keys", "fold", "head0"}:
            return None
        heads = sorted((name for name in stored if name.startswith("head")), key=len)
        return cls(stored["keys"], stored["fold"], tuple(stored[name] for name in heads))

    def for_pictures(self, split: Split) -> FoldAnswers | None:
        """Return the rows in the order of a split, known by content; None where a picture has none.

        Pixel copies lie in one fold, so either answers for both.
        """
        rows = {key.tobytes(): row for row, key in enumerate(self.keys)}
        wanted = [rows.get(key) for key in fingerprints_of(split.pictures).keys]
        if None in wanted:
            return None
        order = np.array(wanted, np.intp)
        return FoldAnswers(self.keys[order], self.fold[order], tuple(head[order] for head in self.answers))

    def calibrated(self, metadata: Metadata) -> dict[str, NDArray[np.float32]]:
        """Return the answers as the network with this metadata would give them: head to (n, labels), blend included."""
        found = {
            head.name: np.asarray(calibrated(answer, head.temperature, head.smoothing), np.float32)
            for head, answer in zip(metadata.heads, self.answers, strict=True)
        }
        if blend := metadata.blend:
            found[blend.name] = blend.of(found, metadata.heads)
        return found


def pooled(dataset: Dataset, config: TrainConfig) -> tuple[Dataset, NDArray[np.int64]]:
    """Put training and validation pictures together and deal them to folds: the data, and (n,) from 0."""
    parts = [("", dataset.splits[name]) for name in ("train", "validation") if name in dataset.splits]
    joined = replace(dataset, splits={"train": join_splits(parts, len(dataset.classes))})
    pool = limited(joined, config).split("train")
    dealt, problems = deal(pool, dataset.classes, config.folds, config.split_seed)
    sizes = np.bincount(dealt, minlength=config.folds).tolist()
    note = (
        f"{len(pool):,} pictures are dealt to {config.folds} folds ({', '.join(map(str, sizes))}); groups and copies, "
        "near ones as well, are never parted"
    )
    splits = {"train": pool, **{name: part for name, part in dataset.splits.items() if name == "test"}}
    fingerprint = hashlib.sha256(dataset.fingerprint.encode() + dealt.tobytes()).hexdigest()
    notes = (*dataset.notes, note, *problems)
    return replace(dataset, splits=splits, fingerprint=fingerprint, notes=notes), dealt


def deal(
    pool: Split, classes: Sequence[str], count: int, seed: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Deal pictures to folds: (n,) from 0 to count - 1, and notes for the user.

    Groups, pixel copies and near copies stay in one fold; the classes are spread as evenly as that allows
    (StratifiedGroupKFold). The order and the names of the pictures do not matter. Raises DataError where there are
    fewer groups than folds, or a class lies in one group alone, so that the fold with it could not be answered.
    """
    selection = need("sklearn.model_selection", "train", "training in folds")
    together = kept_together(pool)
    units = together.units
    found = len(np.unique(units))
    groups = "groups of pictures that belong together" if found < len(pool) else "pictures"
    if found < count:
        raise DataError(
            f"--folds {count} needs at least as many {groups}, and there are {found}; ask for fewer folds, add "
            "pictures, or look at what --group keeps together"
        )
    small = {}
    for label, name in enumerate(classes):
        if len(np.unique(units[pool.labels == label])) < 2:
            size = int((pool.labels == label).sum())
            small[name] = f"all {size} pictures in one group" if size > 1 else "one picture alone"
    refuse_small(
        small, classes, "and with --folds a network that never saw the class would be asked about it"
    )
    sizes = pool.counts(classes)
    rare = [name for name, size in sizes.items() if size < count]
    if len(rare) == len(classes):
        raise DataError(
            f"--folds {count} needs a class with as many pictures, and the largest has {max(sizes.values())}; ask for "
            "fewer folds or add pictures"
        )
    told = (
        [f"fewer pictures than folds, so that some folds ask about none of them: {', '.join(rare)}"]
        if rare
        else []
    )
    order = np.array(sorted(range(len(pool)), key=fingerprints_of(pool.pictures).keys.__getitem__))
    # Numbered in the order of the contents, too, so that names and order do not matter.
    _, first = np.unique(units[order], return_index=True)
    numbers = np.empty(len(first), np.intp)
    numbers[np.argsort(first)] = np.arange(len(first))
    _, dense = np.unique(units[order], return_inverse=True)
    dealer = selection.StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    fold = np.full(len(pool), -1, np.int64)
    labels = pool.labels[order]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # told in a note
        for number, (_, held) in enumerate(dealer.split(labels, labels, numbers[dense])):
            fold[order[held]] = number
    _check_folds(fold, pool.labels, classes, count)
    return fold, (*together.problems, *told)


def _check_folds(
    fold: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str], count: int
) -> None:
    """Raise DataError where a fold is empty, or the networks of a fold would not learn one of the classes."""
    for number in range(count):
        rest = labels[fold != number]
        lacking = [name for place, name in enumerate(classes) if not (rest == place).any()]
        if lacking or len(rest) == len(labels):
            what = (
                f"every picture of {', '.join(lacking)} lies in fold" if lacking else "nothing lies in fold"
            )
            raise DataError(
                f"--folds {count}: {what} {number + 1}, because of the groups; ask for another number of folds or "
                "another --split-seed"
            )


def check_folds(config: TrainConfig) -> None:
    """Raise ConfigError for settings that would choose something on the pictures that are held out."""
    if config.folds == 1 or config.folds < 0:
        raise ConfigError(f"folds must be 2 or more, or 0 for none; got {config.folds}")
    for phase in config.in_phases():
        if phase.patience or phase.schedule == "plateau":
            raise ConfigError(
                "with --folds nothing is chosen on held-out pictures, so there is no early stop and no plateau: add "
                "--patience 0 --schedule cosine"
            )


def for_fold(config: TrainConfig) -> TrainConfig:
    """Return the settings of each of the trainings: the last epoch is kept, and time is shared out among them."""
    limit = config.time_limit and f"{seconds_of(config.time_limit) / (config.folds + 1):.0f}s"
    return replace(config, monitor="last", time_limit=limit)


def without(dataset: Dataset, fold: NDArray[np.int64], number: int) -> Dataset:
    """Return the data of one fold's training: the other folds are learnt, this one is held out."""
    pool = dataset.split("train")
    held = fold == number
    splits = {"train": pool.take(np.flatnonzero(~held)), "validation": pool.take(np.flatnonzero(held))}
    return replace(dataset, splits=splits, notes=())


def fold_folder(out: Path, number: int) -> Path:
    return out / FOLDS_FOLDER / str(number + 1)


def answers_of(out: Path) -> FoldAnswers | None:
    """Return the answers out of fold of a run; None where it was trained in another way."""
    return FoldAnswers.read(out / ANSWERS_FILE)
