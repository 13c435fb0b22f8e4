"""One training on several hosts: JAX's own start, each host's share of the work, and what the first host tells.

Every host runs the same program (JAX's multi-controller model) on the same data and settings. Each prepares its share
of the batch and takes the steps on that; sums go over all, so that all hold the same weights. Each looks at its share
of validation; answers are joined, and what follows from them is decided by the first host's figures.

Whatever is built or assigned under Keras's distribution asks all hosts, several times a second. So what one host does
by itself (saving, looking at its share) stands in `alone()` or works on `own_copy`: a host that saved where another
did not would wait for ever. The first host alone has the run folder: the others are told what lies there, and write to
a folder that is thrown away.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, MienError, WorkerError, first_line
from mien.files import plain_text, whole_file
from mien.terminal import stopped_code
from mien.train.config import TrainConfig

AUTO = "auto"  # for --coordinator: JAX asks Slurm, Open MPI, Kubernetes or the TPU's environment
_HEARTBEAT_S = 60  # after which a host that says nothing counts as dead
# At one step, after which a training counts as stuck: compiling a large network takes minutes.
_PATIENCE_S = 600.0
_LOOK_S = 5.0  # between two looks at that


@dataclass(frozen=True)
class _Place:
    """This process among the hosts."""

    number: int
    count: int


_here = _Place(0, 1)
_watch: _Watch | None = None


def several() -> bool:
    return _here.count > 1


def is_first() -> bool:
    """Whether this process writes the run folder: the first host, or the only one."""
    return _here.number == 0


def named() -> str:
    return f"host {_here.number} of {_here.count}"


@contextmanager
def joined(coordinator: str | None, count: int | None, number: int | None) -> Iterator[None]:
    """Work as one of several hosts inside the block; without a coordinator as the only one.

    coordinator: HOST:PORT of the first host, or `auto`. number: of this host, from 0. Ends the process where the block
    fails: what the others wait for would never come, and JAX would wait at the exit for all of them.
    Raises ConfigError for a start that cannot be, WorkerError where the hosts do not find each other.
    """
    if coordinator is None:
        if count is not None or number is not None:
            raise ConfigError("--hosts and --host need --coordinator HOST:PORT, the address of host 0")
        yield
        return
    with _stdout_for_python_alone():
        _start(coordinator, count, number)
        try:
            yield
        except BaseException as error:
            code = _said(error)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


@contextmanager
def _stdout_for_python_alone() -> Iterator[None]:
    """Send what native code writes to stdout to stderr inside the block: Gloo counts its peers there."""
    sys.stdout.flush()
    own, python = os.dup(1), sys.stdout
    try:
        ours = python.fileno() == 1
    except (OSError, ValueError):  # replaced by something without a file (tests, notebooks)
        ours = False
    if ours:
        sys.stdout = os.fdopen(own, "w", encoding=python.encoding, errors=python.errors, closefd=False)
        sys.stdout.reconfigure(line_buffering=bool(python.line_buffering))
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(own, 1)
        os.close(own)
        sys.stdout = python


def _start(coordinator: str, count: int | None, number: int | None) -> None:
    global _here, _watch  # noqa: PLW0603 - what JAX keeps for the process as well
    from mien.train import backend

    if backend.import_keras().backend.backend() != "jax":
        raise ConfigError("several hosts need the JAX backend: set KERAS_BACKEND=jax on each of them")
    import jax

    if coordinator == AUTO:
        words: dict[str, Any] = {}
    else:
        if not coordinator.rpartition(":")[0] or not coordinator.rpartition(":")[2].isdecimal():
            raise ConfigError(f"--coordinator must be HOST:PORT of host 0, or auto, got {coordinator}")
        if count is None or number is None or not 0 <= number < count:
            raise ConfigError(
                "with --coordinator say how many hosts there are and which this is, from 0: --hosts 2 --host 0"
            )
        words = {"coordinator_address": coordinator, "num_processes": count, "process_id": number}
    # Otherwise JAX takes SIGTERM, waits for a program that asks it about that, and `timeout` or Slurm end nothing.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **words, heartbeat_timeout_seconds=_HEARTBEAT_S, shutdown_timeout_seconds=_HEARTBEAT_S
        )
    except (RuntimeError, ValueError) as error:
        raise WorkerError(
            f"the hosts do not find each other at {coordinator}: {first_line(error)}; start all of them within five "
            "minutes, and see that the port is open on host 0"
        ) from error
    _here = _Place(jax.process_index(), jax.process_count())
    if several():
        _watch = _Watch(_here)


def _said(error: BaseException) -> int:
    """Say in one line why this host ends; return its exit code."""
    import jax

    if isinstance(error, KeyboardInterrupt):
        print("mien: stopped\n", end="", file=sys.stderr)
        return stopped_code(error)
    lost = isinstance(error, jax.errors.JaxRuntimeError) or (
        isinstance(error, ValueError) and "Gloo " in str(error)  # of a sum that JAX takes at once
    )
    if lost and several():
        error = WorkerError(
            f"another host has ended, so {named()} ends as well; give the same command on every host again: it goes "
            "on after the last whole epoch"
        )
    if not isinstance(error, MienError):
        traceback.print_exception(error)
        return 1
    print(f"mien: {plain_text(str(error))}", file=sys.stderr)
    return 2


def check(config: TrainConfig) -> None:
    """Raise ConfigError for what several hosts cannot do."""
    phases = config.in_phases()
    for name, used in (
        ("folds", config.folds),
        ("time_limit", config.time_limit),  # each host's clock would say something else
        ("teacher", config.teacher),
        ("feature_views", any(phase.feature_views for phase in phases)),
    ):
        if used:
            raise ConfigError(f"{name} works on one host; leave it out, or leave --coordinator out")


def agree(settings: Any) -> None:
    """Raise ConfigError on every host where they were not given the same settings and data."""
    from jax.experimental import multihost_utils

    said = json.dumps([settings["settings"], settings["data"]["fingerprint"]], sort_keys=True, default=str)
    ours = np.frombuffer(hashlib.sha256(said.encode()).digest(), np.uint8)
    theirs = np.asarray(multihost_utils.process_allgather(ours)).reshape(_here.count, -1)
    if unlike := [number for number, one in enumerate(theirs) if not np.array_equal(one, theirs[0])]:
        raise ConfigError(
            f"the hosts must be given the same settings and the same data; other than on host 0: "
            f"{', '.join(f'host {number}' for number in unlike)}"
        )


def told(value: bytes) -> bytes:
    """Return what the first host gives here; every host must call it."""
    from jax.experimental import multihost_utils

    length = int(multihost_utils.broadcast_one_to_all(np.array(len(value) if is_first() else 0, np.int32)))
    given = np.frombuffer(value, np.uint8) if is_first() else np.zeros(length, np.uint8)
    return (
        np.asarray(multihost_utils.broadcast_one_to_all(given)).astype(np.uint8).tobytes() if length else b""
    )


def tell_files(source: Path, to: Path, names: Sequence[str]) -> None:
    """Give all hosts what lies in the first one's folder `source`; the others keep it in `to`."""
    for name in names:
        path = source / name
        content = told(path.read_bytes() if is_first() and path.exists() else b"")
        if content and not is_first():
            with whole_file(to / name) as temporary:
                temporary.write_bytes(content)


