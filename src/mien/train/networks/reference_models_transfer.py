"""The networks of the originals that stand on a backbone trained on ImageNet."""

from __future__ import annotations

from functools import partial

import keras
from keras import layers

from mien.errors import ConfigError
from mien.preprocess import Preprocess
from mien.train.networks.backbones import application_named, build_backbone, features
from mien.train.networks.registry import Network, NetworkRequest
from mien.train.networks.small import heads_on

L2 = 0.01
SMALLEST = 128  # pixels: below, VGG16 leaves no 4x4 map for a valid convolution and a pooling


def build_happy_sad_angry_vgg16(request: NetworkRequest) -> keras.Model:
    """VGG16 with the second project's own top of 1,839,875 parameters for three classes at 200x200.

    Convolution 256 valid, pooling, dense 512 and 256 with L2 .01, batch norm and dropout .5 and .4. A
    request's dropout replaces both rates. The backbone has 14,714,688 parameters, the fixed layer before it
    has 12.
    """
    if request.preprocess.size < SMALLEST:
        raise ConfigError(
            f"size {request.preprocess.size} is too small for this network; "
            f"it needs at least {SMALLEST} pixels"
        )
    faces, x = features(application_named("VGG16"), request)
    x = layers.Conv2D(256, 3, activation="relu", name="top_conv")(x)
    x = layers.MaxPooling2D(2, name="top_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    penalty = L2 if request.l2 is None else request.l2
    for place, (width, own_rate) in enumerate(((512, 0.5), (256, 0.4)), start=1):
        l2 = keras.regularizers.L2(penalty) if penalty else None
        x = layers.Dense(width, activation="relu", kernel_regularizer=l2, name=f"dense{place}")(x)
        x = layers.BatchNormalization(name=f"dense{place}_norm")(x)
        rate = own_rate if request.dropout is None else request.dropout
        x = layers.Dropout(rate, name=f"dense{place}_dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads), name="happy-sad-angry-vgg16")


def _pooled(name: str, application: str) -> Network:
    """Global average pooling and one dense layer on a backbone; no dropout unless the request has a rate."""
    return Network(
        name=name,
        build=partial(build_backbone, application_named(application), name, dropout=0.0),
        preprocess=Preprocess(size=48, colour="grey"),
        source=f"fourth original: FER-2013, {application} with ImageNet weights",
    )


SPECS: tuple[Network, ...] = (
    Network(
        name="happy-sad-angry-vgg16",
        build=build_happy_sad_angry_vgg16,
        preprocess=Preprocess(size=200, colour="rgb"),
        source="second original: happy / sad / angry, VGG16 with ImageNet weights",
    ),
    _pooled("fer2013-resnet50", "ResNet50"),
    _pooled("fer2013-vgg16", "VGG16"),
)
