"""Any network of `keras.applications` as a backbone: its weights, its preprocessing in the graph, a new head."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from mien.errors import ConfigError, ModelError, TrainingError, first_line
from mien.model.preprocess import Preprocess
from mien.train.networks.spec import NetworkRequest, NetworkSpec, heads_on

SIZE = 96  # pixels a side: a face needs fewer than ImageNet's 224, and the cost grows with the square
DROPOUT = 0.2  # before the head, as in Keras's own MobileNet and EfficientNet
SUFFIXES = (".h5", ".keras")  # .weights.h5 ends in .h5
# Standard deviation of ImageNet's RGB levels in [0, 1], as keras.applications uses it for EfficientNet.
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
LEVELS = "levels"  # name of the fixed layer that turns our levels into those of the backbone


def names() -> tuple[str, ...]:
    """Names of all backbones, spelled as keras.applications spells them."""
    return tuple(
        sorted(name for name, value in vars(keras.applications).items() if inspect.isfunction(value))
    )


def find(name: str) -> NetworkSpec | None:
    """Return the backbone of that name, or None. Case, hyphens and underscores do not matter."""
    spelled = {known.lower(): known for known in names()}.get(name.lower().replace("-", "").replace("_", ""))
    if spelled is None:
        return None
    return NetworkSpec(
        name=spelled,
        build=partial(build_backbone, application_named(spelled), spelled),
        preprocess=Preprocess(size=SIZE, colour="rgb"),
        several_heads=True,
        pretrained=True,
        source=f"keras.applications.{spelled}",
    )


def application_named(name: str) -> Callable[..., Any]:
    """Return the function of keras.applications with exactly this name."""
    return getattr(keras.applications, name)  # type: ignore[no-any-return]


def build_backbone(
    application: Callable[..., Any], name: str, request: NetworkRequest, dropout: float = DROPOUT
) -> keras.Model:
    """Build backbone, global average pooling, dropout and a softmax per head.

    name: of the whole network. dropout: the rate unless the request has one. The request's l2 is on the
    kernels of the heads.
    """
    faces, x = features(application, request)
    return pooled(faces, x, name, request, dropout)


def pooled(faces: Any, x: Any, name: str, request: NetworkRequest, dropout: float) -> keras.Model:
    """Put global average pooling, dropout and a softmax per head on a feature map; see `build_backbone`."""
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if rate := dropout if request.dropout is None else request.dropout:
        x = layers.Dropout(rate, name="dropout")(x)
    return keras.Model(faces, heads_on(x, request.heads, request.l2), name=name)


def features(application: Callable[..., Any], request: NetworkRequest) -> tuple[Any, Any]:
    """Return the input `faces` and the backbone's feature map, to put any head on.

    With pretrained weights the backbone is frozen. With weights 'none' there is nothing to keep: all trains.
    """
    faces = keras.Input(request.preprocess.shape, name="faces")
    backbone = load_backbone(application, request.preprocess.size, request.weights)
    backbone.trainable = request.weights == "none"
    return faces, backbone(_prepared(faces, application, request.preprocess.colour))


def _prepared(faces: Any, application: Callable[..., Any], colour: str) -> Any:
    """Turn levels in [0, 255] into what the backbone was trained on, with a fixed 1x1 convolution.

    A convolution repeats grey to three channels, swaps RGB and BGR, scales and shifts at once, and unlike a
    Lambda it loads anywhere.
    """
    kernel, bias = levels_kernel(application, colour)
    if np.array_equal(kernel, np.eye(3)) and not bias.any():
        return faces
    return with_levels(faces, kernel, bias)


def with_levels(faces: Any, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Any:
    """Apply a fixed 1x1 convolution to levels. kernel: (channels in, 3). bias: (3,)."""
    # float32 also under mixed precision: above 128, bfloat16 goes in steps of a whole level.
    fixed = layers.Conv2D(3, 1, trainable=False, dtype="float32", name=LEVELS)
    x = fixed(faces)
    fixed.set_weights([kernel[None, None], bias])
    return x


def levels_kernel(
    application: Callable[..., Any], colour: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel (channels in, 3) and bias (3,) of the backbone's own preprocessing.

    All of Keras's `preprocess_input` are affine in the channels, so four colours determine them: nothing
    about means and orders is written down here a second time.
    """
    module = importlib.import_module(f"keras.applications.{application.__module__.rpartition('.')[2]}")
    probes = 255 * np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)
    answers = module.preprocess_input(probes.reshape(4, 1, 1, 3), data_format="channels_last")
    answers = np.asarray(answers, np.float64).reshape(4, 3)
    kernel = np.round((answers[1:] - answers[0]) / 255, 9)
    if colour == "grey":
        kernel = kernel.sum(axis=0, keepdims=True)
    elif colour == "bgr":
        kernel = kernel[::-1]
    return kernel.astype(np.float32), answers[0].astype(np.float32)


def backbone_of(model: keras.Model) -> keras.Model | None:
    """Return the backbone inside the model, None where it has none."""
    return next((layer for layer in model.layers if isinstance(layer, keras.Model)), None)


