"""The pictures of a training: loss, accuracy and learning rate by epoch, and some of what the network is shown."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mien.train.loader import Batch

_TRAIN, _VALIDATION, _RATE = "#8aa0b8", "#d1495b", "#4a7c59"
_FEW = 10  # epochs up to which each is a dot: a line through one point cannot be seen


def draw_curves(history: Sequence[Mapping[str, Any]], kept: int, path: Path) -> None:
    """Write a PNG of `curves`."""
    figure = curves(history, kept)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)


def curves(history: Sequence[Mapping[str, Any]], kept: int) -> Figure:
    """Draw three panels. history: one row an epoch, as in epochs.csv. kept: the epoch whose network is kept."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = loss, accuracy, rate = figure.subplots(1, 3)
    dots = {"marker": "."} if len(epochs) <= _FEW else {}
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(
            epochs, [row[name] for row in history], color=_TRAIN, label="training (varied pictures)", **dots
        )
        if validation := [row[f"validation_{name}"] for row in history if f"validation_{name}" in row]:
            axes.plot(epochs, validation, color=_VALIDATION, label="validation", **dots)
        axes.set_title(name)
        axes.legend(frameon=False, fontsize=8)
    best = next((row.get("validation_accuracy") for row in history if row["epoch"] == kept), None)
    if best is not None:
        accuracy.plot(kept, best, "o", color=_VALIDATION)
        accuracy.annotate(f"{best:.1%}, kept", (kept, best), textcoords="offset points", xytext=(0, 6), ha="center",
                          fontsize=8)  # fmt: skip
    rate.plot(epochs, [row["learning_rate"] for row in history], color=_RATE, **dots)
    rate.set_title("learning rate")
    rate.set_ylim(bottom=0)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(y=0.12)  # room for the words above the highest point
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    return figure


_COLUMNS, _MOST = 8, 32  # of the picture of a batch


def draw_batch(batch: Batch, labels: Sequence[str], path: Path) -> int:
    """Write a PNG of up to 32 pictures of a batch as the network gets them, each with its target in words.

    Eight in a row; returns how many.
    """
    from matplotlib.figure import Figure

    count = min(_MOST, len(batch.inputs))
    rows = -(-count // _COLUMNS)
    figure = Figure(figsize=(1.5 * _COLUMNS, 1.85 * rows), layout="constrained")
    for place, axes in enumerate(figure.subplots(rows, _COLUMNS, squeeze=False).flat):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if place < count:
            picture = np.clip(batch.inputs[place], 0, 255).astype(np.uint8)
            axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set_xlabel(_target(batch.targets[0][place], labels), fontsize=7, parse_math=False)
    with whole_file(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(temporary, dpi=110)
    return count


def _target(target: NDArray[np.float32], labels: Sequence[str]) -> str:
    """Return the one or two labels that a picture is to be answered with, such as 'happy 70 %, sad 30 %'."""
    first, second = (-target).argsort(kind="stable")[:2]
    told = f"{labels[first]} {100 * target[first]:.0f} %"
    return f"{told}, {labels[second]} {100 * target[second]:.0f} %" if target[second] > 0.1 else told
