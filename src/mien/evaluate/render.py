"""The report and the comparison as files: pages, Markdown, tables and charts, written whole or not at all.

Pages stand alone: no script, no address; light and dark; readable on a phone. Their skeletons lie in `templates/`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import need
from mien.evaluate import charts
from mien.evaluate.report import (
    NONE,
    NOTE,
    Comparison,
    Predictions,
    Report,
    Row,
    area,
    bytes_in_words,
    count_in_words,
    decimal,
    highlights,
    markdown_table,
    percent,
    span,
)
from mien.files import (
    check_replaceable,
    csv_writer,
    markdown_text,
    plain_text,
    spreadsheet_safe,
    whole_folder,
)
from mien.images.marks import free_place
from mien.terminal import clock, columns, counted

REPORT_JSON, REPORT_PAGE = "report.json", "report.html"
COMPARISON_JSON, COMPARISON_PAGE = "comparison.json", "comparison.html"
HEADER = (
    "model",
    "accuracy",
    "95%",
    "macro-F1",
    "ECE",
    "parameters",
    "MACs",
    "size",
    "ms per view",
    "training",
)
# Left out on a phone; the CSV has everything.
_WIDE = ("95%", "macro-F1", "ECE", "parameters", "MACs", "size", "training")
_PICTURE_PX = 160  # longer side of a face on the page, at most


def write_report(report: Report, out: Path) -> None:
    """Write report.json, report.md, report.html, predictions.csv and the charts into the folder `out`.

    An older report there is replaced once the new one is complete. Raises OutputError where `out` holds
    something else, or cannot be written.
    """
    check_replaceable(out, "a report", REPORT_JSON)
    with whole_folder(out) as folder:
        (folder / REPORT_JSON).write_text(report.to_json() + "\n", encoding="utf-8")
        (folder / "report.md").write_text(report_markdown(report), encoding="utf-8")
        (folder / REPORT_PAGE).write_text(report_page(report), encoding="utf-8")
        _write_predictions(report.predictions, folder / "predictions.csv")
        for name, draw in charts.CHARTS.items():
            charts.save_png(draw(report), folder / name)


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write comparison.json, .md, .csv, .html and .png into the folder `out`, as `write_report` does."""
    check_replaceable(out, "a comparison", COMPARISON_JSON)
    with whole_folder(out) as folder:
        (folder / COMPARISON_JSON).write_text(comparison.to_json() + "\n", encoding="utf-8")
        (folder / "comparison.md").write_text(comparison_markdown(comparison), encoding="utf-8")
        (folder / COMPARISON_PAGE).write_text(comparison_page(comparison), encoding="utf-8")
        _write_rows(comparison, folder / "comparison.csv")
        charts.save_png(charts.accuracy_and_cost(comparison), folder / "comparison.png")


def own_place(folder: Path, found: Report | Comparison) -> Path:
    """Return a folder, or the first with a number behind its name, that holds no report on other models or data."""
    file = REPORT_JSON if isinstance(found, Report) else COMPARISON_JSON
    return free_place(folder, found.provenance["inputs"], known=lambda place: _inputs_of(place / file))


