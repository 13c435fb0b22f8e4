"""Tables with what several raters said of each picture: a column or a row for each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.data import DataConfig, Dataset, open_dataset
from mien.errors import DataError

from .conftest import said, write_table

# What Ann, Bo and Cy said of eight pictures; Cy did not see the last.
SAID = (
    ("happy", "happy", "happy"), ("sad", "sad", "happy"), ("sad", "happy", "happy"), ("sad", "sad", "sad"),
    ("happy", "happy", "happy"), ("sad", "sad", "sad"), ("happy", "happy", "sad"), ("sad", "happy", ""),
)  # fmt: skip
LABELS = ["happy", "sad", "happy", "sad", "happy", "sad", "happy", "sad"]
HAPPY = [1, 1 / 3, 2 / 3, 0, 1, 0, 2 / 3, 1 / 2]


def read(pictures: Path, header: str, lines: list[str], **settings: tuple[str, ...]) -> Dataset:
    table = write_table(pictures, "\n".join([header, *lines]))
    return open_dataset(table, DataConfig(**settings), carve_validation=False)


def wide(
    pictures: Path, header: str, words: dict[str, str] | None = None, **settings: tuple[str, ...]
) -> Dataset:
    lines = [
        f"pictures/{place}.png,{','.join((words or {}).get(word, word) for word in own)}"
        for place, own in enumerate(SAID)
    ]
    return read(pictures, f"path,{header}", lines, **settings)


def check(dataset: Dataset) -> None:
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad")
    assert [dataset.classes[label] for label in train.labels] == LABELS
    np.testing.assert_allclose(train.shares[:, 0], HAPPY)
    assert said(
        dataset,
        "4 pictures have several labels, such as pictures/1.png (sad 2, happy 1): read as soft labels",
    )


@pytest.mark.parametrize(
    "header",
    ["rater1,rater2,rater3", "label_1,label_2,label_3", "Annotator 1,Annotator 2,Annotator 3"],
)
def test_a_column_for_each_rater(pictures, header):
    dataset = wide(pictures, header)
    check(dataset)
    assert said(dataset, f"labels are the votes of 3 raters: {header.replace(',', ', ')}")


def test_columns_of_expressions_are_raters_only_where_that_is_said(pictures):
    """Three such columns were taken for raters: two networks beside the truth outvoted it."""
    with pytest.raises(
        DataError, match=r"several columns of expressions \(Ann, Bo, Cy\).* --label-column Ann,Bo,Cy"
    ):
        wide(pictures, "Ann,Bo,Cy")
    table = pictures / "labels.csv"
    dataset = open_dataset(table, DataConfig(label_column="Ann,Bo,Cy"), carve_validation=False)
    check(dataset)
    assert said(dataset, "labels are the votes of 3 raters: Ann, Bo, Cy")


def test_numbers_are_what_raters_said_only_where_raters_are_named(pictures):
    """Of label_1, label_2 and class_0, class_1 each may count something else; shares were classes 0.1, 0.2, ..."""
    for header in ("label_1,label_2", "class_0,class_1"):
        with pytest.raises(DataError, match="has no column label or emotion"):
            read(
                pictures,
                f"path,{header}",
                [f"pictures/{place}.png,{place % 3},{place % 2}" for place in range(8)],
            )
    with pytest.raises(DataError, match="has no column label or emotion"):
        read(
            pictures, "path,rater1,rater2", [f"pictures/{place}.png,0.{place % 3},0.1" for place in range(8)]
        )
    names = [f"pictures/{place}.png,Ann,{place % 3},Bo,{place // 2 % 3}" for place in range(8)]
    dataset = read(pictures, "path,rater1,label1,rater2,label2", names)
    assert dataset.classes == ("0", "1", "2")
    assert said(dataset, "labels are those of several columns, not of 'rater1', 'rater2'")


def test_raters_beside_other_columns(pictures):
    lines = [f"pictures/{n}.png,{own[0]},{own[1]},{n % 2},{1 - n % 2}" for n, own in enumerate(SAID)]
    assert read(pictures, "path,rater1,rater2,male,female", lines).classes == ("happy", "sad")
    label = [f"pictures/{n}.png,{own[0]},{own[0]},{own[1]}" for n, own in enumerate(SAID)]
    dataset = read(pictures, "path,label,rater1,rater2", label)
    assert dataset.splits["train"].shares is None
    assert said(dataset, "labels are those of the column 'label', not of 'rater1', 'rater2'")


def test_raters_who_write_differently_or_nothing(pictures):
    lines = [f"pictures/{n}.png,{own[0]},{own[1]},{own[2].upper() or 'NA'}," for n, own in enumerate(SAID)]
    dataset = read(pictures, "path,rater1,rater2,rater3,rater4", lines)
    assert dataset.classes == ("happy", "sad")
    np.testing.assert_allclose(dataset.splits["train"].shares[:, 0], HAPPY)
    assert not said(dataset, "of no picture")


def test_raters_in_titled_tables_and_tables_of_splits(pictures):
    lines = [f"pictures/{n}.png,{own[0]},{own[1]}" for n, own in enumerate(SAID)]
    assert len(read(pictures, "Our ratings", ["", "path,rater1,rater2", *lines]).splits["train"]) == 8
    (pictures / "labels.csv").unlink()
    for split, own in (("train", lines[:4]), ("test", lines[4:])):
        (pictures / f"{split}.csv").write_text("\n".join(["path,rater1,rater2", *own]))
    dataset = open_dataset(pictures, carve_validation=False)
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 4, "test": 4}


def test_raters_who_gave_numbers(pictures):
    numbers = {"happy": "3", "sad": "4"}
    check(wide(pictures, "rater1,rater2,rater3", numbers, labels=("3=happy", "4=sad")))


def test_a_row_for_each_rater(pictures):
    lines = [
        f"pictures/{place}.png,{name},{word}"
        for place, own in enumerate(SAID)
        for name, word in zip(("Ann", "Bo", "Cy"), own, strict=True)
        if word
    ]
    dataset = read(pictures, "image,rater,label", lines)
    check(dataset)
    assert said(dataset, "8 pictures have several rows, which differ in rater: each counts as a vote")


def test_rows_that_repeat_a_picture_count_once_and_boxes_and_splits_stay_apart(pictures):
    twice = [f"pictures/{place}.png,{label}" for place, label in enumerate(LABELS)] * 2
    dataset = read(pictures, "path,label", twice)
    assert len(dataset.splits["train"]) == 8 and dataset.splits["train"].shares is None
    boxes = [f"pictures/0.png,{label},0,0,{side},{side}" for label, side in (("happy", 20), ("sad", 30))]
    assert len(read(pictures, "path,label,left,top,right,bottom", boxes).splits["train"]) == 2
    parts = [
        f"pictures/{place}.png,{LABELS[place]},{split}" for place in range(2) for split in ("train", "test")
    ]
    assert {name: len(part) for name, part in read(pictures, "path,label,split", parts).splits.items()} == {
        "train": 2,
        "test": 2,
    }


def test_rows_of_a_picture_that_is_written_in_several_ways(pictures):
    lines = [f"{way}pictures/0.png,{label}" for way, label in (("", "happy"), ("./", "sad"), ("", "sad"))]
    dataset = read(pictures, "path,label", [*lines, "pictures/1.png,happy"])
    np.testing.assert_allclose(dataset.splits["train"].shares, [[1 / 3, 2 / 3], [1, 0]], atol=1e-6)


def test_a_row_of_shares_for_each_rater(pictures):
    lines = [f"pictures/{n}.png,{name},{n % 2},{1 - n % 2}" for n in range(8) for name in ("Ann", "Bo")]
    lines[1] = "pictures/0.png,Bo,1,0"
    dataset = read(pictures, "path,rater,happy,sad", lines)
    np.testing.assert_allclose(dataset.splits["train"].shares[:, 0], [1 / 2, 1, 0, 1, 0, 1, 0, 1])
    assert said(dataset, "8 pictures have several rows, which differ in rater: each counts as a vote")


def test_one_row_without_the_person_leaves_the_others_grouped(pictures):
    lines = [f"pictures/{n}.png,{LABELS[n]},Ann{n // 2}" for n in range(8)]
    for odd in ("", "Cy"):
        dataset = read(pictures, "path,label,subject", [*lines, f"pictures/0.png,happy,{odd}"])
        assert dataset.splits["train"].groups == [f"Ann{n // 2}" for n in range(8)]
        assert said(dataset, "1 picture has several rows, which differ in subject")
    users = [f"pictures/{n}.png,{name},{LABELS[n]}" for n in range(8) for name in ("Ann", "Bo")]
    asked = open_dataset(
        write_table(pictures, "\n".join(["path,who,label", *users])),
        DataConfig(group="who"),
        carve_validation=False,
    )
    assert asked.splits["train"].groups == ["Ann"] * 8


def test_a_label_that_is_named_twice_in_a_cell_counts_twice(pictures):
    lines = [f"pictures/{n}.png,{('happy|sad|sad', 'happy', 'sad')[n % 3]}" for n in range(6)]
    shares = read(pictures, "path,label", lines).splits["train"].shares
    np.testing.assert_allclose(shares[0], [1 / 3, 2 / 3])


def test_a_column_that_differs_in_the_rows_of_a_picture_groups_nothing(pictures):
    """A rater called user counted as the person in the picture, and all pictures as one person's."""
    lines = [f"pictures/{place}.png,{name},{LABELS[place]}" for place in range(8) for name in ("Ann", "Bo")]
    dataset = read(pictures, "image,user,label", lines)
    assert dataset.splits["train"].groups is None
    assert said(dataset, "rows of one picture differ in 'user', so that nothing is grouped by it")


