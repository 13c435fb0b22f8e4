"""Fit how much less sure a network should be of small, doubtful and covered faces, and write it into its model folder.

    python tools/fit_quality.py mien fer2013.csv                            # says what it finds
    python tools/fit_quality.py src/mien/models/mien fer2013.csv --write

Validation faces are drawn again as photographs: from 10 to 160 pixels, as they are, blurred, noisy, dark, compressed,
turned or covered (as `tools/fit_cover.py` draws it), with their border repeated around them. They are searched and
named as `mien predict` does it. The numbers of `mien.model.metadata.Quality` are those with the lowest cross-entropy;
what they bring is said of faces that they were not fitted on (five folds), by size, by the detector's score and by how
likely a cover is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

import mien
from distil import CANVAS
from fit_cover import cover_shape, cover_surface
from mien.data import open_dataset
from mien.data.dataset import Split
from mien.model.calibration import (
    expected_calibration_error,
    negative_log_likelihood,
    over_folds,
    quality_temperature,
    with_temperature,
)
from mien.model.classifier import Classifier
from mien.model.folder import model_path
from mien.model.metadata import Quality
from mien.model.preprocess import to_model_inputs
from mien.predict.analyzer import Analyzer
from mien.train.calibrate import favourites
from mien.train.export.card import rewrite_metadata

Picture = NDArray[np.uint8]
SIZES_PX = (10, 160)
STEPS = np.linspace(0, 3, 61)  # of both numbers
BINS_PX, BINS_SCORE = (0, 20, 28, 40, 64, 10_000), (0, 0.45, 0.55, 0.65, 0.75, 0.85, 1.01)
BINS_COVER = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.01)


def _levels(picture: NDArray[np.floating]) -> Picture:
    return np.asarray(np.clip(np.round(picture), 0, 255), np.uint8)


def _turned(photo: Picture, degrees: float) -> Picture:
    middle = (photo.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.warpAffine(photo, matrix, photo.shape[::-1], borderMode=border), np.uint8)


def _covered(photo: Picture, side: int, rng: Generator) -> Picture:
    """Lay something over the face, which is in the middle."""
    room = round(side * CANVAS / 48)  # covers are drawn for a face of 48 pixels on a canvas
    place = slice((len(photo) - room) // 2, (len(photo) - room) // 2 + room)
    other = np.asarray(cv2.resize(photo[place, place], (CANVAS, CANVAS)), np.uint8)
    shape, level = (cv2.resize(one, (room, room)) for one in (cover_shape(rng), cover_surface(other, rng)))
    covered = photo.astype(np.float32)
    covered[place, place] += shape * (level - covered[place, place])
    return _levels(covered)


DAMAGES: tuple[Callable[[Picture, int, Generator], Picture], ...] = (
    lambda photo, _side, _rng: photo,
    lambda photo, _side, _rng: photo,
    lambda photo, side, _rng: np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.04 * side), np.uint8),
    lambda photo, _side, rng: _levels(photo + rng.normal(0, 25, photo.shape)),
    lambda photo, _side, rng: _levels(photo * rng.uniform(1 / 12, 1 / 3)),
    lambda photo, _side, _rng: np.asarray(
        cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], cv2.IMREAD_GRAYSCALE),
        np.uint8,
    ),
    lambda photo, _side, rng: _turned(photo, rng.uniform(-60, 60)),
    _covered,
)


def photograph(face: Picture, rng: Generator) -> Picture:
    """Return a grey photograph of a face, (side, side): the face takes the middle half."""
    side = round(float(np.exp(rng.uniform(*np.log(SIZES_PX)))))
    filter_ = cv2.INTER_AREA if side < face.shape[0] else cv2.INTER_CUBIC
    small = cv2.resize(face, (side, side), interpolation=filter_)
    around = side // 2
    photo = cv2.copyMakeBorder(small, around, around, around, around, cv2.BORDER_REPLICATE)
    return DAMAGES[rng.integers(len(DAMAGES))](np.asarray(photo, np.uint8), side, rng)


@dataclass(frozen=True)
class Said:
    """What the network says of n faces. shares: (n, labels). truth: (n,) places. sizes_px, scores, covers: (n,)."""

    shares: NDArray[np.float64]
    truth: NDArray[np.intp]
    sizes_px: NDArray[np.float64]
    scores: NDArray[np.float64]
    covers: NDArray[np.float64]

    def take(self, rows: NDArray[np.generic]) -> Said:
        return Said(*(values[rows] for values in vars(self).values()))

    def corrected(self, quality: Quality) -> Said:
        by = [
            quality_temperature(quality, *told)
            for told in zip(self.sizes_px.tolist(), self.scores.tolist(), self.covers.tolist(), strict=True)
        ]
        return replace(self, shares=with_temperature(self.shares, np.array(by)[:, None]))

    @property
    def loss(self) -> float:
        return negative_log_likelihood(self.shares, np.eye(self.shares.shape[1])[self.truth])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a shipped name, or a model folder")
    parser.add_argument("data", type=Path, help="labelled face crops with a validation part")
    parser.add_argument("--photographs", type=int, default=3000, help="to draw (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="into the model folder and its network files")
    options = parser.parse_args()
    analyzer, network = mien.load(options.model), Classifier(model_path(options.model))
    said = ask(analyzer, network, open_dataset(options.data).split("validation"), options.photographs)
    found, unseen = fitted(said), replace(said, shares=said.shares.copy())
    for rest, fold in over_folds(len(said.truth), 0):
        unseen.shares[fold] = said.take(fold).corrected(fitted(said.take(rest))).shares
    print(f"{len(said.truth):,} of {options.photographs:,} faces were found; {found}\n")
    print(f"{'':22}{'faces':>7}{'right':>8}{'sure':>16}{'ECE, 10 bins':>16}{'NLL':>16}")
    _line("all", said, unseen, np.ones(len(said.truth), bool))
    for low, high in pairwise(BINS_PX):
        _line(f"{low} to {high} px", said, unseen, (said.sizes_px >= low) & (said.sizes_px < high))
    for lowest, highest in pairwise(BINS_SCORE):
        _line(f"score {lowest} to {highest}", said, unseen, (said.scores >= lowest) & (said.scores < highest))
    for least, most in pairwise(BINS_COVER):
        _line(f"cover {least} to {most}", said, unseen, (said.covers >= least) & (said.covers < most))
    if options.write:
        rewrite_metadata(model_path(options.model), lambda metadata, _: replace(metadata, quality=found))


def ask(analyzer: Analyzer, network: Classifier, split: Split, count: int) -> Said:
    """Search and name so many photographs of the split's faces; those in which none is found are left out."""
    head, rng = analyzer.head, np.random.default_rng(0)
    truth, rows = split.labels, np.arange(len(split))
    if split.votes is not None and set(head.labels) <= set(voted := analyzer.metadata.heads[-1].labels):
        known, truth = favourites(split.votes, voted, head.labels)  # what a mixture is calibrated to
        rows = np.flatnonzero(known)
    answers = []
    for place in np.resize(rng.permutation(len(rows)), count).tolist():
        photo = photograph(np.asarray(split.pictures.read(int(rows[place]))), rng)
        for face in analyzer.detect(photo)[:1]:
            size = max(face.box.width, face.box.height)
            inputs = to_model_inputs([analyzer.cut(photo, face)], analyzer.metadata.preprocess)
            cover = network.probabilities_and_cover(inputs)[1]
            answers.append(
                (truth[place], size, face.score or 0.0, cover[0], *analyzer.probabilities(inputs)[0])
            )
    table = np.array(answers, np.float64)
    return Said(table[:, 4:], table[:, 0].astype(np.intp), *table[:, 1:4].T)


def fitted(said: Said) -> Quality:
    """Return the numbers with the lowest cross-entropy: one after the other, twice, since they hardly depend."""
    best = Quality(size=0.0, score=0.0)
    for _ in range(2):
        for name in ("size", "score", "covered"):
            tried = [replace(best, **{name: float(step)}) for step in STEPS]
            best = min(tried, key=lambda one: said.corrected(one).loss)
    return best


def _line(name: str, before: Said, after: Said, rows: NDArray[np.bool_]) -> None:
    if not rows.any():
        return
    one, two = before.take(rows), after.take(rows)
    right = (one.shares.argmax(axis=1) == one.truth).mean()
    sure = f"{one.shares.max(axis=1).mean():.3f} → {two.shares.max(axis=1).mean():.3f}"
    ece = " → ".join(f"{expected_calibration_error(said.shares, said.truth, 10):.3f}" for said in (one, two))
    loss = f"{one.loss:.3f} → {two.loss:.3f}"
    print(f"{name:22}{rows.sum():7,}{right:8.3f}{sure:>16}{ece:>16}{loss:>16}")


if __name__ == "__main__":
    main()