def unfreeze(model: keras.Model, count: int) -> None:
    """Let the top `count` layers of the model's backbone train; -1: all, 0: leave it as it is.

    Batch normalisation stays frozen and so keeps the statistics of ImageNet, as Keras's guide to transfer
    learning advises. Calling the backbone with training=False, as it does, is not enough: in Keras 3 (seen in
    3.15) the outer model's training=True overrides it.
    Never freezes a layer, so a backbone that began with random weights goes on training whole. Compile the
    model again afterwards.
    """
    backbone = backbone_of(model)
    if count == 0 or backbone is None:
        return
    parts = backbone.layers
    top = parts if count == -1 else parts[-count:]
    learning = [layer for layer in top if not isinstance(layer, layers.BatchNormalization)]
    training = {id(layer) for layer in [*learning, *(layer for layer in parts if layer.trainable)]}
    backbone.trainable = True  # also sets every layer below, hence one by one
    for layer in parts:
        layer.trainable = id(layer) in training


# The weights of a backbone: downloaded by Keras, read from a local file, or random.


def load_backbone(application: Callable[..., Any], size: int, weights: str) -> keras.Model:
    """Build a backbone without its top for (size, size, 3) inputs and give it its weights.

    application: a function of keras.applications. weights: 'imagenet', 'none' (random) or the path of a file.
    Raises ConfigError when the size is too small for the network or `weights` names no file, TrainingError
    when the download fails, ModelError when the file does not fit.
    """
    if weights == "imagenet":
        return _downloaded(application, size)
    if weights != "none":
        _check_path(weights)
    backbone = _built(application, size, None)
    if weights != "none":
        _read_file(backbone, Path(weights), application.__name__)
    return backbone


def _built(application: Callable[..., Any], size: int, weights: str | None) -> keras.Model:
    with warnings.catch_warnings():
        # MobileNet warns that its weights were fitted at 224 pixels; all convolutions take any size.
        warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square")
        try:
            return application(include_top=False, weights=weights, input_shape=(size, size, 3))
        except ValueError as error:
            if "size must be at least" not in str(error):
                raise
            reason = str(error).partition(";")[0]
            raise ConfigError(
                f"size {size} is too small for {application.__name__} ({reason}); choose a larger --size"
            ) from error


def _downloaded(application: Callable[..., Any], size: int) -> keras.Model:
    try:
        return _built(application, size, "imagenet")
    except ConfigError:
        raise
    except Exception as error:  # Keras raises a bare Exception when it cannot fetch a file
        name = application.__name__
        found = re.search(r"https?://\S+/([^\s/]+\.\w+)", str(error))
        if found is None and not isinstance(error, OSError):
            raise
        what = "the file that Keras names above" if found is None else f"{found[1]} from {found[0]}"
        path = "PATH" if found is None else f"PATH/{found[1]}"
        raise TrainingError(
            f"the ImageNet weights of {name} cannot be downloaded ({_reason(error)}); on a machine with "
            f"network fetch {what}, copy it here and pass it with --weights {path}, or start from random "
            "weights with --weights none"
        ) from error


def _reason(error: Exception) -> str:
    """The last part of Keras's 'URL fetch failure on ADDRESS: CODE -- REASON'; one line."""
    return " ".join(str(error).rpartition(" -- ")[2].split())


def _check_path(weights: str) -> None:
    if not (weights.endswith(SUFFIXES) and Path(weights).is_file()):
        raise ConfigError(
            "weights must be 'imagenet', 'none' or an existing weight file "
            f"(.weights.h5, .h5 or .keras), got {weights!r}"
        )


def _read_file(backbone: keras.Model, path: Path, name: str) -> None:
    """Load `path` into the backbone. Raises ModelError when it is damaged or of another network."""
    before = [np.array(array) for array in backbone.get_weights()]
    try:
        with warnings.catch_warnings():
            # Keras only warns when a layer finds nothing in the file, and leaves it at its random weights.
            warnings.filterwarnings("error", message="Skipping nested container")
            backbone.load_weights(path)
    except UserWarning as error:
        raise _does_not_fit(path, name, "its layers are others") from error
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _does_not_fit(path, name, first_line(error)) from error
    after = backbone.get_weights()
    if all(np.array_equal(old, new) for old, new in zip(before, after, strict=True)):
        raise _does_not_fit(path, name, "it changes no weight")
    if "efficientnetb" in name.lower():
        _scale_as_imagenet(backbone)


def _does_not_fit(path: Path, name: str, reason: str) -> ModelError:
    return ModelError(
        f"{path} does not hold the weights of {name} without its top ({reason}); pass the file that "
        f"keras.applications names for {name} with 'notop' or 'no_top' in it, one saved from the same "
        "network, or --weights none"
    )


def _scale_as_imagenet(backbone: keras.Model) -> None:
    """Give EfficientNet B0-B7 the scale of levels that its ImageNet weights were fitted with.

    Keras divides once more by the root of the deviation, but only when it downloads the weights itself
    (keras.applications.efficientnet, tensorflow issue 49930); from a file that factor would be missing, so it
    goes into the variance. A file of a network that began with random weights has mean 0 and stays as it is.
    """
    normalise = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.Normalization))
    stored = normalise.get_weights()
    if not np.any(stored[0]):
        return
    normalise.set_weights([stored[0], stored[1] * IMAGENET_DEVIATION, *stored[2:]])
    normalise.finalize_state()
