"""A report's figures as words: numbers as people write them, and what stands out."""

from __future__ import annotations

import numpy as np

from mien.evaluate.metrics import ClassScores, Curve, Scores
from mien.evaluate.report import Report
from mien.evaluate.significance import Interval

NONE = "–"  # where a figure is not defined


def percent(share: float | None, digits: int = 1) -> str:
    """Return 66.5 % for 0.6647, or a dash for None."""
    return NONE if share is None else f"{100 * share:.{digits}f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def area(curve: Curve | None) -> float | None:
    """Return the area that belongs to a curve, None where there is no curve."""
    return curve.area if curve else None


def span(interval: Interval) -> str:
    """Return a 95 % interval of a share as 65.0 to 68.1 %."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def count_in_words(count: int | None) -> str:
    """Return 1.7 M for 1,696,732 and 57.3 M for multiply-accumulates; a dash for None."""
    if count is None:
        return NONE
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.{1 if count < 100 * unit else 0}f} {letter}".replace(".0 ", " ")
    return str(count)


def seconds_in_words(seconds: float | None) -> str:
    """Return 1h 05m, 4m 10s or 12s; a dash for None."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole // 60 % 60:02}m"
    return f"{whole // 60}m {whole % 60:02}s" if whole >= 60 else f"{whole}s"


def bytes_in_words(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def stands_out(report: Report) -> tuple[str, ...]:
    """Return what a reader should notice first, a sentence each."""
    found = [_copies(report), *_classes(report.scores), *_confusion(report.scores), _confidence(report)]
    return tuple(sentence for sentence in found if sentence)


def _copies(report: Report) -> str:
    without = report.without_copies
    if without is None:
        return ""
    return (
        f"{report.data.copies:,} of the {report.scores.n:,} pictures are copies of training pictures; "
        f"without them it is right on {percent(without.accuracy)}."
    )


def _classes(scores: Scores) -> list[str]:
    rated = [c for c in scores.classes if c.f1 is not None]
    if len(rated) < 2:
        return []
    best, worst = max(rated, key=_f1), min(rated, key=_f1)
    return [
        f"Best at {best.name}: finds {percent(best.recall, 0)} of them, F1 {decimal(best.f1, 2)}.",
        f"Weakest at {worst.name}: finds {percent(worst.recall, 0)} of them, F1 {decimal(worst.f1, 2)}, "
        f"{worst.support:,} pictures.",
    ]


def _f1(scores: ClassScores) -> float:
    return scores.f1 or 0.0


def _confusion(scores: Scores) -> list[str]:
    """The confusion that costs most, by the share of its class."""
    table = np.array(scores.confusion, float)
    np.fill_diagonal(table, 0)
    support = np.array([c.support for c in scores.classes])
    shares = table / np.maximum(support, 1)[:, None]
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    if not table[row, column]:
        return []
    label, answer = scores.classes[row].name, scores.classes[column].name
    return [f"Most confused: {percent(shares[row, column], 0)} of {label} are taken for {answer}."]


def _confidence(report: Report) -> str:
    filled = [b for b in report.reliability if b.accuracy is not None]
    total = sum(b.count for b in filled)
    gap = sum(b.count * (b.confidence - (b.accuracy or 0)) for b in filled) / max(total, 1)
    if abs(gap) < 0.02:
        return "Its confidence matches how often it is right, on the whole."
    too = "surer than it should be" if gap > 0 else "less sure than it could be"
    return f"On average {too}, by {abs(100 * gap):.1f} points."
