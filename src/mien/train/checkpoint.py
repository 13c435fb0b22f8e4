"""The state of a training: where it is, the moving average of its weights, and both on disk.

A killed training goes on exactly where it was; the averaged weights are those that are validated and kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.files import read_arrays, write_arrays
from mien.train import hosts

STATE_FILE = "state.npz"
BEST_WEIGHTS_FILE = "best-weights.npz"  # from which the next phase starts
_EVERY = 8  # steps between updates; the decay is raised to this power, so the average hardly differs


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
    arrays = {"progress": np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)}
    arrays |= {f"variable{place}": host(variable) for place, variable in enumerate(variables)}
    arrays |= {f"average{place}": value for place, value in enumerate(average)}
    write_arrays(path, arrays)


def load(path: Path) -> tuple[Progress, list[NDArray[Any]], list[NDArray[Any]]]:
    """Read what `save` wrote: progress, variables, average; ModelError when the file is damaged."""
    stored = read_arrays(path) or {}
    try:
        progress = Progress(**json.loads(stored["progress"].tobytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged or no training state; use --retrain to start again") from error
    variables, average = (
        [value for name, value in stored.items() if name.startswith(kind)] for kind in ("variable", "average")
    )
    return progress, variables, average


def assign(variables: list[Any], values: list[NDArray[Any]]) -> None:
    """Put stored values back into Keras variables, in the same order."""
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise ModelError("the stored training state belongs to another network; use --retrain to start again")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(hosts.spread(value, variable))


class MovingAverage:
    """Exponential moving average over all weights of a network, kept in host memory.

    It covers the statistics of batch normalisation as well: Keras's own (`use_ema`) leaves them out, and averaged
    kernels with the statistics of the latest ones misjudge a network badly while the learning rate is high
    (PublicTest accuracy .18 against .38 on varied training pictures after two epochs of FER-2013).
    """

    def __init__(self, decay: float) -> None:
        """decay: per step; the first steps average over less, as in TensorFlow's ExponentialMovingAverage."""
        self._decay = decay
        self._steps = 0
        self.values: list[NDArray[Any]] = []

    def step(self, weights: Sequence[Any]) -> None:
        """Note one optimiser step."""
        self._steps += 1
        # Each of the first steps, where the average is as good as the latest weights: a training may have no more.
        if self._steps % _EVERY == 0 or self._steps < _EVERY or not self.values:
            self._update(weights)

    def _update(self, weights: Sequence[Any]) -> None:
        if not self.values:
            self.values = [host(weight) for weight in weights]
            return
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) ** _EVERY
        for value, weight in zip(self.values, weights, strict=True):
            np.add(value, (1 - decay) * (host(weight) - value), out=value, casting="unsafe")

    def stored(self) -> list[NDArray[Any]]:
        """Everything needed to go on."""
        return [np.array(self._steps, np.int64), *self.values]

    def restore(self, stored: Sequence[NDArray[Any]]) -> None:
        self._steps, self.values = int(stored[0]), [value.copy() for value in stored[1:]]


def host(variable: Any) -> NDArray[Any]:
    """Return a copy of a Keras variable as a NumPy array; bfloat16, which NumPy does not know, as float32."""
    import keras

    value = keras.ops.convert_to_numpy(variable)
    return np.array(value if value.dtype.kind in "fiub" else value.astype(np.float32))
