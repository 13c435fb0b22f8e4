"""What it takes to index very many labelled pictures before a training: list, look at, split, fingerprint.

    python benchmarks/indexing.py --counts 50000,200000,1000000

Makes a folder of that many small pictures (24x24 PNG, seven classes, no two alike) for each count, opens it in a fresh
process as `mien train` does (validation pictures are set aside, near copies kept together), and takes the fingerprints
that a run stores. Prints a row as soon as it is known: time, processor time, peak memory with and without what is
mapped from files, which the system takes back when it needs to; the last column compares the processor time of a
picture with that of the smallest count: 1.0 is linear. --again opens each a second time, from the cache. --parquet: the
same pictures as rows of one Parquet file, bytes and label, which mien unpacks into its cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from mien.labels import FER2013

_ROW = "{:>16} {:>8} {:>12} {:>13} {:>8} {:>8} {:>13}"


def main() -> None:
    """Print a row for each count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", default="50000,200000", help="numbers of pictures, the smallest first")
    parser.add_argument("--again", action="store_true", help="open each a second time, from the cache")
    parser.add_argument(
        "--parquet", action="store_true", help="rows of a Parquet file, not files in a folder"
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure)))
        return
    print(
        _ROW.format("pictures", "seconds", "processor s", "us a picture", "peak MB", "own MB", "to the first")
    )
    first = 0.0
    for count in map(int, options.counts.split(",")):
        with tempfile.TemporaryDirectory() as place:
            pictures = Path(place, "pictures.parquet" if options.parquet else "pictures")
            (make_table if options.parquet else make_folder)(pictures, count)
            for what in ("", " again")[: 2 if options.again else 1]:
                costs = fresh(pictures, Path(place, "cache"))
                assert costs["pictures"] == count, costs
                each = 1e6 * costs["cpu_s"] / count
                first = first or each
                numbers = (costs["wall_s"], costs["cpu_s"], each, costs["peak_mib"], costs["own_mib"])
                shown = (f"{number:,.0f}" for number in numbers)
                print(_ROW.format(f"{count:,}{what}", *shown, f"{each / first:.2f}"), flush=True)


def made(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield `count` pictures that differ, as PNG, spread over the classes."""
    rng = np.random.default_rng(count)
    for number in range(count):
        picture = cv2.resize(rng.integers(0, 255, (6, 6), np.uint8), (24, 24), interpolation=cv2.INTER_CUBIC)
        yield FER2013[number % len(FER2013)], cv2.imencode(".png", picture)[1].tobytes()


def make_folder(folder: Path, count: int) -> None:
    """Write the pictures as files, a folder a class."""
    for label in FER2013:
        (folder / label).mkdir(parents=True)
    for number, (label, content) in enumerate(made(count)):
        (folder / label / f"{number:07}.png").write_bytes(content)


def make_table(path: Path, count: int) -> None:
    """Write the pictures as rows of a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([("image", pyarrow.binary()), ("label", pyarrow.string())])
    pictures = made(count)
    with parquet.ParquetWriter(path, schema) as file:
        while rows := list(islice(pictures, 10_000)):
            labels, contents = zip(*rows, strict=True)
            file.write_table(pyarrow.table({"image": contents, "label": labels}, schema=schema))


def fresh(data: Path, cache: Path) -> dict[str, float]:
    """Measure in a process of its own, whose peak memory is then that of this work."""
    words = [sys.executable, __file__, "--measure", str(data)]
    environment = {**os.environ, "MIEN_CACHE": str(cache)}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    costs: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return costs


def measured(data: Path) -> dict[str, float]:
    """Open the pictures as a training does, and say what it cost."""
    from meter import metered, own_bytes  # beside this file
    from mien.data import open_dataset
    from mien.data.pictures import fingerprints_of

    costs: dict[str, float] = {}
    most, ended = [0], threading.Event()

    def sample() -> None:
        while not ended.wait(0.1):
            most[0] = max(most[0], own_bytes())

    threading.Thread(target=sample, daemon=True).start()
    with metered(costs):
        dataset = open_dataset(data)
        keys = sum(len(fingerprints_of(split.pictures).keys) for split in dataset.splits.values())
    ended.set()
    return {**costs, "pictures": keys, "own_mib": most[0] / 2**20}


if __name__ == "__main__":
    main()
