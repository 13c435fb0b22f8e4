"""Figures of each epoch as a TensorBoard log, on request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mien.errors import need


def check() -> None:
    """Raise MissingExtra before a training begins, rather than after its first epoch."""
    need("tensorboard", "tensorboard", "writing TensorBoard logs")


def write(folder: Path, row: Mapping[str, Any]) -> None:
    """Append one epoch's row (as in epochs.csv) to the log in `folder`.

    A file an epoch, because TensorBoard reads all files of a folder and a resumed training cannot reopen one.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder), filename_suffix=f".epoch{row['epoch']}")
    values = [
        Summary.Value(tag=f"epoch/{name}", simple_value=float(value))
        for name, value in row.items()
        if name != "epoch"
    ]
    writer.add_event(Event(step=int(row["epoch"]), summary=Summary(value=values)))
    writer.close()
