"""Every chart of a report, drawn once by Matplotlib: as PNG for slides and Markdown, as SVG for the page.

Matplotlib's objects are used directly, so nobody's global settings change. On the page the colours become the page's
own (CSS variables), so that light and dark need no second drawing.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import need
from mien.evaluate.metrics import BINS
from mien.evaluate.report import Comparison, Mistake, Report, Row, count_in_words, decimal
from mien.images.canvas import label_colours
from mien.terminal import sure

ACCENT, GREY, INK, GRID = "#1f6f78", "#8a939c", "#1c2126", "#d9d9d4"
# Told apart with red-green blindness as well, in this order (Okabe & Ito 2008), then Matplotlib's own.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b", "#9467bd")
# What a colour of the drawing is called in the page's style sheet.
_ON_THE_PAGE = {ACCENT: "--accent", GREY: "--soft", INK: "--soft", GRID: "--line"} | {
    colour: f"--c{place}" for place, colour in enumerate(LINES)
}
_DPI = 130
_DARKER = 0.8  # of an expression's colour: its lines are thin and stand on white


def colour(place: int) -> str:
    """Return the page's colour of network number `place`; it starts again after eight."""
    return f"var(--c{place % len(LINES)})"


def class_colours(labels: Sequence[str]) -> list[str]:
    """Return a colour for each class, as `#rrggbb`: that of its expression on mien's page, a little darker."""
    return ["#" + bytes(round(level * _DARKER) for level in one).hex() for one in label_colours(labels)]


def confusion(report: Report) -> Any:
    """Draw the confusion matrix, coloured by the share of each label."""
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
            ink = "white" if share > 0.55 else "#222222"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    return figure


def reliability(report: Report) -> Any:
    """Draw accuracy by confidence over a histogram of the confidence."""
    bins = [found for found in report.reliability if found.accuracy is not None]
    figure = _figure(5.2, 5.6)
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    centres = [(found.low + found.high) / 2 for found in bins]
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="what it claims")
    # Faint where few answers lie: their height is mostly chance.
    enough = sum(found.count for found in bins) / BINS / 4
    for place, found in enumerate(bins):
        strength = 0.35 + 0.65 * min(1.0, found.count / max(enough, 1))
        axes.bar(centres[place], found.accuracy, 0.9 / BINS, color=ACCENT, alpha=strength,
                 label="how often it is right" if place == len(bins) - 1 else None)  # fmt: skip
    axes.set(ylim=(0, 1), ylabel="right", title=f"ECE {report.scores.ece:.3f}")
    axes.legend(frameon=False, loc="upper left")
    below.bar(centres, [found.count for found in bins], 0.9 / BINS, color=GREY)
    below.set(xlim=(0, 1), xlabel="confidence", ylabel="answers")
    _plain(axes, below)
    return figure


def risk_coverage(report: Report) -> Any:
    """Draw how often the answers are wrong where only so many, the surest, are given."""
    found = report.selective
    figure = _figure(5.2, 4.2)
    axes = figure.subplots()
    axes.plot(found.coverage, found.risk, color=ACCENT)
    if found.accuracy is not None and 0 < found.answered < 1:
        axes.plot(found.answered, 1 - found.accuracy, "o", color=ACCENT, label="without what is ‘uncertain’")
        axes.legend(frameon=False, loc="upper left")
    axes.set(
        xlim=(0, 1),
        xlabel="share of the faces that is answered",
        ylabel="wrong",
        title=f"Area {found.aurc:.3f}",
    )
    axes.set_ylim(0, max(0.05, 1.1 * max(found.risk)))
    _plain(axes)
    return figure


def roc(report: Report) -> Any:
    """Draw ROC and precision-recall curves of each class against the rest."""
    figure = _figure(10.5, 5)
    left, right = figure.subplots(1, 2)
    colours = class_colours([found.name for found in report.scores.classes])
    for found, its_colour in zip(report.scores.classes, colours, strict=True):
        for axes, curve in ((left, found.roc), (right, found.precision_recall)):
            if curve:
                axes.plot(curve.x, curve.y, color=its_colour, label=f"{found.name} {curve.area:.3f}")
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
    return figure


