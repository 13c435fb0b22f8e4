"""`mien data DATA --model MODEL`: the labels that a trained network doubts most, as a list and a sheet."""

from __future__ import annotations

import csv
from pathlib import Path

from mien.data.dataset import Dataset
from mien.data.sheet import captioned_sheet
from mien.data.suspicious import suspicious_labels
from mien.files import whole_file
from mien.images.canvas import write_picture

LIST_FILE, SHEET_FILE = "suspects.csv", "suspects.png"
_ON_SHEET = 64  # faces


def write_suspects(dataset: Dataset, split_name: str, model: str, folder: Path) -> list[str]:
    """Score a split with a model, write the suspicious labels into a folder; return lines for the user."""
    from mien.evaluate.matching import match_classes
    from mien.evaluate.models import open_model

    split = dataset.split(split_name)
    scorer = open_model(model)
    match = match_classes(scorer.metadata, dataset.classes)
    probabilities = match.probabilities(scorer.probabilities(split)[match.head.name])
    rows = suspicious_labels(probabilities, split.labels)
    if not len(rows):
        return [f"{model} doubts none of the {len(split)} labels of {split_name}"]
    guesses = probabilities.argmax(axis=1)
    with (
        whole_file(folder / LIST_FILE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "label", "probability_of_label", "model_says", "probability_of_that"))
        for row in rows.tolist():
            given, guess = int(split.labels[row]), int(guesses[row])
            chances = (f"{probabilities[row, given]:.4f}", f"{probabilities[row, guess]:.4f}")
            names = (dataset.classes[given], dataset.classes[guess])
            writer.writerow((split.names[row], names[0], chances[0], names[1], chances[1]))
    _write_sheet(dataset, split_name, rows[:_ON_SHEET].tolist(), guesses.tolist(), folder / SHEET_FILE)
    first = int(rows[0])
    label, answer = dataset.classes[int(split.labels[first])], dataset.classes[int(guesses[first])]
    return [
        f"{len(rows)} of {len(split)} {split_name} labels are suspicious, the first: {split.names[first]}, "
        f"labelled {label}, the model says {answer}",
        f"wrote {folder / LIST_FILE} and {folder / SHEET_FILE}",
    ]


def _write_sheet(dataset: Dataset, split_name: str, rows: list[int], guesses: list[int], path: Path) -> None:
    split = dataset.splits[split_name]
    captions = [
        f"is {dataset.classes[int(split.labels[row])]}\nor {dataset.classes[guesses[row]]}?" for row in rows
    ]
    write_picture(path, captioned_sheet(split, rows, captions))
