"""FER-2013's csv with the votes beside it, and what can be wrong with either."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mien.data import open_dataset
from mien.data.readers.fer2013 import read_fer2013
from mien.errors import DataError
from mien.labels import FER2013, FERPLUS

USAGES = ("Training",) * 8 + ("PublicTest",) * 4 + ("PrivateTest",) * 4
HEADER = "emotion,pixels,Usage"
VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def face_text(seed: int) -> str:
    return " ".join(map(str, np.random.default_rng(seed).integers(0, 256, 48 * 48).tolist()))


def rows(usages=USAGES, emotions: Callable[[int], int] = lambda row: row % 2 * 3) -> list[str]:
    return [f"{emotions(number)},{face_text(number)},{usage}" for number, usage in enumerate(usages)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rows_go_where_usage_says(tmp_path):
    dataset = open_dataset(write(tmp_path / "fer2013.csv", [HEADER, *rows()]))
    assert dataset.name == "fer2013" and dataset.classes == ("angry", "happy")
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 8,
        "validation": 4,
        "test": 4,
    }
    test = dataset.splits["test"]
    assert test.labels.tolist() == [0, 1, 0, 1] and test.names[0] == "fer2013.csv row 13"
    expected = np.array(face_text(12).split(), int).reshape(48, 48)
    np.testing.assert_array_equal(test.pictures.read(0), expected)
    assert test.votes is None


def test_all_seven_classes_keep_their_order(tmp_path):
    lines = rows(("Training",) * 14, lambda row: 6 - row % 7)
    dataset = open_dataset(write(tmp_path / "fer2013.csv", [HEADER, *lines]), carve_validation=False)
    assert dataset.classes == FER2013
    assert dataset.splits["train"].labels[:7].tolist() == [6, 5, 4, 3, 2, 1, 0]


def test_the_form_of_icml_face_data_with_blanks_in_its_header(tmp_path):
    swapped = [f"{emotion},{usage},{pixels}" for emotion, pixels, usage in (row.split(",") for row in rows())]
    dataset = open_dataset(write(tmp_path / "icml_face_data.csv", ["emotion, Usage, pixels", *swapped]))
    assert len(dataset.splits["train"]) == 8


@pytest.mark.parametrize("form", ['"[{}]"', '"{}"'])
@pytest.mark.parametrize(("between", "tail"), [(", ", ""), (",", ".0"), ("  ", ".")])
def test_pixels_as_a_list_is_written(tmp_path, form, between, tail):
    lines = []
    for line in rows():
        emotion, pixels, usage = line.split(",")
        levels = between.join(level + tail for level in pixels.split())
        lines.append(f"{emotion},{form.format(levels)},{usage}")
    dataset = open_dataset(write(tmp_path / "listed.csv", [HEADER, *lines]))
    expected = np.array(face_text(12).split(), int).reshape(48, 48)
    np.testing.assert_array_equal(dataset.splits["test"].pictures.read(0), expected)
    half = [line.replace('"', '"0.5 ', 1) for line in lines]
    with pytest.raises(DataError, match="row 1 has something else than grey levels"):
        open_dataset(write(tmp_path / "half.csv", [HEADER, *half]))


def test_the_train_csv_of_the_competition_is_all_for_training(tmp_path):
    lines = ["emotion,pixels", *(row.rpartition(",")[0] for row in rows())]
    dataset = open_dataset(write(tmp_path / "train.csv", lines), carve_validation=False)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 16}


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed(tmp_path, suffix, pack):
    plain = open_dataset(write(tmp_path / "fer2013.csv", [HEADER, *rows()]))
    packed = tmp_path / "packed" / f"fer2013.csv{suffix}"
    packed.parent.mkdir()
    packed.write_bytes(pack((tmp_path / "fer2013.csv").read_bytes()))
    assert open_dataset(packed).fingerprint == plain.fingerprint
    assert open_dataset(packed.parent).fingerprint == plain.fingerprint  # the folder around it
    packed.write_bytes(packed.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"is damaged: .*; get the file again"):
        open_dataset(packed)


def votes(usages, chosen: Callable[[int], int]) -> list[str]:
    """Rows in which ten raters chose one of FER+'s columns."""
    lines = []
    for number, usage in enumerate(usages):
        counts = ["10" if place == chosen(number) else "0" for place in range(10)]
        lines.append(",".join((usage, f"fer{number * 3:07d}.png", *counts)))
    return lines


def own_label(row: int) -> int:
    return FERPLUS.index("happy" if row % 2 else "angry")


def test_votes_belong_row_to_row(tmp_path):
    file = write(tmp_path / "fer2013.csv", [HEADER, *rows()])
    write(tmp_path / "fer2013new.csv", [VOTES_HEADER, *votes(USAGES, lambda row: row % 10)])
    found = open_dataset(file).splits["validation"].votes
    assert found.shape == (4, 8) and found.dtype == np.float32
    # Rows 8 and 9 chose 'unknown' and 'NF', which are none of the eight; 10 and 11 neutral and happy.
    assert found.sum(axis=1).tolist() == [0, 0, 10, 10] and found.argmax(axis=1).tolist()[2:] == [0, 1]


