"""What a network costs: multiply-accumulates of one face."""

from __future__ import annotations

import math
from typing import Any

from mien.train.export.onnx import trace


def count_macs(model: Any) -> int | None:
    """Count the multiply-accumulates of convolutions and dense layers for one face.

    Additions, normalisation and activations are not counted, as is usual. None where the network takes any
    size and does not resize it, so that the number depends on the picture.
    """
    graph, _ = trace(model)
    total = 0
    for node in graph.nodes:
        if node.op_type not in {"Conv", "Gemm"}:
            continue
        kernel = graph.weights[node.input[1]].shape
        places = graph.shapes[node.output[0]][:2] if node.op_type == "Conv" else (1,)
        if None in places:
            return None
        total += math.prod(kernel) * math.prod(side or 0 for side in places)
    return total
