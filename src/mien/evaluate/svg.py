"""Charts as inline SVG that takes its colours from the page, so light and dark need no second drawing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mien.evaluate.calibration import BINS, Bin
from mien.evaluate.metrics import Curve
from mien.evaluate.significance import Interval

_SIDE, _LEFT, _BOTTOM, _TOP, _RIGHT = 300.0, 40.0, 38.0, 24.0, 10.0
COLOURS = 8  # --c0 to --c7 in style.html


def colour(place: int) -> str:
    """Return the page's colour of class number `place`; it starts again after eight."""
    return f"var(--c{place % COLOURS})"


def strip(value: float, interval: Interval | None = None, chance: float | None = None) -> str:
    """Return a thin scale from 0 to 1 with a dot, its interval and a tick for guessing."""
    parts = [
        '<line x1="0" x2="100" y1="6" y2="6" stroke="var(--track)" stroke-width="4" stroke-linecap="round"/>'
    ]
    if chance is not None:
        x = 100 * chance
        parts.append(
            f'<line x1="{x:.2f}" x2="{x:.2f}" y1="1" y2="11" stroke="var(--soft)" stroke-width="1" '
            'vector-effect="non-scaling-stroke"/>'
        )
    if interval is not None:
        parts.append(
            f'<line x1="{100 * interval.low:.2f}" x2="{100 * interval.high:.2f}" y1="6" y2="6" '
            'stroke="var(--accent)" stroke-opacity=".45" stroke-width="10"/>'
        )
    x = 100 * value
    parts.append(
        f'<line x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="12" stroke="var(--accent)" stroke-width="3" '
        'vector-effect="non-scaling-stroke"/>'
    )
    box = 'class="strip" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true"'
    return f"<svg {box}>{''.join(parts)}</svg>"


def reliability(bins: Sequence[Bin]) -> str:
    """Return accuracy by confidence over a histogram of the confidence."""
    total, most = sum(b.count for b in bins), max((b.count for b in bins), default=0)
    bars = []
    width = _SIDE / BINS - 3
    for found in bins:
        if found.accuracy is None:
            continue
        x = _LEFT + found.low * _SIDE + 1.5
        top = _y(found.accuracy)
        claim = f"{found.low:.0%} to {found.high:.0%}"
        title = f"confidence {claim}: {found.accuracy:.1%} of {found.count:,} are right"
        # Faint where few answers lie: their height is mostly chance.
        strength = 0.35 + 0.65 * min(1.0, found.count / max(total / BINS / 4, 1))
        bars.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_y(0) - top:.1f}" rx="2" '
            f'fill="var(--accent)" fill-opacity="{strength:.2f}"><title>{escape(title)}</title></rect>'
        )
        tall = 46 * found.count / max(most, 1)
        bars.append(
            f'<rect x="{x:.1f}" y="{_y(0) + 96 - tall:.1f}" width="{width:.1f}" height="{tall:.1f}" rx="1.5" '
            'fill="var(--soft)" fill-opacity=".55"/>'
        )
    below = _y(0) + 96
    extra = (
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{below}" y2="{below}"/>'
        f'<text x="{_LEFT + _SIDE}" y="{below + 14}" text-anchor="end">how many answers claim it</text>'
    )
    return _chart(_grid("confidence", "right") + "".join(bars) + _diagonal() + extra, below + 22)


def lines(curves: Sequence[Curve | None], names: Sequence[str], x: str, y: str, *, diagonal: bool) -> str:
    """Return one line a class. x, y: what the axes say. diagonal: draw where guessing would be."""
    drawn = []
    for place, (curve, name) in enumerate(zip(curves, names, strict=True)):
        if curve is None:
            continue
        points = " ".join(
            f"{_LEFT + a * _SIDE:.1f},{_y(b):.1f}" for a, b in zip(curve.x, curve.y, strict=True)
        )
        drawn.append(
            f'<polyline class="line" points="{points}" stroke="{colour(place)}">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return _chart(_grid(x, y) + (_diagonal() if diagonal else "") + "".join(drawn), _TOP + _SIDE + _BOTTOM)


def _y(share: float) -> float:
    return _TOP + (1 - share) * _SIDE


def _diagonal() -> str:
    return f'<path class="even" d="M{_LEFT} {_y(0)}L{_LEFT + _SIDE} {_y(1)}"/>'


def _grid(x: str, y: str) -> str:
    parts = []
    for step in (0, 0.25, 0.5, 0.75, 1):
        across, down, text = _LEFT + step * _SIDE, _y(step), f"{100 * step:.0f} %"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{down}" y2="{down}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4}" text-anchor="end">{text if step else "0"}</text>')
        if step:
            anchor = "end" if step == 1 else "middle"
            parts.append(f'<text x="{across}" y="{_y(0) + 15}" text-anchor="{anchor}">{text}</text>')
    middle = _LEFT + _SIDE / 2
    parts.append(f'<text x="{middle}" y="{_y(0) + 31}" text-anchor="middle">{escape(x)}</text>')
    parts.append(f'<text x="0" y="11">{escape(y)}</text>')
    return "".join(parts)


def _chart(inside: str, height: float) -> str:
    width = _LEFT + _SIDE + _RIGHT
    return f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" role="img">{inside}</svg>'
