"""How many portraits each face detector misses, and what one costs.

    python benchmarks/face_detection.py ../shared/data/web-faces/images --detectors mien,yunet,haar

Portraits show one person each. Photographs with boxes: `mien evaluate-detector`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from mien.detect.registry import open_detector
from mien.images import read_image


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portraits", type=Path, help="folder of pictures")
    parser.add_argument("--detectors", default="mien,haar", help="by name, separated by commas")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = [read_image(path) for path in sorted(options.portraits.rglob("*.jpg"))]
    print(f"{len(pictures)} portraits{'no face, %':>14}{'several, %':>14}{'ms of one core':>18}")
    for name in options.detectors.split(","):
        detector = open_detector(name)
        start = time.process_time()
        counts = np.array([len(detector.detect(picture)) for picture in pictures])
        each_ms = 1000 * (time.process_time() - start) / len(pictures)
        print(f"{name:14}{100 * (counts == 0).mean():14.1f}{100 * (counts > 1).mean():14.1f}{each_ms:18.1f}")


if __name__ == "__main__":
    main()
