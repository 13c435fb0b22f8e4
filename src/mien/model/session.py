"""A network opened in ONNX Runtime: safe to use from several threads, and in a process that forks meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import onnxruntime

from mien.errors import ModelError


class _Runs:
    """The runs that are going on, for which a fork waits.

    A child inherits the locks of ONNX Runtime as they are, and the thread that holds one is not in it: its first run
    would wait for ever. So the forking thread lets nobody begin and waits for those that run, mere milliseconds.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._running = self._forking = 0

    def __enter__(self) -> None:
        with self._changed:
            while self._forking:
                self._changed.wait()
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def before_fork(self) -> None:
        self._changed.acquire()
        self._forking += 1
        while self._running:
            self._changed.wait()

    def after_fork(self) -> None:
        self._forking -= 1
        self._changed.notify_all()
        self._changed.release()


_runs = _Runs()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(
        before=_runs.before_fork,
        after_in_parent=_runs.after_fork,
        after_in_child=_runs.__init__,  # type: ignore[misc]  # other threads of the parent are not in the child
    )


class Session(onnxruntime.InferenceSession):  # type: ignore[misc]  # the package has no types
    """A session of ONNX Runtime in whose runs no fork falls."""

    def run(self, *arguments: Any, **settings: Any) -> Any:
        """See onnxruntime.InferenceSession.run."""
        with _runs:
            return super().run(*arguments, **settings)


def open_session(network: bytes | Path, name: Path) -> Session:
    """Open a network from its file or its bytes; ModelError, with its name, where ONNX Runtime cannot.

    One thread: two that spin are slower beside any other work; spread pictures over threads or processes instead.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; they are raised as well
    # Weights in other files would be covered by no hash: from bytes ONNX Runtime looks for them in this folder, and
    # below a file there is none.
    nowhere = os.fsencode(name.absolute() / "-").decode("utf-8", "replace")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", nowhere)
    try:
        content = network if isinstance(network, bytes) else network.read_bytes()
        with _runs:
            return Session(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        if "external" in str(error).lower():
            raise ModelError(
                f"{name} keeps weights in other files, which nothing checks; save the network in one file"
            ) from error
        reason = str(error).splitlines()[0].removeprefix("[ONNXRuntimeError] : ")[:200]
        again = "name another, or copy or export it again"
        if name.suffix.lower() in (".pt", ".pth", ".pt2", ".tflite", ".pb", ".pkl", ".safetensors"):
            again = (
                "mien takes .onnx, .keras and .h5: export it to .onnx with its own tools (torch.onnx.export)"
            )
        elif name.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz")):
            again = "unpack it and name the folder"
        raise ModelError(f"{name} is not a network that ONNX Runtime opens ({reason}); {again}") from error
