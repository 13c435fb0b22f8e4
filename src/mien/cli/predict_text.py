"""What `mien predict` prints: a table, JSON, lines of JSON, or CSV, each as the pictures are done."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mien.cli.predict_sources import Source
from mien.predict.results import Face

Results = Iterator[tuple[Source, tuple[Face, ...]]]
_WIDEST = 60  # letters of a name in the table; longer ones push their line to the right


def print_table(results: Results, sources: Sequence[Source], labels: Sequence[str]) -> None:
    """Print a line a face, for people."""
    name = min(_WIDEST, max(len("picture"), *(len(source.name) for source in sources)))
    emotion = max(len("expression"), *map(len, labels))
    print(f"{'picture':{name}}  face  {'expression':{emotion}}  sure")
    for source, faces in results:
        if not faces:
            print(f"{source.name:{name}}     -  no face found")
        for number, face in enumerate(faces, start=1):
            doubt = "  uncertain" if face.uncertain else ""
            print(
                f"{source.name:{name}}  {number:4}  {face.emotion:{emotion}}  {100 * face.probability:3.0f}%{doubt}"
            )


def print_json(results: Results, _: Sequence[Source], __: Sequence[str]) -> None:
    """Print one list with an object a picture. ASCII alone: any terminal and file takes it."""
    print(json.dumps([_record(source, faces) for source, faces in results], indent=2))


def print_jsonl(results: Results, _: Sequence[Source], __: Sequence[str]) -> None:
    """Print the same objects, each on a line of its own as soon as it is known."""
    for source, faces in results:
        print(json.dumps(_record(source, faces)), flush=True)


def print_csv(results: Results, _: Sequence[Source], labels: Sequence[str]) -> None:
    """Print a row a face: box in pixels, then p_LABEL for each label. No face: a row with the path alone."""
    columns = (
        "path",
        "face",
        "emotion",
        "probability",
        "uncertain",
        "head",
        "x",
        "y",
        "width",
        "height",
        "score",
    )
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*columns, *(f"p_{label}" for label in labels)])
    for source, faces in results:
        if not faces:
            writer.writerow([source.name, *[""] * (len(columns) - 1 + len(labels))])
        for number, face in enumerate(faces, start=1):
            decision = (face.emotion, face.probability, str(face.uncertain).lower(), face.head)
            place = (*face.box, face.score)
            writer.writerow([source.name, number, *decision, *place, *face.probabilities.values()])


def _record(source: Source, faces: Sequence[Face]) -> dict[str, Any]:
    return {"path": source.name, "faces": [face.to_dict() for face in faces]}


WRITERS: dict[str, Callable[[Results, Sequence[Source], Sequence[str]], None]] = {
    "table": print_table,
    "json": print_json,
    "jsonl": print_jsonl,
    "csv": print_csv,
}
