"""What the engine of `mien batch` costs: one and two actors beside `mien predict`, in one run.

    python benchmarks/batch_scale.py PHOTOS --pictures 3000

Makes the pictures from the photographs below PHOTOS, then takes turns: `mien predict --parquet` with one and with two
processors, `mien batch` with one and with two actors, on a Ray that runs already. Says, for each, pictures a second
from the first to the last shard (for `mien predict`: without its start), processor time a picture, and the memory of an
actor. Needs the extra `ray`, Linux, and a quiet machine with at least three processors free for two actors beside
Ray's own processes; on two, read the processor time. The median of `--rounds` is shown.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batch_cluster import MIEN, QUIET, make_pictures, parent
from mien.batch.pool import store_folder

SHARD = 100


def predicted(place: Path, processors: int) -> dict[str, float]:
    """Answer with `mien predict` on some processors; the start is that of a run over one picture."""
    code = (
        f"import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{processors}]); "
        "import sys; from mien.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    times = []
    for what in ("pictures/000/0000.jpg", "pictures"):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        words = [sys.executable, "-c", code, "predict", what, "--parquet", "predict.parquet"]
        done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):  # 1: some pictures are cut short
            sys.exit(f"mien predict failed:\n{done.stderr[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.append((time.perf_counter() - begun, cpu))
    (start_s, start_cpu), (whole_s, whole_cpu) = times
    return {"wall_s": whole_s - start_s, "cpu_s": whole_cpu - start_cpu}


@contextmanager
def a_ray(processors: int) -> Iterator[str]:
    """Start a Ray with so many processors for actors; give its address."""
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", num_cpus=processors, _plasma_directory=store_folder(), **quiet)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def actor_usage() -> dict[int, tuple[float, float]]:
    """Return process, processor seconds so far and resident megabytes of each actor of this process's Ray."""
    found = {}
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = (entry / "cmdline").read_bytes().startswith(b"ray::Worker")
            if ours and parent(parent(int(entry.name))) == os.getpid():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                memory = int((entry / "statm").read_text().split()[1]) * page / 1e6
                found[int(entry.name)] = ((int(fields[11]) + int(fields[12])) / tick, memory)
        except OSError:
            continue
    return found


def batched(place: Path, actors: int, address: str, name: str) -> dict[str, float]:
    """Answer with `mien batch`; from the first shard's file to the last, so that Ray's start does not count."""
    words = ["batch", "pictures", "--to", name, "--shard-size", str(SHARD), "--actors", str(actors)]
    driver = subprocess.Popen(
        [*MIEN, *words, "--address", address],
        cwd=place,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **QUIET},
    )
    first: dict[int, tuple[float, float]] = {}
    last: dict[int, tuple[float, float]] = {}
    folder = place / name / "shards"
    while driver.poll() is None:
        if folder.is_dir() and any(folder.glob("0*.parquet")):
            usage = actor_usage()
            first = first or usage
            last = {**last, **usage}
        time.sleep(0.05)
    written = sorted(path.stat().st_mtime for path in folder.glob("0*.parquet"))
    share = (len(written) - 1) / len(written)  # the first shard came before the clock was started
    cpu = sum(used - first.get(process, (0.0, 0.0))[0] for process, (used, _) in last.items())
    return {
        "wall_s": (written[-1] - written[0]) / share,
        "cpu_s": cpu / share,
        "actor_mb": max(memory for _, memory in last.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="photographs to make the pictures from")
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.update(QUIET)
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_pictures(options.photos, place / "pictures", options.pictures)
        for turn in range(options.rounds):
            for count in (1, 2):
                rows.setdefault(f"mien predict, {count} processors", []).append(predicted(place, count))
                with a_ray(count) as address:
                    found = batched(place, count, address, f"answers-{turn}-{count}")
                rows.setdefault(f"mien batch, {count} actors", []).append(found)
    print(f"{'':28}{'pictures/s':>12}{'CPU ms each':>13}{'MB an actor':>13}")
    for name, runs in rows.items():
        middle: dict[str, Any] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        memory = f"{middle['actor_mb']:13.0f}" if "actor_mb" in middle else ""
        rate, cpu = options.pictures / middle["wall_s"], 1000 * middle["cpu_s"] / options.pictures
        print(f"{name:28}{rate:12.1f}{cpu:13.2f}{memory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
