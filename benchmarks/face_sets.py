"""What `mien faces` makes of real pictures, in how much memory and time.

    python benchmarks/face_sets.py ../shared/data

Takes the photographs of `faces` (tar files) in growing numbers, those of `web-faces`, the films of `morphs`, and films
of one and five minutes made of `web-faces`: a new face every three seconds, moving slowly. Each run is a fresh process;
its peak memory is what the system says. Prints a row per run; docs/face-sets.md has them.

    python benchmarks/face_sets.py ../shared/data --only journey

The way of someone with 300 photographs (of `web-faces`) and two films of five minutes (640x480, made of other
photographs): seconds to the face set, to the wall of `mien label`, and of `mien train --from mien` on the labels of the
photographs.

    python benchmarks/face_sets.py ../shared/data --only many --count 20000

So many photographs: those of `faces`, each altered a little every time it comes back, so that none is a copy for the
program. Prints the memory at every quarter of the way.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from mien.faceset.table import FaceSet
from mien.images import read_image
from mien.label.store import Store
from mien.terminal import columns
from mien.video.writer import constant_rate, encoder, suffix

NUMBERS = (250, 1000, 4000)
MINUTES = (1, 5)
FPS, SHOT_S, SIZE_PX = 25, 3, (640, 360)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with faces, web-faces and morphs")
    parser.add_argument("--only", choices=("photographs", "films", "journey", "many"), help="one part alone")
    parser.add_argument("--count", type=int, default=20_000, help="photographs, for --only many")
    given = parser.parse_args()
    data = given.data.resolve()
    if given.only in ("journey", "many"):
        with tempfile.TemporaryDirectory() as name:
            journey(data, Path(name)) if given.only == "journey" else many(data, Path(name), given.count)
        return
    rows = [["sources", "seconds", "peak memory", "faces", "of them"]]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if given.only != "films":
            photographs = unpacked(data / "faces", place / "photographs")
            for number in NUMBERS:
                some = place / f"{number}"
                some.mkdir()
                for path in photographs[:number]:
                    (some / path.name).symlink_to(path)
                rows.append(measured(f"{number:,} photographs of faces", [some], place / f"set-{number}"))
            rows.append(measured("web-faces", [data / "web-faces" / "images"], place / "set-web"))
            rows.append(measured("the same again", [data / "web-faces" / "images"], place / "set-web"))
        if given.only != "photographs":
            rows.append(measured("morphs", [data / "morphs"], place / "set-morphs"))
            for minutes in MINUTES:
                film = filmed(sorted((data / "web-faces" / "images").glob("*.jpg")), place, minutes)
                rows.append(measured(f"a film of {minutes} min", [film], place / f"set-film-{minutes}"))
    print(columns(rows, right=False))


def unpacked(folder: Path, to: Path) -> list[Path]:
    """Unpack the photographs of tar files; return them in an order that mixes their sources."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            tar.extractall(to, filter="data")
    return sorted(to.rglob("*.jpg"), key=lambda path: path.name[::-1])


