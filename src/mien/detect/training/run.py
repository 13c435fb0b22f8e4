"""One training of a face detector from start to end: photographs, network, loop, and the detector's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.detect import metrics
from mien.detect.mien import (
    METADATA_FILE,
    NETWORK_FILE,
    SHIPPED,
    DetectorMetadata,
    MienDetector,
    read_detector,
)
from mien.detect.training.config import DetectorConfig
from mien.detect.training.photos import Photos, read_photos
from mien.detect.training.sampler import HardNegatives, Sampler
from mien.errors import ConfigError
from mien.files import without_folders, write_table
from mien.locks import locked
from mien.model.folder import SETTINGS_FILE
from mien.settings import to_mapping
from mien.terminal import ProgressBar
from mien.train import backend, checkpoint, run_folder

DETECTOR_FOLDER = "detector"
_LOW = 0.05  # score from which candidates are looked at when judging: the whole curve but its end
_SHOWN_SIZES = {"recall_20_40": (20.0, 40.0), "recall_40": (40.0, np.inf)}
_EXPLAINED = """# A face detector in training

| file | what it is |
|---|---|
| `settings.json` | every setting as it was used, what data (with its fingerprint), the command |
| `epochs.csv` | loss of every epoch, and the figures of those at which validation was looked at |
| `detector/` | the face detector of the last look, with its card: name this folder to use it |
| `checkpoint/` | what a training that was interrupted needs to go on; the same command does |
"""
# Lowest and highest threshold to choose: few validation photographs may show no false positive at any score.
_THRESHOLDS = (0.2, 0.95)


@dataclass(frozen=True)
class DetectorRun:
    """folder: of the run. detector: the detector's folder in it. trained: False where the run was there already."""

    folder: Path
    detector: Path
    progress: checkpoint.Progress
    trained: bool


def train_detector(
    config: DetectorConfig,
    data: Path,
    out: Path,
    *,
    retrain: bool = False,
    command: str = "",
    show: ProgressBar | None = None,
) -> DetectorRun:
    """Train a face detector on a folder with labels.jsonl; the same call goes on with an interrupted training.

    Writes into `out`: settings.json, epochs.csv, checkpoint/, and detector/ with detector.onnx, detector.json and
    CARD.md, anew at every look at validation. retrain: remove what is there and start again. Raises DataError for data
    that cannot be used, ConfigError where `out` holds something else or another process is training there,
    TrainingError when the loss is not finite.
    """
    show = show or ProgressBar(quiet=True)
    backend.import_keras()
    train, validation = (_limited(read_photos(data, split), config) for split in ("train", "val"))
    settings = _described(config, data, train, validation, command)
    with locked(out, "being trained"):
        if not retrain and (done := _finished(out, settings)):
            return DetectorRun(out, out / DETECTOR_FOLDER, done, trained=False)
        return _train(config, train, validation, out, settings, show=show, replacing=retrain)


def _train(
    config: DetectorConfig,
    train: Photos,
    validation: Photos,
    out: Path,
    settings: Mapping[str, Any],
    *,
    show: ProgressBar,
    replacing: bool,
) -> DetectorRun:
    """Train, or go on. replacing: remove the run that lies there, once nothing can keep this one from starting."""
    import keras

    from mien.detect.training.network import DetectorLoop, build

    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy("float32")
    folder = out / DETECTOR_FOLDER
    sampler, network = Sampler(train, config), build()
    if config.init_from:
        from mien.detect.training.export import assign_weights

        start = SHIPPED if config.init_from == "mien" else Path(config.init_from)
        assign_weights(network, read_detector(start))
        # A network that has learnt something knows from the start what is hard; `check` would need a loop.
        sampler.hard_negatives = hard_negatives(start, sampler)
    if replacing:
        run_folder.clear(out)
    run_folder.begin(out, settings, _EXPLAINED)
    metadata = DetectorMetadata(training=_metadata_of(config, train))

    start_weights = network.get_weights()

    def check() -> tuple[dict[str, float], HardNegatives]:
        weights = network.get_weights()
        network.set_weights(
            [
                config.start_share * start + (1 - config.start_share) * learnt
                for start, learnt in zip(start_weights, weights, strict=True)
            ]
        )
        written = _written(
            network, folder, replace(metadata, training={**metadata.training, "epochs": loop.progress.epoch})
        )
        network.set_weights(weights)
        return _measured_on(folder, written, validation, config), hard_negatives(folder, sampler)

    loop = DetectorLoop(
        network,
        sampler,
        folder=out / run_folder.CHECKPOINT,
        check=check,
        on_epoch=lambda progress: _note_epochs(out, progress),
        show=show,
    )
    progress = loop.run()
    return DetectorRun(out, folder, progress, trained=True)