def test_votes_for_more_splits_than_the_csv_has_are_matched_split_by_split(tmp_path):
    """As when PrivateTest was taken out of the csv, and it did not stand at the end."""
    all_usages = ("Training",) * 4 + ("PrivateTest",) * 4 + ("Training",) * 4 + ("PublicTest",) * 4
    kept = [row for row in rows(all_usages) if not row.endswith("PrivateTest")]
    file = write(tmp_path / "fer2013.csv", [HEADER, *kept])
    write(tmp_path / "fer2013new.csv", [VOTES_HEADER, *votes(all_usages, lambda row: row % 8)])
    dataset = open_dataset(file)
    assert dataset.splits["train"].votes.argmax(axis=1).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert dataset.splits["validation"].votes.argmax(axis=1).tolist() == [4, 5, 6, 7]
    assert dataset.notes == ()


def test_votes_that_do_not_fit_are_not_used_and_it_is_said(tmp_path):
    file = write(tmp_path / "fer2013.csv", [HEADER, *rows()])
    write(tmp_path / "fer2013new.csv", [VOTES_HEADER, *votes(USAGES[1:], own_label)])
    dataset = open_dataset(file)
    assert dataset.splits["train"].votes is None
    assert dataset.notes == (
        "fer2013new.csv is not used: its rows do not fit those of fer2013.csv, split by split",
    )


def test_votes_of_other_faces_are_noticed_by_their_disagreement(tmp_path):
    usages = ("Training",) * 120
    file = write(tmp_path / "fer2013.csv", [HEADER, *rows(usages)])
    write(tmp_path / "fer2013new.csv", [VOTES_HEADER, *votes(usages, own_label)])
    assert read_fer2013(file).splits["train"].votes is not None
    write(tmp_path / "fer2013new.csv", [VOTES_HEADER, *votes(usages, lambda row: own_label(row + 1))])
    reading = read_fer2013(file)
    assert reading.splits["train"].votes is None and "agrees with only 0% of the labels" in reading.notes[0]


def test_a_votes_file_without_a_column(tmp_path):
    file = write(tmp_path / "fer2013.csv", [HEADER, *rows()])
    write(tmp_path / "fer2013new.csv", [VOTES_HEADER.replace("contempt", "scorn"), *votes(USAGES, own_label)])
    with pytest.raises(DataError, match=r"fer2013new\.csv has no column for contempt"):
        open_dataset(file)


BAD = {
    "no emotion column": (
        lambda text: text.replace("emotion", "what", 1),
        "has no column label or emotion or class or expression or the like; its first line has: what, ",
    ),
    "no usage column": (lambda text: text.replace("Usage", "part", 1), "has no column usage"),
    "emotion 9": (
        lambda text: text.replace("\n3,", "\n9,", 1),
        r"row 2 has emotion '9'; allowed are 0 angry, 1 disg",
    ),
    "emotion no number": (
        lambda text: text.replace("\n3,", "\nso bored,", 1),
        r"row 2 has emotion 'so bored'; .*\(--labels 'so bored'=NAME\)",
    ),
    "pixel missing": (lambda text: text.replace(" ", ",", 1), "row 1 has"),
    "unknown usage": (
        lambda text: text.replace("PublicTest", "Spare", 1),
        "row 9 has Usage 'Spare'; allowed are Tra",
    ),
    "level 256": (
        lambda text: text.replace(f"\n0,{face_text(0)[:4]}", "\n0,256 ", 1),
        "row 1 has the grey level 256",
    ),
    "letters": (lambda text: text.replace("\n0,", "\n0,x ", 1), "something else than grey levels"),
    "row cut short": (lambda text: text[: text.rindex(",")], "row 16 has 2 columns, the header has 3"),
    "only a header": (lambda text: text.partition("\n")[0], "has no rows below its header"),
}


@pytest.mark.parametrize(("spoil", "words"), BAD.values(), ids=BAD.keys())
def test_a_csv_that_is_wrong_somewhere(tmp_path, spoil, words):
    file = tmp_path / "fer2013.csv"
    file.write_text(spoil("\n".join([HEADER, *rows()])))
    with pytest.raises(DataError, match=words) as caught:
        open_dataset(file)
    assert "fer2013.csv" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [2303, 2305, 0])
def test_a_wrong_pixel_count_names_the_row(tmp_path, length):
    lines = rows()
    lines[4] = f"0,{' '.join(['7'] * length)},Training"
    with pytest.raises(
        DataError, match=rf"fer2013\.csv row 5 has {length:,} pixels; a FER-2013 face has 48x48 = 2304"
    ):
        open_dataset(write(tmp_path / "fer2013.csv", [HEADER, *lines]))


def test_not_text(tmp_path):
    (tmp_path / "fer2013.csv").write_bytes(b"emotion,pixels,Usage\n\xff\x9d\n")  # nor Windows-1252
    with pytest.raises(DataError, match="is not UTF-8 text"):
        open_dataset(tmp_path / "fer2013.csv")
