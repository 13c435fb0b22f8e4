"""The report's pictures as PNG files, for slides and Markdown. Matplotlib's objects are used directly, so
nobody's global settings change.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import need
from mien.evaluate.calibration import BINS
from mien.evaluate.formatting import decimal, percent
from mien.evaluate.report import Mistake, Report

ACCENT, WARM, GREY = "#1f6f78", "#d1495b", "#8a939c"
# Told apart with red-green blindness as well, in this order (Okabe & Ito 2008), then Matplotlib's own.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b", "#9467bd")
_DPI = 130


def draw_confusion(report: Report, path: Path) -> None:
    """Write the confusion matrix, coloured by the share of each label."""
    table = np.array(report.scores.confusion, float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    names = [found.name for found in report.scores.classes]
    side = max(4.0, 1.2 + 0.8 * len(names))
    figure = _figure(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="GnBu", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="label", title=_title(report))
    axes.spines[:].set_visible(False)
    if len(names) <= 20:
        for (row, column), share in np.ndenumerate(shares):
            text = f"{100 * share:.0f} %\n{table[row, column]:.0f}"
            colour = "white" if share > 0.55 else "#222222"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    save_figure(figure, path)


def draw_reliability(report: Report, path: Path) -> None:
    """Write the reliability diagram over a histogram of the confidence."""
    figure = _figure(5.2, 5.6)
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    centres = [(found.low + found.high) / 2 for found in report.reliability]
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="what it claims")
    heights = [found.accuracy or 0 for found in report.reliability]
    axes.bar(centres, heights, 0.9 / BINS, color=ACCENT, label="how often it is right")
    axes.set(ylim=(0, 1), ylabel="accuracy", title=f"{_title(report)}\nECE {report.scores.ece:.3f}")
    axes.legend(frameon=False, loc="upper left")
    below.bar(centres, [found.count for found in report.reliability], 0.9 / BINS, color=GREY)
    below.set(xlim=(0, 1), xlabel="confidence", ylabel="pictures")
    _plain(axes, below)
    save_figure(figure, path)


def draw_roc(report: Report, path: Path) -> None:
    """Write ROC and precision-recall curves of each class against the rest."""
    figure = _figure(10.5, 5)
    left, right = figure.subplots(1, 2)
    for place, found in enumerate(report.scores.classes):
        colour = LINES[place % len(LINES)]
        if found.roc:
            left.plot(found.roc.x, found.roc.y, color=colour, label=f"{found.name} {found.roc.area:.3f}")
        if found.precision_recall:
            area = found.precision_recall.area
            right.plot(
                found.precision_recall.x,
                found.precision_recall.y,
                color=colour,
                label=f"{found.name} {area:.3f}",
            )
    left.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    left.set(xlabel="false positive rate", ylabel="true positive rate")
    left.set_title(f"ROC, area {decimal(report.scores.roc_auc)} on average")
    right.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    right.set_title(
        f"Precision-recall, average precision {decimal(report.scores.average_precision)} on average"
    )
    for axes in (left, right):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    _plain(left, right)
    save_figure(figure, path)


def draw_mistakes(report: Report, path: Path) -> None:
    """Write a sheet of the most confident mistakes; one sentence where there is none."""
    mistakes = report.mistakes
    columns = min(8, max(4, len(mistakes)))
    rows = max(1, -(-len(mistakes) // columns))
    figure = _figure(1.55 * columns, 2.05 * rows + 0.5)
    figure.suptitle(f"{_title(report)}: most confident mistakes" if mistakes else "no mistakes to show")
    for place, axes in enumerate(np.ravel(figure.subplots(rows, columns))):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if place < len(mistakes):
            _draw_mistake(axes, mistakes[place])
    save_figure(figure, path)


def _draw_mistake(axes: Any, mistake: Mistake) -> None:
    axes.imshow(mistake.picture, cmap="gray", vmin=0, vmax=255)
    text = f"label {mistake.label}\nsays {mistake.predicted} {percent(mistake.confidence, 0)}"
    if mistake.raters:
        text += f"\nraters: {mistake.raters}"
    axes.set_xlabel(text, fontsize=6.5, parse_math=False)


# The report's file name of each picture.
FIGURES: dict[str, Callable[[Report, Path], None]] = {
    "confusion.png": draw_confusion,
    "reliability.png": draw_reliability,
    "roc.png": draw_roc,
    "mistakes.png": draw_mistakes,
}


def _title(report: Report) -> str:
    return f"{report.model.name} on {report.data.name}, {report.data.part}".replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    return need("matplotlib.figure", "train", "drawing figures").Figure(
        figsize=(width, height), layout="constrained"
    )


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure. Letters that Matplotlib's font lacks, such as Chinese ones, become boxes, without a warning
    for each.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, dpi=_DPI)


def _plain(*many: Any) -> None:
    for axes in many:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
        axes.set_axisbelow(True)
