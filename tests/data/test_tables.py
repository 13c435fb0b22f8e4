"""Tables of paths and labels: which columns are which, and which tables are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError

from .conftest import listed, mood, rows, said, write_table


@pytest.mark.parametrize("header", ["path,label", "file,emotion", "Image , Class", "filename,expression"])
def test_columns_by_any_of_their_names(pictures, header):
    text = f"{header}\n{rows()}".replace("sad\n", "sad,\n", 1)  # Excel's empty cell at the end
    dataset = open_dataset(write_table(pictures, text), carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad") and train.labels.tolist() == [1, 0] * 4
    assert train.names[1] == "pictures/1.png" and dataset.name == pictures.name


def test_numbered_classes_are_in_order_of_their_numbers(pictures):
    lines = "".join(f"pictures/{number}.png,{number + 4}\n" for number in range(8))
    assert open_dataset(write_table(pictures, f"path,label\n{lines}"), carve_validation=False).classes[
        -2:
    ] == (
        "10",
        "11",
    )


def test_missing_files_are_unreadable_ones(pictures):
    text = f"path,label\n{rows()}gone.png,sad\n"
    bad = open_dataset(write_table(pictures, text)).unreadable
    assert [(item.name, item.reason) for item in bad] == [
        ("gone.png", f"it cannot be opened: No such file or directory; looked for {pictures / 'gone.png'}")
    ]


BAD = {
    "no label": (
        lambda text: text.replace("label", "what").replace("sad", "blue"),
        r"labels\.csv has no column label or emotion or class or",
    ),
    "no path": (
        lambda text: text.replace("path", "where").replace(".png", ""),
        "has no column path or file or image",
    ),
    "empty label": (lambda text: text.replace("0.png,sad", "0.png,"), "row 1 has no label"),
    "short row": (lambda text: text.replace("0.png,sad", "0.png"), "row 1 has 1 column, the header has 2"),
    "comma in a name": (
        lambda text: text.replace("0.png", "0,1.png"),
        "row 1 has 3 columns, the header has 2",
    ),
    "zero bytes": (lambda text: text.replace("2.png", "2\0.png"), "zero bytes in line 4: it is damaged"),
    "no rows": (lambda text: text.partition("\n")[0], "has no rows below its header"),
    "empty": (lambda _: "", r"labels\.csv is empty or begins with an empty line; its first"),
    "no header": (
        lambda text: text.partition("\n")[2].replace("/0.png", "/" + "a" * 900, 1),
        r"its first line has: pictures/a{15}…, sad; that line must name the columns",
    ),
}


@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD.keys())
def test_tables_that_cannot_be_used(pictures, spoil, words):
    with pytest.raises(DataError, match=words):
        open_dataset(write_table(pictures, spoil(f"path,label\n{rows()}")))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_table_that_does_not_name_its_columns(pictures, swapped):
    lines = [
        f"{label},{path}" if swapped else f"{path},{label}" for path, label in map(_cells, rows().split())
    ]
    dataset = open_dataset(write_table(pictures, "\n".join(lines)), carve_validation=False)
    assert dataset.splits["train"].names[0] == "pictures/0.png"  # the first line is a picture like the others
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 4 and dataset.classes == ("happy", "sad")
    first = "sad, pictures/0.png" if swapped else "pictures/0.png, sad"
    order = "label, path" if swapped else "path, label"
    assert said(dataset, f"its first line is a picture's ({first}); they are read as {order}")


def _cells(line: str) -> list[str]:
    return line.split(",")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("\n\npath,label\n", ""),
        ("# exported by a tool\n# 2026\npath,label\n", "the columns are named in its line 3"),
        ("Our labels;\n;\npath;label\n", "labels.csv: the columns are named in its line 3, what is above"),
    ],
)
def test_lines_above_the_names_of_the_columns(pictures, text, note):
    below = rows().replace(",", ";") if ";" in text else rows()
    dataset = open_dataset(write_table(pictures, text + below), carve_validation=False)
    assert dataset.splits["train"].names[0] == "pictures/0.png"
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 4
    assert not note or said(dataset, note)


@pytest.mark.parametrize("between", ["\t", " ", "   ", ","])
def test_a_list_as_txt_that_is_named(pictures, between):
    file = write_table(pictures, rows().replace(",", between), "list.txt")
    dataset = open_dataset(file, carve_validation=False)
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 4
    with pytest.raises(DataError, match=r"give that table: \S+list\.txt$"):
        open_dataset(pictures)
    write_table(pictures, "what this is\n", "readme.txt")
    with pytest.raises(DataError, match="is not in a form that we read"):
        open_dataset(pictures / "readme.txt")


def test_splits_in_a_table_that_does_not_name_its_columns(pictures):
    lines = [f"{line},{'test' if number > 5 else 'train'}" for number, line in enumerate(rows().split())]
    dataset = open_dataset(write_table(pictures, "\n".join(lines)), carve_validation=False)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 2}


def test_two_tables_that_do_not_name_their_columns(pictures):
    lines = rows().split()
    write_table(pictures, "\n".join(lines[:6]), "train.csv")
    write_table(pictures, "\n".join(lines[6:]), "test.csv")
    dataset = open_dataset(pictures, carve_validation=False)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 2}
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 3


def test_more_columns_without_names_are_refused(pictures):
    # As keras-retinanet has them: the box would go unseen.
    text = "".join(f"pictures/{number}.png,1,1,30,30,happy\n" for number in range(8))
    with pytest.raises(
        DataError, match=r"first line is a picture's \(pictures/0\.png, 1, 1, 30, 30, happy\); put a"
    ):
        open_dataset(write_table(pictures, text))


def test_a_file_of_another_kind(tmp_path):
    with pytest.raises(DataError, match=r"faces\.doc is not in a form that we read; DATA can be a folder"):
        open_dataset(write_table(tmp_path, "x", "faces.doc"))


def test_columns_and_folder_by_name(pictures):
    text = rows().replace("pictures/", "").replace("sad", "1").replace("happy", "0")
    path = write_table(pictures, f"where,mood code\n{text}")
    with pytest.raises(DataError, match=r"or name the column with --label-column"):
        open_dataset(path)
    config = DataConfig(
        path_column="where",
        label_column="mood code",
        root=str(pictures / "pictures"),
        labels=("0=happy", "1=sad"),
    )
    dataset = open_dataset(path, config, carve_validation=False)
    assert dataset.classes == ("happy", "sad") and dataset.splits["train"].labels.tolist() == [1, 0] * 4
    with pytest.raises(DataError, match=r"has no column 'nowhere'; its first line has: where, mood code"):
        open_dataset(path, DataConfig(path_column="nowhere"))


def test_over_long_cells_are_unreadable_rows(pictures):
    text = f"path,label\n{rows()}{'x' * 5000},sad\n{'y/' * 3000},happy\n"
    bad = open_dataset(write_table(pictures, text)).unreadable
    assert [item.reason for item in bad] == ["it cannot be opened: File name too long"] * 2
    assert all(len(item.name) < 200 for item in bad)


def test_boxes_that_are_not_used_are_mentioned_or_refused(pictures):
    def boxed(header: str, cells: str) -> Path:
        lines = rows().replace("\n", f",{cells}\n")
        return write_table(pictures, f"path,label,{header}\n{lines}")

    wide = open_dataset(boxed("x,y,width,height", "2,3,10,20"), carve_validation=False)
    assert wide.splits["train"].pictures.read(0).shape[:2] == (20, 10)
    named = open_dataset(boxed("bbox", '"[2,3,10,20]"'), carve_validation=False)
    assert said(named, "not used, so that the pictures are taken whole: 'bbox'")
    with pytest.raises(
        DataError, match=r"has boxes from 0 to 1 \(xmin, ymin, xmax, ymax\); give them in pixels"
    ):
        open_dataset(boxed("xmin,ymin,xmax,ymax", "0.1,0.2,0.5,1"))


def test_two_columns_of_one_name(pictures):
    twice = listed(pictures, "path,label,label", lambda n: f"pictures/{n}.png,{mood(n)},{mood(n + 1)}")
    assert said(twice, "the first of 2 columns 'label' is used")
