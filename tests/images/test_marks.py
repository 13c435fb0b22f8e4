"""What a picture file says it was made of, and where a result goes whose name is taken."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.images import read_image
from mien.images.canvas import WRITTEN, write_picture
from mien.images.marks import free_place, mark_for, mark_of, marked

PICTURE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)


@pytest.mark.parametrize("suffix", [*WRITTEN, ".bmp", ".tif"])
def test_a_mark_comes_back_and_changes_no_pixel(tmp_path: Path, suffix: str) -> None:
    """Our own decoder calls no marked file odd."""
    plain, path = tmp_path / f"plain{suffix}", tmp_path / f"marked{suffix}"
    write_picture(plain, PICTURE)
    write_picture(path, PICTURE, mark_for("a/x.jpg", 1))
    assert mark_of(path) == mark_for("a/x.jpg", 1) != mark_for("b/x.jpg", 1)
    assert mark_of(plain) == "" and path.stat().st_size > plain.stat().st_size
    with warnings.catch_warnings(action="error"):
        np.testing.assert_array_equal(read_image(path), read_image(plain))
    np.testing.assert_array_equal(cv2.imread(str(path)), cv2.imread(str(plain)))


@pytest.mark.parametrize("suffix", [*WRITTEN, ".bmp", ".tif"])
def test_a_file_that_is_cut_off_has_no_mark_or_the_whole_one(tmp_path: Path, suffix: str) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / "cut"
    write_picture(whole, PICTURE, "0123")
    data = whole.read_bytes()
    assert mark_of(path) == ""  # none there
    for length in {*range(80), len(data) // 2, len(data) - 1}:
        path.write_bytes(data[:length])
        assert "0123".startswith(mark_of(path))


def test_a_result_replaces_its_own_alone(tmp_path: Path) -> None:
    place = tmp_path / "x.png"
    assert free_place(place, "one") == place
    write_picture(place, PICTURE, "one")
    assert free_place(place, "one") == place
    assert free_place(place, "two") == tmp_path / "x-2.png"
    write_picture(tmp_path / "x-2.png", PICTURE)  # of nobody knows what
    assert free_place(place, "two") == tmp_path / "x-3.png"
    assert free_place(place, "two", {str(tmp_path / "x-3.png").casefold()}) == tmp_path / "x-4.png"
    assert free_place(place, "") == tmp_path / "x-3.png"
    assert marked(b"anything", "") == b"anything"
