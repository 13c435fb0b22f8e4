"""The networks that mien builds for faces: what they are made of, and what light does not change."""

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the training extra")

from mien.labels import FER2013, FERPLUS
from mien.model.preprocess import Preprocess
from mien.train.backend import import_keras
from mien.train.networks import network
from mien.train.networks.spec import NetworkRequest


def built(name):
    keras = import_keras()
    keras.utils.set_random_seed(0)
    heads = {"fer2013": FER2013, "votes": FERPLUS}
    return network(name).build(NetworkRequest(heads=heads, preprocess=Preprocess(size=44, resize=48)))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("small", 1_699_559), ("slim", 1_691_595), ("wide", 7_502_415), ("residual", 7_874_847)],
)
def test_parameters(name, parameters):
    assert built(name).count_params() == parameters


def test_light_and_contrast_make_no_difference():
    rng = np.random.default_rng(0)
    faces = rng.uniform(40, 200, (4, 44, 44, 1)).astype(np.float32)
    small = built("small")
    for dimmed in (faces / 4, faces / 4 + 120):
        for one, two in zip(small.predict_on_batch(faces), small.predict_on_batch(dimmed), strict=True):
            np.testing.assert_allclose(one, two, atol=0.02)
    flat = np.full((1, 44, 44, 1), 77, np.float32)
    assert all(np.isfinite(head).all() for head in small.predict_on_batch(flat))