def _inputs_of(file: Path) -> str:
    """Return what a report was made of, as `provenance` keeps it; '' where it does not say so."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["provenance"]["inputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


# Pages.


def report_page(report: Report) -> str:
    """Return the whole page as one string of HTML."""
    return _page(
        "report.html.j2",
        report=report,
        highlights=highlights(report),
        # What always giving the most frequent answer would score.
        chance=max(found.support for found in report.scores.classes) / report.scores.n,
        reliability=charts.reliability(report),
        risk_coverage=charts.risk_coverage(report),
        selective=selective_words(report),
        quality=quality_rows(report),
        roc=charts.roc(report),
        colours=charts.class_colours([found.name for found in report.scores.classes]),
        data_facts=_data_facts(report),
        model_facts=_model_facts(report),
    )


def comparison_page(comparison: Comparison) -> str:
    """Return the whole page as one string of HTML."""
    return _page(
        "comparison.html.j2",
        comparison=comparison,
        header=HEADER,
        rows=[cells(row) for row in comparison.rows],
        chart=charts.accuracy_and_cost(comparison),
    )


def _page(template: str, **values: Any) -> str:
    """Fill a skeleton. Whatever is no chart of ours is escaped."""
    jinja2 = need("jinja2", "train", "writing reports")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mien.evaluate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "area": area,
        "colour": charts.colour,
        "data_uri": _data_uri,
        "versions": _versions,
        "column": _column,
        "counted": counted,
    }
    markup = need("markupsafe", "train", "writing reports").Markup
    filled = {
        name: markup(charts.to_svg(value, _kind(value))) if hasattr(value, "savefig") else value
        for name, value in values.items()
    }
    return str(environment.get_template(template).render(note=NOTE, **filled))


def _kind(figure: Any) -> str:
    """Return the CSS class of a chart: those that are wide get the width of the page."""
    return "chart wide-chart" if figure.get_figwidth() > 6 else "chart"


def _column(name: str) -> str:
    """Return the CSS class of a column of the comparison."""
    if name == HEADER[0]:
        return ""
    return "n wide" if name in _WIDE else "n"


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


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


def _data_facts(report: Report) -> dict[str, str]:
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
    return pairs


def _model_facts(report: Report) -> dict[str, str]:
    model = report.model
    training = model.metadata.get("training") or {}
    said = training.get("data")
    about = said if isinstance(said, Mapping) else {}
    parameters = f", {model.parameters:,} parameters" if model.parameters else ""
    pairs = {
        "Opened": f"{model.path} ({model.kind})",
        "Answers of": f"head {model.head}: {', '.join(model.labels)}",
        "Size": bytes_in_words(model.size_bytes) + parameters,
        "Input": "{size} px, {colour}".format(**model.metadata["preprocess"]),
    }
    if about:
        pairs["Trained on"] = str(about.get("name", "unknown")) + (
            " (this data set)" if report.data.trained_on else ""
        )
    if "best_epoch" in training:
        pairs["Epochs"] = f"{training['epochs']}, best {training['best_epoch']}"
    return pairs


# Markdown, for a terminal, a pull request, a model card.


def report_markdown(report: Report) -> str:
    """Return the whole report, its charts by relative name."""
    model, data = report.model, report.data
    parts = [
        f"# {markdown_text(f'{model.name} on {data.name}, {data.part}')}",
        report.headline()[0].upper() + report.headline()[1:] + f". {report.tta['words'].capitalize()}.",
        "\n".join(f"- {markdown_text(sentence)}" for sentence in highlights(report)),
        markdown_table(["figure", "value", "95% interval"], _figures(report)),
        "## Per class\n\n" + _per_class(report),
        "## Confusion\n\nRows are labels, columns answers.\n\n"
        + _confusion(report)
        + "\n\n![](confusion.png)",
        "## Calibration\n\n" + _calibration(report) + "\n\n![](reliability.png)",
    ]
    parts.append(
        "## Answering only where it is sure\n\n" + selective_words(report) + "\n\n![](risk_coverage.png)"
    )
    if report.quality:
        parts.append("## Calibration by quality\n\n" + _by_quality(report))
    if report.top_losses:
        parts.append("## Most confident mistakes\n\n![](top_losses.png)")
    if report.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {markdown_text(note)}" for note in report.notes))
    parts.append("## How it was made\n\n" + _made(report))
    parts.append(f"*{NOTE}*")
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(report: Report) -> list[list[str]]:
    scores = report.scores
    f1 = scores.macro_f1_interval
    rows = [
        ["accuracy", percent(scores.accuracy), span(scores.accuracy_interval)],
        ["top-2 accuracy", percent(scores.top2), ""],
        ["balanced accuracy", percent(scores.balanced_accuracy), ""],
        ["macro-F1", decimal(scores.macro_f1), f"{f1.low:.3f} to {f1.high:.3f}"],
        ["weighted F1", decimal(scores.weighted_f1), ""],
        ["ROC AUC, mean over classes", decimal(scores.roc_auc), ""],
        ["average precision, mean over classes", decimal(scores.average_precision), ""],
        ["ECE, 15 bins", decimal(scores.ece), ""],
        ["NLL, nats", decimal(scores.nll), ""],
        ["Brier score", decimal(scores.brier), ""],
    ]
    if (apart := report.without_near_copies) is not None:
        what = f"accuracy without near copies of training pictures, n = {apart.n:,}"
        rows.insert(1, [what, percent(apart.accuracy), span(apart.accuracy_interval)])
    if (without := report.deduplicated) is not None:
        what = f"accuracy without {counted(report.data.copies or 0, 'copy', 'copies')} of training pictures"
        rows.insert(1, [what, percent(without.accuracy), span(without.accuracy_interval)])
    if (votes := report.votes) is not None:
        rows += [
            [f"FER+ accuracy, majority, n = {votes.majority_n:,}", percent(votes.majority_accuracy), ""],
            [
                f"FER+ accuracy, over half of ten annotators, n = {votes.clear_n:,}",
                percent(votes.clear_accuracy),
                "",
            ],
            [f"FER+ accuracy, plurality, n = {votes.plurality_n:,}", percent(votes.plurality_accuracy), ""],
            ["cross-entropy to the annotators, nats", decimal(votes.cross_entropy), ""],
        ]
    return rows


def _per_class(report: Report) -> str:
    header = ["class", "pictures", "precision", "recall", "F1", "ROC AUC", "average precision"]
    rows = [
        [
            found.name,
            f"{found.support:,}",
            percent(found.precision),
            percent(found.recall),
            decimal(found.f1),
            area(found.roc),
            area(found.precision_recall),
        ]
        for found in report.scores.classes
    ]
    return markdown_table(header, rows)


def _confusion(report: Report) -> str:
    names = [found.name for found in report.scores.classes]
    rows = [[name, *map(str, row)] for name, row in zip(names, report.scores.confusion, strict=True)]
    return markdown_table(["", *names], rows)


def _calibration(report: Report) -> str:
    rows = [
        [
            found.fitted,
            decimal(found.temperature),
            f"{found.ece_before:.3f} → {found.ece_after:.3f}",
            f"{found.nll_before:.3f} → {found.nll_after:.3f}",
        ]
        for found in report.calibration
    ]
    return markdown_table(["temperature fitted", "temperature", "ECE", "NLL"], rows) if rows else ""


def selective_words(report: Report) -> str:
    """Return in words what the model's threshold leaves, and the area under the risk-coverage curve."""
    found = report.selective
    area_words = f"Area under the risk-coverage curve: {found.aurc:.3f} (lower is better)."
    if not found.threshold:
        return f"This model answers every face; it has no threshold below which it says ‘uncertain’. {area_words}"
    if found.below is None:
        return f"No answer lies below its threshold of {found.threshold:.2f}. {area_words}"
    return (
        f"It answers {percent(found.answered)} of the faces and is right on {percent(found.accuracy)} of those; of the "
        f"others, below its threshold of {found.threshold:.2f}, it would be right on {percent(found.below)}. "
        f"{area_words}"
    )


