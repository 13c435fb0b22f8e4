"""Starting Keras: quietly, with seeds, precision and devices as the settings say."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mien.errors import ConfigError, need
from mien.train.config import TrainConfig
from mien.train.networks import own_networks

_CPU_INFO = Path("/proc/cpuinfo")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what native code writes to stderr; show it if the block fails.

    TensorFlow reports its instruction sets and missing GPUs there on every import, whatever its log level.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        stderr = sys.stderr.fileno()
    except (OSError, ValueError):  # stderr was replaced by something without a file (tests, notebooks)
        yield
        return
    sys.stderr.flush()
    kept = os.dup(stderr)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), stderr)
        try:
            yield
        except Exception:  # not Ctrl-C, which is no reason to show it
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, stderr)
            os.close(kept)


def import_keras() -> Any:
    """Return the keras module; MissingExtra when it or its backend is not installed."""
    with _quiet():
        keras = need("keras", "train", "training")
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")
            tf.constant(0)  # the first operation reports devices as well
    return keras


def prepare(config: TrainConfig) -> int:
    """Set seeds, precision and devices; return the number of devices that share a batch.

    Several devices are used through Keras's distribution API, which needs the JAX backend. Raises ConfigError where a
    batch cannot be shared among them, and what `devices_for` raises.
    """
    keras = import_keras()
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(precision(config))
    found = devices_for(config)
    devices = len(found)
    if keras.backend.backend() == "jax":
        parallel = (
            keras.distribution.DataParallel(devices=found, auto_shard_dataset=False) if devices > 1 else None
        )
        keras.distribution.set_distribution(parallel)
    if config.batch_size and config.batch_size % devices:
        raise ConfigError(f"batch_size must be a multiple of the {devices} devices, got {config.batch_size}")
    return devices


def devices_for(config: TrainConfig) -> list[str]:
    """Return the devices that share a batch, by JAX's names in the order of the hosts; without JAX one without a name.

    Raises ConfigError where more are asked for than can be used.
    """
    asked = None if config.devices == "all" else int(config.devices)
    name = import_keras().backend.backend()
    if name != "jax":
        if asked and asked > 1:
            raise ConfigError(
                f"devices must be 1 or all with the backend {name}, which uses one, got {asked}; several share a batch "
                "with JAX: pip install jax, and set KERAS_BACKEND=jax"
            )
        return [""]
    import jax

    by_host: dict[int, list[str]] = {}
    for device in jax.devices():
        by_host.setdefault(device.process_index, []).append(f"{device.platform}:{device.id}")
    if len(by_host) > 1 and len({len(names[:asked]) for names in by_host.values()}) > 1:
        raise ConfigError("every host must have as many devices as the others; --devices 1 takes one of each")
    found = [one for _, names in sorted(by_host.items()) for one in names[:asked]]
    if asked and asked > len(found):
        raise ConfigError(f"devices must be at most the {len(found)} that can be used here, got {asked}")
    return found


def forget_networks() -> None:
    """Let go of the networks of earlier trainings in this process, and of what they numbered: names begin anew."""
    import_keras().utils.clear_session()


def precision(config: TrainConfig) -> str:
    """Return the Keras dtype policy: bfloat16 needs no loss scaling, so it is what 'mixed' means."""
    asked = config.precision
    if asked == "auto":
        asked = "mixed" if has_gpu() or _pays_on_this_processor(config) else "float32"
    return "mixed_bfloat16" if asked == "mixed" else "float32"


def _pays_on_this_processor(config: TrainConfig) -> bool:
    """Whether `benchmarks/mixed_precision.py` found bfloat16 faster on such a processor, for such a network.

    That is TensorFlow's oneDNN, with instructions for it, on plain convolutions: the depthwise ones of MobileNet and
    EfficientNet take up to twice as long. A network of --from keeps the precision that it was saved in.
    """
    keras = import_keras()
    spec = own_networks().get(config.network)
    if keras.backend.backend() != "tensorflow" or config.init_from or spec is None or not spec.mixed_pays:
        return False
    try:
        flags = _CPU_INFO.read_text(encoding="utf-8").split()
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def has_gpu() -> bool:
    keras = import_keras()
    if keras.backend.backend() == "torch":  # Keras cannot list PyTorch's devices
        import torch

        return bool(torch.cuda.is_available())
    return any(not name.startswith("cpu") for name in keras.distribution.list_devices())


def jit() -> bool | str:
    """Whether to compile steps with XLA: on a CPU it makes TensorFlow and PyTorch 1.5-2.6 times slower."""
    keras = import_keras()
    return "auto" if keras.backend.backend() == "jax" or has_gpu() else False


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    import cv2
    import numpy as np

    from mien._version import __version__

    keras = import_keras()
    backend = keras.backend.backend()
    module = __import__(backend)
    return {
        "mien": __version__,
        "python": sys.version.split()[0],
        "keras": keras.__version__,
        backend: module.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
