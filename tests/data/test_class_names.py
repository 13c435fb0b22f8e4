"""What folders and class numbers mean: words around expressions, folders that are none, lists of names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mien.data import DataConfig, open_dataset
from mien.data.dataset import Dataset
from mien.data.readers.words import plain_expressions
from mien.errors import DataError


def read(path: Path, **settings: tuple[str, ...]) -> Dataset:
    return open_dataset(path, DataConfig(**settings), carve_validation=False)


def said(dataset: Dataset, words: str) -> bool:
    return any(words in note for note in dataset.notes)


def test_words_that_all_folders_have_around_their_expressions(tmp_path, write_faces):
    write_faces(tmp_path, {"happy faces": 2, "sad faces": 2, "bored faces": 2})
    dataset = read(tmp_path)
    assert dataset.classes == ("bored", "happy", "sad")
    assert said(dataset, "only the expressions are taken: 'bored faces' is bored, 'happy faces' is happy")
    asked = read(tmp_path, classes=("sad faces", "happy faces"))
    assert asked.classes == ("sad faces", "happy faces")
    denied = read(write(tmp_path / "denied", write_faces, "not_happy", "not_sad"))
    assert denied.classes == ("not_happy", "not_sad")
    shutil.rmtree(tmp_path / "denied")
    write_faces(tmp_path, {"grins": 2}, first_seed=9)
    assert "happy faces" in read(tmp_path).classes  # not all have the same words


def test_of_two_frames_that_are_as_common_every_run_takes_the_same():
    names = ["angry faces", "happy faces", "aug angry faces", "aug happy faces"]
    for order in (names, names[::-1]):
        assert set(plain_expressions(order).values()) == {"angry", "happy", "aug angry", "aug happy"}


def test_folders_beside_expressions_that_are_none_are_named(tmp_path, write_faces):
    write_faces(tmp_path, {"happy": 2, "sad": 2, "1_angry": 2, "plots": 1, "New folder": 1})
    dataset = read(tmp_path)
    assert said(
        dataset, "of the classes, New folder, plots are no expressions that mien knows; to leave them out:"
    )
    assert said(dataset, "--classes 1_angry,happy,sad")
    assert not said(
        read(tmp_path, classes=("happy", "sad", "plots", "New folder")), "no expressions that mien knows"
    )
    bored = read(write(tmp_path / "own", write_faces, "bored", "calm", "amused"))
    assert not said(bored, "that mien knows")  # a set of somebody's own classes


def write(root: Path, write_faces, *names: str) -> Path:
    write_faces(root, dict.fromkeys(names, 2))
    return root


@pytest.mark.parametrize(
    ("held", "split"), [("hold-out", "test"), ("private_test", "test"), ("Public Test", "validation")]
)
def test_splits_of_two_words(tmp_path, write_faces, held, split):
    write_faces(tmp_path, {"train/happy": 2, "train/sad": 2, f"{held}/happy": 2, f"{held}/sad": 2})
    assert {name: len(part) for name, part in read(tmp_path).splits.items()} == {"train": 4, split: 4}


def test_frames_in_folders_that_are_called_as_films_are(tmp_path, write_faces):
    films = [f"Actor_{a:02d}/01-01-{e:02d}-01-01-01-{a:02d}" for a in (1, 2) for e in (3, 4)]
    dataset = read(write(tmp_path, write_faces, *films))
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad") and set(train.groups) == {"01", "02"}
    assert said(dataset, "labels and persons from the file names, as RAVDESS writes them: 2 persons")


def test_numbers_from_one_and_a_list_of_as_many_names(tmp_path, write_faces):
    write_faces(tmp_path, {"1": 2, "2": 2, "3": 2})
    (tmp_path / "classes.txt").write_text("happy\nsad\nangry\n")
    dataset = read(tmp_path)
    assert dataset.classes == ("happy", "sad", "angry")
    assert said(dataset, "what the numbers mean is read from classes.txt: 1 happy, 2 sad, 3 angry")
    (tmp_path / "classes.txt").write_text("0 happy\n1 sad\n2 angry\n")  # it says that it begins with 0
    unfit = read(tmp_path)
    assert unfit.classes == ("1", "2", "3")
    assert said(unfit, "classes.txt has 3 names, not one for each number; it is not used")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "happy, sad, angry\n"),
        ("labels.csv", "id,name\n0,happy\n1,sad\n2,angry\n"),
        ("class_names.csv", "0;happy\n1;sad\n2;angry\n"),
        ("label_map.txt", 'class name\n0 "happy"\n1 "sad"\n2 "angry"\n'),
    ],
)
def test_lists_of_names_in_other_forms(tmp_path, write_faces, name, text):
    write_faces(tmp_path, {"0": 2, "1": 2, "2": 2})
    (tmp_path / name).write_text(text)
    assert read(tmp_path).classes == ("happy", "sad", "angry")


@pytest.mark.parametrize("name", ["very {}", "{}_male", "{}_1", "masked-{}", "{}_pos"])
def test_words_that_may_say_something_stay(tmp_path, write_faces, name):
    classes = (name.format("happy"), name.format("sad"))
    write_faces(tmp_path, dict.fromkeys(classes, 2))
    assert read(tmp_path).classes == classes  # as in a data set that has happy and sad as well


@pytest.mark.parametrize(
    ("train", "test", "classes"),
    [
        ("sad face,happy face,tired eyes", "sad face,happy face", ("happy face", "sad face")),
        ("0_happy,1_sad,2_angry", "1_sad", ("sad",)),
    ],
)
def test_words_around_expressions_are_those_of_all_tables(tmp_path, write_faces, train, test, classes):
    paths = [tmp_path / "train.csv", tmp_path / "test.csv"]
    write_faces(tmp_path, {"train": 4, "test": 4})
    for path, own in zip(paths, (train.split(","), test.split(",")), strict=True):
        rows = (f"{path.stem}/{n}.png,{own[n % len(own)]}\n" for n in range(4))
        path.write_text("path,label\n" + "".join(rows))
    for dataset in (read(tmp_path), open_dataset(paths, carve_validation=False)):
        held_out = {dataset.classes[label] for label in dataset.splits["test"].labels}
        assert held_out == set(classes) and set(classes) < set(dataset.classes)


def test_labels_speak_of_names_in_tables_with_and_without_numbers(tmp_path, write_faces):
    write_faces(tmp_path, {"pictures": 4})
    rows = "".join(f"pictures/{n}.png,{('0_happy', '1_sad')[n % 2]}\n" for n in range(4))
    (tmp_path / "labels.csv").write_text("path,label\n" + rows)
    assert read(tmp_path / "labels.csv", labels=("happy=glad",)).classes == ("glad", "sad")
    assert read(tmp_path / "labels.csv", labels=("0_happy=glad",)).classes == ("1_sad", "glad")


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (",path,label", "{n},pictures/{n}.png,{c}"),
        ("image_id,label", "{n},{c}"),
        (",image,label", "{n},{n},{c}"),
    ],
)
def test_a_table_of_pictures_is_no_list_of_names(tmp_path, write_faces, header, row):
    write_faces(tmp_path, {"pictures": 3})
    table = tmp_path / "labels.csv"
    table.write_text("\n".join([header, *(row.format(n=n, c=(n + 1) % 3) for n in range(3))]))
    dataset = read(table)
    assert sorted(dataset.classes) == ["0", "1", "2"]
    assert not said(dataset, "what the numbers mean is read from")


def test_a_table_of_other_labels_beside_folders(tmp_path, write_faces):
    write_faces(tmp_path, {"front": 4, "side": 4})
    rows = "".join(
        f"{view}/{n}.png,{('happy', 'sad')[n % 2]}\n" for view in ("front", "side") for n in range(4)
    )
    table = tmp_path / "labels.csv"
    table.write_text("path,emotion\n" + rows)
    with pytest.raises(
        DataError, match=r"has folders \(front, side\) and a table of other labels \(happy, sad\) for"
    ):
        read(tmp_path)
    assert read(table).classes == ("happy", "sad")
    assert read(tmp_path, classes=("front", "side")).classes == ("front", "side")
    table.write_text("path,emotion\n" + rows.replace("happy", "front").replace("sad", "side"))
    assert said(read(tmp_path), "not read: labels.csv beside the folders")


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (("engaged", "away"), {"engaged": "11", "away": "00"}),  # the same as the folders, in numbers
        (("happy", "sad"), {"happy": "mf", "sad": "mf"}),  # a column `class` of something else
    ],
)
def test_a_table_beside_folders_that_takes_nothing_from_them(tmp_path, write_faces, folders, labels):
    write_faces(tmp_path, dict.fromkeys(folders, 2))
    rows = "".join(f"{folder}/{n}.png,{labels[folder][n]}\n" for folder in folders for n in range(2))
    (tmp_path / "labels.csv").write_text("path,class\n" + rows)
    dataset = read(tmp_path)
    assert dataset.classes == tuple(sorted(folders))
    assert said(dataset, "not read: labels.csv beside the folders")


def test_films_below_a_folder(tmp_path):
    for name in ("train/happy/1.mp4", "train/sad/1.mp4", "test/happy/2.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp42" + bytes(50))
    with pytest.raises(
        DataError, match=r"holds 3 videos and no pictures; cut the faces out first: mien faces .* --label"
    ):
        read(tmp_path)
    with pytest.raises(DataError, match=r"holds 1 video and no pictures; .* --to faces$"):
        read(tmp_path / "test")


def test_a_model_or_a_run_is_no_data(tmp_path):
    (tmp_path / "run/model").mkdir(parents=True)
    (tmp_path / "run/mistakes.csv").write_text("picture,label\n1.png,happy\n")
    for name in ("model.json", "model.onnx"):
        (tmp_path / "run/model" / name).write_text("{}")
    with pytest.raises(
        DataError, match=r"is a run folder, not labelled pictures; to measure the model: mien evaluate"
    ):
        read(tmp_path / "run")
    with pytest.raises(DataError, match=r"is a model folder, not labelled pictures"):
        read(tmp_path / "run/model")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "faces.csv")
    with pytest.raises(DataError, match="is a pipe, socket or device"):
        read(tmp_path / "faces.csv")