def _by_quality(report: Report) -> str:
    header = ["quarter of the faces", "number", "accuracy", "mean confidence", "ECE"]
    return markdown_table(header, quality_rows(report))


def quality_rows(report: Report) -> list[list[str]]:
    """Return one line a group of faces of like quality."""
    return [
        [found.name, f"{found.n:,}", percent(found.accuracy), percent(found.confidence), decimal(found.ece)]
        for found in report.quality
    ]


def _code(text: object) -> str:
    """Return text as code, whatever it holds: a class or a file may have backticks in its name."""
    plain = plain_text(str(text))
    fence = "``" if "`" in plain else "`"
    return f"{fence} {plain} {fence}" if fence == "``" else f"`{plain}`"


def _made(report: Report) -> str:
    model, data, made = report.model, report.data, report.provenance
    parameters = f"{model.parameters:,}" if model.parameters else NONE
    size = bytes_in_words(model.size_bytes)
    lines = [
        f"- Command: {_code(made['command'])}",
        f"- Model: {markdown_text(model.name)} ({model.kind}), head {model.head}, {parameters} parameters, {size}",
        f"- Data: {markdown_text(data.name)}, {data.pictures}, fingerprint `{data.fingerprint[:12]}`",
        f"- Date: {made['date']}; machine: {made['machine']}",
        f"- Versions: {_versions(made['versions'])}",
    ]
    return "\n".join(lines)


