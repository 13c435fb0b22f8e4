"""Which columns of a table are paths, labels, shares and boxes, whatever they are called."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.data import DataConfig, open_dataset
from mien.data.dataset import Dataset
from mien.errors import DataError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight pictures of 40x30 pixels, pictures/0.png to pictures/7.png, whose levels say where a pixel is."""
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        x, y = np.meshgrid(np.arange(40), np.arange(30))
        cv2.imwrite(str(tmp_path / f"pictures/{number}.png"), (5 * x + y + number).astype(np.uint8))
    return tmp_path


def mood(number: int) -> str:
    return ("angry", "happy")[number % 2]


def listed(folder: Path, header: str, row: Callable[[int], str], **settings: Any) -> Dataset:
    """Open a table of the eight pictures: row(0) to row(7) below the header."""
    path = folder / "labels.csv"
    path.write_text("".join(f"{line}\n" for line in (header, *map(row, range(8)))), encoding="utf-8")
    return open_dataset(path, DataConfig(**settings), carve_validation=False)


def said(dataset: Dataset, words: str) -> bool:
    return any(words in note for note in dataset.notes)


def moods(dataset: Dataset) -> list[str]:
    train = dataset.splits["train"]
    return [dataset.classes[label] for label in train.labels]


def test_columns_in_another_language_are_known_by_what_stands_in_them(pictures: Path) -> None:
    dataset = listed(pictures, "Nr,Bild,Ausdruck", lambda n: f"{n},pictures/{n}.png,{mood(n)}")
    assert moods(dataset) == ["angry", "happy"] * 4
    assert said(dataset, "the pictures are those of the column 'Bild': no other holds names of pictures")
    assert said(dataset, "labels are those of the column 'Ausdruck': every cell of it is an expression")
    with pytest.raises(DataError, match=r"several columns of expressions \(before, after\)"):
        listed(pictures, "image,before,after", lambda n: f"pictures/{n}.png,{mood(n)},{mood(n + 1)}")


def test_a_column_called_like_paths_that_holds_none(pictures: Path) -> None:
    persons = listed(pictures, "name,source,emotion", lambda n: f"Ann {n % 3},pictures/{n}.png,{mood(n)}")
    assert persons.splits["train"].names[3] == "pictures/3.png"
    assert said(persons, "the pictures are those of the column 'source'")
    without_suffix = listed(pictures, "image_id,emotion", lambda n: f"pictures/{n},{mood(n)}")
    assert len(without_suffix.splits["train"]) == 8
    of_camera = listed(pictures, "image_id,source,emotion", lambda n: f"pictures/{n},DSC{n}.JPG,{mood(n)}")
    assert of_camera.splits["train"].names[3] == "pictures/3"


def test_of_columns_called_like_labels_one_that_says_more_than_one_thing(pictures: Path) -> None:
    dataset = listed(pictures, "image,label,emotion", lambda n: f"pictures/{n}.png,face,{mood(n)}")
    assert dataset.classes == ("angry", "happy")
    assert said(dataset, "labels are those of the column 'emotion', not of 'label'")
    with pytest.raises(
        DataError, match=r"has only one class \(happy\)"
    ):  # a table of one class, as of several
        listed(
            pictures,
            "image,label,category",
            lambda n: f"pictures/{n}.png,happy,{('studio', 'street')[n % 2]}",
        )


@pytest.mark.parametrize(
    "header", ["emotion_{}", "{}_votes", "votes {}", "{} %", "{} (%)", "emotion.{}.score"]
)
def test_shares_whose_names_have_the_same_words_around_the_expressions(pictures: Path, header: str) -> None:
    names = ",".join(header.format(name) for name in ("Happy", "Sad", "Angry"))
    dataset = listed(
        pictures, f"image,{names}", lambda n: f"pictures/{n}.png,{n % 2 * 7},1,{(n + 1) % 2 * 7}"
    )
    assert dataset.classes == ("angry", "happy", "sad") and moods(dataset) == ["angry", "happy"] * 4
    np.testing.assert_allclose(dataset.splits["train"].shares[0], [7 / 8, 0, 1 / 8])


def test_columns_of_ones_with_the_same_words_around_their_classes(pictures: Path) -> None:
    header = "image,emotion_happy,emotion_sad,emotion_bored"
    dataset = listed(
        pictures, header, lambda n: f"pictures/{n}.png," + ",".join(str(int(n % 3 == k)) for k in range(3))
    )
    assert dataset.classes == ("bored", "happy", "sad") and moods(dataset)[:3] == ["happy", "sad", "bored"]


