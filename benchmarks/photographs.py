"""How often the expression is right in labelled photographs, the whole way, beside the package `fer`.

    python benchmarks/photographs.py LABELS.csv PHOTOS --models mien,mien-large
    python benchmarks/photographs.py LABELS.csv PHOTOS --peer ENVIRONMENT/bin/python

LABELS.csv has the columns file and emotion, of FER-2013's seven; PHOTOS is the folder that the files are relative to.
Each side finds the faces in its own way, with its own defaults; its answer is that of the largest face. --peer names
the Python of an environment where `fer` is installed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
OURS = """
import mien, os
analyzer = mien.load(os.environ["MODEL"])
def answer(file):
    faces = analyzer.analyze_file(file)
    area = lambda face: face.box[2] * face.box[3]
    return max(faces, key=area).emotion if faces else None
"""
FER = """
import cv2
from fer.fer import FER
network = FER()
def answer(file):
    faces = network.detect_emotions(cv2.imread(file))
    if not faces:
        return None
    shares = max(faces, key=lambda face: int(face['box'][2]) * int(face['box'][3]))['emotions']
    return max(shares, key=shares.get)
"""
BOTH = "\nimport json, sys\nprint(json.dumps([answer(file) for file in json.load(sys.stdin)]))"


def main() -> None:
    """Print a line a side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--models", default="mien")
    parser.add_argument("--peer", help="the Python of an environment where `fer` is installed")
    options = parser.parse_args()
    with options.labels.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion"] in CLASSES]
    files = [str(options.photos / row["file"]) for row in rows]
    truth = [row["emotion"] for row in rows]
    print(f"{len(rows)} photographs{'':10}a face is found    of those right    balanced    of all right")
    for model in options.models.split(","):
        os.environ["MODEL"] = model
        print(_line(model, _answers(sys.executable, OURS, files), truth), flush=True)
    if options.peer:
        print(_line("fer", _answers(options.peer, FER, files), truth))


def _answers(python: str, code: str, files: list[str]) -> list[str | None]:
    done = subprocess.run(
        [python, "-c", code + BOTH], input=json.dumps(files), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
    answers: list[str | None] = json.loads(done.stdout.splitlines()[-1])
    return answers


def _line(name: str, answers: list[str | None], truth: list[str]) -> str:
    found = [(answer, label) for answer, label in zip(answers, truth, strict=True) if answer]
    right = sum(answer == label for answer, label in found)
    recalls = []
    for one in {label for _, label in found}:
        given = [answer for answer, label in found if label == one]
        recalls.append(given.count(one) / len(given))
    shares = (len(found) / len(truth), right / len(found), sum(recalls) / len(recalls), right / len(truth))
    return f"{name:26}" + "".join(
        f"{100 * share:{width}.1f} %" for share, width in zip(shares, (14, 16, 10, 14), strict=True)
    )


if __name__ == "__main__":
    main()
