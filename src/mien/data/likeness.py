"""Near-duplicates: the same shot again, recompressed, resized, re-lit, retouched or slightly shifted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mien.data.traits import LIKENESS, Traits

# Bits of 256 that may differ. On FER-2013, of 60 pairs drawn at random from 14 to 20 bits all that pass the
# check below show the same shot; two faces drawn at random are 122 bits apart, one pair in a thousand below
# 70.
DISTANCE = 20
# The check against false alarms: Pearson correlation of the two 16x17 likenesses. It throws out near-empty
# pictures, whose few bits agree by chance; every true pair that we looked at was above it.
CORRELATION = 0.9
_FLAT = 2.0  # grey levels of standard deviation below which a picture has nothing to compare
# How far apart in a bucket of equal hash pieces two pictures may stand: bounds the work where thousands are
# alike.
_REACH = 400


def near_pairs(traits: Traits) -> NDArray[np.int64]:
    """Return all pairs of near-duplicates, (m, 3) int64: first index, second (larger) index, bits apart.

    Searched by the pigeonhole principle: if 21 pieces make up a hash and at most 20 bits differ, at least one
    piece is equal. So only pictures with an equal piece are compared, instead of all with all.
    """
    spread = traits.likenesses.std(axis=(1, 2))
    rows = np.flatnonzero(spread >= _FLAT)
    hashes = traits.differences()[rows]
    found = [np.empty((0, 3), np.int64)]
    for first, second in _candidates(hashes):
        distance = np.unpackbits(hashes[first] ^ hashes[second], axis=1).sum(axis=1, dtype=np.int64)
        close = distance <= DISTANCE
        low, high = np.minimum(first, second)[close], np.maximum(first, second)[close]
        found.append(np.stack([rows[low], rows[high], distance[close]], axis=1))
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[_correlation(traits.likenesses, pairs) >= CORRELATION]


def _candidates(hashes: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield arrays of pairs that agree in one of DISTANCE + 1 pieces of their hashes."""
    bits = np.unpackbits(hashes, axis=1)
    for piece in range(DISTANCE + 1):
        # Every 21st bit, not 21 runs of bits: neighbours in a picture say nearly the same.
        mine = bits[:, piece :: DISTANCE + 1]
        value = mine @ (1 << np.arange(mine.shape[1], dtype=np.int64))
        order = np.argsort(value, kind="stable")
        ranked = value[order]
        for step in range(1, min(_REACH, len(order))):
            equal = np.flatnonzero(ranked[step:] == ranked[:-step])
            if not len(equal):
                break
            yield order[equal], order[equal + step]


def _correlation(likenesses: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    flat = likenesses.reshape(len(likenesses), LIKENESS[0] * LIKENESS[1])
    first, second = (flat[pairs[:, side]].astype(np.float64) for side in (0, 1))
    first -= first.mean(axis=1, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    product = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.asarray((first * second).sum(axis=1) / np.maximum(product, 1e-9))
