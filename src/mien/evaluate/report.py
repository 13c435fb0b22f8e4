"""What an evaluation or a comparison found, as frozen objects, and its figures as people write them.

JSON, Markdown and the pages are views of these objects. The sentences that a report begins with are computed from them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.evaluate.metrics import Bin, Calibration, Curve, QualityGroup, Scores, Selective, VotesScores
from mien.evaluate.profile import Profile
from mien.evaluate.significance import Interval, PairedTest
from mien.files import markdown_text
from mien.terminal import counted
from mien.train.run_folder import OUT_OF_FOLD

FORMAT, COMPARISON_FORMAT = 1, 1  # versions of report.json and comparison.json
NOTE = (
    "These figures say how often the network names the expression that people wrote under a picture. An "
    "expression is not a feeling: nothing here measures what anyone felt."
)
NONE = "–"  # where a figure is not defined
_CALIBRATED = 0.03  # ECE up to which confidence may be called right


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """What was scored. metadata: the model folder's metadata as plain values."""

    name: str
    path: str
    kind: str
    labels: tuple[str, ...]
    head: str
    parameters: int | None
    size_bytes: int
    metadata: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "labels": list(self.labels)}


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What it was scored on. counts: pictures of each class in the scored split. copies: how many of them
    are copies of training pictures, None where that cannot be said. trained_on: the model was trained on
    this very data set.
    """

    name: str
    path: str
    split: str
    counts: Mapping[str, int]
    splits: Mapping[str, int]
    fingerprint: str
    copies: int | None
    trained_on: bool
    unreadable: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return sum(self.counts.values())

    @property
    def part(self) -> str:
        """The scored split in words: `all` where the data has no split of its own."""
        return "all" if set(self.splits) == {"train"} else self.split

    @property
    def pictures(self) -> str:
        """What was scored, such as `3,589 validation pictures`."""
        if self.split == OUT_OF_FOLD:
            return f"{counted(self.n, 'picture')}, out of fold"
        return counted(self.n, "picture" if self.part == "all" else f"{self.part} picture")

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "n": self.n, "unreadable": list(self.unreadable)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Mistake:
    """One wrong answer. raters: what FER+ raters chose, in words, or ''. picture: as read, uint8, grey or RGB."""

    name: str
    label: str
    predicted: str
    confidence: float
    label_probability: float
    raters: str
    picture: NDArray[np.uint8]

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "picture"}


@dataclass(frozen=True, eq=False)
class Predictions:
    """The answers behind the figures, one row a picture. copies: whether it is a copy of a training
    picture. groups: (n,) equal for pictures of one person or film; None where each stands alone.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    copies: NDArray[np.bool_] | None
    groups: NDArray[np.int64] | None = None

    @property
    def right(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.labels
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything that `mien evaluate` says.

    scores: over all pictures of the split. deduplicated: without pixel copies of training pictures.
    without_near_copies: without near copies either (see `mien.data.near_copies`); None where there are none or where it
    was not looked for. selective: what is gained by answering only where the model is sure. quality: calibration by
    what the pictures are like; empty where that was not asked.
    """

    model: ModelSummary
    data: DataSummary
    tta: Mapping[str, str]
    scores: Scores
    deduplicated: Scores | None
    without_near_copies: Scores | None
    calibration: tuple[Calibration, ...]
    reliability: tuple[Bin, ...]
    selective: Selective
    quality: tuple[QualityGroup, ...]
    votes: VotesScores | None
    top_losses: tuple[Mistake, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    predictions: Predictions = field(repr=False)

    def headline(self) -> str:
        """Return the result in one line."""
        scores, interval = self.scores, self.scores.accuracy_interval
        without = ""
        if self.deduplicated:
            without = f", {self.deduplicated.accuracy:.1%} without copies of training pictures"
        if found := self.without_near_copies:
            without += f", {found.accuracy:.1%} without near copies ({counted(found.n, 'picture')})"
        return (
            f"accuracy {scores.accuracy:.1%} ({interval.low:.1%} to {interval.high:.1%}) on "
            f"{self.data.pictures}{without}; macro-F1 {scores.macro_f1:.3f}, ECE {scores.ece:.3f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes, the single predictions left out (they lie in predictions.csv)."""
        values = {
            "format": FORMAT,
            "model": self.model.to_dict(),
            "data": self.data.to_dict(),
            "tta": dict(self.tta),
            "scores": self.scores.to_dict(),
            "deduplicated": _without_curves(self.deduplicated),
            "without_near_copies": _without_curves(self.without_near_copies),
            "calibration": [found.to_dict() for found in self.calibration],
            "reliability": [found.to_dict() for found in self.reliability],
            "selective": self.selective.to_dict(),
            "quality": [found.to_dict() for found in self.quality],
            "votes": self.votes.to_dict() if self.votes else None,
            "top_losses": [mistake.to_dict() for mistake in self.top_losses],
            "notes": [*self.notes, NOTE],
            "provenance": dict(self.provenance),
        }
        return {key: plain(value) for key, value in values.items()}

    def recorded(self) -> tuple[dict[str, Any], ...]:
        """Return what the model folder and its card keep: one entry of `scores` a figure that stands alone."""
        where = {
            "data": self.data.name,
            "split": self.data.split,
            "head": self.model.head,
            "views": self.tta["words"],
        }
        entries = [where | (_without_curves(self.scores) or {})]
        for found, which in ((self.deduplicated, "no copies"), (self.without_near_copies, "no near copies")):
            if found:
                part = f"{self.data.split}, {which} of training pictures"
                entries.append(
                    where | {"split": part, "n": found.n, "accuracy": found.accuracy, "ece": found.ece}
                )
        if votes := self.votes:
            for protocol, n, accuracy in (
                ("majority", votes.majority_n, votes.majority_accuracy),
                ("over half of ten raters", votes.clear_n, votes.clear_accuracy),
            ):
                if n:
                    named = {"split": f"{self.data.split}, FER+ {protocol}", "head": votes.head}
                    entries.append(where | named | {"n": n, "accuracy": accuracy})
        return tuple(plain(entry) for entry in entries)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, eq=False)
