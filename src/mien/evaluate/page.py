"""The report as one self-contained page: no script, no address, light and dark, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.evaluate import svg
from mien.evaluate.formatting import NONE, area, bytes_in_words, decimal, percent, stands_out
from mien.evaluate.report import NOTE, Mistake, Report
from mien.evaluate.significance import Interval

_PICTURE_PX = 160  # longer side of a face on the page, at most
_MOST_NUMBERS = 16  # a larger confusion matrix shows colours only


def to_html(report: Report) -> str:
    """Return the whole page as one string of HTML."""
    names = [found.name for found in report.scores.classes]
    rocs = [found.roc for found in report.scores.classes]
    curves = [found.precision_recall for found in report.scores.classes]
    return template("report.html").substitute(
        style=style(),
        title=escape(f"{report.model.name} on {report.data.name}"),
        heading=_heading(report),
        lead=_lead(report),
        tiles=_tiles(report),
        stands_out=_list(stands_out(report)),
        notes=notes_section(report.notes),
        per_class=_per_class(report),
        confusion=_confusion(report),
        mistakes=_mistakes(report),
        reliability=svg.reliability(report.reliability),
        calibration=_calibration(report),
        votes=_votes(report),
        roc=svg.lines(rocs, names, "false alarms", "found", diagonal=True),
        precision_recall=svg.lines(curves, names, "recall", "precision", diagonal=False),
        chips=_chips(report),
        data=_data(report),
        model=_model(report),
        command=escape(str(report.made["command"])),
        made=facts(
            {
                "Date": str(report.made["date"]),
                "Machine": str(report.made["machine"]),
                "Versions": ", ".join(
                    f"{name} {version}" for name, version in report.made["versions"].items()
                ),
            }
        ),
        footer=escape(NOTE),
    )


def template(name: str) -> Template:
    """Return a page skeleton that lies beside this module."""
    return Template((resources.files("mien.evaluate") / name).read_text(encoding="utf-8"))


def style() -> str:
    return template("style.html").template


def tile(name: str, value: str, detail: str = "", strip: str = "", first: bool = False) -> str:
    """Return one headline figure. value: HTML already; name and detail: plain text."""
    kind = "tile first" if first else "tile"
    return (
        f'<div class="{kind}"><div class="name">{escape(name)}</div><div class="value">{value}</div>'
        f'{strip}<div class="detail">{escape(detail)}</div></div>'
    )


def facts(pairs: dict[str, str]) -> str:
    """Return a list of names and values; plain text in, HTML out."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs.items()) + "</dl>"


def percent_value(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}<small> %</small>"


def _heading(report: Report) -> str:
    kind = "face" if report.scores.n == 1 else "faces"
    return f"Right on <em>{percent(report.scores.accuracy)}</em> of {report.scores.n:,} {kind}"


def _lead(report: Report) -> str:
    model, data = report.model, report.data
    return (
        f"<b>{escape(model.name)}</b> on {data.pictures} of <b>{escape(data.name)}</b>, "
        f"{len(data.counts)} classes, {escape(report.views['words'])}."
    )


def _tiles(report: Report) -> str:
    scores, without = report.scores, report.without_copies
    # What always giving the most frequent answer would score.
    chance = max(found.support for found in scores.classes) / scores.n
    tiles = [_share_tile("Accuracy", scores.accuracy, scores.accuracy_interval, chance, first=True)]
    if without is not None:
        tiles.append(_share_tile("Without copies", without.accuracy, without.accuracy_interval))
    tiles.append(_share_tile("Macro-F1", scores.macro_f1, scores.macro_f1_interval))
    balanced = svg.strip(scores.balanced_accuracy)
    tiles.append(tile("Balanced", percent_value(scores.balanced_accuracy), "mean recall", balanced))
    if scores.top2 is not None:
        top = svg.strip(scores.top2)
        tiles.append(tile("Top-2", percent_value(scores.top2), "in the first two", top))
    sureness = svg.strip(min(1.0, scores.ece))
    tiles.append(tile("Calibration error", percent_value(scores.ece), f"NLL {scores.nll:.3f}", sureness))
    return "\n".join(tiles)


