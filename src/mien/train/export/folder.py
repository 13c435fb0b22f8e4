"""From a trained network to a model folder that has been checked.

An export is finished only when ONNX Runtime and Keras give the same numbers, at several batch sizes.
"""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from mien.errors import ModelError
from mien.files import check_replaceable, whole_folder
from mien.model.calibration import calibrated
from mien.model.classifier import Classifier
from mien.model.folder import CARD_FILE, INT8_FILE, METADATA_FILE, MODEL_FILE
from mien.model.metadata import Metadata
from mien.train.export.card import describe
from mien.train.export.keras_io import computes_in_float32, float32_clone
from mien.train.export.onnx import add_features, count_macs, to_onnx, trace
from mien.train.run_folder import SEEN_FILE

BATCH_SIZES = (1, 3, 64)
_HEAVY_MACS = 1_000_000_000  # a face; above it 64 faces would take minutes on one core, so 9 must do
_HEAVY_BATCH_SIZES = (1, 3, 9)
# Largest allowed difference of a probability. Both sides sum thousands of float32 products in another order,
# and that error grows with depth and width.
TOLERANCE, HEAVY_TOLERANCE = 1e-5, 1e-4
# A network whose own answers move when its input moves by a millionth (few epochs, statistics of batch norm
# that have not settled) cannot agree better than that: it may differ by so many times its own movement, up
# to a limit.
_NUDGE, _OWN_MOVEMENTS, _LIMIT = 1e-6, 10.0, 1e-2


def export(model: Any, folder: Path, metadata: Metadata) -> Path:
    """Write model.onnx, model.json and CARD.md; all of them, after the check, or none.

    folder: what lies there already is replaced if it is a model folder, and otherwise left alone.
    metadata: parameters and multiply-accumulates are filled in; model.json adds the size of the file and how
    closely it follows Keras. A network trained in mixed precision is exported in float32. Raises ModelError for a
    layer that cannot be exported, for metadata that do not fit the network and when ONNX Runtime and Keras disagree;
    OutputError when the place cannot be written.
    """
    check_place(folder)
    if not computes_in_float32(model):
        model = float32_clone(model)
    traced = trace(model)
    macs = count_macs(traced[0])
    counted = {**metadata.network, "parameters": model.count_params(), "macs": macs}
    created = metadata.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    # The Keras network does not tell what covers a face: `tools/fit_cover.py` adds that to the exported one.
    quality = replace(metadata.quality, covered=0.0) if metadata.quality else None
    metadata = replace(metadata, network=counted, created=created, quality=quality)
    proto = to_onnx(model, metadata, traced)
    metadata = add_features(proto, metadata)
    with whole_folder(folder) as temporary:
        file = temporary / MODEL_FILE
        onnx.save(proto, file)
        parity = check_parity(model, Classifier(file), macs)
        metadata = replace(
            metadata, network={**metadata.network, "bytes": file.stat().st_size, "parity": asdict(parity)}
        )
        describe(temporary, metadata)
        Classifier(temporary)  # opens as a user will open it
    return folder


def check_place(folder: Path) -> None:
    """Raise OutputError where a model folder would replace something else."""
    check_replaceable(
        folder,
        "a model folder",
        METADATA_FILE,
        only=(MODEL_FILE, INT8_FILE, METADATA_FILE, CARD_FILE, SEEN_FILE),
    )


@dataclass(frozen=True)
class Parity:
    """How closely the exported network follows the Keras one."""

    batch_sizes: tuple[int, ...]
    max_abs_difference: float
    tolerance: float


def check_parity(model: Any, classifier: Classifier, macs: int | None) -> Parity:
    """Compare both on random and drawn inputs at several batch sizes.

    The tolerance is 1e-5, or 1e-4 for networks of more than 10^9 multiply-accumulates; wider only where Keras
    itself answers differently to an input that moves by a millionth. Raises ModelError with the largest
    difference when it is above the tolerance or not a number.
    """
    heavy = macs is None or macs > _HEAVY_MACS
    sizes = _HEAVY_BATCH_SIZES if heavy else BATCH_SIZES
    tolerance = HEAVY_TOLERANCE if heavy else TOLERANCE
    batches = [probes(size, classifier.metadata) for size in sizes]
    found = float(np.max([_difference(model, classifier, batch) for batch in batches]))
    if found > tolerance:
        own = max(_own_movement(model, batch) for batch in batches)
        tolerance = max(tolerance, min(_OWN_MOVEMENTS * own, _LIMIT))
    if not found <= tolerance:  # also true for NaN
        raise ModelError(
            f"the exported network differs from Keras by {found:.2g} (allowed: {tolerance:g}), so nothing "
            "was written; either the network's numbers are not finite or not stable (train it longer or with "
            "a lower learning rate), or this is a mistake in mien's exporter"
        )
    return Parity(sizes, found, tolerance)


def probes(count: int, metadata: Metadata) -> NDArray[np.float32]:
    """Return (count, size, size, channels) float32 levels: noise, a ramp, a checkerboard, black and white."""
    height, width, channels = metadata.preprocess.shape
    rows, columns = np.mgrid[:height, :width]
    black = np.zeros((height, width))
    drawn = [255.0 * columns / (width - 1), 255.0 * ((rows // 4 + columns // 4) % 2), black, black + 255]
    noise = np.random.default_rng(count).integers(0, 256, (count, height, width, channels))
    for place, plane in enumerate(drawn[: count // 2]):
        noise[2 * place + 1] = plane[..., None]
    return noise.astype(np.float32)


def keras_probabilities(model: Any, inputs: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return one (n, labels) array an output. Calls it directly: predict() would compile for each size."""
    answers = model(inputs, training=False)
    return [np.asarray(keras.ops.convert_to_numpy(one), np.float32) for one in keras.tree.flatten(answers)]


def _difference(model: Any, classifier: Classifier, inputs: NDArray[np.float32]) -> float:
    names = [tensor._keras_history.operation.name for tensor in keras.tree.flatten(model.outputs)]
    ours = classifier.probabilities(inputs)
    theirs = dict(zip(names, keras_probabilities(model, inputs), strict=True))
    if len(theirs) == 1:
        theirs = dict(zip(ours, theirs.values(), strict=True))
    gaps = [
        np.abs(calibrated(theirs[head.name], head.temperature, head.smoothing) - ours[head.name]).max()
        for head in classifier.metadata.heads
    ]
    return float(np.max(gaps))


def _own_movement(model: Any, inputs: NDArray[np.float32]) -> float:
    """Return how far Keras's own answers move when every level moves by up to a millionth."""
    nudge = np.random.default_rng(0).uniform(-_NUDGE, _NUDGE, inputs.shape)
    moved = keras_probabilities(model, (inputs * (1 + nudge)).astype(np.float32))
    still = keras_probabilities(model, inputs)
    return float(max(np.abs(a - b).max() for a, b in zip(moved, still, strict=True)))
