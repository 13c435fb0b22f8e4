"""Accuracy against cost: the one picture of a comparison, as SVG for the page and as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mien.errors import need
from mien.evaluate import svg
from mien.evaluate.compare import Comparison, Row
from mien.evaluate.figures import LINES, save_figure
from mien.evaluate.formatting import count_in_words, percent

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 440.0, 300.0, 44.0, 14.0, 28.0, 44.0

_NAME_GAP = 14.0  # between two names, in the units of the drawing


@dataclass(frozen=True)
class Axis:
    """What lies across: a cost that is known for every model."""

    words: str
    values: tuple[float, ...]

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the axis in powers of ten, with room at both sides."""
        logs = [math.log10(value) for value in self.values]
        room = max(0.45, 0.12 * (max(logs) - min(logs)))
        return min(logs) - room, max(logs) + room

    def ticks(self) -> list[float]:
        """Values at 1, 2 and 5 times powers of ten that lie between the ends."""
        low, high = self.ends
        every = [m * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
        inside = [value for value in every if low <= math.log10(value) <= high]
        return inside if len(inside) < 9 else [value for value in inside if f"{value:e}".startswith("1")]


def cost_axis(rows: Sequence[Row]) -> Axis:
    """Choose milliseconds where all are known, then multiply-accumulates, then the size of the file."""
    for words, values in (
        ("milliseconds a face, one core", [row.cost.ms_a_face for row in rows]),
        ("multiply-accumulates a face", [row.cost.macs for row in rows]),
    ):
        known = tuple(float(value) for value in values if value)
        if len(known) == len(rows):
            return Axis(words, known)
    return Axis("size of the file, bytes", tuple(float(max(row.cost.size_bytes, 1)) for row in rows))


def accuracy_ends(rows: Sequence[Row]) -> tuple[float, float]:
    """Ends of the upright axis: all intervals and some room, within 0 and 1."""
    low = min(row.report.scores.accuracy_interval.low for row in rows)
    high = max(row.report.scores.accuracy_interval.high for row in rows)
    room = max(0.01, 0.15 * (high - low))
    return max(0.0, low - room), min(1.0, high + room)


def chart_svg(comparison: Comparison) -> str:
    """Return the picture as inline SVG in the page's colours."""
    rows, axis = comparison.rows, cost_axis(comparison.rows)
    (left, right), (low, high) = axis.ends, accuracy_ends(rows)

    def across(value: float) -> float:
        return _LEFT + (math.log10(value) - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def down(share: float) -> float:
        return _TOP + (high - share) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for share in _steps(low, high):
        y = down(share)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent(share, 0)}</text>')
    for value in axis.ticks():
        x = across(value)
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_tick(value)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(axis.words)}</text>')
    parts.append('<text x="0" y="12">accuracy</text>')
    beside = apart([down(row.report.scores.accuracy) for row in rows], _NAME_GAP)
    for place, (row, value) in enumerate(zip(rows, axis.values, strict=True)):
        interval = row.report.scores.accuracy_interval
        x, y = across(value), down(row.report.scores.accuracy)
        anchor, shift = ("end", -10) if x > 0.7 * _WIDTH else ("start", 10)
        parts.append(
            f'<g style="--k:{svg.colour(place)}">'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{down(interval.low):.1f}" y2="{down(interval.high):.1f}" '
            'stroke="var(--k)" stroke-width="2" stroke-opacity=".55"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="var(--k)"/>'
            f'<text class="named" x="{x + shift:.1f}" y="{beside[place] + 4:.1f}" text-anchor="{anchor}">'
            f"{escape(row.name)}</text></g>"
        )
    return f'<svg class="chart wide-chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return the heights moved down as far as needed for `gap` between any two, so that names can be read."""
    moved = list(heights)
    lowest = -math.inf
    for place in sorted(range(len(moved)), key=lambda place: moved[place]):
        moved[place] = max(moved[place], lowest + gap)
        lowest = moved[place]
    return moved


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Write the picture as a PNG."""
    rows, axis = comparison.rows, cost_axis(comparison.rows)
    figure = need("matplotlib.figure", "train", "drawing figures").Figure(
        figsize=(8, 4.6), layout="constrained"
    )
    axes = figure.subplots()
    axes.set_xscale("log")
    for place, (row, value) in enumerate(zip(rows, axis.values, strict=True)):
        interval, share = row.report.scores.accuracy_interval, row.report.scores.accuracy
        colour = LINES[place % len(LINES)]
        # The percentile interval of few pictures need not hold the figure itself.
        reach = [[max(0.0, share - interval.low)], [max(0.0, interval.high - share)]]
        axes.errorbar(value, share, yerr=reach, fmt="o", color=colour, capsize=3)
        axes.annotate(
            row.name,
            (value, share),
            textcoords="offset points",
            xytext=(8, 4),
            color=colour,
            parse_math=False,
        )
    left, right = axis.ends
    axes.set(xlim=(10**left, 10**right), ylim=accuracy_ends(rows), xlabel=axis.words, ylabel="accuracy")
    axes.set_xticks(axis.ticks(), [_tick(value) for value in axis.ticks()])
    axes.minorticks_off()
    axes.set_title(f"{comparison.data.name}, {comparison.data.part}".replace("$", r"\$"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    save_figure(figure, path)


def _steps(low: float, high: float) -> list[float]:
    """Round shares between the ends, at most seven."""
    step = next(size for size in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / size <= 7)
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick(value: float) -> str:
    return count_in_words(round(value)) if value >= 1000 else f"{value:g}"
