"""Tables of paths and labels, as CSV and Parquet."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mien.data import open_dataset
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
    dataset = open_dataset(pictures)
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
        lambda text: text.replace("label", "what"),
        r"labels\.csv has no column label or emotion or class or",
    ),
    "no path": (lambda text: text.replace("path", "where"), "has no column path or file or image"),
    "empty label": (lambda text: text.replace("0.png,sad", "0.png,"), "row 1 has no label"),
    "short row": (lambda text: text.replace("0.png,sad", "0.png"), "row 1 has 1 columns, the header has 2"),
    "comma in a name": (
        lambda text: text.replace("0.png", "0,1.png"),
        "row 1 has 3 columns, the header has 2",
    ),
    "zero bytes": (lambda text: text.replace("2.png", "2\0.png"), "is damaged: line 4 has zero bytes"),
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