def _share_tile(
    name: str, value: float, interval: Interval, chance: float | None = None, first: bool = False
) -> str:
    return tile(
        name,
        percent_value(value),
        f"95 %: {100 * interval.low:.1f} to {100 * interval.high:.1f}",
        svg.strip(value, interval, chance),
        first,
    )


def _list(lines: Sequence[str]) -> str:
    return (
        '<ul class="plain">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
        if lines
        else ""
    )


def notes_section(notes: Sequence[str]) -> str:
    return f"<section><h2>Worth knowing</h2>{_list(notes)}</section>" if notes else ""


def _per_class(report: Report) -> str:
    head = (
        '<tr><th>class</th><th class="n">faces</th><th>precision</th><th>recall</th><th>F1</th>'
        '<th class="n wide">ROC AUC</th><th class="n wide">avg. precision</th></tr>'
    )
    rows = []
    for place, found in enumerate(report.scores.classes):
        bars = "".join(f"<td>{bar(share)}</td>" for share in (found.precision, found.recall, found.f1))
        rows.append(
            f'<tr style="--k:{svg.colour(place)}">'
            f'<td class="what"><span class="dot"></span>{escape(found.name)}</td>'
            f'<td class="n">{found.support:,}</td>{bars}'
            f'<td class="n wide">{decimal(area(found.roc))}</td>'
            f'<td class="n wide">{decimal(area(found.precision_recall))}</td></tr>'
        )
    return scrolling(head, rows)


def scrolling(head: str, rows: Sequence[str]) -> str:
    """Return a table that scrolls by itself where it is wider than the screen. head and rows: HTML."""
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def bar(share: float | None) -> str:
    """Return a share as a bar with its number in hundredths."""
    if share is None:
        return f'<div class="bar"><b>{NONE}</b></div>'
    return f'<div class="bar"><i style="--v:{100 * share:.1f}%"></i><b>{100 * share:.1f}</b></div>'


