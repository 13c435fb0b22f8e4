"""What the tools that train the shipped network share: its heads, how it sees a face, other faces, weight files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import align
from mien.faceset.table import FaceSet
from mien.images.decode import read_image
from mien.labels import FER2013, FERPLUS
from mien.model.preprocess import Preprocess

HEADS = {"fer2013": FER2013, "votes": FERPLUS}
HOW = Preprocess(size=44, resize=48)
MARGIN = 0.9  # side of what the network takes over the longer side of the face box, the recipe's
CANVAS = 64  # pixels a side of the pictures here: the network's 48 and 8 around them


def unlabelled_faces(source: Path | None) -> NDArray[np.uint8]:
    """Return the grey faces of a face set, cut as the network takes them with some room around: (n, CANVAS, CANVAS).

    source: a face set's folder, whose faces that are set aside are left out; an .npz that has them as `x`; or none.
    """
    if source is None:
        return np.zeros((0, CANVAS, CANVAS), np.uint8)
    if source.suffix == ".npz":
        stored: NDArray[np.uint8] = np.load(source)["x"]
        return stored
    faces, cut, margin = FaceSet.open(source), [], MARGIN * CANVAS / 48
    for face in faces.shown():
        picture = read_image(faces.crop_path(face))
        aligned = align(picture, face.in_crop(max(picture.shape[:2])), margin)
        how = cv2.INTER_AREA if len(aligned) > CANVAS else cv2.INTER_LINEAR
        cut.append(cv2.resize(cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY), (CANVAS, CANVAS), interpolation=how))
    print(f"{source}: {len(cut):,} faces", flush=True)
    return np.stack(cut)


def load_weights(model: Any, file: Path) -> None:
    """Assign weights that are stored by Keras path to a Keras model of that network."""
    with np.load(file) as arrays:
        stored = {name.rpartition(":")[2]: arrays[name] for name in arrays.files}
    for variable in model.variables:
        if "seed" not in variable.path:  # of dropout's generator
            if variable.path not in stored:
                raise SystemExit(f"{file} has no {variable.path}; is it of a network {model.name!r}?")
            variable.assign(stored[variable.path].astype(np.float32))
