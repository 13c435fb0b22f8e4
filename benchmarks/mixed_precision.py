"""How much faster `--precision mixed` trains than float32 on this machine, network by network.

    python benchmarks/mixed_precision.py default fer2013-cnn

Mixed computes in bfloat16 and keeps weights in float32. A processor needs instructions for it (`lscpu` shows
avx512_bf16 or amx_bf16): without them it is slower. Only the network's steps count: no pictures are read.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace

STEPS, WARM = 8, 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=["default", "fer2013-cnn"])
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "PRECISION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_seconds_a_step(*options.one)))
        return
    print(f"{'recipe':24}{'float32, s a step':>20}{'mixed, s a step':>20}{'times as fast':>16}")
    for recipe in options.recipes:
        plain, mixed = (_in_own_process(recipe, precision) for precision in ("float32", "mixed"))
        print(f"{recipe:24}{plain:20.3f}{mixed:20.3f}{plain / mixed:16.2f}", flush=True)


def _in_own_process(recipe: str, precision: str) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--one", recipe, precision], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{recipe} in {precision} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def _seconds_a_step(recipe: str, precision: str) -> float:
    import keras
    import numpy as np

    from mien.labels import FER2013
    from mien.train import backend
    from networks import build, settings

    config = replace(settings(recipe), precision=precision).for_pictures(28_709)
    network = build(config, FER2013)
    network.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9), loss="categorical_crossentropy", jit_compile=backend.jit()
    )
    rng = np.random.default_rng(0)
    count = config.batch_size or 128
    faces = rng.integers(0, 256, (count, *network.input_shape[1:])).astype(np.float32)
    answers = np.eye(len(FER2013), dtype=np.float32)[rng.integers(0, len(FER2013), len(faces))]
    times = []
    for _ in range(WARM + STEPS):
        start = time.perf_counter()
        network.train_on_batch(faces, answers)
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM:])


if __name__ == "__main__":
    main()
