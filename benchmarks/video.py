"""How fast `mien video` follows faces through 720p, beside a loop that analyses every frame by itself.

    python benchmarks/video.py --detectors mien,haar
    python benchmarks/video.py --detectors yunet --detector-file face_detection_yunet_2026may.onnx

The film is made on the spot: the two portraits that ship drift over soft shades. Each row is one process. Decoding
and recognising are counted, writing a marked copy is not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE_PX, FPS, SECONDS = (1280, 720), 30, 10
FACES_PX = 300  # side of each portrait in the frame
WAYS = ("followed", "frame by frame")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detectors", default="mien,haar", help="face detectors, separated by commas")
    parser.add_argument("--detector-file", default=os.environ.get("MIEN_YUNET"))
    parser.add_argument("--one", nargs=3, metavar=("WAY", "DETECTOR", "FILM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, detector, film = options.one
        print(json.dumps(_measured(way, detector, film, options.detector_file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        _write_film(film)
        print(f"{'detector':8}{'way':16}{'frames/s':>10}{'CPU ms a frame':>16}{'frames with 2 faces':>21}")
        for detector in options.detectors.split(","):
            rates = [_row(detector, way, film, options.detector_file) for way in WAYS]
            print(f"{detector:8}followed is {rates[0] / rates[1]:.1f} times as fast", flush=True)


def _row(detector: str, way: str, film: Path, file: str | None) -> float:
    command = [sys.executable, __file__, "--one", way, detector, str(film)]
    done = subprocess.run(
        command + (["--detector-file", file] if file else []), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{detector} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{detector:8}{way:16}{found['rate']:10.0f}{found['cpu_ms']:16.1f}{100 * found['both']:20.0f}%")
    return float(found["rate"])


def _measured(way: str, detector: str, film: str, file: str | None) -> dict[str, float]:
    import mien
    from mien.video.analyze import analyze_video
    from mien.video.reader import open_video

    analyzer = mien.load(detector=detector, detector_file=file if detector == "yunet" else None)
    wall, cpu, counts = time.perf_counter(), time.process_time(), []
    if way == "followed":
        counts = [len(frame.faces) for frame in analyze_video(film, analyzer)]
    else:
        with open_video(Path(film)) as video:
            counts = [len(analyzer.analyze(frame.image)) for frame in video.frames()]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    both = float(np.mean([count == 2 for count in counts]))
    return {"rate": len(counts) / wall, "cpu_ms": 1000 * cpu / len(counts), "both": both}


def _write_film(path: Path) -> None:
    import mien

    samples = Path(mien.__file__).parent / "samples"
    portraits = [_portrait(samples / name) for name in ("eileen-collins.jpg", "grace-hopper.jpg")]
    shades = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    ground = cv2.resize(shades, SIZE_PX, interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE_PX)
    for number in range(FPS * SECONDS):
        frame, share = ground.copy(), number / (FPS * SECONDS)
        for portrait, (x, y) in zip(portraits, ((40, 100), (700, 300)), strict=True):
            left, top = x + int(200 * share), y + int(60 * np.sin(12 * share))
            height, width = portrait.shape[:2]
            frame[top : top + height, left : left + width] = portrait
        writer.write(frame)
    writer.release()


def _portrait(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"cannot read {path}")
    scale = FACES_PX / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


if __name__ == "__main__":
    main()
