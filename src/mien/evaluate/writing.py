"""The report folder, written whole or not at all."""

from __future__ import annotations

import csv
from pathlib import Path

from mien.evaluate.figures import FIGURES
from mien.evaluate.markdown import to_markdown
from mien.evaluate.page import to_html
from mien.evaluate.report import Predictions, Report
from mien.files import check_replaceable, whole_folder

JSON_FILE, MARKDOWN_FILE, PAGE_FILE, TABLE_FILE = (
    "report.json",
    "report.md",
    "report.html",
    "predictions.csv",
)


def write_report(report: Report, out: Path) -> None:
    """Write report.json, report.md, report.html, predictions.csv and the figures into the folder `out`.

    An older report there is replaced once the new one is complete. Raises OutputError where `out` holds
    something else, or cannot be written.
    """
    check_replaceable(out, "a report", JSON_FILE)
    with whole_folder(out) as folder:
        (folder / JSON_FILE).write_text(report.to_json() + "\n", encoding="utf-8")
        (folder / MARKDOWN_FILE).write_text(to_markdown(report), encoding="utf-8")
        (folder / PAGE_FILE).write_text(to_html(report), encoding="utf-8")
        write_predictions(report.predictions, folder / TABLE_FILE)
        for name, draw in FIGURES.items():
            draw(report, folder / name)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write one row a picture: name, label, answer, whether it is right, and each class's probability."""
    answers = predictions.probabilities.argmax(axis=1)
    copies = predictions.copies
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["name", "label", "predicted", "right", "confidence", "copy_of_training", *predictions.classes]
        )
        for row, (name, label) in enumerate(zip(predictions.names, predictions.labels, strict=True)):
            values = predictions.probabilities[row]
            answer = int(answers[row])
            copy = "" if copies is None else int(copies[row])
            writer.writerow(
                [
                    name,
                    predictions.classes[label],
                    predictions.classes[answer],
                    int(answer == label),
                    f"{values[answer]:.6g}",
                    copy,
                    *(f"{value:.6g}" for value in values),
                ]
            )
