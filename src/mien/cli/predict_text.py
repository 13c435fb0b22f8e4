"""What `mien predict` prints: a table, JSON, lines of JSON, or CSV, each as the pictures are done."""

from __future__ import annotations

import csv
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mien.cli.predict_sources import Source
from mien.predict.results import Face, percent

Results = Iterator[tuple[Source, tuple[Face, ...]]]
Writer = Callable[[Results, Sequence[Source], Sequence[str]], None]
_WIDEST = 60  # letters of a name in the table; longer ones push their line to the right
# Of CSV and Parquet; p_LABEL follows for each label.
COLUMNS = (
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
                f"{source.name:{name}}  {number:4}  {face.emotion:{emotion}}  {percent(face.probability):>4}{doubt}"
            )


def print_json(results: Results, _: Sequence[Source], __: Sequence[str]) -> None:
    """Print one list with an object a picture, as they are done. ASCII alone: any terminal and file takes it."""
    before = "[\n"
    for source, faces in results:
        print(before + textwrap.indent(json.dumps(_record(source, faces), indent=2), "  "), end="")
        before = ",\n"
    print("[]" if before == "[\n" else "\n]")


def print_jsonl(results: Results, _: Sequence[Source], __: Sequence[str]) -> None:
    """Print the same objects, each on a line of its own as soon as it is known."""
    for source, faces in results:
        print(json.dumps(_record(source, faces)), flush=True)


def print_csv(results: Results, _: Sequence[Source], labels: Sequence[str]) -> None:
    """Print a row a face: box in pixels, then p_LABEL for each label. No face: a row with the path alone."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"p_{label}" for label in labels)])
    for source, faces in results:
        for row in rows(source, faces, labels):
            writer.writerow([str(value).lower() if isinstance(value, bool) else value for value in row])


def rows(source: Source, faces: Sequence[Face], labels: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the values of COLUMNS and of each label for each face, None where there is none."""
    if not faces:
        yield [source.name, *[None] * (len(COLUMNS) - 1 + len(labels))]
    for number, face in enumerate(faces, start=1):
        decision = (face.emotion, face.probability, face.uncertain, face.head)
        yield [source.name, number, *decision, *face.box, face.score, *face.probabilities.values()]


def _record(source: Source, faces: Sequence[Face]) -> dict[str, Any]:
    return {"path": source.name, "faces": [face.to_dict() for face in faces]}


WRITERS: dict[str, Writer] = {
    "table": print_table,
    "json": print_json,
    "jsonl": print_jsonl,
    "csv": print_csv,
}
