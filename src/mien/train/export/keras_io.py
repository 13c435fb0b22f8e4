"""Keras files that know what they are, the metadata inside the `.keras` or `.h5` file; and clones of a network."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from mien.errors import ModelError, OutputError, first_line
from mien.files import whole_file
from mien.model.folder import with_run_paths
from mien.model.metadata import METADATA_KEY, Metadata

SUFFIXES = (".keras", ".h5")
_ZIP_MEMBER = f"{METADATA_KEY}.json"  # Keras reads only the members that it knows


def save_network(model: Any, path: Path, metadata: Metadata) -> Path:
    """Write a `.keras` or `.h5` file with the metadata inside; whole or not at all.

    Loss, metrics and optimiser are left out: they would need our classes to load, and a `.keras` compiled
    under one backend does not load under another. Plain `keras.models.load_model(path)` opens the file, which
    computes in float32 however the network was trained. Raises OutputError for another suffix, a network that Keras
    does not read rightly from `.h5`, or when the place cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise OutputError(f"cannot save a network as {path.name!r}; the name must end in .keras or .h5")
    if not computes_in_float32(model):
        plain = float32_clone(model)
    else:
        plain = bare_clone(model) if getattr(model, "compiled", False) else model
    with whole_file(path) as temporary:
        if path.suffix == ".keras":
            plain.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(_ZIP_MEMBER, metadata.to_json())
        else:
            with _without_hdf5_warning():
                _for_hdf5(plain).save(temporary, include_optimizer=False)
            with h5py.File(temporary, "a") as file:
                file.attrs[METADATA_KEY] = metadata.to_json()
    return path


def load_network(path: Path) -> tuple[Any, Metadata | None]:
    """Open a `.keras` or `.h5` file; returns the network, not compiled, and its metadata.

    The metadata are None for a file that something else wrote. Raises ModelError with one line when the file is
    missing, is not what its name says, or cannot be rebuilt.
    """
    if not path.is_file():
        raise ModelError(f"there is no network file {path}; name a .keras or .h5 file, or a run folder")
    metadata = stored_metadata(path)
    if path.suffix != ".keras" and _loses_axes(path):
        raise ModelError(
            f"{path} normalises over several axes, which Keras reads wrongly from .h5; save the network as .keras, or "
            "as .h5 by this version of mien"
        )
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its parts raise
        raise ModelError(
            f"Keras cannot open {path}: {first_line(error)}; is it whole, and saved by Keras 3 or as .h5?"
        ) from error
    return model, metadata


def stored_metadata(path: Path) -> Metadata | None:
    """Read the metadata, None where a file has none, and check that the file is of the kind that its suffix says."""
    if path.suffix not in _READERS:
        raise ModelError(f"{path} is not a network file that Keras opens; its name must end in .keras or .h5")
    try:
        text = _READERS[path.suffix](path)
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} is damaged or not a {path.suffix} file ({error}); was it cut off? Copy or save it again"
        ) from error
    return None if text is None else with_run_paths(Metadata.from_json(text, path), path.parent)


def _in_zip(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        return archive.read(_ZIP_MEMBER).decode("utf-8") if _ZIP_MEMBER in archive.namelist() else None


def _in_hdf5(path: Path) -> str | None:
    with h5py.File(path, "r") as file:
        text = file.attrs.get(METADATA_KEY)
    return None if text is None else str(text)


_READERS = {".keras": _in_zip, ".h5": _in_hdf5, ".hdf5": _in_hdf5}


# Keras 3.15 leaves out a list of axes when it reads .h5 (legacy/saving/saving_utils.py): the layer then normalises over
# the last one alone, and nothing says so.


def _for_hdf5(model: Any) -> Any:
    """Return the same network, normalising over all axes as over one: what Keras reads rightly from `.h5`."""
    layers = model._flatten_layers(include_self=False, recursive=True)
    if not any(map(_has_several_axes, layers)):
        return model

    def plain(layer: Any) -> Any:
        if not _has_several_axes(layer):
            return type(layer).from_config(layer.get_config())
        shape = layer.input.shape[1:]
        if layer.weights or None in shape or len(layer.axis) != len(shape):
            raise OutputError(
                f"Keras does not read the layer {layer.name!r} rightly from .h5; save as .keras"
            )
        inputs = keras.Input(shape)
        x = keras.layers.Reshape((math.prod(shape),))(inputs)
        x = keras.layers.LayerNormalization.from_config({**layer.get_config(), "axis": -1})(x)
        return keras.Model(inputs, keras.layers.Reshape(shape)(x), name=layer.name)

    copy = keras.models.clone_model(model, clone_function=plain, recursive=True)
    _carry_weights(model, copy)
    return copy


def _has_several_axes(layer: Any) -> bool:
    axis = getattr(layer, "axis", None)
    return isinstance(axis, list | tuple) and len(axis) > 1


def _loses_axes(path: Path) -> bool:
    """Say whether a `.h5` file has a layer with several axes."""

    def has(value: Any) -> bool:
        if isinstance(value, list):
            return any(map(has, value))
        if not isinstance(value, dict):
            return False
        axis = value.get("axis")
        return (isinstance(axis, list) and len(axis) > 1) or any(map(has, value.values()))

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config", "{}")
    return has(json.loads(text))


@contextlib.contextmanager
def _without_hdf5_warning() -> Iterator[None]:
    """Keep Keras from warning that HDF5 is a legacy form: whoever asks for .h5 knows."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def bare_clone(model: Any) -> Any:
    """Return the same layers and weights without loss, metrics and optimiser.

    A file of the copy holds no class of ours, so that plain `keras.models.load_model` opens it anywhere.
    """
    copy = type(model).from_config(model.get_config())
    _carry_weights(model, copy)
    return copy


def float32_clone(model: Any) -> Any:
    """Return the same network computing in float32, for one that was trained in mixed precision."""

    def plain(layer: Any) -> Any:
        config = layer.get_config()
        # An operation, such as a logarithm, has no dtype of its own.
        if isinstance(layer, keras.layers.Layer):
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=plain, recursive=True)
    _carry_weights(model, copy)
    return copy


def computes_in_float32(model: Any) -> bool:
    """Say whether every layer, nested ones included, computes in float32."""
    layers = model._flatten_layers(include_self=False, recursive=True)
    return all(layer.compute_dtype == "float32" for layer in layers)


def finish_loading(model: Any) -> None:
    """Make Normalization layers use the weights that were just put into them."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _carry_weights(source: Any, target: Any) -> None:
    if len(source.weights) != len(target.weights):
        raise AssertionError(f"a copy of {source.name} has other weights")
    for old, new in zip(source.weights, target.weights, strict=True):
        new.assign(keras.ops.convert_to_numpy(old))
    finish_loading(target)
