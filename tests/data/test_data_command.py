"""`mien data`, as a person types it."""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.cli import data as command
from mien.cli.main import main
from mien.data import open_dataset
from mien.errors import ConfigError, DataError, OutputError
from mien.evaluate.render import COMPARISON_JSON, COMPARISON_PAGE, REPORT_JSON, REPORT_PAGE
from mien.images import read_image
from mien.model.folder import SETTINGS_FILE
from mien.train.run_folder import begin


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
    assert "  train/sad/broken.jpg: it is not a picture (it begins with 'no')" in printed
    assert "leak: pixel copies of" in printed


def test_a_class_without_training_pictures_is_named(tmp_path, write_faces, capsys):
    write_faces(tmp_path, {"train/happy": 2, "train/sad": 2, "val/happy": 1, "val/calm": 2})
    assert run(tmp_path) == 0
    assert "warning: no train picture of calm; add some, merge it" in capsys.readouterr().out


def test_a_class_that_is_too_small_to_train_on_can_be_looked_at(tmp_path, write_faces, capsys):
    write_faces(tmp_path / "set", {"happy": 4, "sad": 3, "odd": 1})
    assert run(tmp_path / "set") == 0
    printed = capsys.readouterr().out
    assert "odd        1    1" in printed
    assert "note: mien train refuses this: class 'odd' has only one picture" in printed
    with pytest.raises(DataError, match="class 'odd' has only one picture"):
        run(tmp_path / "set", "--label-errors")  # its rows name a part, and there are none


def test_what_is_decided_is_remembered_also_where_it_leaves_a_class_too_small(tmp_path, write_faces, capsys):
    write_faces(tmp_path / "set", {"happy": 4, "sad": 2})
    splits = open_dataset(tmp_path / "set").splits
    part = next(name for name, split in splits.items() if "sad/0.png" in split.names)
    rows = f"split,name,label,suggestion,decision\n{part},sad/0.png,sad,happy,happy\n"
    (tmp_path / "list.csv").write_text(rows)
    assert run(tmp_path / "set", "--remember", tmp_path / "list.csv") == 0
    printed = capsys.readouterr()
    assert "1 decision" in printed.err
    assert "sad        1    1" in printed.out


def test_a_class_that_only_shares_know_is_not_missing(tmp_path, write_faces, capsys):
    write_faces(tmp_path, {"faces": 8})
    rows = [
        f"faces/{number}.png,{0.8 if number % 2 else 0.1},{0.1 if number % 2 else 0.8},.1"
        for number in range(8)
    ]
    (tmp_path / "soft.csv").write_text("\n".join(["path,p_angry,p_happy,p_sad", *rows]))
    assert run(tmp_path / "soft.csv", "--validation-share", "0.3") == 0
    printed = capsys.readouterr().out
    assert "of no picture sad is the label: learnt from shares alone, and not scored" in printed
    assert "warning: no" not in printed
    assert run(tmp_path / "soft.csv", "--json", "--split-column", "none") == 0
    found = json.loads(capsys.readouterr().out)
    train = found["counts"]["train"]
    angry, happy = train["angry"], train["happy"]
    share = (0.8 * max(angry, happy) + 0.1 * min(angry, happy)) / (0.1 * (angry + happy))
    assert (found["missing"], train["sad"], found["soft"]) == ([], 0, True)
    assert found["imbalance"] == pytest.approx(share, rel=1e-5)


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


