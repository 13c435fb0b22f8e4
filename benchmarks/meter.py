"""What a piece of work costs: processor time of all threads, wall time, and peak memory of the process."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss differs


def peak_bytes() -> int:
    """Return the largest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def own_bytes() -> int:
    """Return the memory that is this process's alone: on Linux without what is mapped from files, else the peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_bytes()
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024


@contextmanager
def metered(costs: dict[str, float]) -> Iterator[None]:
    """Put `cpu_s`, `wall_s`, `peak_mib`, `peak_growth_mib` and `own_growth_mib` of the block into `costs`."""
    cpu, wall, before, own = time.process_time(), time.perf_counter(), peak_bytes(), own_bytes()
    yield
    costs["cpu_s"] = time.process_time() - cpu
    costs["wall_s"] = time.perf_counter() - wall
    costs["peak_mib"] = peak_bytes() / 2**20
    costs["peak_growth_mib"] = (peak_bytes() - before) / 2**20
    costs["own_growth_mib"] = (own_bytes() - own) / 2**20


class EpochClock:
    """Notes what each epoch of a training costs. The last one counts: the first also traces the network."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        self.epochs: list[dict[str, float]] = []

    def tick(self) -> None:
        """Call at the end of each epoch."""
        cpu, wall = time.process_time(), time.perf_counter()
        self.epochs.append({"cpu_s": cpu - self._cpu, "wall_s": wall - self._wall})
        self._cpu, self._wall = cpu, wall

    def last(self) -> dict[str, float]:
        """Return the costs of the last epoch and the peak memory so far."""
        return {
            **self.epochs[-1],
            "first_epoch_wall_s": self.epochs[0]["wall_s"],
            "peak_mib": peak_bytes() / 2**20,
        }


def report(costs: dict[str, float]) -> None:
    """Print the costs as the last line of the process, for the driver to read."""
    print(json.dumps(costs), flush=True)
