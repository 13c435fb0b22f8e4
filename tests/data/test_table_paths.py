"""Where the pictures of a table lie: beside it, elsewhere, spelt otherwise, in an archive."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import unicodedata
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data import open_dataset
from mien.errors import DataError

from .conftest import listed, mood, packed, rows, said, write_table


def test_a_folder_with_a_table_beside_its_pictures(pictures):
    write_table(pictures, f"path,label\n{rows()}", "who.csv")
    (pictures / "pictures" / "more.png").write_bytes((pictures / "pictures" / "0.png").read_bytes())
    dataset = open_dataset(pictures)
    assert said(dataset, "in no row that is used: 1 picture, such as pictures/more.png")
    assert dataset.name == "who" and {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 6,
        "validation": 2,
    }


def test_a_folder_with_several_tables(pictures):
    write_table(pictures, f"path,label\n{rows()}")
    write_table(pictures, f"path,label\n{rows()}", "old.csv")
    with pytest.raises(DataError, match=r"holds 2 tables \(labels\.csv, old\.csv\); give the path of one"):
        open_dataset(pictures)


def test_a_table_beside_class_folders_is_not_passed_over_in_silence(tmp_path, write_faces):
    write_faces(tmp_path, {"happy": 3, "sad": 3})
    (tmp_path / "labels.csv").write_text("path,label\nhappy/0.png,sad\n")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("happy", "sad")
    assert any(note.startswith("not read: labels.csv beside the folders") for note in dataset.notes)


def test_paths_under_another_spelling(tmp_path, write_faces):
    # As a Windows table names them, and one that was typed elsewhere than on the Mac that made the files.
    write_faces(tmp_path, {"pictures": 8})
    decomposed = [unicodedata.normalize("NFD", f"pictures/größe{number}.png") for number in range(4)]
    for number, name in enumerate(decomposed):
        (tmp_path / "pictures" / f"{number}.png").rename(tmp_path / name)
    names = [f"pictures/größe{number}.png" for number in range(4)] + [
        f"Pictures/{n}.PNG" for n in range(4, 8)
    ]
    lines = [f"{name},{'happy' if number % 2 else 'sad'}\n" for number, name in enumerate(names)]
    dataset = open_dataset(write_table(tmp_path, "path,label\n" + "".join(lines)), carve_validation=False)
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 4 and not dataset.unreadable
    assert said(dataset, "8 paths are found under another spelling, such as")
    some = "".join(lines).replace("Pictures/7.PNG", "pictures/99.png").replace("Pictures/", "pictures/")
    dataset = open_dataset(write_table(tmp_path, "path,label\n" + some), carve_validation=False)
    assert [bad.name for bad in dataset.unreadable] == ["pictures/99.png"]
    assert said(dataset, "7 paths are found under another spelling, such as")


def test_of_two_pictures_that_are_spelt_alike_none_is_guessed(pictures):
    shutil.copy(pictures / "pictures/1.png", pictures / "pictures/1.PNG")
    text = f"path,label\n{rows()}".replace("1.png", "1.Png")
    assert [bad.name for bad in open_dataset(write_table(pictures, text)).unreadable] == ["pictures/1.Png"]


def test_names_without_suffixes_of_pictures_with_different_ones(pictures):
    for number in (0, 3):
        image = cv2.imread(str(pictures / f"pictures/{number}.png"))
        cv2.imwrite(str(pictures / f"pictures/{number}.bmp"), image)
        (pictures / f"pictures/{number}.png").unlink()
    text = f"path,label\n{rows()}".replace(".png", "")
    dataset = open_dataset(write_table(pictures, text), carve_validation=False)
    assert len(dataset.splits["train"]) == 8 and not dataset.unreadable


def test_a_table_in_each_split_folder_beside_its_pictures(tmp_path, write_faces):
    write_faces(tmp_path, {"train/images": 4, "val/images": 4})
    for split, labels in (("train", "abab"), ("val", "bbaa")):
        lines = [f"{number}.png,{label}" for number, label in enumerate(labels)]
        write_table(tmp_path / split, "\n".join(["image,emotion", *lines]), "labels.csv")
    dataset = open_dataset(tmp_path)
    assert {name: part.labels.tolist() for name, part in dataset.splits.items()} == {
        "train": [0, 1, 0, 1],
        "validation": [1, 1, 0, 0],
    }
    assert dataset.splits["validation"].names[0] == "val/0.png"


def test_tables_of_splits_find_their_pictures_in_the_folders_of_their_splits(tmp_path, write_faces):
    write_faces(tmp_path, {"train": 4, "test": 4})  # each has a 0.png
    for split in ("train", "test"):
        lines = [f"{number}.png,{'ab'[number % 2]}" for number in range(4)]
        write_table(tmp_path, "\n".join(["image,emotion", *lines]), f"{split}.csv")
    dataset = open_dataset(tmp_path, carve_validation=False)
    for split in ("train", "test"):
        first = cv2.imread(str(tmp_path / split / "0.png"), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(dataset.splits[split].pictures.read(0), first)


def test_a_table_elsewhere_than_the_pictures_is_named(tmp_path, write_faces):
    write_faces(tmp_path, {"images/train": 2, "images/test": 2, "annotations": 0})
    write_table(tmp_path / "annotations", "image,emotion\n0.png,a\n1.png,b\n", "labels.csv")
    with pytest.raises(DataError, match=r"annotations/labels\.csv says .*: .*labels\.csv --root .*images$"):
        open_dataset(tmp_path)


def test_where_the_pictures_are_is_found_or_asked(pictures):
    path = write_table(pictures, f"image,label\n{rows().replace('pictures/', '')}")
    assert said(open_dataset(path), "pictures found in pictures/")
    windows = write_table(
        pictures, f"path,label\n{rows().replace('pictures/', 'pictures' + chr(92))}", "windows.csv"
    )
    assert len(open_dataset(windows, carve_validation=False).splits["train"]) == 8
    bare = write_table(
        pictures, f"id,path,label\n{''.join(f'{n},{n},{n % 2}' + chr(10) for n in range(8))}", "bare.csv"
    )
    assert len(open_dataset(bare, carve_validation=False).splits["train"]) == 8
    gone = write_table(pictures, "path,label\nno/0.png,a\nno/1.png,b\n", "gone.csv")
    with pytest.raises(
        DataError, match=r"no picture that .* is there, of 2; looked for .*no/0\.png; .* --root DIR"
    ):
        open_dataset(gone)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_archives_are_read_without_unpacking_by_hand(tmp_path, write_faces, suffix):
    write_faces(tmp_path / "in", {"train/happy": 3, "train/sad": 3, "test/sad": 1})
    path = packed(tmp_path / "in", tmp_path / f"faces{suffix}")
    for _ in range(2):
        dataset = open_dataset(path)
        assert dataset.name == "faces" and dataset.fingerprint == open_dataset(tmp_path / "in").fingerprint
    whole = path.read_bytes()
    path.write_bytes(whole[:-300])
    with pytest.raises(DataError, match=r"cannot be unpacked: .*; get the file again"):
        open_dataset(path)
    if suffix == ".tar.gz":  # half of the faces are no data set, although the cut tar file unpacks
        tar = gzip.decompress(whole)
        path = tmp_path / "cut.tar"
        path.write_bytes(tar[: tar.index(b"faces/train/sad/")])
        with pytest.raises(
            DataError, match=r"cannot be unpacked: no mark of its end at byte .*; get the file"
        ):
            open_dataset(path)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_archive_writes_nowhere_else_and_what_has_no_place_is_counted(tmp_path, write_faces, suffix):
    write_faces(tmp_path / "in", {"happy": 2, "sad": 2})
    away = str(tmp_path / "escaped.png")
    names = [
        "../../escaped.png",
        "/tmp-absolute.png",
        f"/{away}",
        f"///{away}",
        f"/{away}".replace("/", "\\"),
    ]
    names += [f"happy/{'n' * 252}.png"]  # a byte too long
    pictures = sorted((tmp_path / "in").rglob("*.png"))
    content = {str(one.relative_to(tmp_path / "in")): one.read_bytes() for one in pictures}
    content |= dict.fromkeys((f"happy/{'n' * 251}.png", *names), pictures[0].read_bytes())
    path = tmp_path / f"faces{suffix}"
    with zipfile.ZipFile(path, "w") if suffix == ".zip" else tarfile.open(path, "w") as archive:
        for name, data in [*content.items(), (next(iter(content)), pictures[0].read_bytes())]:
            if suffix == ".zip":
                with warnings.catch_warnings(action="ignore"):  # of a name that comes again
                    archive.writestr(name, data)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    for _ in range(2):
        dataset = open_dataset(path, carve_validation=False)
        assert len(dataset.splits["train"]) == 5
        assert any(note.startswith("left out: 7 members of faces that are links") for note in dataset.notes)
    assert not [*tmp_path.parent.rglob("escaped.png")] and not Path("/tmp-absolute.png").exists()


def test_the_only_archive_in_a_folder_is_read_unless_it_is_locked(tmp_path, write_faces):
    write_faces(tmp_path / "in", {"happy": 2, "sad": 3})
    (tmp_path / "data").mkdir()
    path = packed(tmp_path / "in", tmp_path / "data" / "faces.zip")
    assert open_dataset(tmp_path / "data").classes == ("happy", "sad")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # in the flags of the first member
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"faces\.zip is locked with a password; unpack it and give the folder"
    ):
        open_dataset(tmp_path / "data")


def test_an_archive_that_would_fill_the_disk(tmp_path, write_faces, monkeypatch):
    write_faces(tmp_path / "in", {"happy": 2, "sad": 2})
    path = packed(tmp_path / "in", tmp_path / "full.zip")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(DataError, match=r"unpacks to .* and there is room for 0\.0 GB in"):
        open_dataset(path)


def test_paths_are_not_shortened_until_two_are_one(pictures):
    with pytest.raises(DataError, match="is there, of 8;"):
        listed(
            pictures,
            "path,label",
            lambda n: f"{'ab'[n % 2]}/{n // 2}.png,{mood(n)}",
            root=str(pictures / "pictures"),
        )
    with pytest.raises(
        DataError, match=r"names addresses, such as https://x\.org/p0\.png, and mien fetches nothing"
    ):
        listed(pictures, "path,label", lambda n: f"https://x.org/p{n}.png,{mood(n)}")
