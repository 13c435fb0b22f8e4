"""`mien models`: the networks that ship with mien, what they answer, and their cards."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mien.model.metadata import Metadata

_RUNS = 20

HELP = "List the networks that ship with mien, or show what is known about one."
EXAMPLES = """examples:
  mien models                 name, size, accuracy, time of a view of a face on this machine, answers
  mien models mien            its card: what it is for and not for, scores, how it fails
  mien models runs/mine       the same for a network of your own
  mien models --json          for programs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="shipped model, run, or model folder")
    parser.add_argument("--json", action="store_true", help="print what model.json says")


def run(options: argparse.Namespace) -> int:
    from mien.model.folder import CARD_FILE, read_model_folder, shipped_models
    from mien.predict.analyzer import model_folder

    folders = [model_folder(options.model)] if options.model else list(shipped_models().values())
    read = [(folder, read_model_folder(folder)) for folder in folders]
    if options.json:
        metadata = [{**model.metadata.to_dict(), "folder": str(folder)} for folder, model in read]
        print(json.dumps(metadata[0] if options.model else metadata, indent=2, ensure_ascii=False))
    elif options.model:
        print(_terminal((folders[0] / CARD_FILE).read_text(encoding="utf-8")), end="")
    else:
        for folder, model in read:
            print(f"{folder.name:12} {_sizes(folder)}")
            for right in _accuracies(model.metadata):
                print(f"{'':12} {right}")
            print(f"{'':12} {_milliseconds(folder):.2g} ms for one view of a face, on one core here")
            for answer in model.metadata.answers:
                default = "  (default)" if answer == model.metadata.head() else ""
                print(f"  {answer.name:11} {', '.join(answer.labels)}{default}")
    return 0


def _sizes(folder: Path) -> str:
    return ", ".join(
        f"{file.name} {file.stat().st_size / 1e6:.1f} MB" for file in sorted(folder.glob("*.onnx"))
    )


def _accuracies(metadata: Metadata) -> list[str]:
    """Return the first accuracy that the model states of each data set, with what it is of."""
    first: dict[str, str] = {}
    for score in metadata.scores:
        if "accuracy" in score:
            words = (
                f"{100 * score['accuracy']:.1f} % of {score['n']:,} faces right ({score['data']}, {score['split']}, "
                f"answer {score['head']})"
            )
            first.setdefault(score["data"], words)
    return list(first.values())


def _milliseconds(folder: Path) -> float:
    """Return the median processor time of one view of a face, as `mien predict` would run the network."""
    import numpy as np

    from mien.model.classifier import Classifier

    classifier = Classifier(folder)
    face = np.random.default_rng(0).integers(0, 256, (1, *classifier.metadata.preprocess.shape), np.uint8)
    times = []
    for _ in range(_RUNS):
        begun = time.thread_time()  # ONNX Runtime was given one thread, the calling one
        classifier.probabilities(face)
        times.append(time.thread_time() - begun)
    return 1000 * statistics.median(times)


def _terminal(markdown: str) -> str:
    """Take out what only a Markdown viewer needs: the marks of code."""
    return re.sub(r"`([^`\n]+)`", r"\1", markdown)
