"""The cache makes the second read fast, and never makes any read wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mien.data import cache, open_dataset
from mien.errors import DataError
from mien.files import cache_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def a_csv(path: Path, seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    lines = ["emotion,pixels,Usage"]
    for number in range(6):
        lines.append(f"{number % 2},{' '.join(map(str, random.integers(0, 256, 2304)))},Training")
    path.write_text("\n".join(lines))
    return path


def entries(place: Path) -> list[Path]:
    return sorted(place.rglob("*.npz"))


def test_the_folder_follows_the_environment(place, monkeypatch):
    assert cache_folder() == place
    monkeypatch.delenv("MIEN_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "x"))
    assert cache_folder() == place / "x" / "mien"


def spoil(path: Path, kept: int = 0) -> None:
    """Replace what is in a file, all but its first bytes, without a trace: whoever reads it again notices."""
    state = path.stat()
    path.write_bytes(path.read_bytes()[:kept] + b"x" * (state.st_size - kept))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def made(place: Path) -> dict[str, tuple[int, int]]:
    """Return which file each entry is: one that is made again is another."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in entries(place)}


def test_the_second_read_reads_nothing_but_the_names_of_the_columns(place, tmp_path):
    file = a_csv(tmp_path / "fer2013.csv")
    first = open_dataset(file)
    assert len(entries(place)) == 1
    spoil(file, kept=len("emotion,pixels,Usage\n"))
    second = open_dataset(file)
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(
        second.splits["train"].pictures.read(2), first.splits["train"].pictures.read(2)
    )


def test_another_place_with_the_same_content_needs_no_second_parsing(place, tmp_path):
    first, before = open_dataset(a_csv(tmp_path / "fer2013.csv")), made(place)
    assert open_dataset(a_csv(tmp_path / "other.csv")).fingerprint == first.fingerprint
    assert made(place) == before


@pytest.mark.usefixtures("place")
def test_changed_content_is_read_anew(tmp_path):
    file = a_csv(tmp_path / "fer2013.csv")
    before = open_dataset(file).fingerprint
    a_csv(file, seed=1)
    os.utime(file, ns=(0, 0))
    assert open_dataset(file).fingerprint != before


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_entry_is_made_again(place, tmp_path, damage):
    file = a_csv(tmp_path / "fer2013.csv")
    first = open_dataset(file).fingerprint
    (path,) = entries(place)
    data = bytearray(path.read_bytes())
    data[5000] ^= 255  # among the pixels
    spoilt = {"flip": bytes(data), "cut": path.read_bytes()[:5000], "empty": b"", "other": b"no zip"}[damage]
    path.write_bytes(spoilt)
    assert open_dataset(file).fingerprint == first
    assert path.read_bytes() != spoilt and cache.load("fer2013", path.stem.split("-")[-1]) is not None


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_mapped_and_small_ones_read(place, order):
    large = (
        np.asfortranarray(np.arange(600_000).reshape(300, 2000)) if order == "F" else np.ones((3, 9**7), bool)
    )
    small = np.arange(5.0)
    for arrays in (cache.kept("toy", "ab", {"small": small, "large": large}), cache.load("toy", "ab")):
        np.testing.assert_array_equal(arrays["large"], large)
        np.testing.assert_array_equal(arrays["small"], small)
        assert (arrays["large"].dtype, arrays["small"].dtype) == (large.dtype, small.dtype)
        assert not arrays["large"].flags.owndata and not arrays["large"].flags.writeable
        assert arrays["small"].flags.writeable
    (path,) = entries(place)
    data = bytearray(path.read_bytes())
    data[-3000] ^= 1  # inside the large one
    path.write_bytes(data)
    assert cache.load("toy", "ab") is None


def test_what_cannot_be_stored_is_used_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "file" / "cache"))
    arrays = {"large": np.zeros(2**21, np.uint8)}
    assert cache.kept("toy", "ab", arrays) is arrays


@pytest.mark.usefixtures("place")
def test_the_splits_of_a_csv_share_the_memory_of_the_whole(tmp_path):
    file = a_csv(tmp_path / "fer2013.csv")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:5], *(line.replace("Training", "PublicTest") for line in lines[5:])]))
    splits = open_dataset(file).splits
    one, other = (splits[name].pictures.pixels for name in ("train", "validation"))
    assert (len(one), len(other)) == (4, 2)
    assert one.base is not None and one.base is other.base
    np.testing.assert_array_equal(splits["train"].pictures.take(np.array([3, 1])).pixels, one[[3, 1]])


def test_a_damaged_record_of_hashes_is_made_again(place, tmp_path):
    file = a_csv(tmp_path / "fer2013.csv")
    first = open_dataset(file).fingerprint
    for text in ("{", "[]", '{"size": 1}'):
        for record in (place / "files").iterdir():
            record.write_text(text)
        assert open_dataset(file).fingerprint == first


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "file" / "cache"))
    assert len(open_dataset(a_csv(tmp_path / "fer2013.csv"), carve_validation=False).splits["train"]) == 6


@pytest.mark.usefixtures("place")
def test_only_new_and_changed_pictures_are_decoded_again(tmp_path, write_faces):
    write_faces(tmp_path / "set", {"a": 4, "b": 4}, size=120)
    open_dataset(tmp_path / "set")
    for path in sorted((tmp_path / "set").rglob("*.png")):
        spoil(path)  # those that are decoded again are no pictures any more
    write_faces(tmp_path / "set", {"b": 1}, first_seed=50, size=130)  # replaces b/0.png
    write_faces(tmp_path / "set", {"c": 2}, first_seed=60, size=120)
    dataset = open_dataset(tmp_path / "set", carve_validation=False)
    assert np.bincount(dataset.splits["train"].labels).tolist() == [4, 4, 2]
    assert dataset.splits["train"].pictures.read(4).shape == (130, 130)


def test_decoded_small_pictures_are_found_again_by_content(place, tmp_path, write_faces):
    write_faces(tmp_path / "set", {"a": 3, "b": 3}, size=20)
    first = open_dataset(tmp_path / "set")
    (pixels,) = [name for name in made(place) if name.startswith("small")]
    before = made(place)[pixels]
    (tmp_path / "set").rename(tmp_path / "moved")
    assert open_dataset(tmp_path / "moved").fingerprint == first.fingerprint
    assert made(place)[pixels] == before


def test_nothing_is_cached_of_a_file_that_is_wrong(place, tmp_path):
    file = a_csv(tmp_path / "fer2013.csv")
    file.write_text(file.read_text().replace("Training", "Nowhere", 1))
    for _ in range(2):
        with pytest.raises(DataError, match="has Usage 'Nowhere'"):
            open_dataset(file)
    assert not entries(place)
