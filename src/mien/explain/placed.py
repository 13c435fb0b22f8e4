"""Where in the photograph the network's input lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.predict.analyzer import Analyzer
from mien.predict.crop import place_of_aligned
from mien.predict.detect import WholePicture
from mien.predict.found_face import FoundFace


def placement(analyzer: Analyzer, image: NDArray[np.uint8], face: FoundFace) -> NDArray[np.float64]:
    """Return the matrix from pixels of the input to pixels of the image: (2, 3), x first, for pixel centres.

    It undoes `Analyzer.cut` and `to_model_input`: the cut and its turn, the scaling, the centre that is taken out.
    """
    how = analyzer.facts.preprocess
    if isinstance(analyzer.detector, WholePicture):
        cut, (height, width) = np.eye(2, 3), image.shape[:2]
    else:
        cut = place_of_aligned(face, how.margin)
        height = width = analyzer.cut(image, face).shape[0]
    scaled = how.resize or how.size
    first = (scaled - how.size) // 2 + 0.5  # left edge to the centre of the first pixel that is kept
    steps = np.array([width / scaled, height / scaled])
    to_cut = np.column_stack([np.diag(steps), first * steps - 0.5])
    return np.asarray(cut @ np.vstack([to_cut, [0, 0, 1]]), np.float64)
