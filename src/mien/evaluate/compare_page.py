"""A comparison as one self-contained page."""

from __future__ import annotations

from html import escape

from mien.evaluate import svg
from mien.evaluate.compare import Comparison
from mien.evaluate.compare_chart import chart_svg
from mien.evaluate.compare_text import HEADER, cells
from mien.evaluate.page import bar, facts, notes_section, scrolling, style, template
from mien.evaluate.report import NOTE

# Left out on a phone; the CSV has everything.
_WIDE = ("95 %", "macro-F1", "ECE", "parameters", "MACs", "size", "training")


def to_html(comparison: Comparison) -> str:
    """Return the whole page as one string of HTML."""
    data, made = comparison.data, comparison.made
    return template("compare.html").substitute(
        style=style(),
        title=escape(f"{len(comparison.rows)} models on {data.name}"),
        heading=_heading(comparison),
        lead=(
            f"{len(comparison.rows)} models on the same {data.pictures} of "
            f"<b>{escape(data.name)}</b>, {len(data.counts)} classes, {escape(comparison.views['words'])}."
        ),
        verdict=_verdict(comparison),
        table=_table(comparison),
        chart=chart_svg(comparison),
        per_class=_per_class(comparison),
        notes=notes_section(comparison.notes),
        command=escape(str(made["command"])),
        made=facts(
            {
                "Date": str(made["date"]),
                "Machine": str(made["machine"]),
                "Versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
            }
        ),
        footer=escape(NOTE),
    )


def _heading(comparison: Comparison) -> str:
    best = f"<em>{escape(comparison.rows[0].name)}</em>"
    if comparison.best_two is None:
        return best
    return (
        f"{best} leads, within noise" if comparison.best_two.within_noise else f"{best} is right most often"
    )


def _verdict(comparison: Comparison) -> str:
    if comparison.best_two is None:
        return ""
    sentence = comparison.best_two.sentence()
    return f'<p class="verdict">{escape(sentence)}.</p>'


def _table(comparison: Comparison) -> str:
    head = "".join(f'<th class="{_kind(name)}">{escape(name)}</th>' for name in HEADER)
    rows = []
    for place, row in enumerate(comparison.rows):
        name, *rest = cells(row)
        first = f'<td class="what"><span class="dot"></span>{escape(name)}</td>'
        others = "".join(
            f'<td class="{_kind(column)}">{escape(cell)}</td>'
            for column, cell in zip(HEADER[1:], rest, strict=True)
        )
        rows.append(f'<tr style="--k:{svg.colour(place)}">{first}{others}</tr>')
    return scrolling(f"<tr>{head}</tr>", rows)


def _kind(column: str) -> str:
    if column == HEADER[0]:
        return ""
    return "n wide" if column in _WIDE else "n"


def _per_class(comparison: Comparison) -> str:
    names = list(comparison.data.counts)
    head = "".join(f"<th>{escape(row.name)}</th>" for row in comparison.rows)
    rows = []
    for place, name in enumerate(names):
        bars = "".join(
            f'<td style="--k:{svg.colour(number)}">{bar(row.report.scores.classes[place].f1)}</td>'
            for number, row in enumerate(comparison.rows)
        )
        rows.append(f'<tr><td class="what">{escape(name)}</td>{bars}</tr>')
    return scrolling(f"<tr><th>class</th>{head}</tr>", rows)
