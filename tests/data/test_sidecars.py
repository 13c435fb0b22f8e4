"""Labels in a file beside each picture, and WebDataset's shards, which hold such files."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError

from .conftest import labels, read, sizes

NAMES = ("happy", "sad", "angry")


def beside(write, root: Path, suffix: str, places: dict[str, int], *, folder: str = "") -> Path:
    """Write pictures, each with a file that says its class: a number, a name, or JSON with more about it."""
    for name, number in places.items():
        picture = root / folder / name
        write(f"{folder}{name}", root=root)
        told = {
            ".cls": str(number),
            ".txt": f"{NAMES[number]}\n",
            ".json": json.dumps({"id": 7, "label": NAMES[number]}),
        }
        picture.with_suffix(suffix).write_text(told[suffix])
    return root


PLACES = {f"{row:04d}.png": row % 3 for row in range(6)}
TOLD = {name: NAMES[number] for name, number in PLACES.items()}


@pytest.mark.parametrize("suffix", [".txt", ".json", ".cls"])
@pytest.mark.parametrize("folder", ["", "images/"])
def test_a_file_beside_each_picture_says_its_label(write, tmp_path, suffix, folder):
    root = beside(write, tmp_path / "set", suffix, PLACES, folder=folder)
    (root / "classes.txt").write_text("\n".join(NAMES))
    dataset = read(root)
    assert labels(dataset) == {f"{folder}{name}": label for name, label in TOLD.items()}
    assert f"labels are read from the {suffix} file beside each picture" in dataset.notes


def test_folders_may_say_the_split(write, tmp_path):
    for folder in ("train/", "test/"):
        beside(write, tmp_path / "set", ".txt", PLACES, folder=folder)
    assert sizes(read(tmp_path / "set")) == {"train": 6, "test": 6}


def test_cls_means_more_than_folders_that_are_no_expressions(write, tmp_path):
    """Unpacked shards were two classes, shard-000 and shard-001; folders of own classes with captions stay classes."""
    for folder in ("shard-000/", "shard-001/"):
        beside(write, tmp_path / "shards", ".cls", PLACES, folder=folder)
    assert read(tmp_path / "shards").classes == ("0", "1", "2")
    for folder in ("tired/", "awake/"):
        beside(write, tmp_path / "own", ".txt", PLACES, folder=folder)
    assert read(tmp_path / "own").classes == ("awake", "tired")
    for folder in ("happy/", "sad/"):
        beside(write, tmp_path / "classes", ".cls", PLACES, folder=folder)
    assert read(tmp_path / "classes").classes == ("happy", "sad")


def test_captions_are_no_labels(write, tmp_path):
    root = beside(write, tmp_path / "set", ".txt", PLACES)
    for row, path in enumerate(sorted(root.glob("*.txt"))):
        path.write_text(f"a photograph of person {row} who smiles")
    with pytest.raises(DataError, match=r"no labelled pictures|no labels"):
        read(root)


def test_texts_that_say_something_else_than_the_names_or_a_table(write, tmp_path):
    """Sexes in texts beside happy_001.png became the classes, and so where labels/labels.csv said the expressions."""
    places = {f"{NAMES[row % 2]}_{row}.png": 0 for row in range(6)}
    root = beside(write, tmp_path / "named", ".txt", places)
    for row, path in enumerate(sorted(root.glob("*.txt"))):
        path.write_text(("male", "female")[row % 2])
    assert set(read(root).classes) == {"happy", "sad"}
    root = beside(write, tmp_path / "listed", ".txt", PLACES, folder="images/")
    (root / "labels").mkdir()
    rows = [f"{name},{NAMES[(number + 1) % 3]}" for name, number in PLACES.items()]
    (root / "labels" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(DataError, match=r"if labels/labels\.csv says their labels, give that table"):
        read(root)


def test_a_table_beside_cls_files_is_not_passed_over_in_silence(write, tmp_path):
    root = beside(write, tmp_path / "set", ".cls", PLACES)
    (root / "labels.csv").write_text("path,label\n0000.png,sad\n")
    assert any(note.startswith("not read: labels.csv beside the pictures") for note in read(root).notes)


def test_json_may_have_any_columns(write, tmp_path):
    root = beside(write, tmp_path / "set", ".json", PLACES)
    for name, number in PLACES.items():
        told = {"Path": "elsewhere.png", "state": NAMES[number], "rater1": NAMES[0], "rater2": NAMES[number]}
        (root / name).with_suffix(".json").write_text(json.dumps(told))
    assert labels(open_dataset(root, DataConfig(label_column="state"), carve_validation=False)) == TOLD
    votes = open_dataset(root, carve_validation=False)
    assert votes.splits["train"].shares is not None
    (root / "0003.json").write_text('{"state": null}')
    with pytest.raises(DataError, match=r"^0003\.json has no state; mend or delete it"):
        open_dataset(root, DataConfig(label_column="state"), carve_validation=False)


def test_the_last_shard_may_hold_a_picture_or_two(write, tmp_path):
    """A label that only one picture has was taken for a caption."""
    for suffix in (".cls", ".txt"):
        folder = tmp_path / f"shards{suffix}"
        folder.mkdir()
        for place, count in enumerate((6, 1)):
            own = beside(write, tmp_path / f"part{suffix}{place}", suffix, dict(list(PLACES.items())[:count]))
            with tarfile.open(folder / f"faces-{place}.tar", "w") as archive:
                for file in sorted(own.iterdir()):
                    archive.add(file, file.name)
        assert sizes(read(folder)) == {"train": 7}


def test_pictures_without_a_label_are_counted_and_damage_is_named(write, tmp_path):
    root = beside(write, tmp_path / "set", ".json", PLACES)
    write("0006.png", root=root)
    dataset = read(root)
    assert len(labels(dataset)) == 6
    assert "in no row that is used: 1 picture, such as 0006.png" in dataset.notes
    (root / "0003.json").write_text('{"label": ')
    with pytest.raises(DataError, match=r"0003\.json is no JSON .*mend or delete it"):
        read(root)


@pytest.fixture
def shards(write, tmp_path) -> Path:
    """Three shards of WebDataset, two of which have the same names inside."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for place, name in enumerate(("train-000000", "train-000001", "test-000000")):
        own = beside(write, tmp_path / f"part{place}", ".cls", PLACES)
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            for file in sorted(own.iterdir()):
                archive.add(file, file.name)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    return folder


def test_shards_in_a_folder_are_one_data_set(shards):
    dataset = read(shards)
    assert set(dataset.classes) == set(NAMES) and sizes(dataset) == {"train": 12, "test": 6}
    names = dataset.splits["train"].names
    assert len(set(names)) == 12 and "train-000001.tar/0002.png" in names
    assert labels(dataset)["test-000000.tar/0002.png"] == "angry"
    listed = open_dataset(sorted(shards.glob("*.tar")), carve_validation=False)
    assert sizes(listed) == {"train": 12, "test": 6}


def test_archives_of_several_kinds_are_still_refused(shards):
    (shards / "train-000001.tar").rename(shards / "train-labels.tar")
    with pytest.raises(DataError, match=r"holds 3 archives .* whose names are not one split each"):
        read(shards)
