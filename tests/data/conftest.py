"""Small data sets in every form, made of random smooth pictures that differ as faces do."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.data import DataConfig, open_dataset

Picture = NDArray[np.uint8]
Face = Callable[..., Picture]


def smooth_picture(seed: int, size: int = 40, *, colour: bool = False) -> Picture:
    """A random picture of large soft patches: (size, size) or (size, size, 3) uint8."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (7, 7, 3) if colour else (7, 7), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture
def face() -> Face:
    return smooth_picture


@pytest.fixture
def write_faces() -> Callable[[Path, Mapping[str, int]], None]:
    """Write `count` different PNG files into each folder that is named, below a root."""

    def write(root: Path, counts: Mapping[str, int], *, first_seed: int = 0, **options: object) -> None:
        seed = first_seed
        for place, count in counts.items():
            (root / place).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = smooth_picture(seed, **options)  # type: ignore[arg-type]
                stored = picture[:, :, ::-1] if picture.ndim == 3 else picture
                (root / place / f"{number}.png").write_bytes(cv2.imencode(".png", stored)[1].tobytes())
                seed += 1

    return write


@pytest.fixture
def pictures(tmp_path: Path, write_faces) -> Path:
    """A folder with a folder `pictures` of eight."""
    write_faces(tmp_path, {"pictures": 8})
    return tmp_path


def write_table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows() -> str:
    """Return the lines of a table of the eight `pictures`."""
    return "".join(f"pictures/{number}.png,{'happy' if number % 2 else 'sad'}\n" for number in range(8))


def said(dataset, words: str) -> bool:
    """Say whether a note of the data set has these words."""
    return any(words in note for note in dataset.notes)


def packed(folder: Path, path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.png")):
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, "faces")
    return path


def listed(pictures: Path, header: str, row, name: str = "labels.csv", encoding: str = "utf-8", **settings):
    """Open a table of the eight pictures: row(0) to row(7) below the header."""
    path = pictures / name
    path.write_bytes("".join(f"{line}\n" for line in (header, *map(row, range(8)))).encode(encoding))
    return open_dataset(path, DataConfig(**settings), carve_validation=False)


def mood(number: int) -> str:
    return ("angry", "happy")[number % 2]


@pytest.fixture
def write(tmp_path, face):
    """Write a different picture under each name, below the test's folder; return that folder."""

    def write_them(*names: str, root: Path = tmp_path) -> Path:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = zlib.crc32(name.encode())
            path.write_bytes(cv2.imencode(".png", face(seed, 24))[1].tobytes())
        return root

    return write_them


def read(path: Path | Sequence[Path], **settings):
    return open_dataset(path, DataConfig(**settings), carve_validation=False)


def labels(dataset) -> dict[str, str]:
    """Name of each picture to its class."""
    return {
        name: dataset.classes[label]
        for split in dataset.splits.values()
        for name, label in zip(split.names, split.labels.tolist(), strict=True)
    }


def sizes(dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


def groups(dataset) -> set[str]:
    return {group for split in dataset.splits.values() for group in split.groups or ()}


TWO = ("angry/0.png", "happy/0.png")
