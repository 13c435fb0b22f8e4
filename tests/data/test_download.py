"""Downloading: names, refusals, and the message where there is no network or no package."""

from __future__ import annotations

import sys

import pytest

from mien.data.convert import KAGGLE, get
from mien.errors import DataError, MissingExtra, OutputError


def test_unknown_names_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(
        DataError, match="no data set named 'ferr'; known are fer2013, face-expression, human-emotions"
    ):
        get("ferr", tmp_path / "x")
    with pytest.raises(DataError, match="no data set named 'a/b/c'"):
        get("a/b/c", tmp_path / "x")


def test_a_taken_folder_is_refused_before_anything_is_fetched(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="exists already"):
        get("fer2013", tmp_path)


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtra, match=r'needs kagglehub.*pip install "mien\[download\]"'):
        get("fer2013", tmp_path / "x")


def test_without_a_network(tmp_path, monkeypatch):
    """The real package against an address where nobody answers."""
    pytest.importorskip("kagglehub")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    with pytest.raises(
        DataError, match=r"no connection to Kaggle.*or download https://www\.kaggle\.com/datasets/msambare"
    ):
        get("fer2013", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_kagglehub_has_is_copied_whole(tmp_path, monkeypatch, write_faces):
    kagglehub = pytest.importorskip("kagglehub")
    write_faces(tmp_path / "had", {"train/a": 1})
    asked = []
    monkeypatch.setattr(
        kagglehub, "dataset_download", lambda slug: (asked.append(slug), str(tmp_path / "had"))[1]
    )
    assert (
        get("human-emotions", tmp_path / "out")
        == f"https://www.kaggle.com/datasets/{KAGGLE['human-emotions']}"
    )
    assert asked == ["muhammadhananasghar/human-emotions-datasethes"]
    assert (tmp_path / "out/train/a/0.png").read_bytes() == (tmp_path / "had/train/a/0.png").read_bytes()
