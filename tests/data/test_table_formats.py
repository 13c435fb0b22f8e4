"""Tables as programs write them: CSV of many kinds, Excel, JSON, Parquet."""

from __future__ import annotations

import importlib.util
import json
import lzma
import tracemalloc

import cv2
import numpy as np
import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError

from .conftest import listed, mood, rows, said, write_table


def test_semicolons_where_a_comma_is_the_decimal_sign(pictures):
    text = f"path,label\n{rows()}"
    with_commas = open_dataset(write_table(pictures, text))
    with_semicolons = open_dataset(write_table(pictures, text.replace(",", ";")))
    assert with_semicolons.fingerprint == with_commas.fingerprint


def test_excel_marks_and_tabs(pictures):
    with_mark = write_table(pictures, f"\ufeffpath,label\n{rows()}")
    assert len(open_dataset(with_mark, carve_validation=False).splits["train"]) == 8
    tabs = write_table(pictures, f"path,label\n{rows()}".replace(",", "\t"), "labels.tsv")
    assert len(open_dataset(tabs, carve_validation=False).splits["train"]) == 8


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


def test_json_lines(pictures):
    lines = "".join(
        f'{{"file": "pictures/{n}.png", "label": "{"ab"[n % 2]}", "more": [1]}}\n' for n in range(8)
    )
    assert open_dataset(write_table(pictures, lines, "x.jsonl"), carve_validation=False).classes == ("a", "b")
    with pytest.raises(DataError, match=r"x\.jsonl line 2 is no JSON"):
        open_dataset(write_table(pictures, lines.replace("\n", "\n{", 1), "x.jsonl"))


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


def test_json_lines_with_names_that_come_later_and_paths_inside(pictures):
    lines = "".join(
        json.dumps(
            {"image": {"path": f"pictures/{n}.png"}, "label": mood(n), **({"person": "a"} if n > 5 else {})}
        )
        + "\n"
        for n in range(8)
    )
    train = open_dataset(write_table(pictures, lines, "x.ndjson"), carve_validation=False).splits["train"]
    assert train.labels.tolist() == [0, 1] * 4 and list(train.groups) == [""] * 6 + ["a"] * 2
