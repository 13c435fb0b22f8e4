"""What prediction costs, in processor time, beside the package `fer` where it is installed.

    python benchmarks/predicting.py
    python benchmarks/predicting.py --detector yunet --detector-file face_detection_yunet_2026may.onnx

Each row is one process, started afresh, so that imports and memory are its own. Processor time counts all threads; the
median of several runs is shown. `fer` (pip install fer) is the lightest other package; it brings a network of its own
and finds faces with Haar's cascade. The faces are noise, of which a network is unsure, so the rows about the network
alone ask for one view; how many faces of people are looked at twice, and what that costs, says two_views.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import mien

PICTURE = Path(mien.__file__).parent / "samples" / "eileen-collins.jpg"  # 512 x 512
HEAD = """
import os, resource, sys, time, json
from pathlib import Path
def cpu(work, times):
    took = []
    for _ in range(times):
        start = time.process_time(); work(); took.append(time.process_time() - start)
    return sorted(took)[len(took) // 2]
def memory():
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6
"""
OURS = {
    "import mien, CPU s": "start = time.process_time()\nimport mien\nfound = time.process_time() - start",
    "cold start to the first result, CPU s": f"""
import mien
mien.load(detector={{detector!r}}, detector_file={{file!r}}).analyze_file({str(PICTURE)!r})
found = time.process_time()""",
    "memory after the first result, MB": f"""
import mien
mien.load(detector={{detector!r}}, detector_file={{file!r}}).analyze_file({str(PICTURE)!r})
found = memory()""",
    "one view of a face, CPU ms": """
import mien, numpy
analyzer = mien.load(detector='whole', tta='single')
face = numpy.random.default_rng(0).integers(0, 256, (1, *analyzer.metadata.preprocess.shape), numpy.uint8)
for _ in range(50): analyzer.probabilities(face)
found = 1000 * cpu(lambda: analyzer.probabilities(face), 500)""",
    "the same in float32, CPU ms": """
import mien, numpy
analyzer = mien.load(detector='whole', precision='float32', tta='single')
face = numpy.random.default_rng(0).integers(0, 256, (1, *analyzer.metadata.preprocess.shape), numpy.uint8)
for _ in range(50): analyzer.probabilities(face)
found = 1000 * cpu(lambda: analyzer.probabilities(face), 300)""",
    "batch of 256, CPU ms a face": """
import mien, numpy
analyzer = mien.load(detector='whole', tta='single')
faces = numpy.random.default_rng(0).integers(0, 256, (256, *analyzer.metadata.preprocess.shape), numpy.uint8)
found = 1000 / 256 * cpu(lambda: analyzer.probabilities(faces), 9)""",
    "512x512 portrait, find and recognise, CPU ms": f"""
import mien
from mien.images import read_image
analyzer = mien.load(detector={{detector!r}}, detector_file={{file!r}})
image = read_image(Path({str(PICTURE)!r}))
for _ in range(5): analyzer.analyze(image)
found = 1000 * cpu(lambda: analyzer.analyze(image), 41)""",
    "growth over 10,000 faces, MB": """
import mien, numpy
analyzer = mien.load(detector='whole')
faces = numpy.random.default_rng(0).integers(0, 256, (100, 48, 48), numpy.uint8)
for _ in range(5): analyzer.analyze_batch(list(faces))
before = memory()
for _ in range(100): analyzer.analyze_batch(list(faces))
found = memory() - before""",
}
PORTRAIT = """
import cv2
from fer.fer import FER
image = cv2.imread({sample!r})
network = FER()
network.detect_emotions(image)"""
FER = {
    "import mien, CPU s": "start = time.process_time()\nfrom fer.fer import FER\nfound = time.process_time() - start",
    "cold start to the first result, CPU s": PORTRAIT + "\nfound = time.process_time()",
    "memory after the first result, MB": PORTRAIT + "\nfound = memory()",
    "512x512 portrait, find and recognise, CPU ms": PORTRAIT
    + "\nfound = 1000 * cpu(lambda: network.detect_emotions(image), 21)",
    "one view of a face, CPU ms": """
import numpy
from fer.fer import FER
network = FER()
face = numpy.random.default_rng(0).random((1, 64, 64)).astype('float32')
for _ in range(50): network._classify_emotions(face)
found = 1000 * cpu(lambda: network._classify_emotions(face), 300)""",
    "batch of 256, CPU ms a face": """
import numpy
from fer.fer import FER
network = FER()
faces = numpy.random.default_rng(0).random((256, 64, 64)).astype('float32')
found = 1000 / 256 * cpu(lambda: network._classify_emotions(faces), 9)""",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detector", default="mien", help="face detector")
    parser.add_argument("--detector-file", help="YuNet's file (default: $MIEN_YUNET)")
    parser.add_argument("--peer", help="the Python of an environment where `fer` is installed")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    detector = options.detector
    print(f"{'detector: ' + detector:48}{'mien':>10}{'fer':>10}")
    for row, code in OURS.items():
        mine = _median(
            sys.executable, code.format(detector=detector, file=options.detector_file), options.runs
        )
        theirs = None
        if options.peer and row in FER:
            theirs = _median(options.peer, FER[row].replace("{sample!r}", repr(str(PICTURE))), options.runs)
        print(f"{row:48}{mine:10.3f}{'' if theirs is None else format(theirs, '10.3f')}", flush=True)


def _median(python: str, code: str, runs: int) -> float:
    return statistics.median(_once(python, code) for _ in range(runs))


def _once(python: str, code: str) -> float:
    done = subprocess.run(
        [python, "-c", HEAD + code + "\nprint(json.dumps(found))"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
