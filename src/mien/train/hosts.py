"""One training on several hosts: JAX's own start, each host's share of a batch, and what the first host tells.

Every host runs the same program (JAX's multi-controller model) on the same data and settings. Each prepares its share
of the batch and takes the steps on that; sums go over all, so that all hold the same weights and decide the same. The
first host alone has the run folder: the others are told what lies there, and write to a folder that is thrown away.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import ConfigError, MienError, WorkerError
from mien.files import plain_text, whole_file
from mien.terminal import stopped_code
from mien.train.config import TrainConfig

AUTO = "auto"  # for --coordinator: JAX asks Slurm, Open MPI, Kubernetes or the TPU's environment
_HEARTBEAT_S = 60  # after which a host that says nothing counts as dead


@dataclass(frozen=True)
class _Place:
    """This process among the hosts."""

    number: int
    count: int


_here = _Place(0, 1)


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
    global _here  # noqa: PLW0603 - what JAX keeps for the process as well
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
    try:
        jax.distributed.initialize(
            **words, heartbeat_timeout_seconds=_HEARTBEAT_S, shutdown_timeout_seconds=_HEARTBEAT_S
        )
    except (RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise WorkerError(
            f"the hosts do not find each other at {coordinator}: {said}; start all of them within five minutes, and "
            "see that the port is open on host 0"
        ) from error
    _here = _Place(jax.process_index(), jax.process_count())


def _said(error: BaseException) -> int:
    """Say in one line why this host ends; return its exit code."""
    import jax

    if isinstance(error, KeyboardInterrupt):
        print("mien: stopped", file=sys.stderr)
        return stopped_code(error)
    if isinstance(error, jax.errors.JaxRuntimeError) and several():
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


def leave() -> None:
    """Part from the others when the last step is taken: what follows is the first host's alone."""
    if not several():
        return
    local()
    import jax

    jax.distributed.shutdown()


def local() -> None:
    """Let networks from here on live on this host alone."""
    import keras

    if several():
        keras.distribution.set_distribution(None)
