"""Weights of a `keras.applications` backbone: downloaded by Keras, read from a local file, or random."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mien.errors import ConfigError, ModelError, TrainingError

SUFFIXES = (".h5", ".keras")  # .weights.h5 ends in .h5
# Standard deviation of ImageNet's RGB levels in [0, 1], as keras.applications uses it for EfficientNet.
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


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
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise _does_not_fit(path, name, reason) from error
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
