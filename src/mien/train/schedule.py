"""Learning rates as plain functions of progress."""

from __future__ import annotations

import math
import statistics

from mien.train.checkpoint import Progress
from mien.train.config import TrainConfig

_MOST_WARMUP = 5.0  # epochs


def learning_rate(config: TrainConfig, progress: Progress, part: float) -> float:
    """Return the rate for a step.

    part: share of the current epoch that is done, in [0, 1). Cosine: linear warm-up, then one half cosine to zero
    at the end of the phase (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts).
    """
    if config.schedule != "cosine":
        return config.rate * progress.factor
    return cosine(config.rate, config.warmup, progress, part)


def cosine(rate: float, warmup: float, progress: Progress, part: float) -> float:
    """Return the rate of a cosine schedule over a phase. rate: its highest. warmup: share of the phase's epochs."""
    total = max(progress.phase_epochs, 1)
    done = progress.phase_epoch + part
    rising = min(warmup * total, _MOST_WARMUP)
    if done < rising:
        return rate * max(done / rising, 0.01)
    return rate * 0.5 * (1 + math.cos(math.pi * (done - rising) / max(total - rising, 1e-9)))


def after_epoch(config: TrainConfig, progress: Progress, loss: float) -> bool:
    """Note an epoch's validation loss; return whether the phase should stop early."""
    if progress.lowest_loss is None or loss < progress.lowest_loss:
        progress.lowest_loss = loss
        progress.plateau_wait = progress.stop_wait = 0
        return False
    progress.plateau_wait += 1
    progress.stop_wait += 1
    if config.schedule == "plateau" and progress.plateau_wait >= config.plateau_patience:
        lowest = config.plateau_floor / config.rate
        progress.factor = max(progress.factor * config.plateau_factor, lowest)
        progress.plateau_wait = 0
    return 0 < config.patience <= progress.stop_wait


def planned_epochs(progress: Progress, limit_s: float, epoch_s: float, share: float = 1.0) -> int:
    """Return how many epochs this phase should have to end within the limit; at least those that are done.

    epoch_s: what the latest epoch took, which `progress.history` does not hold yet. share: this phase's part of the
    epochs that are left for it and the later phases, which need their time as well. A median counts, and the first
    epoch, which compiles and reads the data, only until there is a second: one slow epoch must not halve a plan. 5 %
    is kept back for the export and the report. In its first quarter a plan may grow again; later it only shrinks,
    because a longer cosine would raise the learning rate.
    """
    of_this_phase = progress.history[len(progress.history) - progress.phase_epoch + 1 :]
    typical = statistics.median([*(row["seconds"] for row in of_this_phase[1:]), epoch_s])
    left = limit_s * 0.95 - progress.seconds
    possible = progress.phase_epoch + max(0.0, left / max(typical, 1e-9))
    fits = max(progress.phase_epoch, int(possible * share))
    may_grow = progress.phase_epoch <= max(2, progress.phase_epochs // 4)
    return fits if may_grow else min(progress.phase_epochs, fits)
