"""How many threads decode and search pictures at once."""

from __future__ import annotations

import os


def workers() -> int:
    """Return one thread for each processor that this process may use, at most 32."""
    mine = getattr(os, "sched_getaffinity", None)
    return min(32, len(mine(0)) if mine else os.cpu_count() or 1)
