"""What annotation tools export, as they write it: each face with its label, cut out where it was marked."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mien.data import open_dataset
from mien.data.readers.annotators import exported_rows
from mien.errors import DataError
from mien.images import read_image

LABELS = ("angry", "happy")
BOX = (4, 6, 30, 20)  # left, top, width, height


@pytest.fixture
def pictures(tmp_path: Path, write_faces) -> Path:
    write_faces(tmp_path, {"images": 4})
    return tmp_path


def label(number: int) -> str:
    return LABELS[number % 2]


def check(folder: Path, *, whole: bool = False, count: int = 4) -> Sequence[str]:
    """Open a folder and compare each picture and its label with what was written. Returns the notes."""
    dataset = open_dataset(folder, carve_validation=False)
    assert dataset.classes == LABELS and not dataset.unreadable
    train = dataset.splits["train"]
    assert len(train) == count
    left, top, width, height = BOX
    for place, name in enumerate(train.names):
        number = int(Path(name.split()[0]).stem.rpartition("-")[2])
        picture = read_image(folder / "images" / f"{number}.png")
        cut = picture if whole else picture[top : top + height, left : left + width]
        np.testing.assert_array_equal(train.pictures.read(place), cut)
        assert dataset.classes[train.labels[place]] == label(number)
    return dataset.notes


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def via_picture(number: int, shape: Mapping[str, object]) -> dict[str, object]:
    region = {"shape_attributes": shape, "region_attributes": {"emotion": {label(number): True, "x": False}}}
    return {"filename": f"{number}.png", "size": 9, "regions": [region], "file_attributes": {"note": ""}}


SHAPES = {
    "rect": {"name": "rect", "x": 4, "y": 6, "width": 30, "height": 20},
    "ellipse": {"name": "ellipse", "cx": 19, "cy": 16, "rx": 15, "ry": 10},
    "polygon": {"name": "polygon", "all_points_x": [4, 34, 20], "all_points_y": [26, 10, 6]},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("project", [False, True])
def test_via(pictures: Path, shape: str, project: bool) -> None:
    told = {f"{number}.png9": via_picture(number, SHAPES[shape]) for number in range(4)}
    told["more.png9"] = {
        "filename": "more.png",
        "regions": [],
        "file_attributes": {},
    }  # nothing was marked in it
    write(pictures / "via.json", {"_via_settings": {}, "_via_img_metadata": told} if project else told)
    assert "faces are cut out by the table's boxes (x, y, width, height)" in check(pictures)


def test_via_as_csv(pictures: Path) -> None:
    names = (
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    )
    with (pictures / "via.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names.split(","))
        for number in range(4):
            region = json.dumps(SHAPES["rect"]), json.dumps({"emotion": label(number)})
            writer.writerow((f"{number}.png", 9, "{}", 1, 0, *region))
    check(pictures)


def test_via_of_whole_pictures(pictures: Path) -> None:
    write(
        pictures / "via.json",
        {
            str(number): {
                "filename": f"{number}.png",
                "regions": [],
                "file_attributes": {"mood": label(number)},
            }
            for number in range(4)
        },
    )
    check(pictures, whole=True)


def task(number: int, *results: object, path: str) -> dict[str, object]:
    answers = [{"result": [one], "was_cancelled": False} for one in results]
    skipped = {"result": [{"type": "choices", "value": {"choices": ["sad"]}}], "was_cancelled": True}
    return {"id": number, "data": {"id": "x", "image": path}, "annotations": [*answers, skipped]}


@pytest.mark.parametrize(
    "path", ["/data/upload/1/0a1b2c3d-{}.png", "/data/local-files/?d=images/{}.png", "s3://bucket/{}.png"]
)
def test_label_studio(pictures: Path, path: str) -> None:
    chosen = [{"type": "choices", "value": {"choices": [label(number)]}} for number in range(4)]
    write(
        pictures / "project.json",
        [task(number, one, one, path=path.format(number)) for number, one in enumerate(chosen)],
    )
    check(pictures, whole=True)


def test_label_studio_with_boxes_in_shares_of_the_picture(pictures: Path) -> None:
    place = {"x": 10, "y": 15, "width": 75, "height": 50}  # per cent of 40 pixels
    marks = [
        {
            "original_width": 40,
            "original_height": 40,
            "value": {**place, "rectanglelabels": [label(number)]},
        }
        for number in range(4)
    ]
    write(
        pictures / "project.json",
        [task(number, one, path=f"/data/upload/2/{number}.png") for number, one in enumerate(marks)],
    )
    check(pictures)


def test_several_people_of_label_studio_share_the_label() -> None:
    answers = [{"type": "choices", "value": {"choices": [word]}} for word in ("happy", "sad", "happy")]
    assert exported_rows([task(1, *answers, path="1.png")]) == [{"image": "1.png", "label": "happy|sad"}]


@pytest.mark.parametrize(
    ("kind", "points"),
    [("rectangle", [[34, 26], [4, 6]]), ("polygon", [[4, 20], [34, 6], [20, 26]])],
)
def test_labelme(pictures: Path, kind: str, points: Sequence[Sequence[float]]) -> None:
    for number in range(4):
        shape = {"label": label(number), "points": points, "shape_type": kind}
        write(
            pictures / "images" / f"{number}.json",
            {"flags": {}, "shapes": [shape], "imagePath": f"..\\images\\{number}.png", "imageData": None},
        )
    assert "faces are cut out by the boxes of LabelMe files" in check(pictures)


def test_labelme_flags_are_labels_of_whole_pictures(pictures: Path) -> None:
    for number in range(4):
        flags = {name: name == label(number) for name in LABELS}
        write(
            pictures / "images" / f"{number}.json",
            {"flags": flags, "shapes": [], "imagePath": f"{number}.png"},
        )
    notes = check(pictures, whole=True)
    assert "taken whole: pictures of 4 labels of LabelMe files without a box" in notes


@pytest.mark.parametrize(
    ("mark", "whole"),
    [
        ('<box label="{}" xtl="4.0" ytl="6.0" xbr="34.0" ybr="26.0"/>', False),
        ('<polygon label="{}" points="4,6;34,10;20,26"/>', False),
        ('<tag label="{}"/>', True),
    ],
)
def test_cvat(pictures: Path, mark: str, whole: bool) -> None:
    images = "".join(
        f'<image id="{number}" name="images/{number}.png" width="40" height="40">{mark.format(label(number))}</image>'
        for number in range(4)
    )
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{images}</annotations>'
    )
    (pictures / "annotations.xml").write_text(text)
    check(pictures, whole=whole)


def test_coco_without_boxes_is_of_whole_pictures(pictures: Path) -> None:
    write(
        pictures / "labels.json",
        {
            "images": [{"id": number, "file_name": f"{number}.png"} for number in range(4)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(LABELS)],
            "annotations": [
                {"image_id": number, "category_id": number % 2, "bbox": []} for number in range(4)
            ],
        },
    )
    assert "taken whole: pictures of 4 labels of COCO files without a box" in check(pictures, whole=True)


def test_coco_of_splits_that_number_their_pictures_alike(tmp_path: Path, write_faces) -> None:
    # Both were taken for the pictures of train2017/, and the others left out.
    write_faces(tmp_path, {"train2017": 4, "val2017": 4, "annotations": 0})
    for split in ("train2017", "val2017"):
        write(
            tmp_path / "annotations" / f"instances_{split}.json",
            {
                "images": [{"id": number, "file_name": f"{number}.png"} for number in range(4)],
                "categories": [{"id": number, "name": name} for number, name in enumerate(LABELS)],
                "annotations": [
                    {"image_id": number, "category_id": number % 2, "bbox": BOX} for number in range(4)
                ],
            },
        )
    dataset = open_dataset(tmp_path)
    left, top, width, height = BOX
    for name, folder in (("train", "train2017"), ("validation", "val2017")):
        split = dataset.splits[name]
        assert [row.split()[0] for row in split.names] == [f"{folder}/{number}.png" for number in range(4)]
        cut = read_image(tmp_path / folder / "0.png")[top : top + height, left : left + width]
        np.testing.assert_array_equal(split.pictures.read(0), cut)


@pytest.mark.parametrize("place", [".", "ImageSets/Main"])
def test_lists_tell_the_splits_of_pictures_with_boxes(pictures: Path, place: str) -> None:
    (pictures / "labels").mkdir()
    (pictures / place).mkdir(parents=True, exist_ok=True)
    (pictures / "data.yaml").write_text(f"names: [{', '.join(LABELS)}]\ntrain: train.txt\nval: val.txt\n")
    for number in range(4):
        (pictures / "labels" / f"{number}.txt").write_text(f"{number % 2} 0.475 0.4 0.75 0.5\n")
    lines = [f"./images/{number}.png\n" if place == "." else f"{number}\n" for number in range(3)]
    (pictures / place / "train.txt").write_text("".join(lines[:2]))
    (pictures / place / "trainval.txt").write_text("".join(lines))
    (pictures / place / "val.txt").write_text(lines[2])
    dataset = open_dataset(pictures)
    assert dataset.splits["train"].names == ["images/0.png face 0", "images/1.png face 1"]
    assert dataset.splits["validation"].names == ["images/2.png face 2"]
    assert "not used: 1 picture in none of these lists" in dataset.notes


def test_damaged_marks_are_named(pictures: Path) -> None:
    shape = {"label": "happy", "points": [[1]], "shape_type": "rectangle"}
    write(pictures / "images" / "0.json", {"flags": {}, "shapes": [shape], "imagePath": "0.png"})
    with pytest.raises(DataError, match=r"images/0\.json shape 1 has no label and points; mend or delete it"):
        open_dataset(pictures)
    (pictures / "images" / "0.json").unlink()
    (pictures / "a.xml").write_text(
        '<annotations><image name="0.png"><box label="x" xtl="?"/></image></annotations>'
    )
    with pytest.raises(DataError, match=r"a\.xml image 0\.png mark 1 has no box; export it again"):
        open_dataset(pictures)
    (pictures / "a.xml").unlink()
    coco = {"images": [{"id": 1}], "annotations": [], "categories": []}
    for name, value in {
        "has a category or picture without id and name": coco,
        "annotation 1 is damaged": {"images": [], "annotations": ["a"], "categories": []},
    }.items():
        write(pictures / "coco.json", value)
        with pytest.raises(DataError, match=name):
            open_dataset(pictures)


FRAME = {"rectanglelabels": ["happy"], "x": 1, "y": 2, "width": 3}
DAMAGED = {
    "Label Studio, a rectangle without height": [
        {"data": {"image": "0.png"}, "annotations": [{"result": [{"value": FRAME}]}]}
    ],
    "VIA, no region": {"0.png9": {"filename": "0.png", "regions": [None]}},
    "VIA, half a circle": {
        "0.png9": {"filename": "0.png", "regions": [{"shape_attributes": {"cx": 1, "r": 2}}]}
    },
}


@pytest.mark.parametrize("value", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_export_is_named_and_does_not_hinder_folders_beside_it(
    tmp_path: Path, write_faces, value: object
) -> None:
    write_faces(tmp_path, {"happy": 3, "sad": 3})
    write(tmp_path / "project.json", value)
    assert open_dataset(tmp_path).classes == ("happy", "sad")
    with pytest.raises(DataError, match=r"project\.json: a mark that an annotation tool exported is damaged"):
        open_dataset(tmp_path / "project.json")


def test_other_files_beside_pictures_are_no_marks(tmp_path: Path, write_faces) -> None:
    write_faces(tmp_path, {"happy": 3, "sad": 3})
    write(tmp_path / "happy" / "0.json", {"flags": ["a"], "shapes": [], "imagePath": "0.png"})
    (tmp_path / "happy" / "0.txt").write_text("3 1.2.3 4 5 6\n")
    assert open_dataset(tmp_path).classes == ("happy", "sad")


def test_y_beside_x_is_a_place_and_no_label(pictures: Path) -> None:
    rows = "".join(f"images/{number}.png,4,6,30,20,{label(number)}\n" for number in range(4))
    (pictures / "marks.csv").write_text("path,x,y,w,h,gesicht\n" + rows)
    dataset = open_dataset(pictures / "marks.csv", carve_validation=False)
    assert dataset.classes == ("angry", "happy")
    assert any("labels are those of the column 'gesicht'" in note for note in dataset.notes)


ROWS = [{"path": f"images/{number}.png", "label": label(number)} for number in range(4)]
JSON = {
    "rows by number": {str(number): row for number, row in enumerate(ROWS)},
    "pictures to more": {row["path"]: {"emotion": row["label"], "age": 30} for row in ROWS},
    "labels to pictures": {name: [row["path"] for row in ROWS if row["label"] == name] for name in LABELS},
    "pairs": [[row["path"], row["label"]] for row in ROWS],
    "label as an object": [{"image": row["path"], "label": {"id": 7, "name": row["label"]}} for row in ROWS],
    "among others": {"annotations": ROWS, "people": [{"id": 1, "of": "x"}]},
}


@pytest.mark.parametrize("value", JSON.values(), ids=JSON.keys())
def test_json_of_many_shapes(pictures: Path, value: object) -> None:
    write(pictures / "labels.json", value)
    check(pictures, whole=True)


def test_json_with_a_list_for_each_split(pictures: Path) -> None:
    write(pictures / "labels.json", {"train": ROWS[:2], "val": ROWS[2:]})
    dataset = open_dataset(pictures)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 2, "validation": 2}
