"""What a server on this machine can answer: a real one, and clients that ask without a pause."""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from mien.errors import MienError
from mien.images import read_image
from mien.images.decode import read_bytes
from mien.terminal import counted

_SAMPLES = Path(__file__).parents[1] / "samples"
# Width and height in pixels, and faces: a web picture, a group in a video frame, a crowd from a camera.
PICTURES = ((640, 480, 1), (1920, 1080, 6), (4000, 3000, 30))
_STARTS_S = 60.0
_PAUSE_S = 0.1  # of a client that was told to come back


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured with one kind of picture.

    faces: that the server found. clients: at once. p50_ms, p99_ms: from request to answer. refused: 503, not counted.
    """

    width: int
    height: int
    faces: int
    clients: int
    pictures_per_s: float
    p50_ms: float
    p99_ms: float
    refused: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    options: Sequence[str],
    *,
    clients: int,
    seconds: float,
    pictures: Sequence[Path] = (),
    progress: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
) -> tuple[list[Result], float | None]:
    """Start `mien serve` with these options and measure each picture, with one client and with several.

    pictures: files; none: one for each of PICTURES. Returns the results, and the most megabytes that the server and its
    decoders took together at the end of a measurement (proportional set size; None where the system does not say).
    Raises MienError where the server does not start or does not answer, ImageError for what cannot be read.
    """
    counts = (1,) if clients == 1 else (1, clients)
    contents = [read_bytes(path, str(path)) for path in pictures] or [group_picture(*one) for one in PICTURES]
    cases = [(content, count) for content in contents for count in counts]
    results, memory = [], []
    with serving(options) as (address, process):
        for place, (content, count) in enumerate(cases):
            progress("measuring", place, len(cases))
            results.append(_measured(address, content, count, seconds))
            memory.append(_memory_mb(process))
    return results, max((one for one in memory if one is not None), default=None)


def _memory_mb(process: int) -> float | None:
    """Return what a process and those below it take together, in megabytes; None where the system does not say."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
        children = [
            int(word)
            for task in Path(f"/proc/{process}/task").iterdir()
            for word in (task / "children").read_text(encoding="utf-8").split()
        ]
    except OSError:
        return None
    own = int(text.split("\nPss:")[1].split()[0]) / 1000
    return own + sum(_memory_mb(child) or 0.0 for child in children)


def server_options(options: argparse.Namespace) -> list[str]:
    """Return the words that give `mien serve` the network, detector and processes that were asked for."""
    words = ["--workers", str(options.workers), "--precision", options.precision, "--tta", options.tta]
    for name in ("model", "head", "prior", "detector", "detector_file"):
        if (value := getattr(options, name)) is not None:
            words.append(f"--{name.replace('_', '-')}={value}")
    return words


def group_picture(width: int, height: int, faces: int) -> bytes:
    """Return a JPEG (quality 90) of that size in pixels with as many portraits on an even grid, on grey."""
    portraits = [read_image(path) for path in sorted(_SAMPLES.glob("*.jpg"))]
    picture = np.full((height, width, 3), 128, np.uint8)
    across = math.ceil(math.sqrt(faces * width / height))
    down = math.ceil(faces / across)
    cell_w, cell_h = width // across, height // down
    for place in range(faces):
        portrait = portraits[place % len(portraits)]
        scale = 0.95 * min(cell_w / portrait.shape[1], cell_h / portrait.shape[0])
        size = (int(portrait.shape[1] * scale), int(portrait.shape[0] * scale))
        small = cv2.resize(portrait, size, interpolation=cv2.INTER_AREA)
        top, left = place // across * cell_h, place % across * cell_w
        picture[top : top + size[1], left : left + size[0]] = small
    _, file = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return file.tobytes()


@contextmanager
def serving(options: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Run `mien serve` on a free port of this machine; yield address and process. MienError where it does not start."""
    command = [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", *options]
    without = {name: value for name, value in os.environ.items() if name != "MIEN_TOKEN"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, env=without)
        try:
            ends = time.monotonic() + _STARTS_S
            while "listening on " not in (text := _told(log)):
                if process.poll() is not None or time.monotonic() > ends:
                    raise MienError(text.strip().removeprefix("mien: ") or "the server does not start")
                time.sleep(0.05)
            yield text.split("listening on ")[1].split("/ ")[0], process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _told(log: Any) -> str:
    log.seek(0)
    return str(log.read())


def _measured(address: str, picture: bytes, clients: int, seconds: float) -> Result:
    times: list[float] = []  # of the answers that count
    found: list[dict[str, Any]] = []
    refused = 0
    lock = threading.Lock()
    begins = math.inf

    def start() -> None:
        nonlocal begins
        begins = time.monotonic()

    warm = threading.Barrier(clients, start)
    host = urlsplit(address)

    def ask(connection: http.client.HTTPConnection) -> int:
        connection.request("POST", "/v1/analyze", picture, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status not in (200, 503):
            said = json.loads(body).get("detail") if body.startswith(b"{") else body.decode(errors="replace")
            raise MienError(f"the server answers {answer.status}: {said}")
        if answer.status == 200 and not found:
            found.append(json.loads(body)["pictures"][0])
        return answer.status

    def client(_: int) -> None:
        nonlocal refused
        with closing(http.client.HTTPConnection(host.hostname or "", host.port, timeout=60)) as connection:
            try:
                ask(connection)  # the first answers do not count
            except BaseException:
                warm.abort()
                raise
            warm.wait()
            while (sent := time.monotonic()) < begins + seconds:
                status = ask(connection)
                with lock:
                    if status == 200:
                        times.append(time.monotonic() - sent)
                    else:
                        refused += 1
                if status == 503:
                    time.sleep(_PAUSE_S)

    with ThreadPoolExecutor(clients) as pool:
        for one in [pool.submit(client, place) for place in range(clients)]:
            with suppress(threading.BrokenBarrierError):  # another client has the reason
                one.result()
    took_s = time.monotonic() - begins
    if not times:
        raise MienError(
            f"{counted(refused, 'request was', 'requests were')} refused, and none answered; try fewer --clients"
        )
    return Result(
        width=found[0]["width"],
        height=found[0]["height"],
        faces=len(found[0]["faces"]),
        clients=clients,
        pictures_per_s=len(times) / took_s,
        p50_ms=1000 * float(np.quantile(times, 0.5)),
        p99_ms=1000 * float(np.quantile(times, 0.99)),
        refused=refused,
    )