def _confusion(report: Report) -> str:
    names = [found.name for found in report.scores.classes]
    table = np.array(report.scores.confusion)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = []
    for row, name in enumerate(names):
        cells = "".join(
            _cell(shares[row, column], int(table[row, column]), row == column, len(names))
            for column in range(len(names))
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    columns = '<col class="names">' + "<col>" * len(names)
    return (
        f'<div class="scroll"><table class="confusion"><colgroup>{columns}</colgroup>'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(share: float, count: int, right: bool, classes: int) -> str:
    kinds = [kind for kind, on in (("miss", not right), ("deep", share > 0.55), ("none", not count)) if on]
    inside = "&nbsp;" if classes > _MOST_NUMBERS else f"{100 * share:.0f}<small>{count:,}</small>"
    return f'<td class="{" ".join(kinds)}" style="--p:{100 * share:.0f}%">{inside}</td>'


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return ""
    hint = (
        "The wrong answers that the model was surest of. Many of them say more about the label than about "
        "the model: look before you blame either."
    )
    figures = "".join(_mistake(mistake) for mistake in report.mistakes)
    return (
        f"<section><h2>Most confident mistakes</h2>"
        f'<p class="hint">{hint}</p><div class="faces">{figures}</div></section>'
    )


def _mistake(mistake: Mistake) -> str:
    raters = f"<small>raters: {escape(mistake.raters)}</small>" if mistake.raters else ""
    return (
        f'<figure title="{escape(mistake.name)}">'
        f'<img alt="{escape(mistake.name)}" src="{_data_uri(mistake.picture)}">'
        f'<figcaption><span class="says">{escape(mistake.predicted)}</span> {percent(mistake.confidence, 0)}'
        f"<br>labelled {escape(mistake.label)}{raters}</figcaption></figure>"
    )


def _data_uri(picture: NDArray[np.uint8]) -> str:
    """Return a picture as a data address: PNG where it is small and grey, JPEG otherwise."""
    scale = _PICTURE_PX / max(picture.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    if picture.ndim == 3:
        picture = np.ascontiguousarray(picture[:, :, ::-1])
    suffix, kind = (".png", "png") if picture.ndim == 2 else (".jpg", "jpeg")
    _, data = cv2.imencode(suffix, picture)
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def _calibration(report: Report) -> str:
    if not report.calibration:
        return '<p class="hint">Too few pictures to fit one.</p>'
    parts = []
    for found in report.calibration:
        rows = _before_after("ECE", found.ece_before, found.ece_after)
        rows += _before_after("NLL", found.nll_before, found.nll_after)
        parts.append(
            f"<h3>Temperature {found.temperature:.2f}, fitted {escape(found.fitted)}</h3>"
            f'<table><thead><tr><th></th><th class="n">as it is</th><th class="n">with it</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )
    return "".join(parts)


def _before_after(name: str, before: float, after: float) -> str:
    kind = "good" if after < before else "bad"
    cells = f'<td class="n">{before:.3f}</td><td class="n {kind}">{after:.3f}</td>'
    return f'<tr><td class="what">{name}</td>{cells}</tr>'


def _votes(report: Report) -> str:
    votes = report.votes
    if votes is None:
        return ""
    tiles = [
        tile(
            "Majority",
            percent_value(votes.majority_accuracy),
            f"{votes.majority_n:,} faces, winner over half",
        ),
        tile(
            "Over half of ten",
            percent_value(votes.clear_accuracy),
            f"{votes.clear_n:,} faces, single votes counted",
        ),
        tile(
            "Plurality", percent_value(votes.plurality_accuracy), f"{votes.plurality_n:,} faces, any winner"
        ),
        tile("Cross-entropy", f"{votes.cross_entropy:.3f}", f"nats, {votes.cross_entropy_n:,} faces"),
    ]
    return (
        f"<section><h2>Against ten raters (FER+)</h2>"
        f'<p class="hint">The answers of the head ‘{escape(votes.head)}’ compared with what ten people '
        f"chose for each face, single dissenting votes dropped.</p>"
        f'<div class="tiles">{"".join(tiles)}</div></section>'
    )


def _chips(report: Report) -> str:
    chips = []
    for place, found in enumerate(report.scores.classes):
        chips.append(
            f'<li style="--k:{svg.colour(place)}"><span class="dot"></span>{escape(found.name)}'
            f"<b>{decimal(area(found.roc))} · {decimal(area(found.precision_recall))}</b></li>"
        )
    return f'<ul class="chips">{"".join(chips)}</ul>'


def _data(report: Report) -> str:
    data = report.data
    pairs = {
        "Read from": data.path,
        "Scored": data.pictures,
        "All parts": ", ".join(f"{name} {count:,}" for name, count in data.splits.items()),
        "Copies of training pictures": NONE if data.copies is None else f"{data.copies:,}",
        "Fingerprint": data.fingerprint[:16],
    }
    if data.unreadable:
        pairs["Unreadable"] = f"{len(data.unreadable):,}: {'; '.join(data.unreadable[:3])}"
    return facts(pairs)


def _model(report: Report) -> str:
    model = report.model
    training = model.metadata.get("training") or {}
    about = training.get("data") or {}
    pairs = {
        "Opened": f"{model.path} ({model.kind})",
        "Answers of": f"head {model.head}: {', '.join(model.labels)}",
        "Size": bytes_in_words(model.size_bytes)
        + (f", {model.parameters:,} parameters" if model.parameters else ""),
        "Input": "{size} px, {colour}".format(**model.metadata["preprocess"]),
        "Trained on": f"{about['name']}" + (" (this data set)" if report.data.trained_on else "")
        if about
        else NONE,
        "Epochs": f"{training['epochs']}, best {training['best_epoch']}"
        if "best_epoch" in training
        else NONE,
    }
    return facts({name: text for name, text in pairs.items() if text != NONE})
