"""Training speed against the legacy `ImageDataGenerator.flow_from_directory` that the five originals used.

    python benchmarks/training_speed.py                         everything: about an hour on two cores
    python benchmarks/training_speed.py --only a,d              the input pipelines alone: a few minutes
    python benchmarks/training_speed.py --faces 2000 --to speed.json

Both sides run in turn on the same seeded pictures, each in a process of its own so that peaks of memory are
separate. Processor time is that of all threads. Medians over --repeats are printed and, with --to, written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pictures import write_pictures

HERE = Path(__file__).resolve().parent
SIDES = ("legacy", "our")
Costs = dict[str, float]


@dataclass(frozen=True)
class Part:
    """One comparison. measure: the cost whose ratio counts. at_least: the ratio that we promise."""

    title: str
    job: str
    measure: str
    at_least: float
    big: bool = False  # 256x256 colour JPEGs instead of 48x48 grey PNGs
    options: dict[str, Any] = field(default_factory=dict)


_FACES = {"size": 48, "colour": "grey", "batch_size": 64, "recipe": "fer2013-cnn-augmented", "stream": False}
_PHOTOS = {**_FACES, "size": 256, "colour": "rgb", "batch_size": 32, "stream": True}
PARTS = {
    "a": Part("input pipeline alone, 48x48 grey faces in memory", "pipeline", "cpu_s", 10.0, options=_FACES),
    "b": Part("whole epoch of fer2013-cnn-augmented", "epoch", "wall_s", 1.0, options=_FACES),
    "c": Part(
        "whole epoch of our default network", "epoch", "wall_s", 1.2, options={**_FACES, "recipe": None}
    ),
    "d": Part(
        "input pipeline alone, 256x256 colour, from disk",
        "pipeline",
        "cpu_s",
        10.0,
        big=True,
        options=_PHOTOS,
    ),
    "e": Part(
        "memory of its own while all faces are at hand", "hold", "own_growth_mib", 10.0, options=_FACES
    ),
}


def data_for(part: Part, parent: Path, options: argparse.Namespace) -> Path:
    """Return the folder with the part's pictures, written when it is first asked for."""
    folder = parent / ("photos" if part.big else "faces")
    if not folder.exists():
        count, suffix = (options.pictures, ".jpg") if part.big else (options.faces, ".png")
        form = part.options
        write_pictures(folder, count, size=form["size"], colour=form["colour"], suffix=suffix)
    return folder


def measure(part: Part, side: str, folder: Path, options: argparse.Namespace) -> Costs:
    """Run one side in a process of its own and return its costs."""
    settings = {
        **part.options,
        "faces": options.faces,
        "epochs": options.epochs,
        "xla": "auto" if options.xla else False,
    }
    done = subprocess.run(
        [sys.executable, str(HERE / f"{side}_side.py"), part.job, str(folder), json.dumps(settings)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{side}_side.py {part.job} failed:\n{done.stderr}")
    costs: Costs = json.loads(done.stdout.splitlines()[-1])
    return costs


def compare(part: Part, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure both sides in turn; return the medians and the ratios (theirs over ours)."""
    rounds: dict[str, list[Costs]] = {side: [] for side in SIDES}
    for _ in range(options.repeats):
        for side in SIDES:
            rounds[side].append(measure(part, side, folder, options))
    medians = {
        side: {name: statistics.median(costs[name] for costs in runs) for name in runs[0]}
        for side, runs in rounds.items()
    }
    ratios = {
        name: medians["legacy"][name] / max(medians["our"][name], 1e-9)
        for name in medians["our"]
        if name != "pictures" and name in medians["legacy"]
    }
    if part.job == "pipeline":
        channels = 1 if part.options["colour"] == "grey" else 3
        float64_mib = medians["our"]["pictures"] * part.options["size"] ** 2 * channels * 8 / 2**20
        ratios["float64_array_over_our_peak_growth"] = float64_mib / max(
            medians["our"]["peak_growth_mib"], 1e-9
        )
    ratio = ratios[part.measure]
    return {
        "title": part.title, "measure": part.measure, "at_least": part.at_least, "ratio": ratio,
        "met": ratio >= part.at_least, "ratios": ratios, **medians,
    }  # fmt: skip


def shown(result: dict[str, Any]) -> str:
    """Return the result of one part as lines for people."""
    lines = [
        f"{result['title']}: {result['ratio']:.2f} times less {result['measure']} "
        f"(promised: {result['at_least']:g})"
    ]
    for side, name in (("legacy", "theirs"), ("our", "ours")):
        costs = result[side]
        each = 1000 / costs["pictures"] if "pictures" in costs else 0
        pictures = f", {costs['cpu_s'] * each:.3f} ms of processor time a picture" if each else ""
        lines.append(
            f"  {name:7} wall {costs['wall_s']:.2f} s, processor {costs['cpu_s']:.2f} s, "
            f"peak {costs['peak_mib']:.0f} MiB{pictures}"
        )
        if "prepare_s" in costs:
            lines[-1] += f"; once before: {costs['prepare_s']:.2f} s of processor time"
    if "float64_array_over_our_peak_growth" in result["ratios"]:
        times = result["ratios"]["float64_array_over_our_peak_growth"]
        lines.append(
            f"  the set as one float64 array would be {times:.1f} times what our memory grew by at its peak"
        )
    if result["measure"] == "own_growth_mib":
        theirs, ours = (result[side]["own_growth_mib"] for side in SIDES)
        peak = result["ratios"]["peak_growth_mib"]
        lines.append(
            f"  kept: {theirs:.0f} and {ours:.0f} MiB, what is mapped from the cache not counted, because the system "
            f"takes it back when it needs to; peak on the way: {peak:.1f} times less"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts. Returns 0 when every ratio is as promised, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", default=",".join(PARTS), help=f"parts, separated by commas (default: {','.join(PARTS)})"
    )
    parser.add_argument(
        "--faces", type=int, default=28_709, help="48x48 faces to train on (default: FER-2013's 28709)"
    )
    parser.add_argument("--pictures", type=int, default=5000, help="256x256 pictures (default: 5000)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs; the last is measured (default: 2)")
    parser.add_argument(
        "--repeats", type=int, default=1, help="rounds over both sides; the median counts (default: 1)"
    )
    parser.add_argument("--xla", action="store_true", help="let theirs compile with XLA, Keras 3's default")
    parser.add_argument("--to", type=Path, help="write the figures as JSON")
    options = parser.parse_args(arguments)
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only.split(","):
            folder = data_for(PARTS[name], Path(temporary), options)
            results[name] = compare(PARTS[name], folder, options)
            print(f"{name}  {shown(results[name])}", flush=True)
    if options.to:
        about = {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "faces": options.faces,
            "pictures": options.pictures,
            "their_xla": options.xla,
        }
        options.to.write_text(
            json.dumps({"about": about, "parts": results}, indent=2) + "\n", encoding="utf-8"
        )
    return 0 if all(result["met"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
