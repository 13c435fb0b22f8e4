"""Which way of covering a face finds what the network goes by: RISE's random masks, or sliding windows.

    python benchmarks/explaining.py MODEL ../shared/data/fer2013/fer2013.csv.xz --head votes

Half of the faces are ones of which the network is sure (above 0.9). For each way: network calls a face, how far the
probability falls when the hottest fifth is covered, deletion (lower is better) and insertion (higher is better) of
Petsiuk et al. 2018, arXiv:1806.07421; last, how well the maps of two seeds agree.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mien
from mien.data import open_dataset
from mien.explain.occlusion import (
    MASKS,
    Answers,
    Faithfulness,
    measure_faithfulness,
    probability_occluded,
    rise,
)
from mien.model.preprocess import to_model_inputs

WINDOW, STEP = 1 / 4, 1 / 16  # side of a window and distance between two, in sides of the face
SURE, LOOKED_AT = 0.9, 150  # faces drawn by lot, among which sure and unsure ones are searched
Mapper = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]
Faces = list[tuple[NDArray[np.uint8], int]]  # prepared, and the network's decision


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="run or model folder")
    parser.add_argument("data", type=Path, help="labelled faces; their validation split is used")
    parser.add_argument("--head", help="which answer of the network (default: its default one)")
    parser.add_argument("--faces", type=int, default=10, metavar="N", help="of each kind (default: 10)")
    options = parser.parse_args()
    analyzer = mien.load(options.model, detector="whole", head=options.head)
    pictures = open_dataset(options.data).split("validation").pictures
    drawn = np.random.default_rng(0).choice(len(pictures), min(LOOKED_AT, len(pictures)), replace=False)
    inputs = to_model_inputs([pictures.read(int(place)) for place in drawn], analyzer.metadata.preprocess)
    answers = analyzer.probabilities(inputs)
    sure = answers.max(axis=1) > SURE
    ways: dict[str, tuple[int, Mapper]] = {
        "rise": (MASKS, partial(rise, analyzer.probabilities)),
        "windows": (len(_windows(inputs.shape[1])), partial(_occlusion, analyzer.probabilities)),
    }
    for kind, rows in (("sure", np.flatnonzero(sure)), ("unsure", np.flatnonzero(~sure))):
        faces: Faces = [(inputs[row], int(answers[row].argmax())) for row in rows[: options.faces].tolist()]
        for name, (calls, way) in ways.items():
            checks = [
                measure_faithfulness(analyzer.probabilities, face, way(face, label), label)
                for face, label in faces
            ]
            print(f"{kind:7} {name:8} {calls:4} calls  {_summary(checks)}")
        print(f"{kind:7} rise: correlation of two seeds {_agreement(analyzer.probabilities, faces):.2f}")


def _summary(checks: list[Faithfulness]) -> str:
    names = ("drop", "random_drop", "deletion", "insertion", "random_curve", "holds")
    return "  ".join(f"{name} {np.mean([getattr(check, name) for check in checks]):.3f}" for name in names)


def _agreement(answers: Answers, faces: Faces) -> float:
    pairs = [[rise(answers, face, label, seed=seed).ravel() for seed in (0, 1)] for face, label in faces]
    return float(np.mean([np.corrcoef(first, second)[0, 1] for first, second in pairs]))


def _occlusion(answers: Answers, face: NDArray[np.uint8], target: int) -> NDArray[np.float32]:
    """Mean fall over the windows that cover a pixel (Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2)."""
    hidden = _windows(face.shape[0])
    whole = float(answers(face[None])[0, target])
    falls = whole - probability_occluded(answers, face, hidden, target)
    saliency: NDArray[np.float64] = np.tensordot(falls, hidden, axes=1) / hidden.sum(axis=0)
    return saliency.astype(np.float32)


def _windows(size: int) -> NDArray[np.bool_]:
    """Return square windows, (n, size, size); at the border up to half of one lies outside."""
    side, step = max(2, round(size * WINDOW)), max(1, round(size * STEP))
    starts = np.arange(-(side // 2), size - side // 2 + 1, step)
    inside = (np.arange(size) >= starts[:, None]) & (np.arange(size) < starts[:, None] + side)
    return (inside[:, None, :, None] & inside[None, :, None, :]).reshape(-1, size, size)


if __name__ == "__main__":
    main()
