"""From a split to optimiser-ready batches: prepared pictures, soft targets, weights; reproducible by (seed, epoch)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mien.data.dataset import Pictures, Split
from mien.data.pictures import InMemoryPictures
from mien.errors import ConfigError, DataError
from mien.images.decode import workers
from mien.model.calibration import CLASS_WEIGHTS
from mien.model.preprocess import Preprocess, to_model_input
from mien.train.augment import Part, augment, centre
from mien.train.config import TrainConfig

# Prepared pictures are kept in memory as uint8 up to this many bytes (FER-2013: 66 MB); larger sets are read from
# disk again in every epoch.
MEMORY_LIMIT = 400 * 2**20
_TOGETHER = 16  # pictures that a thread reads at a time
_AHEAD = 3  # batches prepared while the network works on one


@dataclass(frozen=True, eq=False)
class Batch:
    """What one optimiser step takes.

    inputs: (n, size, size, channels), levels in [0, 255]; uint8 where the config keeps whole levels, else float32.
    targets: one (n, labels) float32 array a head, rows sum to one. weights: one (n,) float32 array a head; none: all 1.
    views: the same pictures as each teacher takes them.
    """

    inputs: NDArray[np.uint8 | np.float32]
    targets: list[NDArray[np.float32]]
    weights: list[NDArray[np.float32]]
    views: Sequence[NDArray[np.uint8 | np.float32]] = ()


class Inputs:
    """Prepared pictures of a split by index: from memory where they fit, otherwise from disk in parallel."""

    def __init__(self, split: Split, how: Preprocess) -> None:
        self._pictures = split.pictures
        self._how = how
        self._workers = workers()
        self._pool = ThreadPoolExecutor(self._workers, "mien-read")
        self._held = _as_they_are(split.pictures, how)
        if self._held is None and len(split) * how.size**2 * how.channels <= MEMORY_LIMIT:
            self._held = self._read(np.arange(len(split)))

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def side(self) -> int:
        return self._how.size

    def __call__(self, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return (n, size, size, channels) uint8."""
        return self._read(indices) if self._held is None else self._held[indices]

    def _read(self, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
        count = len(indices)
        prepared = np.empty((count, *self._how.shape), np.uint8)
        # Several pictures a task: handing each over by itself costs a quarter of what decoding it costs.
        together = max(1, min(_TOGETHER, -(-count // self._workers)))

        def fill(start: int) -> None:
            for place in range(start, min(start + together, count)):
                prepared[place] = to_model_input(self._pictures.read(int(indices[place])), self._how)

        for _ in self._pool.map(fill, range(0, count, together)):
            pass  # map() raises here what a worker raised
        return prepared

    def in_order(self, batch_size: int, rows: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield all pictures once, in order, the last batch smaller. rows: only from the first of these to the end."""
        first, end = rows or (0, len(self))
        for start in range(first, end, batch_size):
            yield self(np.arange(start, min(start + batch_size, end)))


def _as_they_are(pictures: Pictures, how: Preprocess) -> NDArray[np.uint8] | None:
    """Return decoded pictures that need no preparing, (n, size, size, channels), without a copy; None for others."""
    if (
        not isinstance(pictures, InMemoryPictures)
        or how.resize not in (None, how.size)
        or how.colour == "bgr"
    ):
        return None
    kind = (how.size, how.size) if how.colour == "grey" else how.shape
    return pictures.pixels.reshape(-1, *how.shape) if pictures.pixels.shape[1:] == kind else None


def weights_of_classes(
    targets: NDArray[np.float32], classes: tuple[str, ...], class_weights: str
) -> NDArray[np.float32]:
    """Return one weight a class. A picture's is the mean of those of its classes by their shares; all have a mean of 1.

    targets: (n, classes), rows sum to 1. class_weights: none, sqrt (proportional to 1 / sqrt(count)) or full (1 /
    count, scikit-learn's 'balanced'); a count is a sum of shares. Raises DataError for a class that no picture shows.
    """
    counts = targets.sum(axis=0, dtype=np.float64)
    if not counts.all():
        missing = ", ".join(name for name, count in zip(classes, counts, strict=True) if not count)
        raise DataError(
            f"no training pictures for {missing}; add some, or name the other classes in --classes"
        )
    raw = counts ** -CLASS_WEIGHTS[class_weights]
    weights: NDArray[np.float32] = (raw / (raw * counts).sum() * counts.sum()).astype(np.float32)
    return weights


class Loader:
    """The training split as a sequence of epochs; each epoch is a function of (seed, epoch) alone.

    answers: of teachers to the pictures of the split, one (n, labels) array a head, None where they have none; they are
    `config.teacher_weight` of the targets. May be set before the first epoch.
    """

    answers: Sequence[NDArray[np.floating] | None] = ()

    def __init__(
        self,
        split: Split,
        inputs: Inputs,
        heads: tuple[tuple[str, ...], ...],
        config: TrainConfig,
        *,
        drop_rest: bool = False,
        size: int | None = None,
        share: tuple[int, int] = (0, 1),
        views: Sequence[Callable[[NDArray[np.uint8 | np.float32]], NDArray[np.uint8 | np.float32]]] = (),
    ) -> None:
        """heads: labels of each head; the second one, if any, is the FER+ votes.

        drop_rest: leave out the last, smaller batch, which cannot be shared evenly between devices.
        size: pixels a side of the network's input where `inputs` are larger (see `Preprocess.resize`).
        share: (number of this host, how many there are): batches hold its rows alone, which no other host prepares.
        views: what makes each teacher's input of the varied pictures, before their centre is cut out.
        """
        assert config.batch_size is not None
        self._inputs, self._config, self._heads = inputs, config, heads
        self._size = config.batch_size
        self._drop_rest, self._side, self._views, self._share = drop_rest, size, views, share
        hard = np.eye(len(heads[0]), dtype=np.float32)
        self._targets = hard[split.labels] if split.shares is None else split.shares
        self._votes = split.votes if len(heads) > 1 else None
        if not len(self):
            raise ConfigError(
                f"batch_size must be at most the {len(self._targets)} training pictures, so that several devices can "
                f"share a batch, got {self._size}"
            )
        # Complains of an empty class before the start.
        weights_of_classes(self._targets, heads[0], config.class_weights)

    def __len__(self) -> int:
        """Steps an epoch."""
        whole, rest = divmod(len(self._targets), self._size)
        return whole + (rest > 0 and not self._drop_rest)

    def order(self, number: int) -> NDArray[np.intp]:
        """Return the rows of the split as an epoch takes them; mixup adds others to each."""
        return np.random.default_rng((self._config.seed, number)).permutation(len(self._targets))

    def epoch(self, number: int, mix: bool, class_weights: str) -> Iterator[Batch]:
        """Yield the batches of one epoch, prepared ahead in another thread.

        number: counts from 0 over all phases. mix: whether mixup and CutMix may be used. class_weights: as in
        TrainConfig; a later phase may change it.
        """
        seed = self._config.seed
        weights = weights_of_classes(self._targets, self._heads[0], class_weights)
        order = self.order(number)
        parts = [order[start : start + self._size] for start in range(0, len(order), self._size)][: len(self)]
        with ThreadPoolExecutor(1, "mien-batches") as pool:
            jobs = (
                pool.submit(self._make, part, np.random.default_rng((seed, number, step)), mix, weights)
                for step, part in enumerate(parts)
            )
            waiting = deque(islice(jobs, _AHEAD))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(islice(jobs, 1))

    def _make(
        self, indices: NDArray[np.intp], rng: Generator, mix: bool, class_weight: NDArray[np.float32]
    ) -> Batch:
        config = self._config
        count, whole = len(indices), self._inputs.side
        side = whole if self._views else self._side or whole
        number, hosts = self._share
        own = np.arange(count)[number * count // hosts : (number + 1) * count // hosts]
        blend = None
        if mix and (config.mixup or config.cutmix) and rng.random() < config.mixup_prob:
            use_cutmix = bool(config.cutmix) and (not config.mixup or rng.random() < 0.5)
            blend = (
                _Blend.cutmix(rng, count, side, config.cutmix)
                if use_cutmix
                else _Blend.mixup(rng, count, config.mixup)
            )
        rows = own if blend is None or hosts == 1 else np.union1d(own, blend.partner[own])
        # Teachers may look at more of the picture than the student: then its centre is cut out at the end.
        inputs = augment(
            self._inputs(indices[rows]), rng, config, None if self._views else self._side, Part(count, rows)
        )
        wanted = self._targets[indices[rows]]
        targets = [wanted * (1 - config.label_smoothing) + config.label_smoothing / wanted.shape[1]]
        weights = [wanted @ class_weight]
        if self._votes is not None:
            votes = self._votes[indices[rows]]
            total = votes.sum(axis=1, keepdims=True)
            targets.append(
                np.where(total > 0, votes / np.maximum(total, 1), 1 / votes.shape[1]).astype(np.float32)
            )
            weights.append((total[:, 0] > 0).astype(np.float32))
        if self.answers:
            known = [None if answer is None else answer[indices[rows]] for answer in self.answers]
            targets = taught(targets, known, config.teacher_weight)
        batch = Batch(inputs, targets, weights)
        if blend:
            batch = blend(batch, np.searchsorted(rows, own), np.searchsorted(rows, blend.partner[own]), own)
        if not self._views:
            return batch
        views = [view(batch.inputs) for view in self._views]
        return replace(batch, inputs=centre(batch.inputs, self._side or batch.inputs.shape[1]), views=views)


def taught(
    targets: Sequence[NDArray[np.float32]], answers: Sequence[NDArray[np.floating] | None], weight: float
) -> list[NDArray[np.float32]]:
    """Let teachers' answers be `weight` of the targets, both one (n, labels) array a head; None: no answer."""
    return [
        target if answer is None else ((1 - weight) * target + weight * answer).astype(np.float32)
        for target, answer in zip(targets, answers, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Blend:
    """How each picture of a batch, n of them, is blended with another.

    partner: (n,) with which row. share: (n,) float32, how much of its own it keeps. boxes: (n, 4), top, bottom, left,
    right of what the partner covers; None where all pixels are blended.
    """

    partner: NDArray[np.intp]
    share: NDArray[np.float32]
    boxes: NDArray[np.intp] | None = None

    @classmethod
    def mixup(cls, rng: Generator, count: int, alpha: float) -> _Blend:
        """Blend each picture with another of the batch (Zhang et al. 2018, arXiv:1710.09412)."""
        share = rng.beta(alpha, alpha, count).astype(np.float32)
        return cls(rng.permutation(count), share)

    @classmethod
    def cutmix(cls, rng: Generator, count: int, side: int, alpha: float) -> _Blend:
        """Paste a rectangle of another picture of the batch into each (Yun et al. 2019, arXiv:1905.04899)."""
        partner = rng.permutation(count)
        half = np.sqrt(1 - rng.beta(alpha, alpha, count))[:, None] * side / 2
        centre = rng.integers(0, side, (count, 2))
        start = np.maximum(np.round(centre - half), 0).astype(np.intp)
        end = np.minimum(np.round(centre + half), side).astype(np.intp)
        share = (1 - (end - start).prod(axis=1) / side**2).astype(np.float32)
        return cls(partner, share, np.stack([start[:, 0], end[:, 0], start[:, 1], end[:, 1]], axis=1))

    def __call__(
        self, batch: Batch, own: NDArray[np.intp], other: NDArray[np.intp], rows: NDArray[np.intp]
    ) -> Batch:
        """Blend the rows `own` of what is here with the rows `other`; a picture without votes stays without.

        rows: their numbers in the whole batch.
        """
        share = self.share[rows]
        if self.boxes is None:
            wide = share[:, None, None, None]
            inputs = wide * batch.inputs[own] + (1 - wide) * batch.inputs[other]
        else:
            inputs = batch.inputs[own]
            for place, (top, bottom, left, right) in enumerate(self.boxes[rows].tolist()):
                inputs[place, top:bottom, left:right] = batch.inputs[other[place], top:bottom, left:right]
        column = share[:, None]
        targets = [column * target[own] + (1 - column) * target[other] for target in batch.targets]
        weights = [share * weight[own] + (1 - share) * weight[other] for weight in batch.weights]
        for place in range(1, len(weights)):
            known = (batch.weights[place][own] > 0) & (batch.weights[place][other] > 0)
            weights[place] = known.astype(np.float32)
        return Batch(inputs, targets, weights)