def test_pictures_that_most_called_unknown_are_left_out(pictures: Path) -> None:
    dataset = listed(
        pictures, "image,happy,angry,Unknown", lambda n: f"pictures/{n}.png,2,{3 * (n % 2)},{9 * (n < 2)}"
    )
    assert len(dataset.splits["train"]) == 6 and dataset.classes == ("angry", "happy")
    assert said(dataset, "rows without an expression are left out: 2 unknown")


def test_numbers_that_are_no_shares_are_named(pictures: Path) -> None:
    dataset = listed(
        pictures, "id,image,happy,angry,other", lambda n: f"{n},pictures/{n}.png,{n % 2},{1 - n % 2},0.3"
    )
    assert said(dataset, "not used, though of numbers as those of the classes: the columns other")


BOXES = {
    "x,y,w,h": "4,6,20,10",
    "left,top,width,height": "4,6,20,10",
    "bbox_x,bbox_y,bbox_width,bbox_height": "4,6,20,10",
    "FaceX,FaceY,FaceW,FaceH": "4,6,20,10",
    "box_x1,box_y1,box_w,box_h": "4,6,20,10",
    "x_min,y_min,x_max,y_max": "4,6,24,16",
    "face_x1,face_y1,face_x2,face_y2": "4,6,24,16",
    "x0,y0,x1,y1": "4,6,24,16",
    "top,right,bottom,left": "6,24,16,4",
    "cx,cy,w,h": "14,11,20,10",
    "width,height,xmin,ymin,xmax,ymax": "40,30,4,6,24,16",  # of the picture, in front
    "width,height,bbox_x,bbox_y,bbox_w,bbox_h": "40,30,4,6,20,10",
}


