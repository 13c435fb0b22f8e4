"""Labelled faces in every form that people have them: read, look at, split, convert.

In: folders, tables, archives, public data sets as they come. Out: a `Dataset` with classes, splits and notes on what
was noticed. Begin with `open_dataset`; `forms` decides what lies at a path, `readers` has a module per form, `index`
looks at the files, `pictures` holds them, `split` sets validation aside, `cache` keeps decoded faces; `near_copies` and
`label_errors` find what is doubtful, `decisions` keeps what people decided about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mien.data.dataset import DataConfig, Dataset
from mien.errors import ConfigError
from mien.files import each_once, given_paths, separate_paths

__all__ = ["DataConfig", "Dataset", "open_dataset"]


def open_dataset(
    path: str | Path | Sequence[str | Path],
    config: DataConfig | None = None,
    *,
    carve_validation: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read labelled pictures in any of the known forms; several paths (or one, A:B) are combined into one data set.

    path: a folder with one folder per class; train, validation and test folders of those; fer2013.csv or
    icml_face_data.csv (also .gz, .xz), with FER+ votes from fer2013new.csv beside it; a CSV, JSON Lines or Parquet
    table of paths and labels; a zip or tar of these; docs/data.md has all. config: which classes, what belongs
    together, and how validation pictures are chosen where the data has none; carve_validation=False leaves such data as
    it is, for evaluating all of it. progress is told (done, of) while files are examined. Raises DataError, in one
    line, when the data cannot be used or its layout does not say what it means.
    """
    from mien.data.opening import open_paths  # OpenCV only when it is needed

    paths = each_once([part for one in given_paths(path) for part in separate_paths(one)])
    chosen = DataConfig() if config is None else config
    if not isinstance(chosen, DataConfig):
        raise ConfigError(f"config must be a DataConfig, got {type(chosen).__name__}")
    return open_paths(paths, chosen, carve_validation=carve_validation, progress=progress)
