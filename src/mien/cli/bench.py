"""`mien bench`: how much a server on this machine can answer."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from mien.cli.inputs import add_network_options
from mien.terminal import counted

HELP = "Measure how many pictures a second `mien serve` answers on this machine, by their size and number of faces."
EXAMPLES = """examples:
  mien bench                                     pictures a second, and the time to an answer
  mien bench crowd.jpg phone.jpg                 the same with pictures of your own
  mien bench --workers 4 --clients 32            with more processes, and more people who ask at once
  mien bench --model runs/faces-small --json     a network of your own; as JSON
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pictures",
        nargs="*",
        type=Path,
        metavar="PICTURE",
        help="picture files to ask for; none: three that are made, from 640x480 with a face to 4000x3000 with thirty",
    )
    add_network_options(parser)
    parser.add_argument(
        "--seconds", type=float, default=4.0, metavar="S", help="for each measurement (default: 4)"
    )
    parser.add_argument(
        "--clients",
        type=int,
        default=2 * (os.cpu_count() or 1),
        metavar="N",
        help="who ask at once, each for the next picture when it has the answer (default: two for each processor)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes of the server (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    from mien.cli.serve import needed_packages
    from mien.errors import ConfigError
    from mien.serve.bench import bench, server_options
    from mien.terminal import ProgressBar, columns

    needed_packages()
    for name in ("seconds", "clients", "workers"):
        if getattr(options, name) <= 0:
            raise ConfigError(f"--{name} must be above 0, got {getattr(options, name):g}")
    bar = ProgressBar()
    results, memory_mb = bench(
        server_options(options),
        clients=options.clients,
        seconds=options.seconds,
        pictures=options.pictures,
        progress=bar.stage,
    )
    bar.end()
    if options.json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
        return 0
    rows = [["picture", "faces", "clients", "pictures/s", "half within", "99% within"]]
    for one in results:
        rows.append(
            [
                f"{one.width}x{one.height}",
                f"{one.faces}",
                f"{one.clients}",
                f"{one.pictures_per_s:,.1f}",
                f"{one.p50_ms:,.0f} ms",
                f"{one.p99_ms:,.0f} ms",
            ]
        )
    print(columns(rows))
    if refused := sum(one.refused for one in results):
        print(f"{counted(refused, 'request was', 'requests were')} told to come back later", file=sys.stderr)
    if memory_mb:
        print(f"the server and its decoders took up to {memory_mb:,.0f} MB together", file=sys.stderr)
    print("clients and server share this machine; what else runs on it counts as well", file=sys.stderr)
    return 0