def _written(network: Any, folder: Path, metadata: DetectorMetadata) -> DetectorMetadata:
    from mien.detect.training.export import export_detector

    return export_detector(network, folder, metadata)


def _measured_on(
    folder: Path, metadata: DetectorMetadata, validation: Photos, config: DetectorConfig
) -> dict[str, float]:
    """Search the validation photographs, set the threshold, and write both into the detector's metadata."""
    from mien.detect.training.export import write_detector

    matches = metrics.search(validation, MienDetector(folder, threshold=_LOW).detect)
    at = metrics.threshold_for(matches, config.false_positives)
    # Up: the false positive below stays out.
    threshold = math.ceil(float(np.clip(at, *_THRESHOLDS)) * 1000) / 1000
    figures = {"ap": metrics.average_precision(matches)}
    figures |= {name: metrics.recall(matches, threshold, size)[0] for name, size in _SHOWN_SIZES.items()}
    figures |= {
        "false_positives_per_100": metrics.false_positives_per_100(matches, threshold)[0],
        "landmark_error": metrics.landmark_error(matches, threshold),
        "threshold": threshold,
    }
    figures = {name: value for name, value in figures.items() if np.isfinite(value)}
    write_detector(
        folder, read_detector(folder).network, replace(metadata, threshold=threshold, scores=figures)
    )
    return figures


def hard_negatives(folder: Path, sampler: Sampler) -> HardNegatives:
    """Return each training photograph's surest false positive: score, and where its centre lies.

    Nothing that touches a labelled face or a box to ignore counts, since labels may lie a little beside a face.
    """
    find = MienDetector(folder, threshold=_LOW, twice=False).detect
    hardest = np.zeros((len(sampler.photos), 3), np.float32)
    for index, row in enumerate(sampler.photos.rows):
        known = np.concatenate([row.boxes, row.ignore])
        faces = [
            face for face in find(sampler.photos.read(index)) if not _touches(np.asarray(face.box), known)
        ]
        if faces:
            surest = max(faces, key=lambda face: face.score or 0)
            x, y, width, height = surest.box
            hardest[index] = (surest.score, (x + width / 2) / row.width, (y + height / 2) / row.height)
    return hardest


def _touches(box: NDArray[np.floating], others: NDArray[np.float32]) -> bool:
    low, high = (
        np.maximum(box[:2], others[:, :2]),
        np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]),
    )
    return bool((low < high).all(axis=1).any())


def _limited(photos: Photos, config: DetectorConfig) -> Photos:
    if config.limit is None or config.limit >= len(photos):
        return photos
    order = np.random.default_rng(config.seed).permutation(len(photos))
    return photos.take(np.sort(order[: config.limit]))


def _described(
    config: DetectorConfig, data: Path, train: Photos, validation: Photos, command: str
) -> dict[str, Any]:
    about = {
        "path": str(data),
        "train": len(train),
        "validation": len(validation),
        "fingerprint": f"{train.fingerprint()[:20]}-{validation.fingerprint()[:20]}",
    }
    return {"settings": to_mapping(config), "data": about, "command": command}


def _metadata_of(config: DetectorConfig, train: Photos) -> dict[str, Any]:
    return {
        "photographs": len(train),
        "faces": sum(len(row.boxes) for row in train.rows),
        "settings": without_folders(to_mapping(config)),
        "versions": backend.versions(),
    }


def _finished(out: Path, settings: Mapping[str, Any]) -> checkpoint.Progress | None:
    """Return the progress of a finished run with these settings; ConfigError where something else lies there."""
    stored = out / SETTINGS_FILE
    if stored.is_file() and "crops" not in json.loads(stored.read_text(encoding="utf-8")).get("settings", {}):
        raise ConfigError(
            f"{out} holds a run of mien train, not of mien train-detector; name another place with --to"
        )
    # Complains of other settings and of what is no run.
    run_folder.finished(out, settings, to_mapping(DetectorConfig()))
    file, detector = out / run_folder.CHECKPOINT / checkpoint.STATE_FILE, out / DETECTOR_FOLDER
    if not (file.exists() and (detector / NETWORK_FILE).exists() and (detector / METADATA_FILE).exists()):
        return None
    progress, _, _ = checkpoint.load(file)
    return progress if progress.finished else None


def _note_epochs(out: Path, progress: checkpoint.Progress) -> None:
    """Write epochs.csv; figures that an epoch did not take stay empty."""
    names = list(dict.fromkeys(name for row in progress.history for name in row))
    rows = ([row.get(name, "") for name in names] for row in progress.history)
    write_table(out / run_folder.EPOCHS_FILE, [names, *rows])
