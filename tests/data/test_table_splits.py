"""Splits and persons that a table names, in a column or in its paths."""

from __future__ import annotations

import shutil

import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError

from .conftest import listed, mood, rows, said, sizes, write_table


def test_a_split_column(pictures):
    words = ("train", "Training", "val", "PublicTest", "test", "PrivateTest", "validation", "testing")
    lines = "".join(f"{line},{word}\n" for line, word in zip(rows().split(), words, strict=True))
    dataset = open_dataset(write_table(pictures, f"path,label,split\n{lines}"))
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 2,
        "validation": 3,
        "test": 3,
    }
    with pytest.raises(
        DataError, match="row 3 has the split 'maybe'; allowed are train, validation and test"
    ):
        open_dataset(write_table(pictures, f"path,label,split\n{lines.replace('val', 'maybe', 1)}"))


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
    path = write_table(pictures, with_column(name, cells))
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
    dataset = open_dataset(write_table(pictures, with_column(name, cells)), carve_validation=False)
    assert said(dataset, f"the column '{name}' is not used ({why})") and list(dataset.splits) == ["train"]


def test_a_column_of_persons_keeps_them_on_one_side(pictures):
    path = write_table(pictures, with_column("Subject", list("aabbccdd")))
    dataset = open_dataset(path)
    assert said(dataset, "grouped by the column 'Subject': 4 groups")
    groups = {side: set(split.groups) for side, split in dataset.splits.items()}
    assert not groups["train"] & groups["validation"] and len(groups["train"] | groups["validation"]) == 4
    assert open_dataset(path, DataConfig(group="none"), carve_validation=False).splits["train"].groups is None
    film = write_table(pictures, with_column("film title", list("aabbccdd")), "films.csv")
    assert set(
        open_dataset(film, DataConfig(group="film title"), carve_validation=False).splits["train"].groups
    ) == set("abcd")


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
    assert sizes(dataset) == SPLIT_BY


def test_numbers_that_may_be_splits_are_said_and_read_on_request(pictures):
    def row(n: int) -> str:
        return f"pictures/{n}.png,{mood(n)},{max(0, n // 2 - 1)}"

    assert said(
        listed(pictures, "path,label,set", row),
        "(--split-column set reads 0, 1, 2 as train, validation, test",
    )
    asked = listed(pictures, "path,label,set", row, split_column="set")
    assert sizes(asked) == SPLIT_BY
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
    assert sizes(dataset) == {"train": 6, "test": 2}
    assert said(dataset, "split by the folders in the paths: train 6, test 2")
    assert sizes(listed(pictures, "path,label", row, split_column="none")) == {"train": 8}
    mixed = listed(pictures, "path,label", lambda n: row(n) if n % 2 else f"pictures/{n}.png,{mood(n)}")
    assert sizes(mixed) == {"train": 8}
    assert said(mixed, "folders in the paths name splits, but not for 4 rows, not used")


@pytest.mark.parametrize("column", ["person_no", "Subject ID", "video_name", "pid"])
def test_persons_under_other_names(pictures, column):
    dataset = listed(pictures, f"path,label,{column}", lambda n: f"pictures/{n}.png,{mood(n)},{n // 2}")
    assert list(dataset.splits["train"].groups) == ["0", "0", "1", "1", "2", "2", "3", "3"]
