"""A data set in another form is the same data set, and nothing is ever half written or overwritten."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from mien.data import DataConfig, convert, open_dataset
from mien.errors import DataError, ImageError, OutputError


@pytest.fixture
def source(tmp_path, write_faces):
    write_faces(
        tmp_path / "set", {"train/happy": 3, "train/sad": 2, "validation/happy": 1, "test/sad": 2}, size=48
    )
    return tmp_path / "set"


@pytest.mark.parametrize("form", ["folders", "table", "csv", "csv.gz", "csv.xz"])
def test_there_and_back_is_the_same(source, tmp_path, form):
    before = open_dataset(source)
    target = tmp_path / "below" / (f"out.{form}" if form.startswith("csv") else "out")
    write = {"folders": convert.to_folders, "table": convert.to_table}.get(form, convert.to_csv)
    assert write(before, target) == 8
    after = open_dataset(target)
    assert after.fingerprint == before.fingerprint
    assert {name: len(split) for name, split in after.splits.items()} == {
        "train": 5,
        "validation": 1,
        "test": 2,
    }


def test_colour_survives_and_large_pictures_stream(tmp_path, write_faces):
    write_faces(tmp_path / "set", {"a": 2, "b": 2}, size=130, colour=True)
    convert.to_folders(open_dataset(tmp_path / "set"), tmp_path / "out")
    train = open_dataset(tmp_path / "out").splits["train"]
    assert train.pictures.read(0).shape == (130, 130, 3)
    assert open_dataset(tmp_path / "out").fingerprint == open_dataset(tmp_path / "set").fingerprint


def test_the_table_keeps_names_and_any_letters(tmp_path, write_faces):
    write_faces(tmp_path / "set", {"très heureux": 2, "b": 2})
    dataset = open_dataset(tmp_path / "set", DataConfig(merge=("a/b=b",)))
    convert.to_table(dataset, tmp_path / "out")
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"très heureux", "a/b"} and len(rows) == 4
    assert {row["name"] for row in rows} >= {"b/0.png", "très heureux/1.png"}
    assert open_dataset(tmp_path / "out").classes == ("a/b", "très heureux")
    convert.to_folders(dataset, tmp_path / "folders")
    assert open_dataset(tmp_path / "folders").classes == ("a_b", "très heureux")


def test_the_csv_shrinks_and_takes_colour_away(tmp_path, write_faces):
    write_faces(tmp_path / "set", {"anger": 2, "joy": 2}, size=96, colour=True)
    convert.to_csv(open_dataset(tmp_path / "set"), tmp_path / "out.csv")
    found = open_dataset(tmp_path / "out.csv")
    assert found.classes == ("angry", "happy") and found.name == "out"
    assert found.splits["train"].pictures.read(0).shape == (48, 48)


def test_classes_that_fer2013_has_no_number_for(tmp_path, write_faces):
    write_faces(tmp_path / "set", {"happy": 2, "nothappy": 2})
    with pytest.raises(DataError, match="FER-2013's form has no number for nothappy"):
        convert.to_csv(open_dataset(tmp_path / "set"), tmp_path / "out.csv")
    write_faces(tmp_path / "two", {"happy": 2, "joy": 2})
    with pytest.raises(DataError, match="happy, joy are one of FER-2013's; join them with --merge"):
        convert.to_csv(open_dataset(tmp_path / "two"), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_folders_that_would_be_one(tmp_path, write_faces):
    write_faces(tmp_path / "set", {"a": 2, "b": 2})
    dataset = open_dataset(tmp_path / "set", DataConfig(merge=("x?=a", "x*=b")))
    with pytest.raises(DataError, match="cannot all be folders"):
        convert.to_folders(dataset, tmp_path / "out")


def test_names_of_soft_labels_stay_as_they_are(tmp_path, write_faces):
    write_faces(tmp_path, {"pictures": 4})
    rows = "".join(f"pictures/{n}.png,0.{n + 1},0.5\n" for n in range(4))
    (tmp_path / "soft.csv").write_text("path,p - happy,p_sad\n" + rows)
    assert open_dataset(tmp_path / "soft.csv").classes == ("happy", "sad")
    (tmp_path / "soft.csv").write_text("path,p_Very Happy,P_Half-Sad\n" + rows)
    dataset = open_dataset(tmp_path / "soft.csv")
    assert dataset.classes == ("Half-Sad", "Very Happy")
    convert.to_table(dataset, tmp_path / "out")
    assert open_dataset(tmp_path / "out").classes == dataset.classes


def test_nothing_is_overwritten(source, tmp_path):
    dataset = open_dataset(source)
    for write, target in ((convert.to_folders, source), (convert.to_table, source)):
        with pytest.raises(OutputError, match="exists already and is not overwritten"):
            write(dataset, target)
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists already and is not overwritten"):
        convert.to_csv(dataset, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert convert.to_folders(dataset, tmp_path / "empty") == 8


def test_a_place_that_cannot_be_written(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    dataset = open_dataset(source)
    for write in (convert.to_folders, convert.to_table, convert.to_csv):
        with pytest.raises(OutputError, match=r"cannot write .*file/out\.csv: .*name another place"):
            write(dataset, tmp_path / "file" / "out.csv")


def test_a_failure_half_way_leaves_nothing(tmp_path, write_faces):
    write_faces(tmp_path / "set", {"a": 4, "b": 4}, size=120)
    dataset = open_dataset(tmp_path / "set")
    (tmp_path / "set" / "b" / "2.png").unlink()
    with pytest.raises(ImageError, match="cannot be opened"):
        convert.to_folders(dataset, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_png_is_lossless(face):
    from mien.images import decode_image

    for picture in (face(0), face(0, colour=True)):
        np.testing.assert_array_equal(decode_image(convert.png(picture), "x"), picture)
