"""The originals' side: the legacy `ImageDataGenerator.flow_from_directory`, and whole sets as float64 arrays.

Run by training_speed.py in a process of its own: `python legacy_side.py JOB FOLDER JSON`, and ends with JSON.
Theirs is given every advantage that costs nothing: no rescaling in the generator, no XLA unless --xla asks
for it (Keras 3 turns it on by default, and TensorFlow is slower with it on a CPU).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from meter import EpochClock, metered, report
from networks import built

# What fer2013-cnn-augmented varied: the settings of the originals' generator.
VARIATION = {"rotation_range": 20, "zoom_range": 0.15, "horizontal_flip": True}


def flow(folder: Path, size: int, colour: str, batch_size: int, *, varied: bool) -> Any:
    """Return the legacy iterator over a folder of class folders."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(**VARIATION if varied else {})
    mode = "grayscale" if colour == "grey" else "rgb"
    return generator.flow_from_directory(
        folder,
        target_size=(size, size),
        color_mode=mode,
        batch_size=batch_size,
        class_mode="categorical",
        seed=0,
    )


def pipeline(folder: Path, options: dict[str, Any]) -> dict[str, float]:
    """Go once through the training pictures as an epoch does, without a network."""
    import tensorflow.keras.preprocessing.image  # noqa: F401  (what loading TensorFlow costs is not counted)

    costs: dict[str, float] = {}
    with metered(costs):
        batches = flow(
            folder / "train", options["size"], options["colour"], options["batch_size"], varied=True
        )
    costs["prepare_s"] = costs["cpu_s"]
    with metered(costs):
        costs["pictures"] = sum(len(batches[place][0]) for place in range(len(batches)))
    return costs


def epoch(folder: Path, options: dict[str, Any]) -> dict[str, float]:
    """Train with `fit` as the originals did: best file kept, log written. Costs of the last epoch."""
    import keras

    classes = tuple(sorted(path.name for path in (folder / "train").iterdir()))
    # As Keras does unless it is told.
    network, config = built(options["recipe"], classes, precision="float32")
    config = config.for_pictures(options["faces"])
    assert config.batch_size is not None  # for_pictures sets it
    size, colour = int(network.input_shape[1]), "grey" if network.input_shape[-1] == 1 else "rgb"
    optimizer = (
        keras.optimizers.SGD(config.learning_rate, momentum=0.9, nesterov=True)
        if config.optimizer == "sgd"
        else keras.optimizers.Adam(config.learning_rate)
    )
    network.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"], jit_compile=options["xla"])
    run = Path(tempfile.mkdtemp(dir=folder.parent))
    clock = EpochClock()

    class Tick(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, *_: object) -> None:
            clock.tick()

    network.fit(
        flow(folder / "train", size, colour, config.batch_size, varied=True),
        validation_data=flow(folder / "validation", size, colour, config.batch_size, varied=False),
        epochs=options["epochs"],
        verbose=0,
        callbacks=[
            keras.callbacks.CSVLogger(str(run / "epochs.csv")),
            keras.callbacks.ModelCheckpoint(str(run / "best.keras"), save_best_only=True),
            Tick(),
        ],
    )
    return clock.last()


def hold(folder: Path, options: dict[str, Any]) -> dict[str, float]:
    """Hold the whole training set as the originals did: a list of pictures, then float64 in [0, 1]."""
    import cv2

    costs: dict[str, float] = {}
    flag = cv2.IMREAD_GRAYSCALE if options["colour"] == "grey" else cv2.IMREAD_COLOR
    with metered(costs):
        pictures = [cv2.imread(str(path), flag) for path in sorted((folder / "train").glob("*/*"))]
        held = np.array(pictures, dtype=np.float64) / 255
        del pictures  # theirs may free what it needs no more
    costs["pictures"] = len(held)
    return costs


if __name__ == "__main__":
    job = {"pipeline": pipeline, "epoch": epoch, "hold": hold}[sys.argv[1]]
    report(job(Path(sys.argv[2]), json.loads(sys.argv[3])))
