"""`mien data`, as a person types it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from mien.cli import data as command
from mien.data import open_dataset
from mien.data.convert import png
from mien.errors import ConfigError, DataError, OutputError
from mien.images import read_image


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mien data` writes its sheet into the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def source(tmp_path: Path, write_faces) -> Path:
    write_faces(tmp_path / "set", {"train/happy": 9, "train/sad": 3, "test/happy": 2, "test/sad": 1})
    (tmp_path / "set/test/sad/0.png").write_bytes((tmp_path / "set/train/sad/0.png").read_bytes())
    (tmp_path / "set/train/sad/broken.jpg").write_text("no")
    return tmp_path / "set"


def test_the_summary_says_what_one_must_know(source, capsys):
    assert run(source) == 0
    printed = capsys.readouterr().out
    assert "set: 15 pictures, 2 classes" in printed
    assert "       train  validation  test  all\nhappy      8           1     2   11\n" in printed
    assert "all       10           2     3   15" in printed
    assert "sizes: 40x40 pixels; 15 grey, 0 colour" in printed
    assert "imbalance: the largest class has 4.0 times" in printed
    assert "  train/sad/broken.jpg: it is not a picture (it begins with b'no')" in printed
    assert "pictures are pixel copies of" in printed


def test_a_class_without_training_pictures_is_named(tmp_path, write_faces, capsys):
    write_faces(tmp_path, {"train/happy": 2, "train/sad": 2, "val/happy": 1, "val/calm": 2})
    assert run(tmp_path) == 0
    assert "warning: no train picture of calm; add some, merge it" in capsys.readouterr().out


def test_json_is_json(source, capsys):
    assert run(source, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["test"] == {"happy": 2, "sad": 1} and found["imbalance"] == 4.0
    assert [bad["name"] for bad in found["unreadable"]] == ["train/sad/broken.jpg"]
    assert sum(leak["copies"] for leak in found["leaks"]) == 1 and found["sizes"]["median"] == [40, 40]


def test_sheet_and_conversions(source, tmp_path, capsys):
    folders, table, sheet = tmp_path / "folders", tmp_path / "table", tmp_path / "sheet.png"
    assert (
        run(
            source,
            "--sheet",
            sheet,
            "--to-folders",
            folders,
            "--to-table",
            table,
            "--to-csv",
            tmp_path / "x.csv",
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert f"wrote 15 pictures to {folders}" in printed and f"wrote {sheet}" in printed
    assert len(list(folders.rglob("*.png"))) == 15 and (table / "labels.csv").exists()
    assert read_image(sheet).ndim == 3


def test_a_sheet_is_written_as_the_readme_promises(source, tmp_path, capsys):
    assert run(source) == 0
    assert "wrote set-sheet.png: a row of examples for each class" in capsys.readouterr().out
    sheet = read_image(tmp_path / "here" / "set-sheet.png")
    assert sheet.shape[1] > 12 * 96 and 2 * 96 < sheet.shape[0] < 3 * 96
    run(source, "--sheet", "none")
    run(source, "--json")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["set-sheet.png"]


def test_several_data_are_one(source, tmp_path, write_faces, capsys):
    write_faces(tmp_path / "more", {"happy": 3, "Sad": 2}, first_seed=90)
    assert run(source, tmp_path / "more", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "set+more" and found["classes"] == ["happy", "sad"]
    assert sum(sum(row.values()) for row in found["counts"].values()) == 20
    assert "'Sad' of more is taken for 'sad'" in found["notes"]


def test_tables_are_safe_to_open_in_a_spreadsheet_and_come_back(tmp_path, write_faces):
    write_faces(tmp_path / "bad", {"=cmd|calc": 2, "@sum": 2, "-1": 2}, size=16)
    assert (
        run(tmp_path / "bad", "--to-table", tmp_path / "table", "--group", "^[^/]+", "--sheet", "none") == 0
    )
    text = (tmp_path / "table" / "labels.csv").read_text()
    cells = [cell for line in text.splitlines() for cell in line.split(",")]
    assert "'=cmd|calc" in cells and "'@sum" in cells and "-1" in cells
    assert not any(cell.startswith(("=", "@", "+")) for cell in cells)
    back = open_dataset(tmp_path / "table")
    assert set(back.classes) == {"=cmd|calc", "@sum", "-1"}
    assert {group for split in back.splits.values() for group in split.groups} == {"=cmd|calc", "@sum", "-1"}


def test_settings_reach_the_reader(source, capsys):
    assert (
        run(source, "--json", "--merge", "glad=happy", "--classes", "sad,glad", "--validation-share", "0.4")
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == ["sad", "glad"] and found["counts"]["validation"] == {"sad": 1, "glad": 3}


def test_get_draws_faces(tmp_path, capsys):
    assert run("get", "drawn", "--to", tmp_path / "drawn", "--per-class", "5", "--classes", "happy,sad") == 0
    assert "look at it with: mien data" in capsys.readouterr().out
    assert run(tmp_path / "drawn", "--json") == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["happy", "sad"]


def test_words_that_make_no_sense(source, tmp_path):
    with pytest.raises(DataError, match=r"there is no file or folder .*more; DATA can be"):
        run(source, "more")
    with pytest.raises(ConfigError, match="give one name: mien data get NAME"):
        run("get")
    with pytest.raises(OutputError, match=r"its name must end in \.png"):
        run(source, "--sheet", tmp_path / "sheet.docx")


def a_model_of_brightness(folder: Path) -> Path:
    """Write a model folder whose network says 'dark' or 'light' by the mean grey level."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    from mien.model.folder import write_metadata
    from mien.model.heads import Head
    from mien.model.metadata import Metadata
    from mien.model.preprocess import Preprocess

    constants = {"scale": [[-0.05, 0.05]], "shift": [[6.4, -6.4]], "axes": [1, 2]}
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["light"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 48, 48, 1])],
        [helper.make_tensor_value_info("light", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(np.array(value, np.int64 if name == "axes" else np.float32), name)
            for name, value in constants.items()
        ],
    )
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
        folder / "model.onnx",
    )
    head = Head(name="light", labels=("dark", "light"))
    write_metadata(folder, Metadata(name="brightness", preprocess=Preprocess(), heads=(head,)))
    return folder


