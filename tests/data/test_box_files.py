"""Files of boxes whose numbers are not what they should be, and tables whose suffix is another form's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mien.data import open_dataset
from mien.errors import DataError


def coco(folder: Path, boxes: list[list[float]], category: int = 1) -> Path:
    told = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(4)],
        "categories": [{"id": 1, "name": "happy"}, {"id": 2, "name": "sad"}],
        "annotations": [
            {"image_id": n, "category_id": category + n % 2, "bbox": boxes[n % len(boxes)]} for n in range(4)
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(told))
    return folder


def test_coco_with_boxes_and_numbers_of_another_kind(tmp_path, write_faces):
    write_faces(tmp_path, {"images": 4})
    good = open_dataset(coco(tmp_path, [[1, 2, 10, 20], [0, 0, 1, 1]]), carve_validation=False)
    assert good.splits["train"].pictures.read(0).shape == (20, 10)
    with pytest.raises(
        DataError, match=r"annotations\.json has boxes from 0 to 1, and COCO counts in pixels"
    ):
        open_dataset(coco(tmp_path, [[0.1, 0.2, 0.5, 1]]))
    with pytest.raises(
        DataError, match=r"annotation 1 names a picture or category 0 that is not among those of"
    ):
        open_dataset(coco(tmp_path, [[1, 2, 10, 20]], category=0))


def test_yolo_numbers_without_a_name_are_refused(tmp_path, write_faces):
    """Of numbers from 1, the last has no name, and every other has its neighbour's."""
    write_faces(tmp_path, {"images": 4})
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names: [happy, sad]\n")
    for n in range(4):
        (tmp_path / f"labels/{n}.txt").write_text(f"{n % 2 + 1} 0.5 0.5 0.5 0.5\n")
    with pytest.raises(
        DataError, match=r"labels/1\.txt line 1 is of class 2, .* are those of 0 to 1; YOLO counts from 0"
    ):
        open_dataset(tmp_path)


def test_tables_whose_suffix_is_that_of_another_form(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["path", "label"])
    book.save(tmp_path / "a.xlsx")
    shutil.move(tmp_path / "a.xlsx", tmp_path / "book.csv")
    with pytest.raises(
        DataError, match=r"book\.csv is a zip archive, not text; let its name end in \.xlsx if it is"
    ):
        open_dataset(tmp_path / "book.csv")
    (tmp_path / "text.xlsx").write_text("path,label\n1.png,happy\n")
    with pytest.raises(DataError, match=r"text\.xlsx is text, not an Excel file; let its name end in \.csv"):
        open_dataset(tmp_path / "text.xlsx")


def faces_with_attributes(form: str, folder: Path, moods: list[str]) -> None:
    """Write four boxes called 'face' as CVAT exports them, with the mood as an attribute."""
    if form == "COCO":
        told = {
            "images": [{"id": n, "file_name": f"{n}.png"} for n in range(4)],
            "categories": [{"id": 1, "name": "face"}],
            "annotations": [
                {
                    "image_id": n,
                    "category_id": 1,
                    "bbox": [2, 4, 10, 20],
                    "attributes": {"id": n, "emotion": mood},
                }
                for n, mood in enumerate(moods)
            ],
        }
        (folder / "instances.json").write_text(json.dumps(told))
    elif form == "CVAT":
        images = "".join(
            f'<image name="{n}.png"><box label="face" xtl="2" ytl="4" xbr="12" ybr="24">'
            f'<attribute name="Emotion">{mood}</attribute></box></image>'
            for n, mood in enumerate(moods)
        )
        (folder / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    else:
        for n, mood in enumerate(moods):
            (folder / f"{n}.xml").write_text(
                f"<annotation><filename>{n}.png</filename><object><name>face</name><bndbox><xmin>3</xmin><ymin>5</ymin>"
                f"<xmax>12</xmax><ymax>24</ymax></bndbox><attributes><attribute><name>emotion</name><value>{mood}"
                "</value></attribute></attributes></object></annotation>"
            )


@pytest.mark.parametrize("form", ["COCO", "CVAT", "Pascal VOC"])
def test_faces_whose_expression_is_an_attribute(tmp_path, write_faces, form):
    write_faces(tmp_path, {"images": 4})
    faces_with_attributes(form, tmp_path, ["happy", "sad"] * 2)
    dataset = open_dataset(tmp_path, carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad") and train.labels.tolist() == [0, 1] * 2
    assert train.pictures.read(0).shape == (20, 10)
    assert any("labels are those of the attribute" in note for note in dataset.notes)
    faces_with_attributes(form, tmp_path, ["happy", "sad", "happy", ""])  # one of them has none
    with pytest.raises(DataError):
        open_dataset(tmp_path)


def test_circles_of_labelme_are_cut_out_and_other_json_beside_is_passed_over(tmp_path, write_faces):
    write_faces(tmp_path, {"images": 4})
    for n in range(4):
        mark = {"label": ("happy", "sad")[n % 2], "shape_type": "circle", "points": [[20, 18], [20, 26]]}
        told = {"imagePath": f"{n}.png", "shapes": [mark], "flags": {}}
        (tmp_path / "images" / f"{n}.json").write_text(json.dumps(told))
    (tmp_path / "about.json").write_text('{"version": 1}')
    dataset = open_dataset(tmp_path, carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad") and train.labels.tolist() == [0, 1] * 2
    assert train.pictures.read(0).shape == (16, 16)
    mark["points"] = [[20, 18]]
    (tmp_path / "images" / "3.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"images/3\.json shape 1 has no label and points; mend or delete it"):
        open_dataset(tmp_path)


def test_a_coco_file_without_marks_does_not_hide_the_boxes_of_yolo(tmp_path, write_faces):
    write_faces(tmp_path, {"images": 4})
    told = {"images": [], "categories": [], "annotations": []}
    (tmp_path / "instances.json").write_text(json.dumps(told))
    (tmp_path / "labels").mkdir()
    for n in range(4):  # the second a polygon, with the same ends
        marks = ("0 0.5 0.5 0.5 0.25", "1 0.25 0.375 0.75 0.375 0.5 0.625")[n % 2]
        (tmp_path / f"labels/{n}.txt").write_text(f"{marks}\n\n")
    (tmp_path / "data.yaml").write_text("names:\n  0: happy  # first\n  1: sad\n")
    dataset = open_dataset(tmp_path, carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad") and train.labels.tolist() == [0, 1] * 2
    assert [train.pictures.read(n).shape for n in range(2)] == [(10, 20)] * 2
    (tmp_path / "labels/3.txt").write_text("1 0.5 0.5\n")
    with pytest.raises(DataError, match=r"labels/3\.txt line 1 is '1 0\.5 0\.5', not the number of a class"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("form", ["Pascal VOC", "CVAT"])
def test_a_mark_without_a_box_is_named(tmp_path, write_faces, form):
    write_faces(tmp_path, {"images": 4})
    faces_with_attributes(form, tmp_path, ["happy", "sad"] * 2)
    for file in tmp_path.glob("*.xml"):
        file.write_text(file.read_text().replace("<ymax>24</ymax>", "").replace(' ybr="24"', ""))
    with pytest.raises(DataError, match=r"\.xml (object 1|image 0\.png mark 1) has no box"):
        open_dataset(tmp_path)
