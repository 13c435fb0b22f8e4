"""What `mien faces` makes of real pictures, in how much memory and time.

    python benchmarks/face_sets.py ../shared/data

Takes the photographs of `faces` (tar files) in growing numbers, those of `web-faces`, the films of `morphs`, and films
of one and five minutes made of `web-faces`: a new face every three seconds, moving slowly. Each run is a fresh process;
its peak memory is what the system says. Prints a row per run; docs/face-sets.md has them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from mien.faceset.table import FaceSet
from mien.images import read_image
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
    parser.add_argument("--only", choices=("photographs", "films"), help="leave out the other half")
    given = parser.parse_args()
    data = given.data
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


def filmed(pictures: list[Path], folder: Path, minutes: int) -> Path:
    """Write a film with mien's own writer: every three seconds another picture, which moves by a tenth of its width."""
    path = folder / f"film-{minutes}{suffix()}"
    out = encoder(path, SIZE_PX, constant_rate(FPS))
    width, height = SIZE_PX
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


if __name__ == "__main__":
    main()