# A comparison, one line a model.


def cells(row: Row) -> list[str]:
    """Return one line of the table, in the order of HEADER."""
    scores, profile = row.report.scores, row.profile
    interval = scores.accuracy_interval
    return [
        row.name,
        percent(scores.accuracy),
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f}",
        decimal(scores.macro_f1),
        decimal(scores.ece),
        count_in_words(profile.parameters),
        count_in_words(profile.macs),
        bytes_in_words(profile.size_bytes),
        decimal(profile.ms_per_face, 2),
        NONE if profile.training_s is None else clock(profile.training_s),
    ]


def comparison_text(comparison: Comparison) -> str:
    """Return aligned columns for a terminal."""
    return columns([list(HEADER), *(cells(row) for row in comparison.rows)])


def comparison_markdown(comparison: Comparison) -> str:
    """Return the whole comparison, its chart by relative name."""
    data, made = comparison.data, comparison.provenance
    parts = [
        f"# {counted(len(comparison.rows), 'model')} on {markdown_text(data.name)}, {data.part}",
        f"{data.pictures}, {comparison.tta['words']}. {markdown_text(comparison.headline())}.",
        markdown_table(HEADER, [cells(row) for row in comparison.rows]),
        "![](comparison.png)",
        "\n".join(f"- {markdown_text(note)}" for note in comparison.notes),
        f"{_code(made['command'])}, {made['date']}, {made['machine']}. Milliseconds: processor time of one core, "
        "ONNX Runtime, one view of one face at a time.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# Tables for programs.


def _write_predictions(predictions: Predictions, path: Path) -> None:
    """Write one row a picture: name, label, answer, whether it is right, and p_CLASS for each class.

    As in all tables of mien, so that a class may be called `right` or `name`.
    """
    answers = predictions.probabilities.argmax(axis=1)
    copies = predictions.copies
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv_writer(stream)
        writer.writerow(
            [
                *("name", "label", "predicted", "right", "confidence", "copy_of_training"),
                *(f"p_{name}" for name in predictions.classes),
            ]
        )
        for row, (name, label) in enumerate(zip(predictions.names, predictions.labels, strict=True)):
            values = predictions.probabilities[row]
            answer = int(answers[row])
            copy = "" if copies is None else int(copies[row])
            writer.writerow(
                [
                    spreadsheet_safe(name),
                    spreadsheet_safe(predictions.classes[label]),
                    spreadsheet_safe(predictions.classes[answer]),
                    int(answer == label),
                    f"{values[answer]:.6g}",
                    copy,
                    *(f"{value:.6g}" for value in values),
                ]
            )


def _write_rows(comparison: Comparison, path: Path) -> None:
    """Write one row a model with unrounded figures; an unknown one is empty."""
    rows = []
    for row in comparison.rows:
        values = row.to_dict()
        interval = values.pop("accuracy_interval")
        rows.append({**values, "accuracy_low": interval["low"], "accuracy_high": interval["high"]})
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv_writer(stream)
        writer.writerow(rows[0])
        for values in rows:
            writer.writerow(
                [spreadsheet_safe(value) if isinstance(value, str) else value for value in values.values()]
            )
