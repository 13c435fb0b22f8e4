"""Writing labelled pictures: in another form, or as they are downloaded (kagglehub, where network and Kaggle allow)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import Dataset
from mien.data.readers.fer2013 import SIDE, write_csv
from mien.errors import DataError, OutputError, first_line, need
from mien.files import file_name, whole_file, whole_folder, write_table
from mien.images.decode import workers
from mien.labels import FER2013, canonical
from mien.model.preprocess import Preprocess, to_model_input

# The sets of the projects that mien grew from, by the names that they are known by here.
KAGGLE = {
    "fer2013": "msambare/fer2013",
    "face-expression": "jonathanoheix/face-expression-recognition-dataset",
    "human-emotions": "muhammadhananasghar/human-emotions-datasethes",
}
DRAWN = "drawn"
_SLUG = re.compile(r"[\w-]+/[\w.-]+")


def to_folders(dataset: Dataset, folder: Path) -> int:
    """Write SPLIT/CLASS/NUMBER.png, lossless. Returns the number of pictures.

    Raises OutputError where something lies at `folder` already or it cannot be written.
    """
    names = _folder_names(dataset.classes)
    return _write_pictures(dataset, folder, lambda split, label: f"{split}/{names[label]}")


def to_table(dataset: Dataset, folder: Path) -> int:
    """Write `labels.csv` (path, label, split, name) and the pictures that it names below `images/`, lossless.

    Groups and soft labels have columns, too (`group`, `p_CLASS`), where the data has them. Class names stay as they
    are, whatever letters they have; what a spreadsheet would run as a formula gets an apostrophe in front, which the
    reader takes away. Returns the number of pictures.
    """
    grouped = any(split.groups is not None for split in dataset.splits.values())
    soft = any(split.shares is not None for split in dataset.splits.values())

    def rows() -> Iterator[list[str]]:
        shares = [f"p_{name}" for name in dataset.classes if soft]
        yield ["path", "label", "split", "name", *(["group"] if grouped else []), *shares]
        for name, row, label in _rows(dataset):
            split = dataset.splits[name]
            cells = [f"images/{name}/{row:06d}.png", dataset.classes[label], name, split.names[row]]
            if grouped:
                cells.append(split.groups[row] if split.groups else "")
            if soft:
                hard = np.eye(len(dataset.classes))[label]
                cells += [f"{share:.6g}" for share in (hard if split.shares is None else split.shares[row])]
            yield cells

    return _write_pictures(
        dataset,
        folder,
        lambda split, _: f"images/{split}",
        lambda inside: write_table(inside / "labels.csv", rows()),
    )


def to_csv(dataset: Dataset, file: Path) -> int:
    """Write Kaggle's FER-2013 form: emotion 0-6, 48x48 grey levels, Usage. Returns the number of rows.

    Larger pictures are shrunk and colour is taken away, as for a network of that input. Raises DataError
    where a class is none of FER-2013's seven or two are the same, OutputError where the file exists already.
    """
    unknown = [name for name in dataset.classes if canonical(name) not in FER2013]
    if unknown:
        raise DataError(
            f"FER-2013's form has no number for {', '.join(unknown)}, only for {', '.join(FER2013)}; "
            f"use --to-folders or --to-table, or choose with --classes"
        )
    if file.exists():
        raise OutputError(f"{file} exists already and is not overwritten; name another file or delete it")
    how = Preprocess(size=SIDE, colour="grey")
    emotions = [FER2013.index(canonical(name)) for name in dataset.classes]
    if len(set(emotions)) < len(emotions):
        raise DataError(
            f"several of the classes {', '.join(dataset.classes)} are one of FER-2013's; join them with --merge first"
        )
    faces = (
        (emotions[label], to_model_input(dataset.splits[split].pictures.read(row), how), split)
        for split, row, label in _rows(dataset)
    )
    with whole_file(file) as temporary:
        write_csv(temporary, faces)
    return sum(map(len, dataset.splits.values()))


def _rows(dataset: Dataset) -> Iterator[tuple[str, int, int]]:
    """Yield (split, row, label) of every picture, in order."""
    for name, split in dataset.splits.items():
        for row, label in enumerate(split.labels.tolist()):
            yield name, row, label


def _write_pictures(
    dataset: Dataset,
    folder: Path,
    place: Callable[[str, int], str],
    finish: Callable[[Path], None] = lambda _: None,
) -> int:
    """Write every picture as FOLDER/NUMBER.png; `place` names the folder, `finish` runs before the rename."""
    refuse_existing(folder)
    with whole_folder(folder) as inside:
        places = {place(split, label) for split, _, label in _rows(dataset)}
        for below in places:
            (inside / below).mkdir(parents=True, exist_ok=True)

        def write(item: tuple[str, int, int]) -> None:
            split, row, label = item
            picture = dataset.splits[split].pictures.read(row)
            (inside / place(split, label) / f"{row:06d}.png").write_bytes(png(picture))

        with ThreadPoolExecutor(workers()) as pool:
            written = sum(1 for _ in pool.map(write, _rows(dataset)))
        finish(inside)
    return written


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a grey or RGB picture losslessly."""
    stored = picture if picture.ndim == 2 else picture[:, :, ::-1]
    return bytes(cv2.imencode(".png", stored)[1])


def refuse_existing(folder: Path) -> None:
    """Raise OutputError unless `folder` is free: missing, or an empty folder."""
    try:
        free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; name another place") from error
    if not free:
        raise OutputError(f"{folder} exists already and is not overwritten; name a new folder or delete it")


def _folder_names(classes: tuple[str, ...]) -> list[str]:
    names = [file_name(name) for name in classes]
    if len({name.lower() for name in names}) < len(names) or any(name.startswith(".") for name in names):
        raise DataError(
            f"classes {', '.join(classes)} cannot all be folders: their names differ only in letters that "
            f"folder names cannot have everywhere; use --to-table"
        )
    return names


def get(name: str, folder: Path) -> str:
    """Download a data set into a new folder; return where it came from.

    name: one of KAGGLE, or any `owner/name` of kaggle.com/datasets. Raises DataError for another name or when
    the download fails, MissingExtra without kagglehub, OutputError where `folder` is taken. Nothing is left
    half done.
    """
    slug = KAGGLE.get(name, name)
    if not _SLUG.fullmatch(slug):
        known = ", ".join((*KAGGLE, DRAWN))
        raise DataError(
            f"no data set named {name!r}; known are {known}, or give owner/name as on kaggle.com/datasets"
        )
    refuse_existing(folder)
    kagglehub = need("kagglehub", "download", "downloading data sets")
    address = f"https://www.kaggle.com/datasets/{slug}"
    try:
        found = Path(kagglehub.dataset_download(slug))
    except Exception as error:  # kagglehub's own errors have no common base; each means the same here
        raise DataError(
            f"{slug} cannot be downloaded ({_reason(error)}); check the network and your "
            f"Kaggle access, or download {address} with a browser and give mien the unpacked folder"
        ) from error
    with whole_folder(folder) as inside:
        shutil.copytree(found, inside, dirs_exist_ok=True)
    return address


def _reason(error: Exception) -> str:
    """Word what kagglehub met: its network errors are pages long and say only this."""
    kind = type(error).__name__
    if any(word in kind for word in ("Connection", "Timeout", "Proxy")):
        return "no connection to Kaggle"
    return f"{kind}: {first_line(error)}"
