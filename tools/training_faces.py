"""What the tools that train mien's networks share: FER-2013's faces, those of photographs, weights by Keras path."""

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

HEADS = {"fer2013": FER2013, "votes": FERPLUS}
MARGIN = 0.9  # side of what the network takes over the longer side of the face box, the recipes'

Picture = NDArray[np.uint8]


def fer2013_faces(split: Any) -> Picture:
    """Return the faces of a split: (n, 48, 48)."""
    return np.stack([split.pictures.read(place).reshape(48, 48) for place in range(len(split))])


def photographed_faces(source: Path | None, canvas: int, face: int) -> Picture:
    """Return the grey faces of a face set that are not set aside: (n, canvas, canvas).

    face: pixels of the middle that are the face as the network takes it; the rest is what is around it.
    """
    if source is None:
        return np.zeros((0, canvas, canvas), np.uint8)
    faces, cut = FaceSet.open(source), []
    for found in faces.shown():
        picture = read_image(faces.crop_path(found))
        aligned = align(picture, found.in_crop(max(picture.shape[:2])), MARGIN * canvas / face)
        how = cv2.INTER_AREA if len(aligned) > canvas else cv2.INTER_LINEAR
        grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)
        cut.append(np.asarray(cv2.resize(grey, (canvas, canvas), interpolation=how), np.uint8))
    print(f"{source}: {len(cut):,} faces", flush=True)
    return np.stack(cut)


def load_weights(model: Any, file: Path) -> None:
    """Assign weights stored by Keras path to a Keras network; a number before it (`0000:`) is passed over."""
    with np.load(file) as arrays:
        stored = {name.rpartition(":")[2]: arrays[name] for name in arrays.files}
    for variable in model.variables:
        if "seed" not in variable.path:  # of dropout's generator
            if variable.path not in stored:
                raise SystemExit(f"{file} has no {variable.path}; is it of a network {model.name!r}?")
            variable.assign(stored[variable.path].astype(np.float32))
