"""mien serve under load: many clients with small pictures, batched beside one picture at a time, in one run.

    pip install locust
    python benchmarks/serve_load.py --model runs/faces-small --seconds 20

The two servers take turns (one at a time first, then batched, then the other way round), so that what else the machine
does falls on both. Locust (https://locust.io) plays the clients, in a process of its own on the same machine. Prints a
line a run, and at the end the ratio of pictures a second and what the memory of the batched server has grown by.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2

from mien.images import read_image

SAMPLE = Path(__file__).parents[1] / "src" / "mien" / "samples" / "grace-hopper.jpg"
CLIENT = Path(__file__).with_name("serve_load_client.py")
PICTURE = "MIEN_LOAD_PICTURE"  # as in serve_load_client.py
MODES = {"one at a time": ("--batch", "1"), "batched": ()}
STARTS_S = 60.0
_WARM_S = 5  # Locust takes a second or two of it to bring its clients up


@dataclass(frozen=True)
class Run:
    """What one server did under load. p50_ms, p95_ms: from request to answer. *_mib: its memory before and after."""

    mode: str
    pictures: int
    errors: int
    pictures_per_s: float
    p50_ms: float
    p95_ms: float
    before_mib: float
    after_mib: float


def locust() -> str:
    """Return the program; ends with what to install where there is none."""
    found = shutil.which("locust", path=sysconfig.get_path("scripts")) or shutil.which("locust")
    return found or sys.exit("the clients are played by Locust; install it with: pip install locust")


@contextmanager
def serving(options: list[str]) -> Iterator[tuple[int, str]]:
    """Start a server on a free port; yield its process number and its address."""
    command = [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            ends = time.monotonic() + STARTS_S
            while "listening on " not in (text := _read(log.fileno())):
                if process.poll() is not None or time.monotonic() > ends:
                    sys.exit(f"the server does not start: {text}")
                time.sleep(0.05)
            yield process.pid, text.split("listening on ")[1].split("/ ")[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _read(file: int) -> str:
    return os.pread(file, 1 << 20, 0).decode()


def memory_mib(process: int) -> float:
    """Return the resident memory of a process and of those that it started, its decoders among them (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    children = [
        int(word)
        for task in Path(f"/proc/{process}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(map(memory_mib, children))


def load(address: str, clients: int, seconds: int, picture: Path) -> Mapping[str, float]:
    """Let clients ask for some seconds; return Locust's numbers of the one kind of request."""
    command = [
        locust(),
        "--locustfile",
        str(CLIENT),
        "--headless",
        "--only-summary",
        "--json",
        "--host",
        address,
    ]
    numbers = ["--users", str(clients), "--spawn-rate", str(clients), "--run-time", f"{seconds}s"]
    done = subprocess.run(
        [*command, *numbers],
        env={**os.environ, PICTURE: str(picture)},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        (row,) = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"Locust gave no numbers: {done.stderr[-1000:]}")
    times = sorted((float(ms), count) for ms, count in row["response_times"].items())
    return {
        "pictures": row["num_requests"],
        "errors": row["num_failures"],
        "seconds": row["last_request_timestamp"] - row["start_time"],
        "p50_ms": percentile(times, 0.50),
        "p95_ms": percentile(times, 0.95),
    }


def percentile(times: list[tuple[float, int]], share: float) -> float:
    """Return the time that this share of requests kept to; times: (ms, how many), ascending."""
    left = share * sum(count for _, count in times)
    for ms, count in times:
        left -= count
        if left <= 0:
            return ms
    return float("nan")


def run(mode: str, options: list[str], clients: int, seconds: int, picture: Path) -> Run:
    """Start a server, warm it up, load it."""
    with serving([*options, *MODES[mode]]) as (process, address):
        load(address, clients, max(_WARM_S, seconds // 5), picture)
        before = memory_mib(process)
        found = load(address, clients, seconds, picture)
        return Run(
            mode,
            int(found["pictures"]),
            int(found["errors"]),
            (found["pictures"] - found["errors"]) / found["seconds"],
            found["p50_ms"],
            found["p95_ms"],
            before,
            memory_mib(process),
        )


def main() -> int:
    """Return 1 if a request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=64, help="at the same time (default: 64)")
    parser.add_argument("--seconds", type=int, default=20, help="of each run (default: 20)")
    parser.add_argument("--pairs", type=int, default=3, help="of runs (default: 3)")
    parser.add_argument(
        "--side", type=int, default=128, help="longer side of the picture in pixels (default: 128)"
    )
    options, server_options = parser.parse_known_args()  # what is left goes to mien serve
    image = read_image(SAMPLE)[:, :, ::-1]
    scale = options.side / max(image.shape[:2])
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "small.jpg"
        cv2.imwrite(str(picture), cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        for pair in range(options.pairs):
            for mode in sorted(MODES, reverse=pair % 2 == 0):
                runs.append(found := run(mode, server_options, options.clients, options.seconds, picture))
                print(
                    f"{found.mode:14} {found.pictures:6} pictures  {found.errors} errors  "
                    f"{found.pictures_per_s:7.1f}/s  p50 {found.p50_ms:.0f} ms  p95 {found.p95_ms:.0f} ms  "
                    f"{found.before_mib:.0f} -> {found.after_mib:.0f} MiB",
                    flush=True,
                )
    return summary(runs)


def summary(runs: list[Run]) -> int:
    """Print the ratio of the two modes and the growth of the second."""
    speed = {mode: median(one.pictures_per_s for one in runs if one.mode == mode) for mode in MODES}
    grown = max(one.after_mib - one.before_mib for one in runs if one.mode == "batched")
    ratio = speed["batched"] / speed["one at a time"]
    print(
        f"batched answers {ratio:.2f} times as many pictures a second; its memory grew by {grown:.0f} MiB at most"
    )
    return 1 if any(one.errors for one in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
