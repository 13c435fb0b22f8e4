"""Copies of a network: without its optimiser, or in float32."""

from __future__ import annotations

from typing import Any

import keras


def bare_copy(model: Any) -> Any:
    """Return the same layers and weights without loss, metrics and optimiser.

    A file of the copy holds no class of ours, so that plain `keras.models.load_model` opens it anywhere.
    """
    copy = type(model).from_config(model.get_config())
    _carry_weights(model, copy)
    return copy


def float32_copy(model: Any) -> Any:
    """Return the same network computing in float32, for one that was trained in mixed precision."""

    def plain(layer: Any) -> Any:
        config = layer.get_config()
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
