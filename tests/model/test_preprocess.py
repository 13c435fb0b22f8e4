"""Preprocessing: what it does by definition, and that it still does what it did (stored crops and inputs)."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.errors import ConfigError, DataError
from mien.model.preprocess import Preprocess, to_model_input, to_model_inputs

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make_golden.py"
GOLDEN = ROOT / "tests" / "golden" / "preprocess.npz"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.uint8]]:
    with np.load(GOLDEN) as file:
        return dict(file)


def _assert_close(found: NDArray[np.uint8], stored: NDArray[np.uint8], name: str) -> None:
    """Versions of OpenCV round some pixels the other way; another filter or margin moves many, and by more."""
    assert found.shape == stored.shape, name
    assert found.dtype == stored.dtype, name
    difference = np.abs(found.astype(int) - stored)
    assert difference.max() <= 1, name
    assert difference.mean() < 0.05, name


def test_stored_crops_still_become_the_stored_inputs(
    tool: ModuleType, golden: dict[str, NDArray[np.uint8]]
) -> None:
    stored = {name.removeprefix("crop/"): value for name, value in golden.items() if name.startswith("crop/")}
    made = tool.inputs(stored)
    assert len(made) == 3 * len(stored) == 21
    assert set(made) == {name for name in golden if not name.startswith("crop/")}
    for name, value in made.items():
        _assert_close(value, golden[name], name)


def test_the_script_that_stored_them_still_runs(tmp_path: Path, golden: dict[str, NDArray[np.uint8]]) -> None:
    done = subprocess.run(
        [sys.executable, TOOL, tmp_path / "new.npz"], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"wrote {tmp_path / 'new.npz'}, ")
    with np.load(tmp_path / "new.npz") as new:
        assert set(new) == set(golden)
        for name, stored in golden.items():
            _assert_close(new[name], stored, name)


def test_halving_is_the_mean_of_four_pixels() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
    means = crop.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    made = to_model_input(crop, Preprocess())[:, :, 0]
    assert np.abs(made - means).max() <= 0.5


@pytest.mark.parametrize(("height", "width"), [(40, 2000), (2000, 40), (20, 100), (48, 96)])
def test_only_the_long_side_of_a_thin_picture_is_averaged(height: int, width: int) -> None:
    """OpenCV averages no side where it enlarges the other: stripes a pixel wide came out as other stripes."""
    stripes = np.indices((height, width))[int(width > height)] % 2 * np.uint8(255)
    made = to_model_input(stripes.astype(np.uint8), Preprocess())
    assert np.abs(made.astype(float) - 127.5).max() < 8
    columns = np.random.default_rng(0).integers(0, 256, (24, 1), dtype=np.uint8).repeat(96, axis=1)
    np.testing.assert_array_equal(
        to_model_input(columns, Preprocess()), to_model_input(columns[:, :48], Preprocess())
    )


def test_grey_weighs_the_channels_as_bt601_does() -> None:
    crop = np.zeros((48, 48, 3), np.uint8)
    crop[:16, :, 0], crop[16:32, :, 1], crop[32:, :, 2] = 255, 255, 255
    grey = to_model_input(crop, Preprocess())[:, :, 0]
    assert [int(grey[row, 20]) for row in (5, 20, 40)] == [76, 150, 29]  # 255 times .299, .587, .114


def test_colour_order_is_as_asked() -> None:
    crop = np.full((48, 48, 3), (10, 20, 30), np.uint8)
    assert to_model_input(crop, Preprocess(colour="rgb"))[0, 0].tolist() == [10, 20, 30]
    assert to_model_input(crop, Preprocess(colour="bgr"))[0, 0].tolist() == [30, 20, 10]
    grey = np.full((48, 48), 7, np.uint8)
    assert to_model_input(grey, Preprocess(colour="bgr"))[0, 0].tolist() == [7, 7, 7]


def test_the_right_size_is_left_alone_and_not_shared() -> None:
    crop = np.random.default_rng(1).integers(0, 256, (48, 48), dtype=np.uint8)
    for given in (crop, crop[:, :, None]):
        made = to_model_input(given, Preprocess())
        np.testing.assert_array_equal(made[:, :, 0], crop)
    views = np.random.default_rng(2).integers(0, 256, (60, 60, 3), dtype=np.uint8)[::-1, ::-1]
    np.testing.assert_array_equal(
        to_model_input(views, Preprocess(colour="rgb")),
        to_model_input(views.copy(), Preprocess(colour="rgb")),
    )


def test_many_are_prepared_as_one_is() -> None:
    rng = np.random.default_rng(3)
    crops = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((50, 40, 3), (48, 48), (9, 9, 1))]
    made = to_model_inputs(crops, Preprocess())
    assert made.shape == (3, 48, 48, 1)
    for row, crop in enumerate(crops):
        np.testing.assert_array_equal(made[row], to_model_input(crop, Preprocess()))
    assert to_model_inputs([], Preprocess(size=20, colour="rgb")).shape == (0, 20, 20, 3)


@pytest.mark.parametrize(
    "crop",
    [
        np.zeros((48, 48, 3), np.float32),  # levels in [0, 1], most likely
        np.zeros((48, 48, 4), np.uint8),
        np.zeros((48, 48, 2), np.uint8),
        np.zeros((0, 48), np.uint8),
        np.zeros(48, np.uint8),
        np.zeros((1, 48, 48, 3), np.uint8),
    ],
    ids=lambda crop: f"{crop.shape} {crop.dtype}",
)
def test_what_is_no_crop_is_refused(crop: NDArray[Any]) -> None:
    with pytest.raises(DataError, match=r"a face crop must be .* got shape \("):
        to_model_input(crop, Preprocess())


def test_settings_survive_json_and_unknown_ones_are_named() -> None:
    how = Preprocess(size=64, colour="rgb", margin=1.3)
    assert how.shape == (64, 64, 3)
    assert Preprocess.from_dict(json.loads(json.dumps(how.to_dict()))) == how
    with pytest.raises(ConfigError, match="unknown settings gamma, tilt; update mien"):
        Preprocess.from_dict({"size": 48, "tilt": 1, "gamma": 2})


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"size": 7}, "size must be a whole number from 8 to 1024 pixels, got 7"),
        ({"size": "48"}, "got '48'"),
        ({"size": 48.5}, "got 48.5"),
        ({"colour": "gray"}, "colour must be one of grey, rgb, bgr, got 'gray'"),
        ({"margin": 0.1}, "margin must be from 0.5 to 4 times the face box, got 0.1"),
        ({"margin": float("nan")}, "got nan"),
        ({"margin": None}, "got None"),
    ],
)
def test_wrong_settings_are_named(stored: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocess.from_dict(stored)
