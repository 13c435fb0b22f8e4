"""The networks of the five projects that mien grew from, layer by layer (docs/explanation/five-projects.md).

All take levels in [0, 255] in an input named `faces`. A request's `dropout` replaces the rate of every
dropout layer, its `l2` the penalty on every kernel that had one; where the project had none, on all kernels
below the head.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from keras import layers

from mien.errors import ConfigError
from mien.model.preprocess import Preprocess
from mien.train.networks.backbones import application_named, build_backbone, features
from mien.train.networks.spec import NetworkRequest, NetworkSpec, heads_on


def build_happy_nothappy(request: NetworkRequest) -> keras.Model:
    """Three valid 3x3 convolutions, pooling, dense 128: 14,839,234 parameters, two classes at 256x256x3."""
    _at_least(22, request)
    faces, x = _scaled_input(request)
    for block, width in enumerate((32, 64, 128), start=1):
        x = _conv(x, width, f"block{block}_conv", _l2(request))
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(128, activation="relu", kernel_regularizer=_l2(request), name="dense")(x)
    x = layers.Dropout(_rate(request, 0.5), name="dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name="happy-nothappy")


def build_happy_sad_angry(request: NetworkRequest) -> keras.Model:
    """Four valid 3x3 convolutions, batch norm, dense 512: 6,654,051 parameters, three classes at 200x200x3.

    Dropout .3 follows blocks 2 to 4 and .5 the dense layer, which alone has an L2 penalty (.01).
    """
    _at_least(46, request)
    faces, x = _scaled_input(request)
    for block, width in enumerate((16, 32, 64, 128), start=1):
        x = _conv(x, width, f"block{block}_conv", None)
        x = layers.BatchNormalization(name=f"block{block}_norm")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        if block > 1:
            x = layers.Dropout(_rate(request, 0.3), name=f"block{block}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(512, activation="relu", kernel_regularizer=_l2(request, 0.01), name="dense")(x)
    x = layers.Dropout(_rate(request, 0.5), name="dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name="happy-sad-angry")


def build_lenet5(request: NetworkRequest) -> keras.Model:
    """LeNet-5 (LeCun et al. 1998), batch norm, pictures of any size: 6,153,119 parameters for three classes.

    Input (any, any, 3) in BGR order; the network resizes to the request's size itself. Dropout and L2 are 0
    unless the request says otherwise.
    """
    how, l2 = request.preprocess, _l2(request)
    _at_least(10, request)
    faces = keras.Input((None, None, how.channels), name="faces")
    x = layers.Resizing(how.size, how.size, name="resize")(faces)
    x = layers.Rescaling(1 / 255, name="to_unit")(x)
    x = _conv(x, 6, "block1_conv", l2)
    x = layers.BatchNormalization(name="block1_norm")(x)
    x = layers.MaxPooling2D(2, strides=2, name="block1_pool")(x)
    x = layers.Dropout(_rate(request, 0.0), name="block1_dropout")(x)
    x = _conv(x, 16, "block2_conv", l2)
    x = layers.BatchNormalization(name="block2_norm")(x)
    x = layers.MaxPooling2D(2, strides=2, name="block2_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for place, width in enumerate((100, 10), start=1):
        x = layers.Dense(width, activation="relu", kernel_regularizer=l2, name=f"dense{place}")(x)
        x = layers.BatchNormalization(name=f"dense{place}_norm")(x)
        x = layers.Dropout(_rate(request, 0.0), name=f"dense{place}_dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name="lenet5")


def build_fer2013_cnn(request: NetworkRequest) -> keras.Model:
    """Three blocks of two 3x3 convolutions, dense 1024: 17,046,535 parameters for seven classes at 48x48x1.

    Dropout .25 in the blocks and .5 before the head. L2 .01 on the convolutions of blocks 2 and 3 is inferred
    from the first losses in the project's logs, not read.
    """
    _at_least(12, request)
    faces, x = _scaled_input(request)
    blocks = (((32, "same"), (64, "same")), ((128, "same"), (256, "valid")), ((512, "same"), (512, "same")))
    for block, convolutions in enumerate(blocks, start=1):
        l2 = _l2(request, 0.01) if block > 1 else None
        for place, (width, padding) in enumerate(convolutions, start=1):
            x = _conv(x, width, f"block{block}_conv{place}", l2, padding)
        x = layers.BatchNormalization(name=f"block{block}_norm")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        x = layers.Dropout(_rate(request, 0.25), name=f"block{block}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(1024, activation="relu", name="dense")(x)
    x = layers.Dropout(_rate(request, 0.5), name="dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name="fer2013-cnn")


def build_face_expression(request: NetworkRequest) -> keras.Model:
    """A small network of the project's kinds of layer: 538,631 parameters for seven classes at 48x48x1.

    The project gives no figures, so the widths and rates are ours: 27 M multiply-accumulates a face, a
    twenty-fifth of fer2013-cnn, so that its many epochs are bearable on a CPU. The kinds of layer are the
    project's.
    """
    _at_least(16, request)
    l2 = _l2(request)
    faces, x = _scaled_input(request)
    for block, width in enumerate((32, 64, 128, 128), start=1):
        x = _conv(x, width, f"block{block}_conv", l2, "same")
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        x = layers.BatchNormalization(name=f"block{block}_norm")(x)
        x = layers.Dropout(_rate(request, 0.25), name=f"block{block}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(256, activation="relu", kernel_regularizer=l2, name="dense")(x)
    x = layers.Dropout(_rate(request, 0.5), name="dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name="face-expression")


def build_happy_sad_angry_vgg16(request: NetworkRequest) -> keras.Model:
    """VGG16 with the second project's own top of 1,839,875 parameters for three classes at 200x200.

    Convolution 256 valid, pooling, dense 512 and 256 with L2 .01, batch norm and dropout .5 and .4. A
    request's dropout replaces both rates. The backbone has 14,714,688 parameters, the fixed layer before it
    has 12.
    """
    _at_least(128, request)  # below, VGG16 leaves no 4x4 map for a valid convolution and a pooling
    faces, x = features(application_named("VGG16"), request)
    x = layers.Conv2D(256, 3, activation="relu", name="top_conv")(x)
    x = layers.MaxPooling2D(2, name="top_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for place, (width, own_rate) in enumerate(((512, 0.5), (256, 0.4)), start=1):
        l2 = _l2(request, 0.01)
        x = layers.Dense(width, activation="relu", kernel_regularizer=l2, name=f"dense{place}")(x)
        x = layers.BatchNormalization(name=f"dense{place}_norm")(x)
        x = layers.Dropout(_rate(request, own_rate), name=f"dense{place}_dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name="happy-sad-angry-vgg16")


def _pooled(name: str, application: str) -> NetworkSpec:
    """Global average pooling and one dense layer on a backbone; no dropout unless the request has a rate."""
    return NetworkSpec(
        name=name,
        build=partial(build_backbone, application_named(application), name, dropout=0.0),
        preprocess=Preprocess(size=48, colour="grey"),
        pretrained=True,
        source=f"fourth original: FER-2013, {application} with ImageNet weights",
    )


def _scaled_input(request: NetworkRequest) -> tuple[Any, Any]:
    faces = keras.Input(request.preprocess.shape, name="faces")
    return faces, layers.Rescaling(1 / 255, name="to_unit")(faces)


def _conv(x: Any, width: int, name: str, l2: keras.Regularizer | None, padding: str = "valid") -> Any:
    convolution = layers.Conv2D(
        width, 3, padding=padding, activation="relu", kernel_regularizer=l2, name=name
    )
    return convolution(x)


def _rate(request: NetworkRequest, own: float) -> float:
    return own if request.dropout is None else request.dropout


def _l2(request: NetworkRequest, own: float = 0.0) -> keras.Regularizer | None:
    penalty = own if request.l2 is None else request.l2
    return keras.regularizers.L2(penalty) if penalty else None


def _at_least(size: int, request: NetworkRequest) -> None:
    """Raise ConfigError where the convolutions and poolings would leave nothing of the picture."""
    if request.preprocess.size < size:
        raise ConfigError(
            f"size {request.preprocess.size} is too small for this network; it needs at least {size} pixels"
        )


def _specs() -> list[NetworkSpec]:
    grey48 = Preprocess(size=48, colour="grey")
    return [
        NetworkSpec(
            name="happy-nothappy",
            build=build_happy_nothappy,
            preprocess=Preprocess(size=256, colour="rgb"),
            source="first original: happy / not happy",
        ),
        NetworkSpec(
            name="happy-sad-angry",
            build=build_happy_sad_angry,
            preprocess=Preprocess(size=200, colour="rgb"),
            source="second original: happy / sad / angry, its own network",
        ),
        NetworkSpec(
            name="lenet5",
            build=build_lenet5,
            preprocess=Preprocess(size=256, colour="bgr"),
            source="third original: LeNet-5 for any picture size",
        ),
        NetworkSpec(
            name="fer2013-cnn",
            build=build_fer2013_cnn,
            preprocess=grey48,
            source="fourth original: FER-2013, its own network",
        ),
        NetworkSpec(
            name="face-expression",
            build=build_face_expression,
            preprocess=grey48,
            source="fifth original: face expression recognition; widths are ours",
        ),
        NetworkSpec(
            name="happy-sad-angry-vgg16",
            build=build_happy_sad_angry_vgg16,
            preprocess=Preprocess(size=200, colour="rgb"),
            pretrained=True,
            source="second original: happy / sad / angry, VGG16 with ImageNet weights",
        ),
        _pooled("fer2013-resnet50", "ResNet50"),
        _pooled("fer2013-vgg16", "VGG16"),
    ]


NETWORKS: dict[str, NetworkSpec] = {spec.name: spec for spec in _specs()}