def test_what_is_no_rater(pictures):
    """A majority beside numbered raters; numbered columns that have nothing in common; second labels of few."""
    lines = [f"pictures/{place}.png,{own[0]},{','.join(own)}" for place, own in enumerate(SAID[:7])]
    dataset = read(pictures, "path,majority,rater1,rater2,rater3", lines)
    assert said(
        dataset, "labels are the votes of 3 raters: rater1, rater2, rater3 (--label-column chooses one)"
    )
    assert said(dataset, "labels are those of several columns, not of 'majority'")
    with pytest.raises(DataError, match="has no column label or emotion"):
        read(pictures, "path,label1,label2", [f"pictures/{place}.png,{place % 2},male" for place in range(8)])
    second = [
        f"pictures/{place}.png,{own[0]},{own[1] if own[1] != own[0] else ''}"
        for place, own in enumerate(SAID)
    ]
    shares = read(pictures, "path,emotion1,emotion2", second).splits["train"].shares
    np.testing.assert_allclose(shares[:, 0], [1, 0, 1 / 2, 0, 1, 0, 1, 1 / 2])


def test_a_picture_of_which_nobody_said_anything_is_refused(pictures):
    with pytest.raises(DataError, match=r"row 2 has no rater1 or rater2; mend or delete it"):
        read(
            pictures,
            "path,rater1,rater2",
            ["pictures/0.png,happy,sad", "pictures/1.png,,", "pictures/2.png,sad,sad"],
        )


def test_a_label_that_only_a_minority_gave_is_told(pictures):
    lines = [f"pictures/{place}.png,{','.join(own)}" for place, own in enumerate(SAID[:6])]
    dataset = read(
        pictures,
        "path,rater1,rater2,rater3",
        [*lines, "pictures/6.png,happy,happy,fear", "pictures/7.png,happy,fear,happy"],
    )
    assert dataset.classes == ("fear", "happy", "sad")
    assert said(dataset, "of no picture fear is the label: learnt from shares alone, and not scored")
