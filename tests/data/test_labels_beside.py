"""Labels in files beside the pictures: boxes, metadata, numbers with their names, archives."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data import open_dataset
from mien.errors import DataError

from .conftest import TWO, labels, read, said, sizes


def test_image_folder_with_metadata(write):
    root = write("train/0.png", "train/1.png", "test/0.png")
    (root / "train/metadata.csv").write_text("file_name,label\n0.png,happy\n1.png,sad\n")
    (root / "test/metadata.jsonl").write_text('{"file_name": "0.png", "label": "happy"}\n')
    dataset = read(root)
    assert dataset.classes == ("happy", "sad") and sizes(dataset) == {"train": 2, "test": 1}
    flat = write("0.png", "1.png", root=root / "flat")
    (flat / "metadata.csv").write_text("file_name,label\n0.png,happy\n1.png,sad\n")
    assert labels(read(flat)) == {"0.png": "happy", "1.png": "sad"}


def test_a_column_of_splits_is_used_whatever_it_is_called(tmp_path, write_faces):
    write_faces(tmp_path, {"pictures": 6})
    rows = [
        f"pictures/{row}.png,{('happy', 'sad')[row % 2]},{('Train', 'Test')[row > 3]}" for row in range(6)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,data_type", *rows]))
    dataset = open_dataset(tmp_path / "list.csv", carve_validation=False)
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 4, "test": 2}
    assert "split by the column 'data_type': train 4, test 2" in dataset.notes


BOXED = {
    "YOLO": {
        "data.yaml": "names: [angry, 'happy']\nnc: 2\n",
        "train/labels/0.txt": "0 0.5 0.25 0.5 0.5\n1 0.5 0.75 1 0.5\n",
        "valid/labels/1.txt": "1 0.5 0.25 0.5 0.5\n",
    },
    "Pascal VOC": {
        f"{n}.xml": "<annotation><filename>{}.png</filename>{}</annotation>".format(
            n,
            "".join(
                f"<object><name>{label}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
                f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
                for label, (left, top, right, bottom) in faces
            ),
        )
        for n, faces in enumerate([
            [("angry", (6, 0, 18, 12)), ("happy", (0, 12, 24, 24))],
            [("happy", (6, 0, 18, 12))],
        ])
    },
    "COCO": {
        "annotations/instances.json": json.dumps({
            "images": [{"id": 5, "file_name": "0.png"}, {"id": 6, "file_name": "1.png"}],
            "categories": [{"id": 1, "name": "angry"}, {"id": 2, "name": "happy"}],
            "annotations": [
                {"image_id": 5, "category_id": 1, "bbox": [6, 0, 12, 12]},
                {"image_id": 5, "category_id": 2, "bbox": [0, 12, 24, 12]},
                {"image_id": 6, "category_id": 2, "bbox": [6.2, 0, 12, 12]},
            ],
        })
    },
    "a table": {
        "labels.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\ntrain/images/0.png,24,24,angry,6,0,18,12\n"
        "train/images/0.png,24,24,happy,0,12,24,24\nvalid/images/1.png,24,24,happy,6,0,18,12\n"
    },
}  # fmt: skip


@pytest.mark.parametrize("form", BOXED)
def test_faces_are_cut_out_by_boxes_as_detectors_have_them(write, form):
    folder = write("train/images/0.png", "valid/images/1.png", "valid/images/none.png")
    for name, text in BOXED[form].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    dataset = read(folder)
    assert dataset.classes == ("angry", "happy") and sizes(dataset) == {"train": 2, "validation": 1}
    train = dataset.splits["train"]
    assert train.labels.tolist() == [0, 1] and len(set(train.groups or ())) == 1
    whole = cv2.imread(str(folder / "train/images/0.png"), cv2.IMREAD_GRAYSCALE)
    for row, cut in enumerate((whole[:12, 6:18], whole[12:])):
        np.testing.assert_array_equal(train.pictures.read(row).reshape(cut.shape), cut)
    assert said(
        dataset,
        "1 picture without a box" if form != "a table" else "1 picture, such as valid/images/none.png",
    )


def test_boxes_belong_to_the_picture_of_their_own_split(write):
    """Pictures are numbered alike in train/ and test/; a picture that is gone is counted."""
    names = [f"{split}/JPEGImages/{number}.png" for split in ("train", "test") for number in (0, 1)]
    folder = write(*names)
    said_of = dict(zip(names, ("happy", "sad", "sad", "happy"), strict=True)) | {
        "test/JPEGImages/9.png": "sad"
    }
    coco = {"train": [], "test": []}
    for name, label in said_of.items():
        split, _, picture = name.split("/")
        (folder / split / "Annotations").mkdir(exist_ok=True)
        (folder / split / "Annotations" / f"{Path(picture).stem}.xml").write_text(
            f"<annotation><filename>{picture}</filename><object><name>{label}</name><bndbox><xmin>2</xmin>"
            "<ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
        )
        coco[split].append((picture, label))
    kinds = ["happy", "sad"]
    for form in ("Pascal VOC", "COCO"):
        dataset = read(folder)
        found = {name.partition(" face")[0]: label for name, label in labels(dataset).items()}
        assert found == {name: said_of[name] for name in names}, form
        assert len(dataset.unreadable) == 1 and "9.png" in str(dataset.unreadable[0]), form
        for file in folder.rglob("*.xml"):
            file.unlink()
        for split, rows in coco.items():
            told = {
                "categories": [{"id": number, "name": kind} for number, kind in enumerate(kinds)],
                "images": [{"id": number, "file_name": picture} for number, (picture, _) in enumerate(rows)],
                "annotations": [
                    {"image_id": number, "category_id": kinds.index(label), "bbox": [2, 2, 18, 18]}
                    for number, (_, label) in enumerate(rows)
                ],
            }
            (folder / split / "all.json").write_text(json.dumps(told))
    for file in folder.rglob("*.json"):
        file.unlink()
    for name, label in said_of.items():
        (folder / name).with_suffix(".txt").write_text(f"{kinds.index(label)} 0.5 0.5 0.9 0.9")
    (folder / names[0]).write_bytes(b"no picture")
    bad = read(folder).unreadable
    assert sorted(Path(one.name.partition(" face")[0]).name for one in bad) == ["0.png", "9.jpg"]


def test_numbers_with_their_names_beside_them(write):
    names = ("0/a.png", "0/b.png", "1/a.png", "2/a.png")
    folder = write(*names)
    assert read(folder).classes == ("0", "1", "2")
    for file, text in (
        ("classes.txt", "angry\nhappy\nsad\n"),
        ("labels.txt", "0 angry\n2: sad\n1,happy\n"),
        ("class_indices.json", '{"angry": 0, "happy": 1, "sad": 2}'),
    ):
        (folder / file).write_text(text)
        dataset = read(folder)
        assert dataset.classes == ("angry", "happy", "sad") and labels(dataset)["2/a.png"] == "sad"
        assert said(dataset, f"what the numbers mean is read from {file}: 0 angry, 1 happy, 2 sad")
        assert read(folder, labels=("0=calm",)).classes == ("1", "2", "calm")
        (folder / file).unlink()
    (folder / "classes.txt").write_text("angry\nhappy\n")  # of something else
    assert read(folder).classes == ("0", "1", "2")
    (folder / "classes.txt").write_text("angry\nhappy\nsad\n")
    with zipfile.ZipFile(folder / "all.zip", "w") as stored:
        for name in (*names, "classes.txt"):
            stored.write(folder / name, f"set/{name}")
    (folder / "classes.txt").unlink()
    assert read(folder / "all.zip").classes == ("angry", "happy", "sad")


def test_an_archive_for_each_split_and_a_table_without_labels(write, tmp_path):
    for split in ("train", "test"):
        write(*(f"{split}/{name}" for name in TWO), root=tmp_path / "in")
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as stored:
            for name in TWO:
                stored.write(tmp_path / "in" / split / name, name)
    shutil.rmtree(tmp_path / "in")
    dataset = read(tmp_path)
    assert sizes(dataset) == {"train": 2, "test": 2} and said(
        dataset, "read from the archives test.zip, train.zip"
    )
    (tmp_path / "test.zip").rename(tmp_path / "more.zip")
    with pytest.raises(
        DataError, match=r"2 archives \(more.zip, train.zip\), whose names are not one split each"
    ):
        read(tmp_path)
    folder = write("p/0.png", "p/1.png", "p/2.png", root=tmp_path / "competition")
    (folder / "train.csv").write_text("path,label\np/0.png,a\np/1.png,b\n")
    (folder / "test.csv").write_text("path\np/2.png\n")
    dataset = read(folder)
    assert sizes(dataset) == {"train": 2} and said(
        dataset, "not read: test.csv, without columns of pictures and labels"
    )


def test_roboflow_and_metadata_beside_pictures_that_they_do_not_name(write):
    folder = write(*(f"{part}/{n}.png" for part in ("train", "valid") for n in range(3)))
    for part in ("train", "valid"):
        (folder / part / "_classes.csv").write_text(
            "filename, bored, tired, Unlabeled\n0.png, 1, 0, 0\n1.png, 0, 1, 0\n"
        )
    dataset = read(folder)
    assert dataset.classes == ("bored", "tired") and sizes(dataset) == {"train": 2, "validation": 2}
    assert said(dataset, "in no row that is used: 2 pictures, such as train/2.png")


def test_labels_in_a_table_elsewhere_and_pictures_in_several_folders(write):
    folder = write("images/0.png", "images/1.png", "more/2.png", "more/3.png")
    (folder / "labels").mkdir()
    table = folder / "labels" / "all.csv"
    table.write_text("image,label\n0.png,happy\n1.png,sad\n")
    with pytest.raises(
        DataError, match=r"one folder of pictures \(alone\).*labels/all\.csv.*--root .*/alone"
    ):
        alone = write("alone/0.png", root=folder / "one")
        (alone / "labels").mkdir()
        (alone / "labels" / "all.csv").write_text(table.read_text())
        read(alone)
    assert labels(read(table, root=str(folder / "images"))) == {"0.png": "happy", "1.png": "sad"}
    both = folder / "both.csv"
    both.write_text("image,label\n0.png,happy\n1.png,sad\n2.png,happy\n3.png,sad\n")
    with pytest.raises(DataError, match="lie in several folders"):  # 0.png in two of them
        read(both)
    (folder / "one" / "alone" / "0.png").unlink()
    dataset = read(both)
    assert sizes(dataset) == {"train": 4} and said(dataset, "pictures found by their names below")
