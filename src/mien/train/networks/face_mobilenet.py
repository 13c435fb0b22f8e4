"""`face-mobilenet`, the network that ships, and `face-mobilenet-large`: MobileNet for grey faces.

The trunk is that of MobileNet (Howard et al. 2017, arXiv:1704.04861). The small one ends at the last layer of stride
16: what lies above tells persons apart in the original, and holds half of the parameters. Both can begin with weights
that know faces: `tools/face_weights.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from keras import layers

from mien.errors import ConfigError
from mien.model.preprocess import Preprocess
from mien.train.networks.small import standardise
from mien.train.networks.spec import NetworkRequest, NetworkSpec, heads_on

STEM = 32  # filters of the first convolution, whose stride is 2
# Filters and stride of each separable convolution.
SMALL = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5)
LARGE = (*SMALL, (1024, 2), (1024, 1))
DROPOUT = 0.2
EPSILON = 1e-3  # of batch normalisation, as in Keras's own MobileNet, whose layers these are named after


def build(stages: tuple[tuple[int, int], ...], name: str, request: NetworkRequest) -> keras.Model:
    """Build the trunk, global average pooling, dropout and a softmax a head. stages: filters and stride of each."""
    smallest = 2
    for _, stride in stages:
        smallest *= stride
    if request.preprocess.size < smallest:
        raise ConfigError(
            f"network {name!r} needs a size of {smallest} or more, got {request.preprocess.size}"
        )
    l2 = keras.regularizers.L2(request.l2) if request.l2 else None
    faces = keras.Input(request.preprocess.shape, name="faces")
    stem = layers.Conv2D(
        STEM,
        3,
        2,
        "same",
        use_bias=False,
        kernel_regularizer=l2,
        kernel_initializer="he_normal",
        name="conv1",
    )
    x = _norm(stem(standardise(faces)), "conv1")
    for number, (filters, stride) in enumerate(stages, start=1):
        depthwise = layers.DepthwiseConv2D(
            3, stride, "same", use_bias=False, depthwise_initializer="he_normal", name=f"conv_dw_{number}"
        )
        x = _norm(depthwise(x), f"conv_dw_{number}")
        pointwise = layers.Conv2D(
            filters, 1, use_bias=False, kernel_regularizer=l2, kernel_initializer="he_normal",
            name=f"conv_pw_{number}",
        )  # fmt: skip
        x = _norm(pointwise(x), f"conv_pw_{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(DROPOUT if request.dropout is None else request.dropout, name="dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name=name)


def _norm(x: Any, name: str) -> Any:
    # Momentum .9, as in `small`: with the default .99 the statistics lag behind in short trainings on small sets.
    x = layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


NETWORKS = {
    name: NetworkSpec(
        name=name,
        build=partial(build, stages, name),
        preprocess=Preprocess(size=size, colour="grey"),
        several_heads=True,
        mixed_pays=False,
        source=f"mien; MobileNet (Howard et al. 2017) {what}",
    )
    for name, stages, size, what in (
        ("face-mobilenet", SMALL, 64, "up to stride 16"),
        ("face-mobilenet-large", LARGE, 96, "for grey faces"),
    )
}
