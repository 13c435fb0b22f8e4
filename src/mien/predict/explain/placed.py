"""Where in the photograph the network's input lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.predict.analyzer import Analyzer
from mien.predict.crop import square
from mien.predict.detect import WholePicture
from mien.predict.found_face import FoundFace


def placement(analyzer: Analyzer, image: NDArray[np.uint8], face: FoundFace) -> NDArray[np.float64]:
    """Return the matrix from pixels of the input to pixels of the image: (2, 3), for pixel centres, x first.

    It undoes `Analyzer.cut` and `to_model_input`: the cut, the scaling and the centre that is taken out.
    """
    how = analyzer.facts.preprocess
    if isinstance(analyzer.detector, WholePicture):
        left, top, width, height = 0, 0, image.shape[1], image.shape[0]
    else:
        left, top, width = square(face.box, how.margin)
        height = width
    scaled = how.resize or how.size
    cut = (scaled - how.size) // 2
    x_step, y_step = width / scaled, height / scaled
    return np.array(
        [
            [x_step, 0, left + (cut + 0.5) * x_step - 0.5],
            [0, y_step, top + (cut + 0.5) * y_step - 0.5],
        ]
    )
