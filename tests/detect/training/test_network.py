"""The network as it is shipped: small, the same in ONNX Runtime as in Keras, at any size that is a multiple of 32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from mien.detect.mien import OUTPUTS, SHIPPED, VALUES, read_detector
from mien.detect.training.export import assign_weights, difference, with_half_kernels
from mien.detect.training.network import build, with_cells_in_a_row
from mien.detect.training.sampler import cell_count
from mien.errors import ModelError
from mien.train.export.onnx import to_raw_onnx

from ...train.tiny_networks import randomised


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return randomised(build())


def test_it_is_small_and_has_one_answer_a_cell(network: keras.Model) -> None:
    assert network.count_params() == 100_349
    assert network.output_names == list(OUTPUTS)
    rows = with_cells_in_a_row(network)
    assert rows(np.zeros((1, 64, 64, 3), np.float32)).shape == (1, cell_count(64), VALUES)


def test_onnx_runtime_gives_the_same_and_half_the_bytes_hardly_differ(network: keras.Model) -> None:
    model = to_raw_onnx(network)
    exact = model.SerializeToString()
    rounded = with_half_kernels(model).SerializeToString()
    name = Path("detector.onnx")
    assert difference(network, exact, name) < 1e-3
    assert 0 < difference(network, rounded, name) < 0.1
    assert len(rounded) <= 300_000 < len(exact)


def test_upsampling_that_cannot_be_exported_is_refused() -> None:
    picture = keras.Input((None, None, 3), name="faces")
    larger = keras.layers.UpSampling2D(2, interpolation="bilinear", name="up")(picture)
    with pytest.raises(ModelError, match="'up': mien exports UpSampling2D with interpolation 'nearest'"):
        to_raw_onnx(keras.Model(picture, larger))


def test_upsampling_repeats_pixels_in_either_direction() -> None:
    picture = keras.Input((None, None, 2), name="faces")
    model = keras.Model(picture, keras.layers.UpSampling2D((2, 3), name="up")(picture))
    from mien.model.session import open_session

    session = open_session(to_raw_onnx(model).SerializeToString(), Path("up"))
    levels = np.arange(2 * 3 * 2, dtype=np.float32).reshape(1, 2, 3, 2)
    (answer,) = session.run(None, {"faces": levels})
    np.testing.assert_array_equal(answer[0].transpose(1, 2, 0), levels[0].repeat(2, 0).repeat(3, 1))


def test_a_training_can_start_from_the_detector_that_ships() -> None:
    shipped, fresh = read_detector(SHIPPED), build()
    assert difference(fresh, shipped.network, shipped.path) > 0.1
    assign_weights(fresh, shipped)
    assert difference(fresh, shipped.network, shipped.path) < 1e-4
    kernels = onnx.load_from_string(shipped.network).graph.initializer
    other = onnx.ModelProto()
    other.graph.initializer.extend(kernels[1:])
    with pytest.raises(ModelError, match=r"is of another network.*stem/kernel"):
        assign_weights(fresh, replace(shipped, network=other.SerializeToString()))
