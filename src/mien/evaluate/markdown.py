"""The report as Markdown: for a terminal, a pull request, a model card."""

from __future__ import annotations

from collections.abc import Sequence

from mien.evaluate.formatting import NONE, area, bytes_in_words, decimal, percent, span, stands_out
from mien.evaluate.report import NOTE, Report
from mien.evaluate.significance import Interval


def to_markdown(report: Report) -> str:
    """Return the whole report, its pictures by relative name."""
    model, data = report.model, report.data
    parts = [
        f"# {model.name} on {data.name}, {data.part}",
        report.headline()[0].upper() + report.headline()[1:] + f". {report.views['words'].capitalize()}.",
        "\n".join(f"- {sentence}" for sentence in stands_out(report)),
        _figures(report),
        "## Per class\n\n" + _per_class(report),
        "## Confusion\n\nRows are labels, columns answers.\n\n"
        + _confusion(report)
        + "\n\n![](confusion.png)",
        "## Calibration\n\n" + _calibration(report) + "\n\n![](reliability.png)",
    ]
    if report.mistakes:
        parts.append("## Most confident mistakes\n\n![](mistakes.png)")
    if report.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in report.notes))
    parts.append("## How it was made\n\n" + _made(report))
    parts.append(f"*{NOTE}*")
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right; `|` is escaped."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _figures(report: Report) -> str:
    scores = report.scores
    rows = [
        ["accuracy", percent(scores.accuracy), span(scores.accuracy_interval)],
        ["top-2 accuracy", percent(scores.top2), ""],
        ["balanced accuracy", percent(scores.balanced_accuracy), ""],
        ["macro-F1", decimal(scores.macro_f1), _decimals(scores.macro_f1_interval)],
        ["weighted F1", decimal(scores.weighted_f1), ""],
        ["ROC AUC, mean over classes", decimal(scores.roc_auc), ""],
        ["average precision, mean over classes", decimal(scores.average_precision), ""],
        ["ECE, 15 bins", decimal(scores.ece), ""],
        ["NLL, nats", decimal(scores.nll), ""],
        ["Brier score", decimal(scores.brier), ""],
    ]
    if (without := report.without_copies) is not None:
        what = f"accuracy without {report.data.copies:,} copies of training pictures"
        rows.insert(1, [what, percent(without.accuracy), span(without.accuracy_interval)])
    if (votes := report.votes) is not None:
        rows += [
            [f"FER+ accuracy, majority, n = {votes.majority_n:,}", percent(votes.majority_accuracy), ""],
            [
                f"FER+ accuracy, over half of ten raters, n = {votes.clear_n:,}",
                percent(votes.clear_accuracy),
                "",
            ],
            [f"FER+ accuracy, plurality, n = {votes.plurality_n:,}", percent(votes.plurality_accuracy), ""],
            ["cross-entropy to the raters, nats", decimal(votes.cross_entropy), ""],
        ]
    return table(["figure", "value", "95 % interval"], rows)


def _decimals(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _per_class(report: Report) -> str:
    header = ["class", "pictures", "precision", "recall", "F1", "ROC AUC", "average precision"]
    rows = [
        [
            found.name,
            f"{found.support:,}",
            percent(found.precision),
            percent(found.recall),
            decimal(found.f1),
            decimal(area(found.roc)),
            decimal(area(found.precision_recall)),
        ]
        for found in report.scores.classes
    ]
    return table(header, rows)


def _confusion(report: Report) -> str:
    names = [found.name for found in report.scores.classes]
    rows = [[name, *map(str, row)] for name, row in zip(names, report.scores.confusion, strict=True)]
    return table(["", *names], rows)


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
    return table(["temperature fitted", "temperature", "ECE", "NLL"], rows) if rows else ""


def _made(report: Report) -> str:
    model, data, made = report.model, report.data, report.made
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    parameters = f"{model.parameters:,}" if model.parameters else NONE
    size = bytes_in_words(model.size_bytes)
    lines = [
        f"- Command: `{made['command']}`",
        f"- Model: {model.name} ({model.kind}), head {model.head}, {parameters} parameters, {size}",
        f"- Data: {data.name}, {data.pictures}, fingerprint `{data.fingerprint[:12]}`",
        f"- Date: {made['date']}; machine: {made['machine']}",
        f"- Versions: {versions}",
    ]
    return "\n".join(lines)
