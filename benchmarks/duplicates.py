"""How many near copies `mien data` finds, of 22 alterations of photographs and 48x48 faces; and how many it makes up.

    python benchmarks/duplicates.py ../shared/data/web-faces/images ../shared/data/fer2013/fer2013.csv.xz

Each picture is put beside its altered self among all the others; found is a pair of the two. Pairs of different
originals are counted as well and written to a sheet, because some are true: look at them. Seconds are processor time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data import DataConfig, open_dataset
from mien.data.near_copies import near_copies
from mien.data.pictures import fingerprints_of_all
from mien.data.summary import sheet_of
from mien.images import decode_image
from mien.images.canvas import write_picture
from mien.terminal import columns

Picture = NDArray[np.uint8]
random = np.random.default_rng(0)


def jpeg(picture: Picture, quality: int, suffix: str = ".jpg") -> Picture:
    kind = cv2.IMWRITE_WEBP_QUALITY if suffix == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    return np.asarray(
        cv2.imdecode(cv2.imencode(suffix, picture, [kind, quality])[1], cv2.IMREAD_UNCHANGED), np.uint8
    )


def resized(picture: Picture, share: float) -> Picture:
    return np.asarray(cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA), np.uint8)


def cropped(picture: Picture, share: float) -> Picture:
    height, width = (round(side * share) for side in picture.shape[:2])
    top, left = (
        int(random.integers(0, side - part + 1))
        for side, part in zip(picture.shape[:2], (height, width), strict=True)
    )
    part = picture[top : top + height, left : left + width]
    return np.asarray(cv2.resize(part, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def moved(picture: Picture, angle: float = 0.0, right: float = 0.0) -> Picture:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    matrix[:, 2] += right * width
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def levels(picture: Picture, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Picture:
    return np.clip(change(picture.astype(np.float64)), 0, 255).astype(np.uint8)


def grey(picture: Picture) -> Picture:
    return picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def framed(picture: Picture) -> Picture:
    edge = max(1, round(0.08 * len(picture)))
    return np.asarray(
        cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=255), np.uint8
    )


def captioned(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    found = picture.copy()
    white = 255 if picture.ndim == 2 else (255, 255, 255)
    place = (width // 12, height - height // 12)
    cv2.putText(
        found, "mien", place, cv2.FONT_HERSHEY_SIMPLEX, width / 110, white, max(1, width // 40), cv2.LINE_AA
    )
    return found


def another_frame(picture: Picture) -> Picture:
    """A little later: the camera moved by 2 %, a smooth motion of up to 2 % of the side, other noise."""
    height, width = picture.shape[:2]
    flow = (
        cv2.resize(random.uniform(-0.02, 0.02, (3, 3, 2)), (width, height), interpolation=cv2.INTER_CUBIC)
        * width
    )
    y, x = np.mgrid[:height, :width].astype(np.float32)
    there = [
        (place + flow[:, :, axis] + 0.02 * width).astype(np.float32) for axis, place in enumerate((x, y))
    ]
    seen = cv2.remap(picture, there[0], there[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return levels(np.asarray(seen, np.uint8), lambda value: value + random.normal(0, 3, value.shape))


ALTERATIONS: dict[str, Callable[[Picture], Picture]] = {
    "JPEG 60": lambda one: jpeg(one, 60),
    "JPEG 20": lambda one: jpeg(one, 20),
    "WebP 50": lambda one: jpeg(one, 50, ".webp"),
    "half the size": lambda one: resized(one, 0.5),
    "twice the size": lambda one: resized(one, 2),
    "grey": grey,
    "lighter": lambda one: levels(one, lambda value: value + 30),
    "darker": lambda one: levels(one, lambda value: value * 0.5),
    "less contrast": lambda one: levels(one, lambda value: 127 + 0.5 * (value - 127)),
    "gamma .6": lambda one: levels(one, lambda value: 255 * (value / 255) ** 0.6),
    "noise 10": lambda one: levels(one, lambda value: value + random.normal(0, 10, value.shape)),
    "blurred": lambda one: np.asarray(cv2.GaussianBlur(one, (0, 0), len(one) / 60), np.uint8),
    "mirrored": lambda one: np.ascontiguousarray(one[:, ::-1]),
    "cropped to 90 %": lambda one: cropped(one, 0.9),
    "cropped to 80 %": lambda one: cropped(one, 0.8),
    "cropped to 70 %": lambda one: cropped(one, 0.7),
    "shifted by 4 %": lambda one: moved(one, right=0.04),
    "turned by 3 degrees": lambda one: moved(one, angle=3),
    "turned by 10 degrees": lambda one: moved(one, angle=10),
    "a border": framed,
    "a caption": captioned,
    "another frame": another_frame,
}


def recall(pictures: list[Picture], change: Callable[[Picture], Picture]) -> tuple[float, int, float]:
    """Return the share of altered pictures that are found, false pairs, and the seconds of the search."""
    prints = fingerprints_of_all([*pictures, *(np.ascontiguousarray(change(one)) for one in pictures)])
    count, start = len(pictures), time.process_time()
    pairs = near_copies(prints)
    seconds = time.process_time() - start
    same = pairs.first % count == pairs.second % count
    exact = sum(one == other for one, other in zip(prints.keys[:count], prints.keys[count:], strict=True))
    return (int(same.sum()) + exact) / count, int((~same).sum()), seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", nargs="+", type=Path, help="folders of pictures, or data sets as mien reads them"
    )
    parser.add_argument("--pictures", type=int, default=100, help="altered in each way")
    parser.add_argument("--all", type=int, default=2000, help="compared with each other, for false pairs")
    parser.add_argument("--sheet", type=Path, default=Path("pairs.png"), help="pairs of different originals")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = [("alteration", *(path.name for path in options.data))]
    sets = [_pictures(path, options.all) for path in options.data]
    results: dict[str, list[str]] = {name: [] for name in ALTERATIONS}
    overall, notes = [], []
    for path, pictures in zip(options.data, sets, strict=True):
        shares = []
        for name, change in ALTERATIONS.items():
            share, _, _ = recall(pictures[: options.pictures], change)
            results[name].append(f"{share:.2f}")
            shares.append(share)
            print(path.name, name, f"{share:.2f}", file=sys.stderr, flush=True)
        overall.append(f"{np.mean(shares):.3f}")
        start = time.process_time()
        pairs = near_copies(fingerprints_of_all(pictures))
        notes.append(
            f"{path.name}: {len(pairs)} pairs among {len(pictures)} pictures as they are, "
            f"{time.process_time() - start:.0f} s"
        )
        if len(pairs):
            shown = [
                side
                for pair in range(min(32, len(pairs)))
                for side in (pairs.first[pair], pairs.second[pair])
            ]
            captions = [pairs.kind(place // 2) if place % 2 == 0 else "" for place in range(len(shown))]
            sheet = options.sheet.with_stem(f"{options.sheet.stem}-{path.name.partition('.')[0]}")
            write_picture(sheet, sheet_of([pictures[int(row)] for row in shown], captions))
    rows += [(name, *found) for name, found in results.items()]
    print(columns([*rows, ("mean", *overall)]))
    print("\n".join(notes))
    return 0


def _pictures(path: Path, most: int) -> list[Picture]:
    """Return pictures of a folder, or training faces of a data set, chosen at random."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".jpg")
        chosen = [files[place] for place in random.permutation(len(files))[:most].tolist()]
        return [decode_image(file.read_bytes(), file.name) for file in chosen]
    pictures = open_dataset(path, DataConfig()).splits["train"].pictures
    return [pictures.read(int(row)) for row in random.permutation(len(pictures))[:most]]


if __name__ == "__main__":
    sys.exit(main())
