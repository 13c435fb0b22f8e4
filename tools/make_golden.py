"""Store crops and what `mien.model.preprocess` makes of them, so that preprocessing cannot drift unseen.

    python tools/make_golden.py tests/golden/preprocess.npz

Run it again only when preprocessing is meant to change; every network trained before then sees other faces.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.drawn import draw_face
from mien.files import whole_file
from mien.model.preprocess import Preprocess, to_model_input

# name -> how; the names are part of the stored file.
HOWS = {
    "grey48": Preprocess(),
    "rgb40": Preprocess(size=40, colour="rgb"),
    "bgr24": Preprocess(size=24, colour="bgr"),
}


def crops() -> dict[str, NDArray[np.uint8]]:
    """Return crops of the kinds that come in: large and small, grey and colour, oblong, tiny."""
    rng = np.random.default_rng(2026)
    large = draw_face("happy", rng, 120)
    return {
        "large": large,
        "oblong": np.ascontiguousarray(large[:, 20:80]),
        "small": draw_face("fear", rng, 33),
        "exact": draw_face("sad", rng, 48),
        "grey": draw_face("angry", rng, 70)[:, :, 1].copy(),
        "pixel": np.array([[[200, 100, 50]]], np.uint8),
        "strip": rng.integers(0, 256, (3, 90, 3), dtype=np.uint8),
    }


def inputs(stored: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """Return `how/crop` -> input, for every crop prepared in every way."""
    return {
        f"{how}/{name}": to_model_input(crop, settings)
        for how, settings in HOWS.items()
        for name, crop in stored.items()
    }


def main() -> None:
    """Write both to the file that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    stored = crops()
    with whole_file(options.file) as temporary:
        named = {f"crop/{name}": crop for name, crop in stored.items()} | inputs(stored)
        np.savez_compressed(temporary, **named)  # type: ignore[arg-type]  # NumPy's stub takes names for options
    print(f"wrote {options.file}, {options.file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