@pytest.mark.parametrize(("header", "cells"), BOXES.items())
def test_boxes_in_columns_of_any_name(pictures: Path, header: str, cells: str) -> None:
    dataset = listed(pictures, f"image,emotion,{header}", lambda n: f"pictures/{n}.png,{mood(n)},{cells}")
    whole = cv2.imread(str(pictures / "pictures/3.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(dataset.splits["train"].pictures.read(3), whole[6:16, 4:24])
    assert said(dataset, "faces are cut out by the table's boxes")


def test_numbers_of_a_box_that_are_not_whole_are_named(pictures: Path) -> None:
    dataset = listed(pictures, "image,emotion,x,y", lambda n: f"pictures/{n}.png,{mood(n)},4,6")
    assert dataset.splits["train"].pictures.read(0).shape == (30, 40)
    assert said(dataset, "not used, so that the pictures are taken whole: 'x', 'y'")


def test_boxes_that_are_meant_otherwise_than_their_columns_say(pictures: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"of 8 boxes 8 end before they begin, such as that of labels.csv row 1 \(x1, .* 14, 6, 10, 12\); if",
    ):
        listed(pictures, "image,emotion,x1,y1,x2,y2", lambda n: f"pictures/{n}.png,{mood(n)},14,6,10,12")
    slip = listed(  # one of 16
        pictures,
        "image,emotion,x1,y1,x2,y2",
        lambda n: (
            f"pictures/{n}.png,{mood(n)},4,6,24,26\npictures/{n}.png,{mood(n)},0,0,{-3 if n == 5 else 20},20"
        ),
    )
    assert len(slip.splits["train"]) == 15
    assert [one.name for one in slip.unreadable] == ["pictures/5.png"]
    ends = listed(
        pictures, "image,emotion,x,y,width,height", lambda n: f"pictures/{n}.png,{mood(n)},20,15,40,30"
    )
    assert said(ends, "8 of 8 boxes of faces reach far beyond their pictures, such as (20, 15, 60, 45)")
    at_the_edge = listed(
        pictures, "image,emotion,x,y,width,height", lambda n: f"pictures/{n}.png,{mood(n)},-2,-1,30,25"
    )
    assert not said(at_the_edge, "reach far beyond")
    empty = listed(
        pictures,
        "image,emotion,x,y,w,h",
        lambda n: f"pictures/{n}.png,{mood(n)},{'0,0,0,0' if n == 2 else '1,1,9,9'}",
    )
    assert empty.unreadable[0].reason == "its face's box (0, 0, 0, 0) is empty"


def test_a_quote_behind_a_blank(pictures: Path) -> None:
    dataset = listed(
        pictures, "image, emotion", lambda n: f'pictures/{n}.png, "{("calm, still", "happy")[n % 2]}"'
    )
    assert dataset.classes == ("calm, still", "happy")


def test_numbers_before_the_labels_are_no_part_of_them(pictures: Path) -> None:
    dataset = listed(pictures, "image,emotion", lambda n: f"pictures/{n}.png,{n % 2}: {mood(n)}")
    assert dataset.classes == ("angry", "happy") and said(
        dataset, "only the expressions are taken: '0: angry' is angry"
    )
    asked = listed(
        pictures,
        "image,emotion",
        lambda n: f"pictures/{n}.png,{n % 2}: {mood(n)}",
        classes=("1: happy", "0: angry"),
    )
    assert asked.classes == ("1: happy", "0: angry")


def test_a_formula_that_failed_is_no_label(pictures: Path) -> None:
    with pytest.raises(DataError, match="row 3 has no emotion"):
        listed(pictures, "image,emotion", lambda n: f"pictures/{n}.png,{'#REF!' if n == 2 else mood(n)}")


def test_folders_in_a_column_of_their_own(pictures: Path) -> None:
    for number in (1, 2):
        (pictures / f"part{number}").mkdir()
        (pictures / f"part{number}/a.png").write_bytes((pictures / f"pictures/{number}.png").read_bytes())
        (pictures / f"part{number}/b.png").write_bytes((pictures / f"pictures/{number + 2}.png").read_bytes())
    dataset = listed(
        pictures, "folder,filename,emotion", lambda n: f"part{n // 2 % 2 + 1},{'ab'[n % 2]}.png,{mood(n)}"
    )
    assert dataset.splits["train"].names[:3] == ["part1/a.png", "part1/b.png", "part2/a.png"]


def test_pictures_by_addresses_with_questions_and_signs(pictures: Path) -> None:
    asked = listed(pictures, "url,emotion", lambda n: f"https://x.org/all/{n}.png?w=200,{mood(n)}")
    assert len(asked.splits["train"]) == 8 and said(asked, "is read as 'pictures/0.png', by its name")
    signs = listed(pictures, "image,emotion", lambda n: f"pictures%2F{n}.png,{mood(n)}")
    assert len(signs.splits["train"]) == 8
    assert said(
        signs, "8 paths are found under another spelling, such as 'pictures%2F0.png' as 'pictures/0.png'"
    )


def test_pictures_where_paths_should_stand_are_told_in_a_line(pictures: Path) -> None:
    content = base64.b64encode(bytes(2000)).decode()
    with pytest.raises(
        DataError, match="seems to hold pictures themselves where paths should stand"
    ) as caught:
        listed(pictures, "image,emotion", lambda n: f"{content},{mood(n)}")
    assert len(str(caught.value)) < 400


def test_a_second_column_of_pictures_is_named(pictures: Path) -> None:
    both = listed(pictures, "image,after,label", lambda n: f"pictures/{n}.png,pictures/{7 - n}.png,{mood(n)}")
    assert both.splits["train"].names[1] == "pictures/1.png"
    assert said(both, "the pictures are those of the column 'image', not of after (--path-column chooses)")
    copy = listed(pictures, "path,name,label", lambda n: f"pictures/{n}.png,{n}.jpg,{mood(n)}")
    assert not said(copy, "the pictures are those of the column")


def test_lists_of_pictures_and_labels_called_like_splits(pictures: Path) -> None:
    for name, part in (("train", range(6)), ("val", range(6, 8))):
        (pictures / f"{name}.txt").write_text("".join(f"pictures/{n}.png {mood(n)}\n" for n in part))
    dataset = open_dataset(pictures)
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 6, "validation": 2}
    (pictures / "train.txt").rename(pictures / "all.txt")
    (pictures / "val.txt").unlink()
    with pytest.raises(DataError, match=r"if all\.txt says their labels, give that table: \S+/all\.txt$"):
        open_dataset(pictures)


def test_landmarks_are_no_box(pictures: Path) -> None:
    header = ",".join(f"x{n},y{n}" for n in range(1, 6))
    cells = ",".join(map(str, (4, 6, 24, 16, 14, 11, 6, 20, 22, 20)))
    dataset = listed(pictures, f"image,emotion,{header}", lambda n: f"pictures/{n}.png,{mood(n)},{cells}")
    assert dataset.splits["train"].pictures.read(0).shape == (30, 40)
    assert said(dataset, "not used, so that the pictures are taken whole: 'x1', 'y1'")


def test_a_number_below_zero_is_a_number(pictures: Path) -> None:
    dataset = listed(pictures, "image,emotion", lambda n: f"pictures/{n}.png,{n % 2 - 1}")
    assert said(dataset, "the labels are numbers (0, -1)")


def test_shares_that_are_used_are_not_said_to_be_unused(pictures: Path) -> None:
    dataset = listed(
        pictures, "image,p_engaged,p_away,age", lambda n: f"pictures/{n}.png,{n % 2},{1 - n % 2}.5,{n + 20}"
    )
    assert dataset.classes == ("away", "engaged")
    assert said(dataset, "not used, though of numbers as those of the classes: the columns age")
