"""The settings of `mien batch`, apart from the network; imports nothing heavy, because the command reads it."""

from __future__ import annotations

from dataclasses import dataclass

from mien.settings import FROM_1, check_settings, setting


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How the work is spread, which no answer depends on; and, for tables, which column names the pictures."""

    address: str | None = setting(
        None, "a running Ray cluster; unset: the one that $RAY_ADDRESS names, or this machine alone"
    )
    actors: int | None = setting(
        None, "processes that work, each with the model loaded; unset: as many as have room", within=FROM_1
    )
    cpus_per_actor: int = setting(1, "processors, and threads, of each of them", within=FROM_1)
    shard_size: int = setting(250, "pictures a shard, which is lost when its process dies", within=FROM_1)
    read_ahead_mb: int = setting(
        64, "picture files that an actor holds in memory, in megabytes", within=FROM_1
    )
    videos: bool = setting(True, "videos, too, each cut into pieces that many can work at")
    column: str | None = setting(
        None, "column of tables with the paths or the bytes of pictures; unset: by its name"
    )

    def __post_init__(self) -> None:
        check_settings(self)
