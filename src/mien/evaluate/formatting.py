"""Figures as people write them: numbers, Markdown tables, and the sentences that a report begins with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mien.evaluate.metrics import Bin, Curve, Scores
from mien.evaluate.report import Report
from mien.evaluate.significance import Interval
from mien.files import markdown_text

NONE = "–"  # where a figure is not defined
_CALIBRATED = 0.03  # ECE up to which confidence may be called right


def percent(share: float | None, digits: int = 1) -> str:
    """Return 66.5% for 0.6647, or a dash for None."""
    return NONE if share is None else f"{100 * share:.{digits}f}%"


def decimal(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def area(curve: Curve | None) -> str:
    """Return the area that belongs to a curve, a dash where there is no curve."""
    return decimal(curve.area if curve else None)


def span(interval: Interval) -> str:
    """Return a 95 % interval of a share as 65.0 to 68.1%."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%"


def count_in_words(count: int | None) -> str:
    """Return 1.7 M for 1,696,732 and 57.3 M for multiply-accumulates; a dash for None."""
    if count is None:
        return NONE
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.{1 if count < 100 * unit else 0}f} {letter}".replace(".0 ", " ")
    return str(count)


def bytes_in_words(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return markdown_text(text)


def highlights(report: Report) -> tuple[str, ...]:
    """Return what a reader should notice first, a sentence each.

    Every sentence names the figure that it was chosen by, so that none contradicts another or the tables.
    """
    found = [
        _copies(report),
        *_recall(report.scores),
        _precision(report.scores),
        _confusion(report.scores),
        confidence(report.reliability, report.scores.ece),
    ]
    return tuple(sentence for sentence in found if sentence)


def _copies(report: Report) -> str:
    without, apart = report.deduplicated, report.without_near_copies
    found = ""
    if without is not None:
        found = (
            f"{report.data.copies:,} of the {report.scores.n:,} pictures are copies of training pictures; "
            f"without them it is right on {percent(without.accuracy)}."
        )
    if apart is not None:
        found += (
            f" Without near copies of training pictures (cropped, recompressed, mirrored) {apart.n:,} are left; it is "
            f"right on {percent(apart.accuracy)} of those."
        )
    return found.strip()


def _recall(scores: Scores) -> list[str]:
    found = sorted((c.recall, c.name, c.support) for c in scores.classes if c.recall is not None)
    if len(found) < 2 or found[0][0] == found[-1][0]:
        return []
    (least, worst, support), (most, best, _) = found[0], found[-1]
    return [
        f"Finds {best} most often: {percent(most, 0)} of the faces with this label.",
        f"Finds {worst} least often: {percent(least, 0)} of {support:,}.",
    ]


def _precision(scores: Scores) -> str:
    found = sorted((c.precision, c.name, c.predicted) for c in scores.classes if c.precision is not None)
    if len(found) < 2 or found[0][0] == found[-1][0]:
        return ""
    least, name, predicted = found[0]
    return f"Its answer {name} is least often right: {percent(least, 0)} of {predicted:,}."


def _confusion(scores: Scores) -> str:
    """The confusion that costs most, by the share of its class."""
    table = np.array(scores.confusion, float)
    np.fill_diagonal(table, 0)
    support = np.array([c.support for c in scores.classes])
    shares = table / np.maximum(support, 1)[:, None]
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    if not table[row, column]:
        return ""
    label, answer = scores.classes[row].name, scores.classes[column].name
    return f"Most confused: {percent(shares[row, column], 0)} of {label} are taken for {answer}."


def confidence(bins: Sequence[Bin], ece: float) -> str:
    """Say whether confidence is right. ece: the mean gap over the bins, without its sign; the sign says which way."""
    if ece <= _CALIBRATED:
        return f"Its confidence matches how often it is right (ECE {percent(ece)})."
    filled = [b for b in bins if b.accuracy is not None]
    total = sum(b.count for b in filled)
    gap = sum(b.count * (b.confidence - (b.accuracy or 0)) for b in filled) / max(total, 1)
    if abs(gap) < ece / 2:
        return f"Its confidence is off by {percent(ece)} on average (ECE), too high in places and too low in others."
    too = "surer than it is right" if gap > 0 else "less sure than it is right"
    return f"It is {too}: by {100 * abs(gap):.1f} points on average (ECE {percent(ece)})."
