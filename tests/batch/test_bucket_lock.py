"""Of two runs that begin into one bucket at the same moment, one writes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from mien.batch.storage import Target
from mien.errors import ConfigError


def test_of_two_runs_that_begin_at_once_one_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find the bucket free before either has written its lock."""
    pytest.importorskip("fsspec")
    both, ended = threading.Barrier(2), threading.Event()
    looked = threading.local()
    look = Target._check_free

    def look_together(target: Target, mine: Mapping[str, Any]) -> None:
        look(target, mine)
        if not hasattr(looked, "once"):
            looked.once = True
            both.wait()

    monkeypatch.setattr(Target, "_check_free", look_together)
    writing: list[int] = []
    refused: list[str] = []

    def run(number: int) -> None:
        with ExitStack() as stack:
            try:
                stack.enter_context(Target("memory://both/run").held())
            except ConfigError as error:
                refused.append(str(error))
                ended.set()
            else:
                writing.append(number)
                ended.wait(30)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writing) == 1
    assert len(refused) == 1 and refused[0].startswith(
        "memory://both/run is being written by another process"
    )
    assert Target("memory://both/run").names() == []
