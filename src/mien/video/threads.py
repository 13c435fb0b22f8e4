"""Work beside the main thread, in order and in bounded memory: ahead of it (decoding), behind it (writing)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
_WAIT_S = 0.05  # how often a waiting thread looks whether it should end


def ahead(items: Iterable[T], size: int) -> Generator[T]:
    """Yield `items`, which a thread produces up to `size` in advance; what it raises is raised here.

    Closing the generator ends the thread before it returns.
    """
    ready: queue.Queue[T | BaseException | None] = queue.Queue(size)
    ended = threading.Event()

    def put(item: T | BaseException | None) -> None:
        while not ended.is_set():
            try:
                return ready.put(item, timeout=_WAIT_S)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if ended.is_set():
                    return
            put(None)
        except BaseException as error:  # raised again where the items are used
            put(error)

    thread = threading.Thread(target=produce, name="mien-read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
        thread.join()


class Behind(Generic[T]):
    """Hands items to `work` in a thread, in order. What `work` raises is raised by the next `add` or `close`."""

    def __init__(self, work: Callable[[T], None], size: int) -> None:
        self._work = work
        self._waiting: queue.Queue[T | None] = queue.Queue(size)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mien-write-behind", daemon=True)
        self._thread.start()

    def add(self, item: T) -> None:
        """Queue an item; waits while the queue is full."""
        while True:
            self._complain()
            try:
                return self._waiting.put(item, timeout=_WAIT_S)
            except queue.Full:
                continue

    def close(self) -> None:
        """Wait until everything that was added is done."""
        self._end()
        self._complain()

    def cancel(self) -> None:
        """Drop what waits, and wait for what is being done; raises nothing."""
        self._error = self._error or RuntimeError("cancelled")
        self._end()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._error is None:  # after an error the queue is only emptied, so that nobody waits for ever
                try:
                    self._work(item)
                except BaseException as error:
                    self._error = error

    def _complain(self) -> None:
        if self._error is not None:
            raise self._error