class Row:
    """One model of a comparison."""

    name: str
    report: Report
    profile: Profile

    def to_dict(self) -> dict[str, Any]:
        scores, model = self.report.scores, self.report.model
        return {
            "name": self.name,
            "path": model.path,
            "head": model.head,
            "accuracy": scores.accuracy,
            "accuracy_interval": scores.accuracy_interval.to_dict(),
            "accuracy_deduplicated": getattr(self.report.deduplicated, "accuracy", None),
            "balanced_accuracy": scores.balanced_accuracy,
            "macro_f1": scores.macro_f1,
            "ece": scores.ece,
            "nll": scores.nll,
            **self.profile.to_dict(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Rows from the most accurate to the least. best_two: None for a single model."""

    data: DataSummary
    tta: Mapping[str, str]
    rows: tuple[Row, ...]
    best_two: PairedTest | None
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    def headline(self) -> str:
        """Return the result in one line."""
        best = self.rows[0]
        if self.best_two is None:
            return f"{best.name}: accuracy {best.report.scores.accuracy:.1%}"
        return self.best_two.sentence()

    def to_dict(self) -> dict[str, Any]:
        values = {
            "format": COMPARISON_FORMAT,
            "data": self.data.to_dict(),
            "tta": dict(self.tta),
            "models": [row.to_dict() for row in self.rows],
            "best_two": self.best_two.to_dict() if self.best_two else None,
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }
        return {key: plain(value) for key, value in values.items()}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Return nested values as JSON takes them: tuples become lists, a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _without_curves(scores: Scores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    stored = scores.to_dict()
    for found in stored["classes"]:
        del found["roc"], found["precision_recall"]
    return stored


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
    return "\n".join("| " + " | ".join(map(markdown_text, line)) + " |" for line in lines)


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
        of_all = f"of the {report.scores.n:,} pictures"
        copies = counted(report.data.copies or 0, f"{of_all} is a copy", f"{of_all} are copies")
        found = f"{copies} of training pictures; without them it is right on {percent(without.accuracy)}."
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
