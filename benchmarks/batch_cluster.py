"""A Ray cluster of three nodes on this machine that is shot at while `mien batch` works: is every answer right?

    python benchmarks/batch_cluster.py PHOTOS --pictures 20000

Makes the pictures from the photographs below PHOTOS (each another size), lets `mien predict` answer them, then
`mien batch` on the cluster. After a fifth of the shards a worker is killed, after two fifths a whole node, after three
fifths the driver; the same command then goes on, on the two nodes that are left. At the end the union of the shards is
compared with what `mien predict` said, row for row. Ends with 1 where they differ. Needs the extra `ray` and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from pyarrow import parquet

from mien.batch.pool import store_folder
from mien.images.listing import list_pictures

MIEN = (sys.executable, "-m", "mien.cli.main")
SHARD = 50
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "disabled",  # a token of this user is for another cluster
}


def make_pictures(photos: Path, folder: Path, count: int, side: int = 320) -> None:
    """Write `count` different pictures of at most `side` pixels, a thousand a folder, names the same in each."""
    originals = list_pictures(photos).pictures
    if not originals:
        sys.exit(f"there is no picture in {photos}")
    decoded: list[Any] = [cv2.imread(str(path)) for path in originals[:500]]
    decoded = [image for image in decoded if image is not None]
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        image, turn = decoded[number % len(decoded)], number // len(decoded)
        scale = min(1.0, side * (1 - turn % 60 / 120) / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        cv2.imwrite(
            str(place / f"{number % 1000:04}.jpg"), cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        )
        if number % 1000 == 999:  # one in a thousand is cut short
            (place / "0999.jpg").write_bytes((place / "0999.jpg").read_bytes()[:2000])


def predicted(folder: Path, to: Path) -> float:
    """Let `mien predict` answer; return how long it took, in seconds."""
    begun = time.monotonic()
    words = ["predict", folder.name, "--parquet", to.name]
    code = subprocess.run([*MIEN, *words], cwd=folder.parent, check=False).returncode
    if code not in (0, 1):
        sys.exit(f"mien predict ended with {code}")
    return time.monotonic() - begun


def started(place: Path, address: str) -> subprocess.Popen[bytes]:
    words = ["batch", "pictures", "--to", "answers", "--shard-size", str(SHARD), "--address", address]
    return subprocess.Popen([*MIEN, *words], cwd=place, env={**os.environ, **QUIET})


def done(place: Path) -> int:
    """Return how many shards are answered."""
    return len(list((place / "answers" / "shards").glob("[0-9]*.parquet")))


def wait_for(place: Path, shards: int, driver: subprocess.Popen[bytes]) -> None:
    while done(place) < shards and driver.poll() is None:
        time.sleep(0.2)


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def kill_a_worker(driver: subprocess.Popen[bytes]) -> None:
    """Kill an actor of this cluster, whose nodes this process started, at work or between two shards."""
    while driver.poll() is None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                process, words = int(entry.name), (entry / "cmdline").read_bytes()
                if words.startswith(b"ray::Worker") and parent(parent(process)) == os.getpid():
                    os.kill(process, signal.SIGKILL)
                    return
            except OSError:
                continue
        time.sleep(0.01)


def differences(place: Path) -> tuple[int, int, int]:
    """Return the rows of both sides, and how many differ."""
    union: list[dict[str, Any]] = []
    for path in sorted((place / "answers" / "shards").glob("[0-9]*.parquet")):
        union += parquet.read_table(path).drop_columns(["source", "error"]).to_pylist()
    truth = parquet.read_table(place / "predict.parquet").to_pylist()
    unlike = sum(ours != theirs for ours, theirs in zip(union, truth, strict=False))
    return len(union), len(truth), unlike + abs(len(union) - len(truth))


def said(what: str, place: Path, act: Callable[[], object] | None = None) -> None:
    print(f"{done(place):5} shards: {what}", flush=True)
    if act:
        act()


def shoot(place: Path, shards: int) -> float:
    """Run `mien batch` on a cluster of three nodes, with a worker, a node and the driver killed; return seconds."""
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": 100 << 20,
        "plasma_directory": store_folder(),
    }
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    others = [cluster.add_node(**node) for _ in range(2)]
    cluster.wait_for_nodes()
    begun = time.monotonic()
    driver = started(place, cluster.address)
    wait_for(place, shards // 5, driver)
    said("a worker is killed", place, lambda: kill_a_worker(driver))
    wait_for(place, 2 * shards // 5, driver)
    said("a node is killed", place, lambda: cluster.remove_node(others[1], allow_graceful=False))
    wait_for(place, 3 * shards // 5, driver)
    said("the driver is killed", place, driver.kill)
    driver.wait()
    said("the same command goes on", place)
    code = started(place, cluster.address).wait()
    took = time.monotonic() - begun
    said(f"it ended with {code}", place)
    cluster.shutdown()
    return took


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="photographs to make the pictures from")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=320, help="longest side of a picture in pixels")
    options = parser.parse_args()
    os.environ.update(QUIET)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_pictures(options.photos, place / "pictures", options.pictures, options.side)
        print(f"{options.pictures:,} pictures are made", flush=True)
        alone = predicted(place / "pictures", place / "predict.parquet")
        took = shoot(place, -(-options.pictures // SHARD))
        ours, theirs, unlike = differences(place)
        summary = json.loads((place / "answers" / "summary.json").read_text(encoding="utf-8"))
        print(f"mien predict took {alone:.0f} s, the cluster {took:.0f} s with its deaths")
        print(
            f"{summary['pictures']:,} pictures, {summary['faces']:,} faces, {summary['failed']} failed; "
            f"{ours:,} rows, of mien predict {theirs:,}: {unlike} differ"
        )
        return 1 if unlike else 0


if __name__ == "__main__":
    sys.exit(main())