def test_what_mien_writes_among_the_data_is_no_data(tmp_path, write_faces, monkeypatch, capsys):
    data = tmp_path / "faces"
    write_faces(data, {"happy": 12, "sad": 12})
    run(data, "--json")
    before = json.loads(capsys.readouterr().out)["counts"]
    monkeypatch.chdir(data)
    run(".")
    run(".", "--copies", "copies")
    main(["predict", "happy", "--detector", "whole", "--save", "marked"])
    (data / "runs/faces-small").mkdir(parents=True)
    begin(data / "runs/faces-small", {"settings": {"labels": []}, "data": {}})  # a run in its first epoch
    shutil.copy("happy/0.png", data / "runs/faces-small/batch.png")
    for name in (SETTINGS_FILE, "README.md"):  # of somebody else
        (data / "happy" / name).write_text('{"fps": 30}')
    for folder, files in (
        ("report-faces", (REPORT_JSON, REPORT_PAGE)),
        ("comparison", (COMPARISON_JSON, COMPARISON_PAGE)),
    ):
        (data / folder).mkdir(parents=True)
        for file in files:
            (data / folder / file).touch()
        shutil.copy("happy/0.png", data / folder / "chart.png")
    capsys.readouterr()
    run(".", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == before
    # One sheet, twelve marked copies, three folders; the sheet of copies where there are any.
    assert re.search(r"passed over, as no pictures: 1[67] written by mien", "\n".join(found["notes"]))


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
    picture = next(source.rglob("*.png"))
    before = picture.read_bytes()
    with pytest.raises(ConfigError, match="is there already, among the data; name another place"):
        run(source, "--sheet", picture)
    assert picture.read_bytes() == before


def test_labels_that_are_likely_wrong(tmp_path, capsys):
    """Of 48 faces two carry the other label: they lead the list, the list is applied, and they are gone."""
    pytest.importorskip("cleanlab")
    run("get", "drawn", "--to", tmp_path / "set", "--per-class", "30", "--classes", "angry,surprise")
    planted = []
    for number, (true, wrong) in enumerate((("angry", "surprise"), ("surprise", "angry"))):
        face = sorted((tmp_path / "set/train" / true).iterdir())[number]
        face.rename(tmp_path / "set/train" / wrong / f"=planted{number}.png")
        planted.append(f"=planted{number}.png")
    out = tmp_path / "errors"
    assert run(tmp_path / "set", "--label-errors", "--errors-to", out, "--quick", "--sheet", "none") == 0
    said = capsys.readouterr().out
    assert " labels; first " in said
    assert f"with --remember {out / 'label-errors.csv'} in place of --label-errors" in said
    header, *rows = (out / "label-errors.csv").read_text().splitlines()
    assert header == "split,name,label,suggestion,margin,learnt,network,decision" and len(rows) == 60
    assert all(any(name in row for row in rows[:10]) for name in planted)
    assert rows[-1].endswith(",")
    assert read_image(out / "label-errors.png").ndim == 3
    decisions = {"=planted0": "angry", "=planted1": "drop"}
    kept = [
        row.removesuffix("drop") + next((what for name, what in decisions.items() if name in row), "")
        for row in rows
    ]
    (tmp_path / "list.csv").write_text("\n".join([header, *kept]) + "\n")
    assert run(tmp_path / "set", "--apply", tmp_path / "list.csv", "--json", "--quick") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["notes"][-1] == "list.csv: 1 picture left out, 1 given another label"
    assert sum(sum(row.values()) for row in found["counts"].values()) == 59 and found["near"] is None


@pytest.mark.parametrize(("option", "name"), [("--label-errors", "label-errors"), ("--copies", "copies")])
def test_a_list_that_was_changed_by_hand_is_kept(option, name, tmp_path, capsys):
    pytest.importorskip("cleanlab")
    run("get", "drawn", "--to", tmp_path / "set", "--per-class", "10", "--classes", "happy,sad")
    face = next((tmp_path / "set/train/happy").iterdir())
    shutil.copy(face, face.with_name("again.png"))
    out = tmp_path / "lists"
    words = [option, "--errors-to", out] if option == "--label-errors" else [option, out]
    listed = out / f"{name}.csv"
    for _ in range(2):  # what nobody changed is written anew
        assert run(tmp_path / "set", *words, "--sheet", "none") == 0
    assert "by hand" not in capsys.readouterr().out and len(list(out.iterdir())) == 2
    written = listed.read_text()
    changed = written.removesuffix("\n").removesuffix("drop") + "keep\n"
    listed.write_text(changed)
    assert run(tmp_path / "set", *words, "--sheet", "none") == 0
    assert f"{listed} was changed by hand, and is kept as {out / name}-2.csv" in capsys.readouterr().out
    assert (out / f"{name}-2.csv").read_text() == changed and listed.read_text() == written


def test_a_list_of_label_errors_replaces_none_of_other_data(tmp_path, monkeypatch, capsys):
    pytest.importorskip("cleanlab")
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        run("get", "drawn", "--to", tmp_path / name, "--per-class", "10", "--classes", "happy,sad")
    for name in ("a", "b", "a", "b"):
        assert run(name, "--label-errors", "--quick", "--sheet", "none") == 0
    assert (
        "label-errors is not known to be of this input, and stays; writing label-errors-2"
        in capsys.readouterr().err
    )
    assert sorted(path.name for path in tmp_path.glob("label*")) == ["label-errors", "label-errors-2"]


def test_a_list_as_csv_goes_to_standard_output_alone(tmp_path, capsys):
    pytest.importorskip("cleanlab")
    run("get", "drawn", "--to", tmp_path / "set", "--per-class", "10", "--classes", "happy,sad")
    capsys.readouterr()
    assert run(tmp_path / "set", "--label-errors", "--csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("split,name,label") and len(lines) == 21


def test_sheets_show_the_faces(tmp_path, write_faces, face):
    from mien.data import open_dataset
    from mien.data.summary import CELL, contact_sheet, sheet_of

    write_faces(tmp_path, {"été": 2, "面": 3}, size=CELL)
    dataset = open_dataset(tmp_path, carve_validation=False)
    sheet = contact_sheet(dataset, per_class=2)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    written = {face(seed, CELL).tobytes() for seed in range(5)}
    row = sheet[8 + 21 : 8 + 21 + CELL, 8 : 8 + CELL, 0]  # below the first title
    assert row.tobytes() in written
    # A class without a picture, as soft labels may have one, is a title alone.
    more = contact_sheet(replace(dataset, classes=(*dataset.classes, "wut")), per_class=2)
    assert more.shape[0] < sheet.shape[0] + CELL and more.shape[1] == sheet.shape[1]
    faces = [dataset.splits["train"].pictures.read(row) for row in range(3)]
    captioned = sheet_of(faces, ["is a\nor b?"] * 3, across=2)
    assert captioned.shape == (2 * 8 + 2 * (2 * 17 + 128) + 4, 2 * 8 + 2 * 128 + 4, 3)


def test_names_that_a_terminal_has_no_letters_for_are_printed_all_the_same(
    tmp_path, write_faces, monkeypatch
):
    write_faces(tmp_path / "set", {"fr\xf6hlich": 3, "w\xfctend": 3})
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    assert main(["data", str(tmp_path / "set")]) == 0
    printed.flush()
    assert b"\nfr\\xf6hlich" in printed.buffer.getvalue()
