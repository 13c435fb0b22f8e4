"""Training state on disk: what a killed training needs to go on exactly where it was."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.files import whole_file

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
    best: float | None = None  # the monitored figure of the epoch that is kept
    best_epoch: int = 0
    seconds: float = 0.0  # time spent training, over all starts
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)  # one row an epoch


def save(path: Path, progress: Progress, variables: list[Any]) -> None:
    """Write progress and variables into one file, whole or not at all, so that they cannot disagree."""
    arrays = {f"v{place}": np.asarray(_host(variable)) for place, variable in enumerate(variables)}
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, progress=np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8), **arrays)  # type: ignore[arg-type]


def load(path: Path) -> tuple[Progress, list[NDArray[Any]]]:
    """Read what `save` wrote; ModelError when the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            progress = Progress(**json.loads(stored["progress"].tobytes()))
            return progress, [stored[f"v{place}"] for place in range(len(stored.files) - 1)]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ModelError(f"{path} is not a training state ({error}); use --retrain to start again") from error


def assign(variables: list[Any], values: list[NDArray[Any]]) -> None:
    """Put stored values back into Keras variables, in the same order."""
    if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
        raise ModelError("the stored training state belongs to another network; use --retrain to start again")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _host(variable: Any) -> NDArray[Any]:
    import keras

    value = keras.ops.convert_to_numpy(variable)
    return value if value.dtype.kind in "fiub" else value.astype(np.float32)  # bfloat16 is unknown to NumPy