def top_losses(report: Report) -> Any:
    """Draw a sheet of the most confident mistakes; one sentence where there is none."""
    mistakes = report.top_losses
    columns = min(8, max(4, len(mistakes)))
    rows = max(1, -(-len(mistakes) // columns))
    figure = _figure(1.55 * columns, 2.05 * rows + 0.5)
    figure.suptitle(f"{_title(report)}: most confident mistakes" if mistakes else "no mistakes to show")
    for place, axes in enumerate(np.ravel(figure.subplots(rows, columns))):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if place < len(mistakes):
            _draw_mistake(axes, mistakes[place])
    return figure


def _draw_mistake(axes: Any, mistake: Mistake) -> None:
    axes.imshow(mistake.picture, cmap="gray", vmin=0, vmax=255)
    text = f"label {mistake.label}\nsays {mistake.predicted} {sure(mistake.confidence)}"
    if mistake.raters:
        text += f"\nraters: {mistake.raters}"
    axes.set_xlabel(text, fontsize=6.5, parse_math=False)


# The report's file name of each picture.
CHARTS: dict[str, Callable[[Report], Any]] = {
    "confusion.png": confusion,
    "reliability.png": reliability,
    "risk_coverage.png": risk_coverage,
    "roc.png": roc,
    "top_losses.png": top_losses,
}


def accuracy_and_cost(comparison: Comparison) -> Any:
    """Draw the accuracy of each model, with its interval, over what it costs."""
    rows = comparison.rows
    words, values = cost_axis(rows)
    figure = _figure(8, 4.6)
    axes = figure.subplots()
    axes.set_xscale("log")
    low, high = _accuracy_ends(rows)
    beside = apart([row.report.scores.accuracy for row in rows], 0.045 * (high - low))
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        interval, share = row.report.scores.accuracy_interval, row.report.scores.accuracy
        ink = LINES[place % len(LINES)]
        axes.plot([value, value], [interval.low, interval.high], color=ink, alpha=0.55, linewidth=2)
        axes.plot([value], [share], "o", color=ink, markersize=8)
        axes.annotate(
            row.name,
            (value, beside[place]),
            textcoords="offset points",
            xytext=(8, -4),
            color=ink,
            parse_math=False,
        )
    left, right = _cost_ends(values)
    ticks = cost_ticks(left, right)
    axes.set(xlim=(10**left, 10**right), ylim=(low, high), xlabel=words, ylabel="accuracy")
    axes.set_xticks(ticks, [_tick(value) for value in ticks])
    axes.minorticks_off()
    axes.set_title(f"{comparison.data.name}, {comparison.data.part}".replace("$", r"\$"))
    _plain(axes)
    return figure


def cost_axis(rows: Sequence[Row]) -> tuple[str, tuple[float, ...]]:
    """Choose what lies across: milliseconds where all are known, then multiply-accumulates, then bytes."""
    for words, values in (
        ("milliseconds per view of a face, one core", [row.profile.ms_per_face for row in rows]),
        ("multiply-accumulates per face", [row.profile.macs for row in rows]),
    ):
        known = tuple(float(value) for value in values if value)
        if len(known) == len(rows):
            return words, known
    return "size of the file, bytes", tuple(float(max(row.profile.size_bytes, 1)) for row in rows)


def _cost_ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis in powers of ten, with room at both sides."""
    logs = [math.log10(value) for value in values]
    room = max(0.45, 0.12 * (max(logs) - min(logs)))
    return min(logs) - room, max(logs) + room


def cost_ticks(low: float, high: float) -> list[float]:
    """Return values at 1, 2 and 5 times powers of ten between two powers of ten."""
    every = [m * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [value for value in every if low <= math.log10(value) <= high]
    return inside if len(inside) < 9 else [value for value in inside if f"{value:e}".startswith("1")]


def _accuracy_ends(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the ends of the upright axis: all intervals and some room, within 0 and 1."""
    low = min(row.report.scores.accuracy_interval.low for row in rows)
    high = max(row.report.scores.accuracy_interval.high for row in rows)
    room = max(0.01, 0.15 * (high - low))
    return max(0.0, low - room), min(1.0, high + room)


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return the heights moved down as far as needed for `gap` between any two, so that names can be read."""
    moved = list(heights)
    highest = math.inf
    for place in sorted(range(len(moved)), key=lambda place: -moved[place]):
        moved[place] = min(moved[place], highest - gap)
        highest = moved[place]
    return moved


def _tick(value: float) -> str:
    return count_in_words(round(value)) if value >= 1000 else f"{value:g}"


def save_png(figure: Any, path: Path) -> None:
    """Write a figure. Letters that Matplotlib's font lacks, such as Chinese ones, become boxes, without warnings."""
    with _without_glyph_warnings():
        figure.savefig(path, dpi=_DPI)


def to_svg(figure: Any, kind: str = "chart") -> str:
    """Return a figure as SVG to stand inside a page, in the page's colours and letters. kind: its CSS class."""
    matplotlib = need("matplotlib", "train", "drawing figures")
    stream = io.StringIO()
    # Text stays text, so the page's font draws it; the salt makes the same figure the same text.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mien"}), _without_glyph_warnings():
        figure.patch.set_visible(False)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        figure.savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = stream.getvalue()
    inside = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    inside = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", inside, flags=re.S)
    inside = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", inside)
    for ink, name in _ON_THE_PAGE.items():
        inside = inside.replace(ink, f"var({name})")
    box = re.search(r'viewBox="[^"]*"', text)
    return f'<svg class="{kind}" {box[0] if box else ""} role="img">{inside}</svg>'


def _title(report: Report) -> str:
    return f"{report.model.name} on {report.data.name}, {report.data.part}".replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    return need("matplotlib.figure", "train", "drawing figures").Figure(
        figsize=(width, height), layout="constrained"
    )


@contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _plain(*many: Any) -> None:
    for axes in many:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
        axes.tick_params(colors=INK, length=0)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        for words in (axes.title, axes.xaxis.label, axes.yaxis.label):
            words.set_color(INK)
        if legend := axes.get_legend():
            for words in legend.get_texts():
                words.set_color(INK)
