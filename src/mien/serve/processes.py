"""The server as a command runs it: a folder, a socket, and one process or several that share them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from mien.errors import MienError
from mien.serve.config import ServeConfig
from mien.serve.network import Network
from mien.serve.private_folder import held, private_folder

_LOOK_S = 0.2


def run(network: Network, config: ServeConfig, ready: Callable[[str], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code.

    ready: called once requests are answered, with the address. Raises MienError where the network, the address or a
    folder cannot be had.
    """
    from mien.serve.server import address_of, listen, serve

    # For before requests are answered, and for when uvicorn, done, gives the signal back: the folder is to be removed.
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with private_folder() as folder, listen(config) as taken:

            def tell() -> None:
                ready(address_of(config, taken))

            if config.workers > 1:
                return _Several(network, config, folder, taken).run(tell)
            serve(network, config, folder, taken, tell)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


class _Several:
    """Starts the processes, replaces one that dies, and hands signals on."""

    def __init__(self, network: Network, config: ServeConfig, folder: Path, taken: socket.socket) -> None:
        from mien.serve.meter import count_together

        count_together(folder)
        self._given = (network, config, folder, taken)
        self._count = config.workers
        self._context = multiprocessing.get_context("spawn")
        self._alive: dict[SpawnProcess, Connection] = {}
        self._signal: int | None = None

    def run(self, ready: Callable[[], None]) -> int:
        before = {one: signal.signal(one, self._hear) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            if not self._serves(self._start()):
                return 2  # the process has said why
            ready()
            while len(self._alive) < self._count:
                self._start()
            while self._signal is None:
                wait([process.sentinel for process in self._alive], _LOOK_S)
                self._replace_the_dead()
        finally:
            self._end()
            for one, handler in before.items():
                signal.signal(one, handler)
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        return 0

    def _hear(self, number: int, _: FrameType | None) -> None:
        self._signal = number

    def _start(self) -> SpawnProcess:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_one_of_several, args=(*self._given, there), name="mien-serve")
        process.start()
        there.close()
        self._alive[process] = here
        return process

    def _serves(self, process: SpawnProcess) -> bool:
        """Wait until a process serves; False when it ended, or we were told to."""
        while process.is_alive() and self._signal is None:
            if self._alive[process].poll(_LOOK_S):
                with suppress(EOFError):
                    return bool(self._alive[process].recv())
        return False

    def _replace_the_dead(self) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        for process in [process for process in self._alive if not process.is_alive()]:
            self._alive.pop(process).close()
            print(
                f"mien: a process ended with code {process.exitcode}; another takes its place",
                file=sys.stderr,
            )
            mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
            time.sleep(_LOOK_S)  # whatever ends them, it must not keep the machine busy
            self._start()

    def _end(self) -> None:
        for process in self._alive:
            if process.pid and process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, self._signal or signal.SIGTERM)
        for process in self._alive:
            process.join()


def _one_of_several(
    network: Network, config: ServeConfig, folder: Path, taken: socket.socket, parent: Connection
) -> None:
    """Run in a process of its own; ends when the parent does, however that ends."""
    from mien.serve.server import serve

    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in a terminal reaches the parent alone, which hands it on
    signal.signal(signal.SIGTERM, _leave)

    def ready() -> None:
        parent.send(True)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    try:
        with held(folder):
            serve(network, config, folder, taken, ready)
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with(parent: Connection) -> None:
    with suppress(EOFError, OSError):
        parent.recv()  # never comes
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)
