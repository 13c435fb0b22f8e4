"""The picture of a training: loss, accuracy and learning rate by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mien.files import whole_file

_TRAIN, _VALIDATION, _RATE = "#8aa0b8", "#d1495b", "#4a7c59"


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG. history: one row an epoch, as in epochs.csv."""
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.plot(epochs, [row[name] for row in history], color=_TRAIN, label="training (varied pictures)")
        axes.plot(
            epochs, [row[f"validation_{name}"] for row in history], color=_VALIDATION, label="validation"
        )
        axes.set_title(name)
        axes.legend(frameon=False, fontsize=8)
    best = max(history, key=lambda row: row["validation_accuracy"])
    accuracy.plot(best["epoch"], best["validation_accuracy"], "o", color=_VALIDATION)
    accuracy.annotate(f"{best['validation_accuracy']:.1%}", (best["epoch"], best["validation_accuracy"]),
                      textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)  # fmt: skip
    rate.plot(epochs, [row["learning_rate"] for row in history], color=_RATE)
    rate.set_title("learning rate")
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
