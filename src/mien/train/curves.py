"""The picture of a training: loss, accuracy and learning rate by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        validation = [row[f"validation_{name}"] for row in history]
        axes.plot(epochs, validation, color=_VALIDATION, label="validation", **dots)
        axes.set_title(name)
        axes.legend(frameon=False, fontsize=8)
    best = next(row for row in history if row["epoch"] == kept)["validation_accuracy"]
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
