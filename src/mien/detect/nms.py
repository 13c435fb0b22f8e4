"""Between the network's raw values and faces in pixels: the code of one cell, both ways, and one box a face.

A cell of a level with stride s has its centre at ((column + 0.5) s, (row + 0.5) s). Its VALUES are: the logit of the
score; how far the face's centre lies from the cell's, in strides (x, y); the logarithms of width and height in strides;
how far each of five landmarks lies from the cell's centre, in sides of the face, sqrt(width * height). In sides,
because a face's shape is then nearly the same numbers at every size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mien.detect.metadata import VALUES

Floats = NDArray[np.float32]
_SMALLEST, _LARGEST = (
    -4.0,
    5.0,
)  # of the logarithms; keeps a network that went wrong from answering with infinities
_MOST = 2000  # candidates of one look, the surest first: bounds the time of a picture that fires everywhere
# Intersection over union, and share of the surest one's score, from which a candidate has a say in where the face is.
_BLENDED, _NEARLY = 0.5, 0.7
# Share of the smaller box inside the larger one from which both are the same face: a look at another scale may see half
# a face as one. At 0.75 a portrait of 4,000 pixels kept such a half; average precision was the same to .001.
_INSIDE = 0.65


def encoded(boxes: Floats, landmarks: Floats, centres: Floats, stride: int) -> Floats:
    """Return what cells should say of their faces: (n, VALUES - 1), all but the score.

    boxes: (n, 4) x, y, width, height; landmarks: (n, 5, 2); centres: (n, 2) of the cells; all in pixels.
    """
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    side = np.sqrt(boxes[:, 2:].prod(axis=1))
    points = (landmarks - centres[:, None]) / side[:, None, None]
    parts = [(middle - centres) / stride, np.log(boxes[:, 2:] / stride), points.reshape(-1, 10)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def decoded(level: Floats, stride: int, threshold: float) -> Floats:
    """Return the candidates of one level as (n, VALUES): x, y, width, height, landmarks (10), score, in pixels.

    level: (VALUES, rows, columns) raw values. threshold: in (0, 1); lower scores are left out.
    """
    sure = level[0] > math.log(threshold / (1 - threshold))
    rows, columns = np.nonzero(sure)
    raw = level[:, rows, columns].T
    centres = (np.stack([columns, rows], axis=1).astype(np.float32) + 0.5) * stride
    size = np.exp(np.clip(raw[:, 3:5], _SMALLEST, _LARGEST)) * stride
    corner = centres + raw[:, 1:3] * stride - size / 2
    side = np.sqrt(size.prod(axis=1))
    points = centres[:, None] + raw[:, 5:].reshape(-1, 5, 2) * side[:, None, None]
    score = 1 / (1 + np.exp(-raw[:, 0]))
    found: Floats = np.concatenate([corner, size, points.reshape(-1, 10), score[:, None]], axis=1)
    return found[np.isfinite(found).all(axis=1)]


def merged(found: Floats, overlap: float) -> Floats:
    """Return one row a face, the surest first.

    found: (n, VALUES) as `decoded` gives them. Of boxes that overlap the surest is kept (non-maximum suppression), and
    its place is the mean of those that nearly agree, weighted by score (BlazeFace, Bazarevsky et al. 2019,
    arXiv:1907.05047, section 3.4), which is steadier than one cell's answer.
    """
    found = found[np.argsort(-found[:, -1], kind="stable")[:_MOST]]
    kept = []
    while len(found):
        shared, smaller = overlaps(found[:1, :4], found[:, :4])
        same = (shared[0] >= overlap) | (smaller[0] >= _INSIDE)
        same[0] = True
        say = (shared[0] >= _BLENDED) & (found[:, -1] >= _NEARLY * found[0, -1])
        agreeing = found[say] if say[0] else found[:1]
        place = np.average(agreeing[:, :-1], axis=0, weights=agreeing[:, -1])
        kept.append(np.append(place, found[0, -1]))
        found = found[~same]
    return np.array(kept, np.float32).reshape(-1, VALUES)


def overlaps(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return intersection over union, and intersection over the smaller box, for all pairs: two (n, m) arrays.

    first: (n, 4), second: (m, 4), both x, y, width, height.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    own, other = first[:, 2:].prod(axis=1)[:, None], second[:, 2:].prod(axis=1)[None]
    union = np.maximum(own + other - shared, 1e-9)
    return shared / union, shared / np.maximum(np.minimum(own, other), 1e-9)
