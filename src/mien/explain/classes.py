"""What a network looks at, class by class: maps of labelled faces, and their means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data import open_dataset
from mien.data.crops import stored_faces, with_margin
from mien.data.dataset import SPLITS, Dataset
from mien.detect.registry import WholePicture
from mien.errors import DataError
from mien.explain.config import ExplainConfig
from mien.explain.explain import Explainer, SaliencyMap, cell_means, explain_face
from mien.predict.analyzer import Analyzer

FACES = 8  # of each class, where the user names no limit
Progress = Callable[[int, int], None]  # faces done, faces in all


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """The maps of one class. names: of the pictures, as `maps`. available: pictures of the class in the split."""

    name: str
    available: int
    maps: tuple[SaliencyMap, ...]
    names: tuple[str, ...]

    @property
    def values(self) -> NDArray[np.float32]:
        """Mean map: (size, size)."""
        return np.asarray(np.mean([saliency.values for saliency in self.maps], axis=0), np.float32)

    @property
    def face(self) -> NDArray[np.uint8]:
        """Mean face: (size, size, channels)."""
        mean: NDArray[np.float64] = np.mean([saliency.face for saliency in self.maps], axis=0)
        return np.round(mean).astype(np.uint8)

    @property
    def holding(self) -> int:
        """How many of the maps do better than chance."""
        return sum(saliency.faithfulness.holds for saliency in self.maps)

    def mean(self, figure: str) -> float:
        """Mean of a field of `Faithfulness`, or of the probability."""
        return float(
            np.mean(
                [
                    saliency.probability
                    if figure == "probability"
                    else getattr(saliency.faithfulness, figure)
                    for saliency in self.maps
                ]
            )
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "class": self.name,
            "available": self.available,
            "explained": len(self.maps),
            "holding": self.holding,
            "probability": self.mean("probability"),
            "drop": self.mean("drop"),
            "random_drop": self.mean("random_drop"),
            "grid": cell_means(self.values),
            "faces": [
                {"name": n, **saliency.to_dict()} for n, saliency in zip(self.names, self.maps, strict=True)
            ],
        }


def open_split(data: Path, config: ExplainConfig) -> tuple[Dataset, str]:
    """Open DATA and name the split to explain; DataError where it is missing or empty."""
    dataset = open_dataset(data, config, carve_validation=config.split in ("train", "validation"))
    if config.split:
        dataset.split(config.split)
        return dataset, config.split
    for name in reversed(SPLITS):
        if len(dataset.splits.get(name, ())):
            return dataset, name
    raise DataError(f"{data} has no pictures to explain")


def explain_classes(
    dataset: Dataset,
    split_name: str,
    analyzer: Analyzer,
    explainer: Explainer,
    *,
    config: ExplainConfig,
    progress: Progress | None = None,
) -> tuple[tuple[ClassMaps, ...], tuple[str, ...]]:
    """Explain some faces of each class, chosen at random (seeded).

    Each map is of the target, or of the face's own class: what speaks for 'happy' in happy faces. Returns the
    classes, and a line for each picture in which no face was found. Raises DataError when none has one.
    """
    split = with_margin(dataset, analyzer.metadata.preprocess.margin).split(split_name)
    cut = stored_faces(split.pictures)
    chosen = _chosen(split.labels, len(dataset.classes), config)
    total, done, notes = sum(map(len, chosen)), 0, []
    classes = []
    for label, rows in enumerate(chosen):
        maps, names = [], []
        for row in rows:
            image = split.pictures.read(row)
            found = WholePicture().detect(image) if cut[row] else analyzer.detector.detect(image)
            if found:
                wanted = config.target or dataset.classes[label]
                maps.append(explain_face(analyzer, explainer, image, found[0], wanted))
                names.append(split.names[row])
            else:
                notes.append(f"no face found in {split.names[row]}")
            done += 1
            if progress:
                progress(done, total)
        if maps:
            available = int((split.labels == label).sum())
            classes.append(ClassMaps(dataset.classes[label], available, tuple(maps), tuple(names)))
    if not classes:
        raise DataError(
            f"no face was found in {total} pictures of {dataset.source}; leave --detector out if each is a face"
        )
    return tuple(classes), tuple(notes)


def _chosen(labels: NDArray[np.int64], classes: int, config: ExplainConfig) -> list[Sequence[int]]:
    """Return the rows of each class, in order, at most `limit`."""
    rng = np.random.default_rng(config.seed)
    most = config.limit or FACES
    return [
        sorted(rng.permutation(np.flatnonzero(labels == label))[:most].tolist()) for label in range(classes)
    ]
