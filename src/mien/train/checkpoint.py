"""Training state on disk: what a killed training needs to go on exactly where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.files import whole_file
from mien.train.ema import host

STATE_FILE = "state.npz"


@dataclass(kw_only=True)
class Progress:
    """Where a training is; everything but the arrays. Changed only at the end of an epoch."""

    phase: int = 0
    epoch: int = 0  # epochs done, over all phases
    phase_epoch: int = 0  # epochs done in this phase
    phase_epochs: int = 0  # epochs planned for this phase (a time limit may change it)
    factor: float = 1.0  # what plateaus have multiplied the learning rate by
    plateau_wait: int = 0
    stop_wait: int = 0
    lowest_loss: float | None = None  # of this phase, on validation
    best: list[float] | None = None  # the monitored figures of the epoch that is kept, first one first
    best_epoch: int = 0
    seconds: float = 0.0  # time spent training, over all starts
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)  # one row an epoch


def save(
    path: Path, progress: Progress, variables: Sequence[Any], average: Sequence[NDArray[Any]] = ()
) -> None:
    """Write progress, variables and the moving average into one file, whole or not at all: they cannot disagree."""
    arrays = {f"variable{place}": host(variable) for place, variable in enumerate(variables)}
    arrays |= {f"average{place}": value for place, value in enumerate(average)}
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, progress=np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8), **arrays)  # type: ignore[arg-type]


def load(path: Path) -> tuple[Progress, list[NDArray[Any]], list[NDArray[Any]]]:
    """Read what `save` wrote: progress, variables, average; ModelError when the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            progress = Progress(**json.loads(stored["progress"].tobytes()))
            groups = [
                [name for name in stored.files if name.startswith(kind)] for kind in ("variable", "average")
            ]
            variables, average = ([stored[name] for name in names] for names in groups)
            return progress, variables, average
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ModelError(f"{path} is not a training state ({error}); use --retrain to start again") from error


def assign(variables: list[Any], values: list[NDArray[Any]]) -> None:
    """Put stored values back into Keras variables, in the same order."""
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise ModelError("the stored training state belongs to another network; use --retrain to start again")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