def test_labels_that_a_model_doubts(tmp_path, capsys):
    for label, level in (("light", 200), ("dark", 60)):
        for number in range(6):
            swapped = (label, number) == ("light", 4)  # one dark face among the light ones
            picture = np.full((48, 48), 50 if swapped else level, np.uint8) + np.uint8(number)
            path = tmp_path / "set" / "validation" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(picture))
    model = a_model_of_brightness(tmp_path / "model")
    assert run(tmp_path / "set", "--model", model, "--suspects", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "1 of 12 validation labels are suspicious, the first: validation/light/4.png" in printed
    assert "labelled light, the model says dark" in printed
    header, row = (tmp_path / "out" / "suspects.csv").read_text().splitlines()
    assert header == "name,label,probability_of_label,model_says,probability_of_that"
    assert row.startswith("validation/light/4.png,light,0.00") and row.split(",")[3] == "dark"
    assert read_image(tmp_path / "out" / "suspects.png").ndim == 3


def test_sheets_show_the_faces(tmp_path, write_faces, face):
    from mien.data import open_dataset
    from mien.data.sheet import CELL, captioned_sheet, contact_sheet

    write_faces(tmp_path, {"été": 2, "面": 3}, size=CELL)
    dataset = open_dataset(tmp_path, carve_validation=False)
    sheet = contact_sheet(dataset, per_class=2)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    written = {face(seed, CELL).tobytes() for seed in range(5)}
    row = sheet[8 + 21 : 8 + 21 + CELL, 8 : 8 + CELL, 0]  # below the first title
    assert row.tobytes() in written
    captioned = captioned_sheet(dataset.splits["train"], [0, 1, 2], ["is a\nor b?"] * 3, across=2)
    assert captioned.shape == (2 * 8 + 2 * (2 * 17 + 128) + 4, 2 * 8 + 2 * 128 + 4, 3)
