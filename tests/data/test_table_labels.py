"""Labels in a table: spellings, several of one picture, shares and votes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError

from .conftest import listed, rows, said, write_table


def test_two_spellings_of_a_class(pictures):
    mixed = "".join(
        f"pictures/{number}.png,{('Angry', 'Happy', 'angry', 'angry')[number % 4]}\n" for number in range(8)
    )
    dataset = open_dataset(write_table(pictures, f"path,label\n{mixed}"), carve_validation=False)
    assert dataset.classes == ("angry", "Happy")
    assert "'Angry' and 'angry' are one class spelt in several ways; it is called 'angry'" in dataset.notes
    forms = mixed.replace("Angry", "anger")
    path = write_table(pictures, f"path,label\n{forms}")
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
    dataset = open_dataset(write_table(pictures, f"path,label\n{text}"))
    assert dataset.classes == ("happy", "joy")
    assert said(
        dataset, "happy and joy stay different classes; if they mean one expression: --merge happy=happy+joy"
    )


def test_rows_without_a_label_are_refused_only_where_they_are_used(pictures):
    text = f"path,label\n{rows().replace('0.png,sad', '0.png,')}"
    path = write_table(pictures, text)
    with pytest.raises(DataError, match="row 1 has no label"):
        open_dataset(path)
    dataset = open_dataset(path, DataConfig(classes=("happy", "sad")), carve_validation=False)
    assert len(dataset.splits["train"]) == 7


def test_predictions_that_somebody_corrected_are_learnt_as_corrected(pictures):
    header = "path,face,emotion,probability,uncertain,head,p_happy,p_sad"
    lines = "".join(f"pictures/{number}.png,1,happy,.8,false,expression,.8,.2\n" for number in range(5))
    lines += (
        "pictures/5.png,1,sad,.8,false,expression,.8,.2\npictures/6.png,1,calm,.8,false,expression,.8,.2\n"
    )
    path = write_table(pictures, f"{header}\n{lines}pictures/7.png,,,,,,,\n")
    dataset = open_dataset(path, carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("calm", "happy", "sad")
    assert [dataset.classes[label] for label in train.labels] == [*["happy"] * 5, "sad", "calm"]
    np.testing.assert_allclose(
        train.shares[3:], [[0, 0.8, 0.2], [0, 0.8, 0.2], [0, 0, 1], [1, 0, 0]], rtol=1e-6
    )
    assert said(dataset, "the labels are what a network answered, but of 2 rows that somebody changed")
    assert said(dataset, "left out: 1 no face")


def test_soft_labels(pictures):
    lines = "".join(f"pictures/{number}.png,{number},{7 - number},1\n" for number in range(8))
    path = write_table(pictures, f"path,p_happy,p_sad,p_calm\n{lines}")
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
        write_table(pictures, f"path,p_happy,p_sad,p_calm,label\n{lines}"), carve_validation=False
    )
    train = dataset.splits["train"]
    assert [dataset.classes[label] for label in train.labels] == ["happy", "happy", "happy", "sad", "happy"]
    np.testing.assert_allclose(train.shares[2:4], [[0, 0.5, 0.5], [0, 0, 1]])
    for note in (
        "in 1 row the shares do not sum to 1, as in the others: they are scaled",
        "the column 'label' counts in 1 row without shares; in 1 row it is not the largest share",
        "of no picture calm is the label: learnt from shares alone, and not scored",
        "left out: 1 all zeros",
    ):
        assert said(dataset, note), note
    with pytest.raises(DataError, match="row 1 has '-1' as the share of happy"):
        open_dataset(write_table(pictures, "path,p_happy,p_sad\npictures/0.png,-1,2\n"))


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
    dataset = open_dataset(write_table(pictures, f"path,label\n{text}"), carve_validation=False)
    train = dataset.splits["train"]
    assert dataset.classes == ("happy", "sad", "surprised")
    assert [dataset.classes[label] for label in train.labels] == [
        "happy", "happy", "sad", "surprised", "happy", "sad", "surprised", "surprised",
    ]  # fmt: skip
    np.testing.assert_allclose(
        train.shares[[0, 1, 3, 6]], [[0.5, 0, 0.5], [1, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    )
    assert said(
        dataset,
        "3 pictures have several labels, such as pictures/0.png (happy 1, surprised 1): read as soft labels",
    )
    merged = open_dataset(
        write_table(pictures, f"path,label\n{text}"),
        DataConfig(merge=("other=sad+surprised",)),
        carve_validation=False,
    ).splits["train"]
    np.testing.assert_allclose(merged.shares[[0, 3]], [[0.5, 0.5], [0, 1]])
    assert merged.labels.tolist() == [0, 0, 1, 1, 0, 1, 1, 1]
    numbers = text.replace("happy", "3").replace("surprised", "5").replace("sad", "4")
    named = open_dataset(
        write_table(pictures, f"path,label\n{numbers.replace(chr(34) + '5, 3' + chr(34), '5|3')}"),
        DataConfig(labels=("3=happy", "4=sad", "5=surprised")),
        carve_validation=False,
    )
    assert named.classes == dataset.classes
    np.testing.assert_allclose(named.splits["train"].shares, train.shares)


def test_a_class_of_its_own_is_not_taken_apart(pictures):
    text = "".join(f"pictures/{number}.png,{('glad|bored', 'calm')[number % 2]}\n" for number in range(8))
    dataset = open_dataset(write_table(pictures, f"path,label\n{text}"), carve_validation=False)
    assert dataset.classes == ("calm", "glad|bored") and dataset.splits["train"].shares is None
    text = text.replace("glad|bored", "happy|calm")
    asked = DataConfig(classes=("happy|calm", "calm"))
    assert open_dataset(write_table(pictures, f"path,label\n{text}"), asked).classes == ("happy|calm", "calm")


def test_several_ones_in_columns_of_expressions(pictures):
    lines = "".join(f"pictures/{n}.png,{int(n < 5)},{int(n > 2)},{int(n == 7)}\n" for n in range(8))
    dataset = open_dataset(write_table(pictures, f"path,happy,sad,angry\n{lines}"), carve_validation=False)
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
    path = write_table(pictures, lines, "x.jsonl")
    train = open_dataset(path, carve_validation=False).splits["train"]
    np.testing.assert_allclose(train.shares[:3], [[0.5, 0.5], [1, 0], [0, 1]])
    with pytest.raises(DataError, match="row 1 has no label"):
        open_dataset(write_table(pictures, lines.replace('["a", "b"]', "[]"), "x.jsonl"))


def test_votes_in_columns_of_expressions(pictures):
    lines = "".join(
        f"pictures/{number}.png,{number % 2 * 10},{10 - number % 2 * 10}\n" for number in range(8)
    )
    dataset = open_dataset(
        write_table(pictures, f"image name,happiness,anger\n{lines}"), carve_validation=False
    )
    assert dataset.classes == ("anger", "happiness") and dataset.splits["train"].labels.tolist() == [0, 1] * 4


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
