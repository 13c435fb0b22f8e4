"""Leave filters out of a trained network: those that the others of their layer say best. `small` becomes `slim`.

    python tools/narrow.py small.npz fer2013.csv --to slim.npz

Where a filter goes, what it said is told as a weighted sum of those that stay (least squares, over Training faces), and
the kernels of the next layer take these weights up; so only what no other filter says is lost. From what is left,
`tools/distil.py --from slim.npz` goes on.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distil import built, canvas, middle
from mien.data import open_dataset
from mien.files import whole_file
from mien.train import backend
from mien.train.config import TrainConfig

FACES = 1500  # of Training, over which sums are fitted
RIDGE = 1e-6  # of the mean variance, added so that filters that say the same can be told apart

Doubles = NDArray[np.float64]


def main() -> None:
    """Write the weights by Keras path."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--from", dest="wide", default="small", help="network of the weights")
    parser.add_argument("--network", default="slim", help="the same with fewer filters")
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    backend.prepare(TrainConfig(precision="float32"))
    dataset = open_dataset(options.data)
    train, validation = dataset.split("train"), dataset.split("validation")
    some = np.random.default_rng(0).choice(len(train), FACES, replace=False)
    wide, narrow = built(options.wide, options.weights), built(options.network)
    narrowed(wide, narrow, middle(canvas(train.take(some))))
    held = middle(canvas(validation))
    for model in (wide, narrow):
        right = np.mean(model.predict(held, batch_size=256, verbose=0)[0].argmax(axis=1) == validation.labels)
        print(f"{model.name}: {model.count_params():,} parameters, validation {100 * right:.2f} %")
    arrays: dict[str, Any] = {v.path: np.asarray(v) for v in narrow.weights if "seed" not in v.path}
    with whole_file(options.to) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def narrowed(wide: Any, narrow: Any, faces: NDArray[np.float32]) -> None:
    """Give `narrow` the weights of `wide`, whose layers have the same names and at least as many filters."""
    import keras

    convolutions = [layer.name for layer in wide.layers if isinstance(layer, keras.layers.Conv2D)]
    kernels = {name: wide.get_layer(name).get_weights()[0].astype(np.float64) for name in convolutions}
    norms = {name: wide.get_layer(name.replace("_conv", "_norm")).get_weights() for name in convolutions}
    for name, following in pairwise(convolutions):
        count = narrow.get_layer(name).filters
        if count == kernels[name].shape[3]:
            continue
        said = keras.Model(wide.inputs, wide.get_layer(following).input).predict(faces, verbose=0)
        keep, kernels[following], constant = without(
            said.reshape(-1, said.shape[-1]), kernels[following], count
        )
        norms[following][2] = norms[following][2] - constant  # the moving mean
        kernels[name] = kernels[name][..., keep]
        norms[name] = [values[keep] for values in norms[name]]
    for layer in narrow.layers:
        if layer.name in kernels:
            layer.set_weights([kernels[layer.name]])
        elif (of := layer.name.replace("_norm", "_conv")) in norms:
            layer.set_weights(norms[of])
        elif layer.weights:
            layer.set_weights(wide.get_layer(layer.name).get_weights())


def without(said: NDArray[Any], kernel: Doubles, count: int) -> tuple[list[int], Doubles, Doubles]:
    """Choose the channels that stay, one less at a time, and tell the others by them.

    said: (places, channels), what goes into the next layer. kernel: (3, 3, channels, filters), that layer's. Returns
    which channels stay, the kernel for them, and what the next layer's sums now lack away from the border, (filters,).
    """
    said = said.astype(np.float64)
    mean, covariance = said.mean(axis=0), np.cov(said.T)
    kernel, keep, constant = kernel.copy(), list(range(said.shape[1])), np.zeros(kernel.shape[3])
    ridge = RIDGE * np.trace(covariance) / len(covariance)
    while len(keep) > count:
        precision = np.linalg.inv(covariance[np.ix_(keep, keep)] + ridge * np.eye(len(keep)))
        # A channel's variance that the others leave unexplained, times the weight that the next layer gives it.
        lost = np.square(kernel[:, :, keep]).sum(axis=(0, 1, 3)) / np.diag(precision)
        place = int(np.argmin(lost))
        gone = keep.pop(place)
        sums = -np.delete(precision[place], place) / precision[place, place]
        constant += kernel[:, :, gone].sum(axis=(0, 1)) * (mean[gone] - sums @ mean[keep])
        kernel[:, :, keep] += kernel[:, :, [gone]] * sums[:, None]
    return keep, kernel[:, :, keep], constant


if __name__ == "__main__":
    main()
