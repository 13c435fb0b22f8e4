"""A network with fewer filters says the same where the filters that went said nothing of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the train extra")


def test_a_channel_that_is_a_sum_of_others_goes_and_is_told_by_them(tool: Any) -> None:
    rng = np.random.default_rng(0)
    said = rng.normal(size=(4000, 5))
    said[:, 2] = 2 * said[:, 0] - said[:, 4] + 3
    kernel = rng.normal(size=(3, 3, 5, 6))
    keep, narrow, constant = tool("narrow").without(said, kernel, 4)
    assert len(keep) == 4 and set(keep) & {0, 2, 4} != {0, 2, 4}
    places = said[:3600].reshape(400, 3, 3, 5)  # nine places that a kernel sees, 400 times
    wanted = np.einsum("nijc,ijcf->nf", places, kernel)
    np.testing.assert_allclose(
        np.einsum("nijc,ijcf->nf", places[..., keep], narrow) + constant, wanted, atol=1e-3
    )


def test_what_the_next_layer_does_not_listen_to_goes_first(tool: Any) -> None:
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(3, 3, 4, 6))
    kernel[:, :, 1] *= 0.01
    keep, _, _ = tool("narrow").without(rng.normal(size=(4000, 4)), kernel, 3)
    assert keep == [0, 2, 3]


def test_small_with_filters_twice_answers_as_slim(tool: Any) -> None:
    built, narrowed = tool("distil").built, tool("narrow").narrowed
    wide, narrow = built("small"), built("slim")
    rng = np.random.default_rng(2)
    for layer, twice in ("stage1_1", 12), ("stage2_1", 8):
        for part in (wide.get_layer(f"{layer}_conv"), wide.get_layer(f"{layer}_norm")):
            weights = part.get_weights()
            for array in weights:
                array[..., -twice:] = array[..., :twice]
            part.set_weights(weights)
    faces = rng.integers(0, 256, (24, 48, 48, 1)).astype(np.float32)
    narrowed(wide, narrow, faces)
    assert narrow.count_params() < wide.count_params()
    for one, two in zip(narrow.predict(faces, verbose=0), wide.predict(faces, verbose=0), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
        assert np.ptp(two, axis=0).max() > 1e-3  # it tells these faces apart
