"""What it takes to index very many labelled pictures before a training: list, look at, split, fingerprint.

    python benchmarks/indexing.py --counts 50000,200000,1000000

Makes a folder of that many small pictures (24x24 PNG, seven classes, no two alike) for each count, opens it in a fresh
process as `mien train` does, and takes the fingerprints that a run stores. Prints time, processor time and peak memory;
the last column compares the processor time of a picture with that of the smallest count: 1.0 is linear.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from mien.labels import FER2013
from mien.terminal import columns


def main() -> None:
    """Print a row for each count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", default="50000,200000", help="numbers of pictures, the smallest first")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure)))
        return
    rows, first = [("pictures", "seconds", "processor s", "us a picture", "peak MB", "to the first")], 0.0
    for count in map(int, options.counts.split(",")):
        with tempfile.TemporaryDirectory() as place:
            make(Path(place), count)
            costs = fresh(Path(place))
        assert costs["pictures"] == count, costs
        each = 1e6 * costs["cpu_s"] / count
        first = first or each
        rows.append(
            (
                f"{count:,}",
                f"{costs['wall_s']:.0f}",
                f"{costs['cpu_s']:.0f}",
                f"{each:.0f}",
                f"{costs['peak_mib']:.0f}",
                f"{each / first:.2f}",
            )
        )
    print(columns(rows))


def make(folder: Path, count: int) -> None:
    """Write `count` pictures that differ, spread over the classes."""
    rng = np.random.default_rng(count)
    for label in FER2013:
        (folder / label).mkdir()
    for number in range(count):
        picture = cv2.resize(rng.integers(0, 255, (6, 6), np.uint8), (24, 24), interpolation=cv2.INTER_CUBIC)
        place = folder / FER2013[number % len(FER2013)] / f"{number:07}.png"
        place.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def fresh(folder: Path) -> dict[str, float]:
    """Measure in a process of its own, whose peak memory is then that of this work."""
    words = [sys.executable, __file__, "--measure", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    costs: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return costs


def measured(folder: Path) -> dict[str, float]:
    """Open the folder as a training does, and say what it cost."""
    from meter import metered  # beside this file
    from mien.data import open_dataset
    from mien.data.index import fingerprints_of

    costs: dict[str, float] = {}
    with metered(costs):
        dataset = open_dataset(folder)
        keys = sum(len(fingerprints_of(split.pictures).keys) for split in dataset.splits.values())
    return {**costs, "pictures": keys}


if __name__ == "__main__":
    main()
