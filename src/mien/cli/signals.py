"""Being told to end: SIGTERM, of `timeout`, a service manager or a container, unwinds a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class _Terminated(KeyboardInterrupt):
    """SIGTERM came. Whoever keeps results or removes temporary files at Ctrl-C does so for it as well."""


@contextmanager
def terminated_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise a KeyboardInterrupt inside the block; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def put_off() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block, which must be short: what it writes is written whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])


def stopped_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code that shells expect: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)


def _raise(*_: object) -> NoReturn:
    raise _Terminated
