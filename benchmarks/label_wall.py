"""How long `mien label` takes with many faces, in Chromium: page ready, a far place filled, from a key to "stored".

    python benchmarks/label_wall.py FACES [--counts 10000 100000]

FACES: a face set, whose faces are repeated until there are as many. Needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mien.faceset.table import FaceSet

FILLED = """() => {
    const wall = document.getElementById('wall').getBoundingClientRect();
    const tiles = [...document.querySelectorAll('.tile:not([hidden])')].filter((tile) => {
        const box = tile.getBoundingClientRect();
        return box.bottom > wall.top && box.top < wall.bottom;
    });
    return tiles.length >= 12 && tiles.every((tile) => tile.querySelector('img').src);
}"""
ANSWER = """async () => {
    const faces = await import(new URL('label/faces.js', document.baseURI));
    const times = [];
    for (let place = 0; place < 60; place++) {
        const begun = performance.now();
        await faces.say([place], {action: 'label', class: 'calm'});
        times.push(performance.now() - begun);
    }
    return times;
}"""


def repeated(source: Path, folder: Path, count: int) -> None:
    """Write a face set of `count` faces, made of those of another."""
    shutil.copytree(source / "crops", folder / "crops")
    rows = FaceSet.open(source).faces
    faces = FaceSet.open(folder, create=True)
    faces.add(
        dataclasses.replace(
            rows[number % len(rows)], id=f"{number:016x}", label="", votes={}, status="", source=""
        )
        for number in range(count)
    )
    faces.write()


def measured(page: Any, address: str) -> str:
    begun = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".tile img[src]")
    ready = time.perf_counter() - begun
    jumps = []
    for share in (0.5, 0.9, 0.1, 0.7, 0.3, 0.999):
        page.evaluate(
            f"document.getElementById('wall').scrollTop = {share} * document.getElementById('canvas').offsetHeight"
        )
        begun = time.perf_counter()
        while not page.evaluate(FILLED):
            time.sleep(0.005)
        jumps.append(time.perf_counter() - begun)
    times = sorted(page.evaluate(ANSWER))
    return (
        f"ready {ready:.2f} s; a far place filled {statistics.median(jumps):.2f} s, at worst {max(jumps):.2f} s; "
        f"key to stored {statistics.median(times):.0f} ms, 95 % below {times[56]:.0f} ms"
    )


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    options = parser.parse_args()
    for count in options.counts:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "set"
            repeated(options.faces, folder, count)
            command = [
                sys.executable,
                "-m",
                "mien.cli.main",
                "label",
                str(folder),
                "--port",
                "0",
                "--no-learn",
            ]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
                assert server.stderr is not None
                begun = time.perf_counter()
                address = re.search(r"http://\S+", server.stderr.readline())
                assert address is not None
                started = time.perf_counter() - begun
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(
                        executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
                    )
                    for _ in range(3):
                        page = browser.new_page(viewport={"width": 1400, "height": 860})
                        print(f"{count:,} faces: {measured(page, address[0])}", flush=True)
                        page.close()
                    browser.close()
                peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
                server.terminate()
            memory = f", and took at most {int(peak[1]) // 1024} MB" if peak else ""
            print(f"{count:,} faces: the server started in {started:.1f} s{memory}", flush=True)


if __name__ == "__main__":
    main()