def share() -> tuple[int, int]:
    """Return (number of this host, how many there are): whose rows of a batch are prepared here.

    The devices of all hosts stand in the order of the hosts.
    """
    return _here.number, _here.count


def own_rows(count: int) -> tuple[int, int]:
    """Return the first of `count` rows that this host looks at, and the end."""
    return _here.number * count // _here.count, (_here.number + 1) * count // _here.count


def joined_rows(own: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return (count, columns), the rows of all hosts in order; every host must call it with its `own_rows`."""
    from jax.experimental import multihost_utils

    padded = np.zeros((-(-count // _here.count), own.shape[1]), np.float32)
    padded[: len(own)] = own
    each = np.asarray(multihost_utils.process_allgather(padded))
    ends = [number * count // _here.count for number in range(_here.count + 1)]
    return np.concatenate(
        [rows[: end - start] for rows, start, end in zip(each, ends, ends[1:], strict=False)]
    )


def as_first(figures: Sequence[float]) -> list[float]:
    """Return the first host's figures, to the last bit; every host must call it.

    Sums can differ in their last bit between processors, and hosts that decide differently wait for each other.
    """
    said: list[float] = json.loads(told(json.dumps(list(figures)).encode())) if several() else list(figures)
    return said


def spread(value: NDArray[Any], variable: Any) -> Any:
    """Return a value for a Keras variable that all hosts share, which they all have, without asking whether they do."""
    if not several() or variable.value.is_fully_addressable:
        return value
    import jax

    ours = np.asarray(value, variable.value.dtype)
    return jax.make_array_from_callback(ours.shape, variable.value.sharding, lambda index: ours[index])


def own_copy(network: Any) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return the network as it is now, as a function of a batch for this host's devices alone.

    It answers with the first head's probabilities, (n, labels).
    """
    import jax

    devices = sorted(network.weights[0].value.sharding.addressable_devices, key=lambda device: device.id)
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    weights = [
        [jax.device_put(one.value.addressable_data(0), whole) for one in kind]
        for kind in (network.trainable_variables, network.non_trainable_variables)
    ]

    def answered(batch: NDArray[Any]) -> NDArray[np.float32]:
        padding = [(0, -len(batch) % len(devices)), *[(0, 0)] * (batch.ndim - 1)]
        with alone():
            heads = _call(network)(*weights, jax.device_put(np.pad(batch, padding), split))
        first = heads[0] if isinstance(heads, list | tuple) else heads
        return np.asarray(first)[: len(batch)]

    return answered


@lru_cache(maxsize=1)  # compiled once for all epochs
def _call(network: Any) -> Any:
    import jax

    return jax.jit(
        lambda learns, rests, batch: network.stateless_call(learns, rests, batch, training=False)[0]
    )


def at(epoch: int, step: int, what: str) -> None:
    """Note how far this host is, for the line that says who is missing where the training stands still."""
    if _watch:
        _watch.at(epoch, step, what)


def leave() -> None:
    """Part from the others when the last step is taken: what follows is the first host's alone."""
    if not several():
        return
    local()
    import jax

    if _watch:
        _watch.end()
    jax.distributed.shutdown()


def local() -> None:
    """Let networks from here on live on this host alone."""
    import keras

    if several():
        keras.distribution.set_distribution(None)


@contextmanager
def alone() -> Iterator[None]:
    """Let what is built inside live on this host alone, so that the others need not do the same."""
    if not several():
        yield
        return
    import keras

    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


class _Watch:
    """Ends this host with one line where the training stands still, and says for whom it waits.

    Of a host that died the others hear by the network. Of one that hangs, on a disk or in a driver, they do not: its
    process lives and answers JAX.
    """

    def __init__(self, here: _Place) -> None:
        self._here, self._place, self._since = here, (0, 0, ""), 0.0
        self._over = threading.Event()
        threading.Thread(target=self._run, name="mien-watch", daemon=True).start()

    def at(self, epoch: int, step: int, what: str) -> None:
        self._since, self._place = time.monotonic(), (epoch, step, what)

    def end(self) -> None:
        self._over.set()

    def _run(self) -> None:
        from jax._src.distributed import global_state  # what JAX's own start keeps; there is no public door

        places: dict[str, Any] = {}
        while not self._over.wait(_LOOK_S):
            if not self._since:  # not begun: the others may still read their pictures
                continue
            try:
                global_state.client.key_value_set(
                    f"mien/{self._here.number}", json.dumps(self._place), allow_overwrite=True
                )
                if time.monotonic() - self._since <= _PATIENCE_S:
                    continue
                places = dict(global_state.client.key_value_dir_get("mien/"))
            except (RuntimeError, AttributeError):  # host 0 is gone, or all are parting: JAX says so itself
                continue
            found = {int(name.rpartition("/")[2]): tuple(json.loads(one)) for name, one in places.items()}
            print(f"mien: {_stuck(found, self._here)}", file=sys.stderr, flush=True)
            os._exit(2)


def _stuck(places: Mapping[int, tuple[int, int, str]], here: _Place) -> str:
    """Return, for people, who keeps the others waiting. places: of each host epoch, step, and both in words."""
    each = [places.get(number, (0, 0, "its start")) for number in range(here.count)]
    behind = [number for number, one in enumerate(each) if one[:2] == min(each)[:2]]
    minutes, first = f"{_PATIENCE_S / 60:g} minutes", min(each)[2]
    then = "look at {}, then give the same command on every host again: it goes on after the last whole epoch"
    if len(behind) == here.count:
        return f"no host has gone on from {first} for {minutes}; {then.format('the network between them')}"
    names, has = ", ".join(f"host {number}" for number in behind), "has" if len(behind) == 1 else "have"
    return (
        f"{names} of {here.count} {has} not gone on from {first} for {minutes}, the others wait at {max(each)[2]}; "
        f"{then.format(names)}"
    )
