"""Tables of paths and labels, as CSV and Parquet."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import lzma
import shutil
import tarfile
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError


@pytest.fixture
def pictures(tmp_path: Path, write_faces) -> Path:
    write_faces(tmp_path, {"pictures": 8})
    return tmp_path


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows() -> str:
    return "".join(f"pictures/{number}.png,{'happy' if number % 2 else 'sad'}\n" for number in range(8))


@pytest.mark.parametrize("header", ["path,label", "file,emotion", "Image , Class", "filename,expression"])
def test_columns_by_any_of_their_names(pictures, header):
    text = f"{header}\n{rows()}".replace("sad\n", "sad,\n", 1)  # Excel's empty cell at the end
    dataset = open_dataset(write(pictures, text), carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad") and train.labels.tolist() == [1, 0] * 4
    assert train.names[1] == "pictures/1.png" and dataset.name == pictures.name


def test_a_folder_with_a_table_beside_its_pictures(pictures):
    write(pictures, f"path,label\n{rows()}", "who.csv")
    (pictures / "pictures" / "more.png").write_bytes((pictures / "pictures" / "0.png").read_bytes())
    dataset = open_dataset(pictures)
    assert said(dataset, "1 pictures, such as pictures/more.png, are in no row that is used")
    assert dataset.name == "who" and {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 6,
        "validation": 2,
    }


def test_a_folder_with_several_tables(pictures):
    write(pictures, f"path,label\n{rows()}")
    write(pictures, f"path,label\n{rows()}", "old.csv")
    with pytest.raises(DataError, match=r"holds 2 tables \(labels\.csv, old\.csv\); give the path of one"):
        open_dataset(pictures)


def test_a_table_beside_class_folders_is_not_passed_over_in_silence(tmp_path, write_faces):
    write_faces(tmp_path, {"happy": 3, "sad": 3})
    (tmp_path / "labels.csv").write_text("path,label\nhappy/0.png,sad\n")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("happy", "sad")
    assert any(note.startswith("not read: labels.csv beside the folders") for note in dataset.notes)


def test_a_split_column(pictures):
    words = ("train", "Training", "val", "PublicTest", "test", "PrivateTest", "validation", "testing")
    lines = "".join(f"{line},{word}\n" for line, word in zip(rows().split(), words, strict=True))
    dataset = open_dataset(write(pictures, f"path,label,split\n{lines}"))
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 2,
        "validation": 3,
        "test": 3,
    }
    with pytest.raises(
        DataError, match="row 3 has the split 'maybe'; allowed are train, validation and test"
    ):
        open_dataset(write(pictures, f"path,label,split\n{lines.replace('val', 'maybe', 1)}"))


def test_semicolons_where_a_comma_is_the_decimal_sign(pictures):
    text = f"path,label\n{rows()}"
    with_commas = open_dataset(write(pictures, text))
    with_semicolons = open_dataset(write(pictures, text.replace(",", ";")))
    assert with_semicolons.fingerprint == with_commas.fingerprint


def test_excel_marks_and_tabs(pictures):
    with_mark = write(pictures, f"\ufeffpath,label\n{rows()}")
    assert len(open_dataset(with_mark, carve_validation=False).splits["train"]) == 8
    tabs = write(pictures, f"path,label\n{rows()}".replace(",", "\t"), "labels.tsv")
    assert len(open_dataset(tabs, carve_validation=False).splits["train"]) == 8


def test_numbered_classes_are_in_order_of_their_numbers(pictures):
    lines = "".join(f"pictures/{number}.png,{number + 4}\n" for number in range(8))
    assert open_dataset(write(pictures, f"path,label\n{lines}"), carve_validation=False).classes[-2:] == (
        "10",
        "11",
    )


def test_missing_files_are_unreadable_ones(pictures):
    text = f"path,label\n{rows()}gone.png,sad\n"
    bad = open_dataset(write(pictures, text)).unreadable
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
    "short row": (lambda text: text.replace("0.png,sad", "0.png"), "row 1 has 1 columns, the header has 2"),
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
        open_dataset(write(pictures, spoil(f"path,label\n{rows()}")))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_table_that_does_not_name_its_columns(pictures, swapped):
    lines = [
        f"{label},{path}" if swapped else f"{path},{label}" for path, label in map(_cells, rows().split())
    ]
    dataset = open_dataset(write(pictures, "\n".join(lines)), carve_validation=False)
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
    dataset = open_dataset(write(pictures, text + below), carve_validation=False)
    assert dataset.splits["train"].names[0] == "pictures/0.png"
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 4
    assert not note or said(dataset, note)


@pytest.mark.parametrize("between", ["\t", " ", "   ", ","])
def test_a_list_as_txt_that_is_named(pictures, between):
    file = write(pictures, rows().replace(",", between), "list.txt")
    dataset = open_dataset(file, carve_validation=False)
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 4
    with pytest.raises(DataError, match=r"give that table: \S+list\.txt$"):
        open_dataset(pictures)
    write(pictures, "what this is\n", "readme.txt")
    with pytest.raises(DataError, match="is not in a form that we read"):
        open_dataset(pictures / "readme.txt")


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
    dataset = open_dataset(write(tmp_path, "path,label\n" + "".join(lines)), carve_validation=False)
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 4 and not dataset.unreadable
    assert said(dataset, "8 paths are found under another spelling, such as")
    some = "".join(lines).replace("Pictures/7.PNG", "pictures/99.png").replace("Pictures/", "pictures/")
    dataset = open_dataset(write(tmp_path, "path,label\n" + some), carve_validation=False)
    assert [bad.name for bad in dataset.unreadable] == ["pictures/99.png"]
    assert said(dataset, "7 paths are found under another spelling, such as")


def test_of_two_pictures_that_are_spelt_alike_none_is_guessed(pictures):
    shutil.copy(pictures / "pictures/1.png", pictures / "pictures/1.PNG")
    text = f"path,label\n{rows()}".replace("1.png", "1.Png")
    assert [bad.name for bad in open_dataset(write(pictures, text)).unreadable] == ["pictures/1.Png"]


def test_names_without_suffixes_of_pictures_with_different_ones(pictures):
    for number in (0, 3):
        image = cv2.imread(str(pictures / f"pictures/{number}.png"))
        cv2.imwrite(str(pictures / f"pictures/{number}.bmp"), image)
        (pictures / f"pictures/{number}.png").unlink()
    text = f"path,label\n{rows()}".replace(".png", "")
    dataset = open_dataset(write(pictures, text), carve_validation=False)
    assert len(dataset.splits["train"]) == 8 and not dataset.unreadable


def test_splits_in_a_table_that_does_not_name_its_columns(pictures):
    lines = [f"{line},{'test' if number > 5 else 'train'}" for number, line in enumerate(rows().split())]
    dataset = open_dataset(write(pictures, "\n".join(lines)), carve_validation=False)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 2}


def test_two_tables_that_do_not_name_their_columns(pictures):
    lines = rows().split()
    write(pictures, "\n".join(lines[:6]), "train.csv")
    write(pictures, "\n".join(lines[6:]), "test.csv")
    dataset = open_dataset(pictures, carve_validation=False)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 2}
    assert dataset.splits["train"].labels.tolist() == [1, 0] * 3


def test_more_columns_without_names_are_refused(pictures):
    # As keras-retinanet has them: the box would go unseen.
    text = "".join(f"pictures/{number}.png,1,1,30,30,happy\n" for number in range(8))
    with pytest.raises(
        DataError, match=r"first line is a picture's \(pictures/0\.png, 1, 1, 30, 30, happy\); put a"
    ):
        open_dataset(write(pictures, text))


def test_sheets_that_are_called_like_splits_are_read_together(pictures):
    openpyxl = pytest.importorskip("openpyxl")
    lines = [line.split(",") for line in rows().split()]

    def save(**sheets):
        book = openpyxl.Workbook()
        book.remove(book.active)
        for title, cells in sheets.items():
            sheet = book.create_sheet(title)
            for row in (["path", "label"], *cells):
                sheet.append(row)
        book.save(pictures / "labels.xlsx")
        return open_dataset(pictures / "labels.xlsx", carve_validation=False)

    dataset = save(Train=lines[:6], Test=lines[6:])
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 2}
    assert dataset.splits["test"].names == ["pictures/6.png", "pictures/7.png"]
    assert said(dataset, "read from the sheets 'Train', 'Test'")
    dataset = save(first=lines[:6], second=lines[6:])
    assert len(dataset.splits["train"]) == 6
    assert said(dataset, "'first' of 2; not read, though of pictures and labels, too: 'second'")


def test_a_table_in_each_split_folder_beside_its_pictures(tmp_path, write_faces):
    write_faces(tmp_path, {"train/images": 4, "val/images": 4})
    for split, labels in (("train", "abab"), ("val", "bbaa")):
        lines = [f"{number}.png,{label}" for number, label in enumerate(labels)]
        write(tmp_path / split, "\n".join(["image,emotion", *lines]), "labels.csv")
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
        write(tmp_path, "\n".join(["image,emotion", *lines]), f"{split}.csv")
    dataset = open_dataset(tmp_path, carve_validation=False)
    for split in ("train", "test"):
        first = cv2.imread(str(tmp_path / split / "0.png"), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(dataset.splits[split].pictures.read(0), first)


def test_a_table_elsewhere_than_the_pictures_is_named(tmp_path, write_faces):
    write_faces(tmp_path, {"images/train": 2, "images/test": 2, "annotations": 0})
    write(tmp_path / "annotations", "image,emotion\n0.png,a\n1.png,b\n", "labels.csv")
    with pytest.raises(DataError, match=r"annotations/labels\.csv says .*: .*labels\.csv --root .*images$"):
        open_dataset(tmp_path)


def test_a_file_of_another_kind(tmp_path):
    with pytest.raises(DataError, match=r"faces\.doc is not in a form that we read; DATA can be a folder"):
        open_dataset(write(tmp_path, "x", "faces.doc"))


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")
def test_parquet(pictures):
    import pyarrow
    from pyarrow import parquet

    names = [f"pictures/{number}.png" for number in range(8)]
    table = pyarrow.table({"image": names, "label": [number % 2 for number in range(8)]})
    parquet.write_table(table, pictures / "labels.parquet")
    dataset = open_dataset(pictures / "labels.parquet", carve_validation=False)
    assert dataset.classes == ("0", "1") and dataset.splits["train"].labels.tolist() == [0, 1] * 4
    (pictures / "labels.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="is not a Parquet file that can be read"):
        open_dataset(pictures / "labels.parquet")


def said(dataset, words: str) -> bool:
    return any(words in note for note in dataset.notes)


def with_column(name: str, cells: list[str]) -> str:
    lines = (f"{line},{cell}\n" for line, cell in zip(rows().split(), cells, strict=True))
    return f"path,label,{name}\n{''.join(lines)}"


@pytest.mark.parametrize(
    ("name", "cells", "sizes"),
    [
        ("set", ["train"] * 6 + ["test"] * 2, {"train": 6, "test": 2}),
        ("phase", ["Training"] * 6 + ["dev"] * 2, {"train": 6, "validation": 2}),
        ("partition", ["0"] * 5 + ["1", "2", "2"], {"train": 5, "validation": 1, "test": 2}),
        ("is_valid", ["False"] * 6 + ["True"] * 2, {"train": 6, "validation": 2}),
        ("Is-Test", ["0"] * 6 + ["1"] * 2, {"train": 6, "test": 2}),
        ("Is Training", ["1"] * 6 + ["0"] * 2, {"train": 6, "test": 2}),
        ("is_train", ["yes"] * 6 + ["no"] * 2, {"train": 6, "test": 2}),
        ("fold", ["train"] * 6 + ["val"] * 2, {"train": 6, "validation": 2}),
    ],
)
def test_columns_that_say_the_split_are_used(pictures, name, cells, sizes):
    path = write(pictures, with_column(name, cells))
    dataset = open_dataset(path, carve_validation=False)
    assert {split: len(part) for split, part in dataset.splits.items()} == sizes
    assert said(dataset, f"split by the column '{name}'")
    alone = open_dataset(path, DataConfig(split_column="none"), carve_validation=False)
    assert len(alone.splits["train"]) == (
        6 if name.lower().startswith("is") else 8
    ) or name.lower().startswith("is")


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("fold", [str(number % 4) for number in range(8)], "folds of a cross-validation: 0, 1, 2, 3"),
        ("set", ["CK"] * 4 + ["RAF"] * 4, "its words name no splits: CK, RAF"),
        ("is_valid", ["maybe"] * 8, "its cells are not yes and no: maybe"),
    ],
)
def test_columns_that_might_say_the_split_are_named_where_they_are_not_used(pictures, name, cells, why):
    dataset = open_dataset(write(pictures, with_column(name, cells)), carve_validation=False)
    assert said(dataset, f"the column '{name}' is not used ({why})") and list(dataset.splits) == ["train"]


def test_a_column_of_persons_keeps_them_on_one_side(pictures):
    path = write(pictures, with_column("Subject", list("aabbccdd")))
    dataset = open_dataset(path)
    assert said(dataset, "grouped by the column 'Subject': 4 groups")
    groups = {side: set(split.groups) for side, split in dataset.splits.items()}
    assert not groups["train"] & groups["validation"] and len(groups["train"] | groups["validation"]) == 4
    assert open_dataset(path, DataConfig(group="none"), carve_validation=False).splits["train"].groups is None
    film = write(pictures, with_column("film title", list("aabbccdd")), "films.csv")
    assert set(
        open_dataset(film, DataConfig(group="film title"), carve_validation=False).splits["train"].groups
    ) == set("abcd")


def test_columns_and_folder_by_name(pictures):
    text = rows().replace("pictures/", "").replace("sad", "1").replace("happy", "0")
    path = write(pictures, f"where,mood code\n{text}")
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


def test_where_the_pictures_are_is_found_or_asked(pictures):
    path = write(pictures, f"image,label\n{rows().replace('pictures/', '')}")
    assert said(open_dataset(path), "pictures found in pictures/")
    windows = write(
        pictures, f"path,label\n{rows().replace('pictures/', 'pictures' + chr(92))}", "windows.csv"
    )
    assert len(open_dataset(windows, carve_validation=False).splits["train"]) == 8
    bare = write(
        pictures, f"id,path,label\n{''.join(f'{n},{n},{n % 2}' + chr(10) for n in range(8))}", "bare.csv"
    )
    assert len(open_dataset(bare, carve_validation=False).splits["train"]) == 8
    gone = write(pictures, "path,label\nno/0.png,a\nno/1.png,b\n", "gone.csv")
    with pytest.raises(
        DataError, match=r"none of the 2 pictures that .* looked for .*no/0\.png; .* --root DIR"
    ):
        open_dataset(gone)


def test_over_long_cells_are_unreadable_rows(pictures):
    text = f"path,label\n{rows()}{'x' * 5000},sad\n{'y/' * 3000},happy\n"
    bad = open_dataset(write(pictures, text)).unreadable
    assert [item.reason for item in bad] == ["it cannot be opened: File name too long"] * 2
    assert all(len(item.name) < 200 for item in bad)


def test_two_spellings_of_a_class(pictures):
    mixed = "".join(
        f"pictures/{number}.png,{('Angry', 'Happy', 'angry', 'angry')[number % 4]}\n" for number in range(8)
    )
    dataset = open_dataset(write(pictures, f"path,label\n{mixed}"), carve_validation=False)
    assert dataset.classes == ("angry", "Happy")
    assert "'Angry' and 'angry' are one class spelt in several ways; it is called 'angry'" in dataset.notes
    forms = mixed.replace("Angry", "anger")
    path = write(pictures, f"path,label\n{forms}")
    with pytest.raises(
        DataError, match=r"the classes 'anger', 'angry' are one expression .* --merge anger=anger"
    ):
        open_dataset(path)
    assert (
        len(open_dataset(path, DataConfig(merge=("angry=anger+angry",)), carve_validation=False).classes) == 2
    )
    assert len(open_dataset(path, DataConfig(classes=("anger", "angry", "Happy"))).classes) == 3


def test_two_real_classes_stay_two(pictures):
    text = "".join(f"pictures/{number}.png,{('happy', 'joy')[number % 2]}\n" for number in range(8))
    dataset = open_dataset(write(pictures, f"path,label\n{text}"))
    assert dataset.classes == ("happy", "joy")
    assert said(
        dataset, "happy and joy stay different classes; if they mean one expression: --merge happy=happy+joy"
    )


def test_rows_without_a_label_are_refused_only_where_they_are_used(pictures):
    text = f"path,label\n{rows().replace('0.png,sad', '0.png,')}"
    path = write(pictures, text)
    with pytest.raises(DataError, match="row 1 has no label"):
        open_dataset(path)
    dataset = open_dataset(path, DataConfig(classes=("happy", "sad")), carve_validation=False)
    assert len(dataset.splits["train"]) == 7


def test_soft_labels(pictures):
    lines = "".join(f"pictures/{number}.png,{number},{7 - number},1\n" for number in range(8))
    path = write(pictures, f"path,p_happy,p_sad,p_calm\n{lines}")
    train = open_dataset(path, carve_validation=False).splits["train"]
    np.testing.assert_allclose(train.shares.sum(axis=1), 1, rtol=1e-6)
    dataset = open_dataset(path, DataConfig(merge=("unhappy=sad+calm",)), carve_validation=False)
    assert dataset.classes == ("unhappy", "happy")
    split = dataset.splits["train"]
    np.testing.assert_allclose(split.shares[7], [1 / 8, 7 / 8], rtol=1e-6)
    assert split.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]  # of equal shares its own stays
    chosen = open_dataset(path, DataConfig(classes=("happy", "sad")), carve_validation=False).splits["train"]
    np.testing.assert_allclose(chosen.shares[1], [1 / 7, 6 / 7], rtol=1e-6)
    # A label beside them counts where a row has no shares; what is scaled, left out or contradicts is counted.
    rows = ("0.7,0.2,.1,sad", "0.5,0.3,.2,happy", "1,1,0,happy", ",,,sad", "0,0,0,", "0.6,0.4,0,happy")
    lines = "".join(f"pictures/{number}.png,{row}\n" for number, row in enumerate(rows))
    dataset = open_dataset(
        write(pictures, f"path,p_happy,p_sad,p_calm,label\n{lines}"), carve_validation=False
    )
    train = dataset.splits["train"]
    assert [dataset.classes[label] for label in train.labels] == ["happy", "happy", "happy", "sad", "happy"]
    np.testing.assert_allclose(train.shares[2:4], [[0, 0.5, 0.5], [0, 0, 1]])
    for note in (
        "in 1 rows the shares do not sum to 1, as they do in the others: they are scaled",
        "the column 'label' counts in the 1 rows without shares; in 1 rows it is not the largest share",
        "of no picture calm is the label: learnt from shares alone, and not scored",
        "left out: 1 all zeros",
    ):
        assert said(dataset, note), note
    with pytest.raises(DataError, match="row 1 has '-1' as the share of happy"):
        open_dataset(write(pictures, "path,p_happy,p_sad\npictures/0.png,-1,2\n"))


def test_several_labels_are_a_soft_label_in_equal_shares(pictures):
    labels = (
        "happy|surprised",
        "happy",
        "sad",
        "surprised; sad",
        "happy",
        "sad",
        '"surprised, happy"',
        "surprised",
    )
    text = "".join(f"pictures/{number}.png,{label}\n" for number, label in enumerate(labels))
    dataset = open_dataset(write(pictures, f"path,label\n{text}"), carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad", "surprised")
    assert [dataset.classes[label] for label in train.labels] == [
        "happy", "happy", "sad", "surprised", "happy", "sad", "surprised", "surprised",
    ]  # fmt: skip
    np.testing.assert_allclose(
        train.shares[[0, 1, 3, 6]], [[0.5, 0, 0.5], [1, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    )
    assert said(
        dataset, "3 rows have several labels, such as 'happy|surprised': read as soft labels in equal"
    )
    merged = open_dataset(
        write(pictures, f"path,label\n{text}"),
        DataConfig(merge=("other=sad+surprised",)),
        carve_validation=False,
    ).splits["train"]
    np.testing.assert_allclose(merged.shares[[0, 3]], [[0.5, 0.5], [0, 1]])
    assert merged.labels.tolist() == [0, 0, 1, 1, 0, 1, 1, 1]
    numbers = text.replace("happy", "3").replace("surprised", "5").replace("sad", "4")
    named = open_dataset(
        write(pictures, f"path,label\n{numbers.replace(chr(34) + '5, 3' + chr(34), '5|3')}"),
        DataConfig(labels=("3=happy", "4=sad", "5=surprised")),
        carve_validation=False,
    )
    assert named.classes == dataset.classes
    np.testing.assert_allclose(named.splits["train"].shares, train.shares)


def test_a_class_of_its_own_is_not_taken_apart(pictures):
    text = "".join(f"pictures/{number}.png,{('glad|bored', 'calm')[number % 2]}\n" for number in range(8))
    dataset = open_dataset(write(pictures, f"path,label\n{text}"), carve_validation=False)
    assert dataset.classes == ("calm", "glad|bored") and dataset.splits["train"].shares is None
    text = text.replace("glad|bored", "happy|calm")
    asked = DataConfig(classes=("happy|calm", "calm"))
    assert open_dataset(write(pictures, f"path,label\n{text}"), asked).classes == ("happy|calm", "calm")


def test_several_ones_in_columns_of_expressions(pictures):
    lines = "".join(f"pictures/{n}.png,{int(n < 5)},{int(n > 2)},{int(n == 7)}\n" for n in range(8))
    dataset = open_dataset(write(pictures, f"path,happy,sad,angry\n{lines}"), carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("angry", "happy", "sad") and train.labels.tolist() == [1] * 5 + [2] * 3
    np.testing.assert_allclose(train.shares[[0, 3, 7]], [[0, 1, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]])
    assert said(
        dataset, "the largest share is the label; in 3 rows several are the largest, and the first counts"
    )


def test_lists_of_labels(pictures):
    lines = "".join(
        f'{{"file": "pictures/{n}.png", "label": {json.dumps([["a", "b"], ["a"], ["b"]][n % 3])}}}\n'
        for n in range(8)
    )
    path = write(pictures, lines, "x.jsonl")
    train = open_dataset(path, carve_validation=False).splits["train"]
    np.testing.assert_allclose(train.shares[:3], [[0.5, 0.5], [1, 0], [0, 1]])
    with pytest.raises(DataError, match="row 1 has no label"):
        open_dataset(write(pictures, lines.replace('["a", "b"]', "[]"), "x.jsonl"))


def test_votes_in_columns_of_expressions(pictures):
    lines = "".join(
        f"pictures/{number}.png,{number % 2 * 10},{10 - number % 2 * 10}\n" for number in range(8)
    )
    dataset = open_dataset(write(pictures, f"image name,happiness,anger\n{lines}"), carve_validation=False)
    assert dataset.classes == ("anger", "happiness") and dataset.splits["train"].labels.tolist() == [0, 1] * 4


def test_json_lines(pictures):
    lines = "".join(
        f'{{"file": "pictures/{n}.png", "label": "{"ab"[n % 2]}", "more": [1]}}\n' for n in range(8)
    )
    assert open_dataset(write(pictures, lines, "x.jsonl"), carve_validation=False).classes == ("a", "b")
    with pytest.raises(DataError, match=r"x\.jsonl line 2 is no JSON"):
        open_dataset(write(pictures, lines.replace("\n", "\n{", 1), "x.jsonl"))


def test_a_line_without_an_end_is_refused_in_bounded_memory(tmp_path):
    packed = tmp_path / "bomb.csv.xz"
    with lzma.open(packed, "wb") as file:
        for _ in range(12):
            file.write(b"a" * 10_000_000)
    assert packed.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"bomb\.csv\.xz is no table: its line 1 has more than 10,000,000 characters"
    ):
        open_dataset(packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")
def test_parquet_with_the_pictures_inside(tmp_path, face):
    import pyarrow
    from pyarrow import parquet

    contents = [cv2.imencode(".png", face(number, 24))[1].tobytes() for number in range(8)]
    images = [{"bytes": content, "path": f"S{number // 2}_a.png"} for number, content in enumerate(contents)]
    features = {"info": {"features": {"label": {"names": ["angry", "happy"], "_type": "ClassLabel"}}}}
    table = pyarrow.table({"image": images, "label": [number % 2 for number in range(8)]})
    table = table.replace_schema_metadata({b"huggingface": json.dumps(features).encode()})
    (tmp_path / "set" / "data").mkdir(parents=True)
    parquet.write_table(table, tmp_path / "set/data/train-00000-of-00001.parquet")
    parquet.write_table(table.slice(0, 2), tmp_path / "set/data/test-00000-of-00001.parquet")
    dataset = open_dataset(tmp_path / "set", DataConfig(group="S[0-9]"), carve_validation=False)
    assert dataset.classes == ("angry", "happy")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 8, "test": 2}
    np.testing.assert_array_equal(dataset.splits["train"].pictures.read(5), face(5, 24))
    assert set(dataset.splits["train"].groups) == {"S0", "S1", "S2", "S3"}
    plain = pyarrow.table({"image": contents, "label": ["a", "b"] * 4})
    parquet.write_table(plain, tmp_path / "plain.parquet")
    assert (
        open_dataset(tmp_path / "plain.parquet", carve_validation=False).splits["train"].labels.tolist()
        == [0, 1] * 4
    )


def packed(folder: Path, path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.png")):
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, "faces")
    return path


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
        for name, data in content.items():
            if suffix == ".zip":
                archive.writestr(name, data)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    for _ in range(2):
        dataset = open_dataset(path, carve_validation=False)
        assert len(dataset.splits["train"]) == 5
        assert any(note.startswith("6 members of faces are links") for note in dataset.notes)
    assert not [*tmp_path.parent.rglob("escaped.png")] and not Path("/tmp-absolute.png").exists()


def test_an_archive_that_would_fill_the_disk(tmp_path, write_faces, monkeypatch):
    write_faces(tmp_path / "in", {"happy": 2, "sad": 2})
    path = packed(tmp_path / "in", tmp_path / "full.zip")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(DataError, match=r"unpacks to .* and there is room for 0\.0 GB in"):
        open_dataset(path)


def listed(pictures: Path, header: str, row, name: str = "labels.csv", encoding: str = "utf-8", **settings):
    """Open a table of the eight pictures: row(0) to row(7) below the header."""
    path = pictures / name
    path.write_bytes("".join(f"{line}\n" for line in (header, *map(row, range(8)))).encode(encoding))
    return open_dataset(path, DataConfig(**settings), carve_validation=False)


def mood(number: int) -> str:
    return ("angry", "happy")[number % 2]


WRITTEN = {
    "UTF-16, as Excel's Unicode text": ("path\tlabel", lambda n: f"pictures/{n}.png\t{mood(n)}", "utf-16"),
    "a comma in a header of semicolons": ("path;label;note, free", lambda n: f"pictures/{n}.png;{mood(n)};x", ""),
    "upright bars": ("path|label", lambda n: f"pictures/{n}.png|{mood(n)}", ""),
    "Excel's line that says what separates": ("sep=;\npath;label", lambda n: f"pictures/{n}.png;{mood(n)}", ""),
    "blanks after commas": ("path, label", lambda n: f" pictures/{n}.png , {mood(n)} ", ""),
    "a line end in a label": ("path,label", lambda n: f'pictures/{n}.png,"{mood(n)}\n"', ""),
    "Excel's empty rows": ("path,label", lambda n: f"pictures/{n}.png,{mood(n)}\n,", ""),
    "a suffix in capitals": ("path,label", lambda n: f"pictures/{n}.PNG,{mood(n)}", ""),
    "a list in Python's form": ("path,label", lambda n: f"pictures/{n}.png,['{mood(n)}']", ""),
    "another machine": ("path,label", lambda n: f"/home/ann/set/pictures/{n}.png,{mood(n)}", ""),
    "another machine, of Windows": ("path,label", lambda n: f"C:\\set\\pictures\\{n}.png,{mood(n)}", ""),
    "a notebook's place": ("path,label", lambda n: f"../input/set/pictures/{n}.png,{mood(n)}", ""),
}  # fmt: skip


@pytest.mark.parametrize(("header", "row", "encoding"), WRITTEN.values(), ids=WRITTEN.keys())
def test_tables_as_programs_and_people_write_them(pictures, header, row, encoding):
    dataset = listed(pictures, header, row, encoding=encoding or "utf-8")
    assert dataset.classes == ("angry", "happy") and dataset.splits["train"].labels.tolist() == [0, 1] * 4
    assert not dataset.unreadable
    elsewhere = [note for note in dataset.notes if note.startswith("the paths start elsewhere: ")]
    assert bool(elsewhere) == ("set" in row(0)) and all(
        note.endswith("read as pictures/0.png") for note in elsewhere
    )


def test_paths_are_not_shortened_until_two_are_one(pictures):
    with pytest.raises(DataError, match="none of the 8 pictures"):
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


def test_zero_bytes_may_be_another_encoding(pictures):
    with pytest.raises(DataError, match="it is damaged, or UTF-16 without its mark"):
        listed(pictures, "path,label", lambda n: f"pictures/{n}.png,{mood(n)}", encoding="utf-16-le")
    text = "path,label\n" + "".join(f"pictures/{n}.png,{('wütend', chr(157))[n % 2]}\n" for n in range(8))
    (pictures / "labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 text .*'CSV UTF-8'"):  # 157: no letter of Windows-1252
        open_dataset(pictures / "labels.csv")


def test_what_excel_saves_is_read(pictures):
    """As CSV in western Europe: Windows-1252, semicolons, decimal commas. As a workbook: a title sheet, numbers."""
    text = "path;p_wütend;p_froh\r\n" + "".join(f"pictures/{n}.png;0,{3 + n};0,5\r\n" for n in range(4))
    (pictures / "labels.csv").write_bytes(text.encode("cp1252"))
    dataset = open_dataset(pictures / "labels.csv", carve_validation=False)
    assert said(dataset, "read as Windows-1252; if 'p_wütend' is not what it should be")
    shares = dataset.splits["train"].shares
    assert shares is not None and dataset.classes == ("froh", "wütend")
    np.testing.assert_allclose(shares[:, 1], [0.3 / 0.8, 0.4 / 0.9, 0.5, 0.6 / 1.1], atol=1e-6)
    openpyxl = pytest.importorskip("openpyxl", reason="reading Excel takes the extra excel")
    book = openpyxl.Workbook()
    book.active.append(["how to fill this in"])
    sheet = book.create_sheet("answers")
    sheet.append(["Study of May"])
    sheet.append([])
    sheet.append(["Picture", "Label", "Person", None])
    for number in range(8):
        sheet.append([f"pictures/{number}.png", number % 2, float(number // 4)])
    book.save(pictures / "answers.xlsx")
    dataset = open_dataset(
        pictures / "answers.xlsx", DataConfig(labels=("0=calm", "1=glad")), carve_validation=False
    )
    train = dataset.splits["train"]
    assert said(dataset, "read from the sheet 'answers' of 2") and dataset.classes == ("calm", "glad")
    assert train.labels.tolist() == [0, 1] * 4 and list(train.groups or ()) == ["0"] * 4 + ["1"] * 4
    whole = (pictures / "answers.xlsx").read_bytes()
    random = np.random.default_rng(0)
    said_so = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] ^= 0x55
        (pictures / "answers.xlsx").write_bytes(damaged)
        try:
            open_dataset(pictures / "answers.xlsx", carve_validation=False)
        except DataError:
            said_so += 1
    assert said_so > 10
    (pictures / "answers.xlsx").write_bytes(b"PK\3\4 no workbook")
    with pytest.raises(
        DataError, match=r"is no Excel file that can be read .*; save it again, or as CSV UTF-8"
    ):
        open_dataset(pictures / "answers.xlsx")


def test_boxes_that_are_not_used_are_mentioned_or_refused(pictures):
    def boxed(header: str, cells: str) -> Path:
        lines = rows().replace("\n", f",{cells}\n")
        return write(pictures, f"path,label,{header}\n{lines}")

    wide = open_dataset(boxed("x,y,width,height", "2,3,10,20"), carve_validation=False)
    assert wide.splits["train"].pictures.read(0).shape[:2] == (20, 10)
    named = open_dataset(boxed("bbox", '"[2,3,10,20]"'), carve_validation=False)
    assert said(named, "not used, so that the pictures are taken whole: 'bbox'")
    with pytest.raises(
        DataError, match=r"has boxes from 0 to 1 \(xmin, ymin, xmax, ymax\); give them in pixels"
    ):
        open_dataset(boxed("xmin,ymin,xmax,ymax", "0.1,0.2,0.5,1"))


@pytest.mark.parametrize(
    "form",
    [
        [{"image": f"pictures/{n}.png", "label": mood} for n, mood in enumerate(["sad", "happy"] * 4)],
        {"data": [{"file": f"pictures/{n}.png", "emotion": mood} for n, mood in enumerate(["sad", "happy"] * 4)]},
        {f"pictures/{n}.png": mood for n, mood in enumerate(["sad", "happy"] * 4)},
        {
            "image": {str(n): f"pictures/{n}.png" for n in range(8)},
            "label": dict(zip("01234567", ["sad", "happy"] * 4, strict=True)),
        },
        # Label Studio's short form, whose paths are its own
        [
            {"id": n, "image": f"/data/upload/1/{n}.png", "choice": mood, "annotator": 1}
            for n, mood in enumerate(["sad", "happy"] * 4)
        ],
    ],
    ids=["array", "array inside", "picture to label", "columns", "label studio"],
)  # fmt: skip
def test_json_in_the_forms_that_people_have(pictures, form):
    (pictures / "labels.json").write_text(json.dumps(form))
    (pictures / "package.json").write_text('{"name": "x", "list": [1, 2]}')  # no table, and not in the way
    for path in (pictures / "labels.json", pictures):
        dataset = open_dataset(path, carve_validation=False)
        assert dataset.classes == ("happy", "sad") and dataset.splits["train"].labels.tolist() == [1, 0] * 4
    with pytest.raises(DataError, match="is no table; mien reads JSON as a list of objects"):
        open_dataset(pictures / "package.json")


def split_sizes(dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


SPLIT_BY = {"train": 4, "validation": 2, "test": 2}


@pytest.mark.parametrize(
    ("column", "cells"),
    [("split", "tr va te"), ("stage", "fit validate test"), ("set", "trainval dev tst"), ("use", "train dev test")],
)  # fmt: skip
def test_short_words_for_splits(pictures, column, cells):
    words = cells.split()
    dataset = listed(
        pictures, f"path,label,{column}", lambda n: f"pictures/{n}.png,{mood(n)},{words[max(0, n // 2 - 1)]}"
    )
    assert split_sizes(dataset) == SPLIT_BY


def test_numbers_that_may_be_splits_are_said_and_read_on_request(pictures):
    def row(n: int) -> str:
        return f"pictures/{n}.png,{mood(n)},{max(0, n // 2 - 1)}"

    assert said(
        listed(pictures, "path,label,set", row),
        "(--split-column set reads 0, 1, 2 as train, validation, test",
    )
    asked = listed(pictures, "path,label,set", row, split_column="set")
    assert split_sizes(asked) == SPLIT_BY
    assert said(
        asked, "split by the column 'set' (0 train, 1 validation, 2 test): train 4, validation 2, test 2"
    )
    words = ("Training", "Prüfung", "Test")
    odd = listed(
        pictures,
        "path,label,teil",
        lambda n: f"pictures/{n}.png,{mood(n)},{words[n % 3]}",
    )
    assert said(
        odd, "the column 'teil' is not used (only some of its words name splits: Training, Prüfung, Test)"
    )


def test_folders_in_the_paths_say_the_split_where_nothing_else_does(pictures):
    for n in range(8):
        place = pictures / "set" / ("train", "test")[n > 5] / f"{n}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / "pictures" / f"{n}.png", place)

    def row(n: int) -> str:
        return f"set/{('train', 'test')[n > 5]}/{n}.png,{mood(n)}"

    dataset = listed(pictures, "path,label", row)
    assert split_sizes(dataset) == {"train": 6, "test": 2}
    assert said(dataset, "split by the folders in the paths: train 6, test 2")
    assert split_sizes(listed(pictures, "path,label", row, split_column="none")) == {"train": 8}
    mixed = listed(pictures, "path,label", lambda n: row(n) if n % 2 else f"pictures/{n}.png,{mood(n)}")
    assert split_sizes(mixed) == {"train": 8}
    assert said(mixed, "folders in the paths name splits, but not for 4 rows: they are not used")


@pytest.mark.parametrize("column", ["person_no", "Subject ID", "video_name", "pid"])
def test_persons_under_other_names(pictures, column):
    dataset = listed(pictures, f"path,label,{column}", lambda n: f"pictures/{n}.png,{mood(n)},{n // 2}")
    assert list(dataset.splits["train"].groups) == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_signs_that_may_belong_to_a_name_part_only_labels_that_are_there(pictures):
    cells = ("happy/sad", "happy", "sad & happy", "sad")
    dataset = listed(pictures, "path,label", lambda n: f"pictures/{n}.png,{cells[n % 4]}")
    assert dataset.classes == ("happy", "sad")
    np.testing.assert_allclose(dataset.splits["train"].shares[:4], [[0.5, 0.5], [1, 0], [0.5, 0.5], [0, 1]])
    joint = listed(pictures, "path,label", lambda n: f"pictures/{n}.png,{('sad/fear', 'calm')[n % 2]}")
    assert joint.classes == ("calm", "sad/fear")
    assert said(
        joint, "'sad/fear': read as a class of its own; several labels of one picture are written sad|fear"
    )


def test_columns_of_ones_whatever_the_classes_are_called(pictures):
    def ones(n: int) -> str:
        return ",".join(str(int(n % 3 == place)) for place in range(3))

    dataset = listed(pictures, "filename,bored,happy,angry", lambda n: f"pictures/{n}.png,{ones(n)}")
    assert dataset.classes == ("angry", "bored", "happy")
    assert [dataset.classes[label] for label in dataset.splits["train"].labels[:3]] == [
        "bored",
        "happy",
        "angry",
    ]
    # True, False.
    words = listed(pictures, "filename,happy,sad", lambda n: f"pictures/{n}.png,{n % 2 == 0},{n % 2 == 1}")
    assert words.splits["train"].labels.tolist() == [0, 1] * 4
    unlabelled = listed(pictures, "filename,happy,sad,Unlabeled", lambda n: f"pictures/{n}.png,{ones(n)}")
    assert unlabelled.classes == ("happy", "sad") and said(unlabelled, "left out: 2 unlabeled")
    never = listed(pictures, "filename,happy,sad,fear", lambda n: f"pictures/{n}.png,{n % 2},{1 - n % 2},0")
    assert never.classes == ("happy", "sad") and said(never, "no row is fear; these columns are not used")
    several = listed(
        pictures, "filename,happy,sad,glasses", lambda n: f"pictures/{n}.png,{n % 2},{1 - n % 2},1"
    )
    assert several.classes == ("happy", "sad")
    assert said(several, "not used, though of numbers as those of the classes: the columns glasses")


def test_numbers_that_pandas_wrote_as_fractions(pictures):
    dataset = listed(pictures, "path,label", lambda n: f"pictures/{n}.png,{('0.0', '1', '0', '1.0')[n % 4]}")
    assert dataset.classes == ("0", "1") and said(dataset, "the labels are numbers (0, 1)")
    with pytest.raises(DataError, match="row 1 has no label"):
        listed(pictures, "path,label", lambda n: f"pictures/{n}.png,{('nan', 'happy', 'sad')[n % 3]}")


def test_one_picture_in_rows_with_different_labels(pictures):
    dataset = listed(pictures, "path,label", lambda n: f"pictures/{n % 7}.png,{mood(n)}")
    assert said(dataset, "1 pictures have several rows with different labels, such as 0.png")
    twice = listed(pictures, "path,label,label", lambda n: f"pictures/{n}.png,{mood(n)},{mood(n + 1)}")
    assert said(twice, "the first of 2 columns 'label' is used")


def test_json_lines_with_names_that_come_later_and_paths_inside(pictures):
    lines = "".join(
        json.dumps(
            {"image": {"path": f"pictures/{n}.png"}, "label": mood(n), **({"person": "a"} if n > 5 else {})}
        )
        + "\n"
        for n in range(8)
    )
    train = open_dataset(write(pictures, lines, "x.ndjson"), carve_validation=False).splits["train"]
    assert train.labels.tolist() == [0, 1] * 4 and list(train.groups) == [""] * 6 + ["a"] * 2
