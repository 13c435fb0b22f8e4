"""The score section of a model card: figures with data set, split and number of pictures, and per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mien.predict.model_facts import ModelFacts

# Key of a score entry -> heading and format. The keys are those of the evaluation report.
_FIGURES = {
    "accuracy": ("Accuracy", "{:.1%}"),
    "top2": ("Top 2", "{:.1%}"),
    "balanced_accuracy": ("Balanced accuracy", "{:.1%}"),
    "macro_f1": ("Macro F1", "{:.3f}"),
    "weighted_f1": ("Weighted F1", "{:.3f}"),
    "nll": ("NLL (nats)", "{:.3f}"),
    "ece": ("ECE", "{:.3f}"),
}
_CLASS_FIGURES = ("precision", "recall", "f1")
_MOST_CONFUSED = 3  # pairs of classes that are named


def how_good(facts: ModelFacts) -> list[str]:
    """Return the paragraphs and tables of the section."""
    scores = [score for score in facts.scores if score.get("n")]
    if not scores:
        return ["No score was recorded. Measure it on your own labelled faces: `mien evaluate FOLDER DATA`."]
    used = [key for key in _FIGURES if any(score.get(key) is not None for score in scores)]
    rows = [
        (
            f"{score.get('data', 'unknown')}, {score.get('split', 'unknown')}",
            f"`{score.get('head', facts.heads[0].name)}`",
            number(score["n"]),
            *(_figure(score, key) for key in used),
        )
        for score in scores
    ]
    heading = ("Data, split", "Head", "Faces", *(_FIGURES[key][0] for key in used))
    parts = [table(heading, rows), *_caution(scores)]
    for score in scores:
        parts += _details(score, facts)
    return parts


def _figure(score: Mapping[str, Any], key: str) -> str:
    if score.get(key) is None:
        return "-"
    text = _FIGURES[key][1].format(score[key])
    interval = score.get(f"{key}_interval")
    if isinstance(interval, Mapping):
        form = _FIGURES[key][1]
        text += f" ({form.format(interval['low'])} to {form.format(interval['high'])})"
    return text


def _caution(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how far the figures can be trusted: chance alone, and choices made on the same faces."""
    first = scores[0]
    parts = []
    if first.get("accuracy") is not None:
        share = float(first["accuracy"])
        half = 1.96 * (share * (1 - share) / first["n"]) ** 0.5
        parts.append(
            f"With {number(first['n'])} faces, chance alone moves the first accuracy by ±{100 * half:.1f} "
            "points (95 % interval, normal approximation)."
        )
    if any(score.get("split") == "validation" for score in scores):
        parts.append(
            "Figures on `validation` are a little too good: the epoch and the temperature were chosen there."
        )
    return parts


def _details(score: Mapping[str, Any], facts: ModelFacts) -> list[str]:
    """Return the table per class and the confusion matrix, where the score has them."""
    head = facts.head(score.get("head"))
    where = f"{score.get('data', 'unknown')}, {score.get('split', 'unknown')}, head `{head.name}`"
    parts = []
    if classes := score.get("classes"):
        rows = [
            (str(one["name"]), number(one.get("support")), *(_share(one.get(key)) for key in _CLASS_FIGURES))
            for one in classes
        ]
        parts.append(f"Per class ({where}):")
        parts.append(table(("Class", "Faces", "Precision", "Recall", "F1"), rows))
    if confusion := score.get("confusion"):
        names = [str(one["name"]) for one in classes] if classes else list(head.labels)
        rows = [
            (f"**{name}**", *(number(cell) for cell in row))
            for name, row in zip(names, confusion, strict=True)
        ]
        parts.append("Which label (row) got which answer (column):")
        parts.append(table(("", *names), rows))
        parts += _most_confused(np.asarray(confusion), names)
    return parts


def _most_confused(confusion: np.ndarray[Any, Any], names: Sequence[str]) -> list[str]:
    """Name the largest shares of a class that got one wrong answer."""
    counts = confusion.sum(axis=1, keepdims=True)
    shares = np.where(np.eye(len(names), dtype=bool), 0, confusion / np.maximum(counts, 1))
    places = [
        np.unravel_index(flat, shares.shape)
        for flat in np.argsort(-shares, axis=None, kind="stable")[:_MOST_CONFUSED]
    ]
    told = [
        f"{names[a]} for {names[b]} ({shares[a, b]:.0%} of {names[a]})" for a, b in places if shares[a, b] > 0
    ]
    return [f"Most often it takes {', '.join(told)}."] if told else []


def _share(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"


def number(value: Any) -> str:
    """Return a count with thousands separated, or `unknown`."""
    return f"{value:,}" if isinstance(value, int | np.integer) else "unknown"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(_cell(part) for part in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
