"""What smoothing over time costs and brings: delay, jitter and false changes, on clips whose smile is known per frame.

    python benchmarks/smoothing.py ../shared/data/morphs

Clips go from neutral to a smile and back. The probability of `happy` is compared with the strength of the smile:

- delay: seconds from the smile's half strength to half of the probability's own range in that clip, mean of rises and
  falls, and the worst. What is there without smoothing is the network's, which may want more or less than half a smile.
  Clips in which the probability moves by less than 0.2 are left out.
- jitter: mean absolute second difference of the probability while the smile does not change, in points.
- false: how often the expression changes beyond the two true changes of a clip, all clips together; first of the
  likeliest one, then of the one that is named, which gives way only to one that is ahead by a tenth.
- named late: seconds from the smile's half strength until `happy` is named, and until it is no more; mean over clips.
- missed: clips in which `happy` is never named.

Once with the clips as they are, and once with blur and noise that differ from frame to frame, as a bad camera has them.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import mien
from mien.predict.analyzer import Analyzer
from mien.predict.results import Faces
from mien.video.analyze import VideoSettings, analyze_frames
from mien.video.reader import open_video
from mien.video.tracking import TrackSmoother

HALF_LIVES_S = (None, 0.05, 0.1, 0.15, 0.2, 0.25, 0.4, 0.6)
# STILL: the smile's strength changes by less than this in a still stretch.
LABEL, LEAST, STILL = ("happy", 0.2, 1e-6)
Track = tuple[NDArray[np.float64], Faces]  # seconds (n,) and a face for each
Spoiler = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with the clips and truth.csv")
    parser.add_argument("--model", help="the network to ask (default: the one that ships)")
    options = parser.parse_args()
    analyzer = mien.load(options.model)
    head = analyzer.head
    place = head.labels.index(LABEL)
    truth = _truth(options.folder / "truth.csv")
    for name, spoil in (("as they are", _as_it_is), ("noisy and blurred", _bad_camera)):
        tracks = {clip: _track(options.folder / clip, analyzer, spoil) for clip in truth}
        print(f"\n{len(tracks)} clips, {name}")
        print("half-life   delay, mean s   worst s   jitter, points   false   named late, s   missed")
        for half_life_s in HALF_LIVES_S:
            delays, jitters, late, likeliest, false, missed = [], [], [], 0, 0, 0
            for clip, (times_s, faces) in tracks.items():
                smoother = TrackSmoother(head, half_life_s)
                smooth = [
                    smoother.add(smoother, time_s, face)  # any object stands for the one track
                    for time_s, face in zip(times_s.tolist(), faces, strict=True)
                ]
                shares = np.array([list(face.probabilities.values()) for face in smooth])
                named = np.array([face.emotion == LABEL for face in smooth])
                smile = np.interp(times_s, *truth[clip])
                delays += _delays(times_s, shares[:, place], smile)
                still = np.abs(np.diff(smile))[1:] + np.abs(np.diff(smile))[:-1] < STILL
                jitters.append(100 * np.abs(np.diff(shares[:, place], 2))[still].mean())
                likeliest += _false(shares.argmax(axis=1))
                false += _false(np.array([head.labels.index(face.emotion) for face in smooth]))
                if named.any():
                    late.append(_crossings(times_s, named, smile))
                else:
                    missed += 1
            title = "none" if half_life_s is None else f"{half_life_s} s"
            rise, fall = np.mean(late, axis=0)
            print(
                f"{title:9}{np.mean(delays):16.2f}{max(delays):10.2f}{np.mean(jitters):17.2f}"
                f"{f'{likeliest}, {false}':>8}{f'{rise:.2f}, {fall:.2f}':>16}{missed:9}"
            )


def _false(named: NDArray[np.intp]) -> int:
    return max(0, int((np.diff(named) != 0).sum()) - 2)


def _truth(path: Path) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    clips: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            clips.setdefault(row["file"], []).append((float(row["time"]), float(row["smile"])))
    return {name: (np.array(rows)[:, 0], np.array(rows)[:, 1]) for name, rows in clips.items()}


def _track(path: Path, analyzer: Analyzer, spoil: Spoiler) -> Track:
    """Return the network's own answers about the largest face of every frame."""
    rng = np.random.default_rng(0)
    with open_video(path) as video:
        original = video.frames
        video.frames = lambda: (  # type: ignore[method-assign]
            type(frame)(frame.index, frame.time_s, spoil(frame.image, rng)) for frame in original()
        )
        frames = [
            frame
            for frame in analyze_frames(video, analyzer, VideoSettings(smoothing=False, stride=1))
            if frame.faces
        ]
    return (
        np.array([frame.time_s for frame in frames]),
        Faces(frame.faces[0].face for frame in frames),
    )


def _delays(
    times_s: NDArray[np.float64], share: NDArray[np.float64], smile: NDArray[np.float64]
) -> list[float]:
    """Return by how much the answer crosses its middle after the smile does, for the rise and the fall."""
    if np.ptp(share) < LEAST:
        return []
    return _crossings(times_s, share > (share.min() + share.max()) / 2, smile)


def _crossings(
    times_s: NDArray[np.float64], smiles: NDArray[np.bool_], smile: NDArray[np.float64]
) -> list[float]:
    """Return how long after the smile's half strength an answer begins and ends."""
    top = int(np.flatnonzero(smile == smile.max()).mean())  # the middle of the smile
    rise = _first(times_s, smiles) - _first(times_s, smile > 0.5)
    fall = _first(times_s[top:], ~smiles[top:]) - _first(times_s[top:], smile[top:] < 0.5)
    return [rise, fall]


def _first(times_s: NDArray[np.float64], happens: NDArray[np.bool_]) -> float:
    """Return when something is first true; the end where it never is."""
    return float(times_s[happens][0] if happens.any() else times_s[-1])


def _as_it_is(image: NDArray[np.uint8], _: np.random.Generator) -> NDArray[np.uint8]:
    return image


def _bad_camera(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur every frame by another amount, and lay noise over it."""
    soft = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 5.0)))
    return np.asarray(np.clip(soft + rng.normal(0, 20, image.shape), 0, 255), np.uint8)


if __name__ == "__main__":
    main()