def filmed(
    pictures: list[Path], folder: Path, minutes: int, size_px: tuple[int, int] = SIZE_PX, name: str = "film"
) -> Path:
    """Write a film with mien's own writer: every three seconds another picture, which moves by a tenth of its width."""
    path = folder / f"{name}-{minutes}{suffix()}"
    out = encoder(path, size_px, constant_rate(FPS))
    width, height = size_px
    for shot in range(minutes * 60 // SHOT_S):
        picture = read_image(pictures[shot])
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture
        picture = np.asarray(cv2.resize(picture, (height, height), interpolation=cv2.INTER_AREA), np.uint8)
        for number in range(SHOT_S * FPS):
            frame = np.full((height, width, 3), 96, np.uint8)
            left = 40 + 2 * number // 4
            frame[:, left : left + height] = picture
            out.write(frame)
    out.close()
    return path


def measured(what: str, sources: list[Path], to: Path) -> list[str]:
    """Run mien faces in a process of its own."""
    words = [sys.executable, "-m", "mien.cli.main", "faces", *map(str, sources), "--to", str(to)]
    begun = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = 0  # waited for already
    found = FaceSet.open(to)
    kinds = Counter(face.status or "shown" for face in found)
    said = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return [what, f"{seconds:.0f}", f"{usage.ru_maxrss / 1024:.0f} MB", f"{len(found):,}", said]


def journey(data: Path, place: Path) -> None:
    """Print the seconds from photographs and films to the wall, and those of a first network."""
    pictures = sorted((data / "web-faces" / "images").glob("*.jpg"))
    photographs = place / "photographs"
    photographs.mkdir()
    for path in pictures[:300]:
        (photographs / path.name).symlink_to(path)
    films = [
        filmed(pictures[first : first + 100], place, 5, (640, 480), f"film-{first}") for first in (300, 400)
    ]
    to = place / "my-faces"
    row = measured("300 photographs and two films of 5 min", [photographs, *films], to)
    print(f"mien faces: {', '.join(row)}", flush=True)
    begun = time.monotonic()
    command = [sys.executable, "-m", "mien.cli.main", "label", str(to), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = re.search(r"http://[^/\s]+", server.stderr.readline())
        assert address is not None
        with urllib.request.urlopen(f"{address[0]}/v1/faces") as answer:
            answer.read()
        print(f"mien label: its faces are there after {time.monotonic() - begun:.1f} s", flush=True)
        server.terminate()
    with (data / "web-faces" / "labels.csv").open(encoding="utf-8") as file:
        truth = {Path(row["file"]).name: row["emotion"] for row in csv.DictReader(file)}
    faces = FaceSet.open(to)
    labels = {
        face.id: truth[Path(face.source).name] for face in faces.shown() if Path(face.source).name in truth
    }
    enough = {name for name, count in Counter(labels.values()).items() if count > 10}
    with Store.open(to) as store:
        store.label_each({face: label for face, label in labels.items() if label in enough}, "simulated")
    begun = time.monotonic()
    words = ["train", str(to), "--from", "mien", "--to", str(place / "mine"), "--quiet"]
    subprocess.run([sys.executable, "-m", "mien.cli.main", *words], check=True)
    print(f"mien train on {len(labels)} faces: {time.monotonic() - begun:.0f} s", flush=True)


def many(data: Path, place: Path, count: int) -> None:
    """Print the memory of one long run, at every quarter of the way."""
    photographs = unpacked(data / "faces", place / "unpacked")
    some = place / "photographs"
    some.mkdir()
    for number in range(count):
        turn, path = number // len(photographs), photographs[number % len(photographs)]
        if not turn:
            (some / path.name).symlink_to(path)
            continue
        picture = cv2.convertScaleAbs(cv2.imread(str(path)), alpha=1 - 0.04 * turn, beta=3 * turn)
        cv2.imwrite(str(some / f"{turn}-{path.name}"), picture[2 * turn :, turn:])
    words = [sys.executable, "-m", "mien.cli.main", "faces", str(some), "--to", str(place / "set")]
    begun = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ledger, seen = place / "set" / "sources.csv", 0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        time.sleep(2)
        with suppress(OSError):
            done = max(0, sum(1 for _ in ledger.open("rb")) - 1)
            status = Path(f"/proc/{process.pid}/status").read_text()
            if 4 * done // count > seen and (now := re.search(r"VmRSS:\s+(\d+)", status)):
                seen = 4 * done // count
                print(
                    f"{done:,} photographs after {time.monotonic() - begun:.0f} s: {int(now[1]) // 1024} MB",
                    flush=True,
                )
    process.returncode = 0  # waited for already
    faces = FaceSet.open(place / "set")
    kinds = Counter(face.status or "shown" for face in faces)
    print(
        f"{count:,} photographs: {time.monotonic() - begun:.0f} s, at most {ended[2].ru_maxrss // 1024} MB; "
        f"{len(faces):,} faces: {dict(kinds)}"
    )


if __name__ == "__main__":
    main()
