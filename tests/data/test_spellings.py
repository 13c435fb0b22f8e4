"""Labels and persons that are one, however they are spelt; a column that seems to say the split and does not."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError
from mien.files import joined_paths

NAMES = [f"{number}.png" for number in range(12)]


@pytest.fixture
def pictures(tmp_path: Path, write_faces) -> Path:
    write_faces(tmp_path, {"set": len(NAMES)})
    return tmp_path / "set"


def write(pictures: Path, header: str, rows: list[str], name: str = "labels.csv") -> Path:
    lines = [header, *(f"{picture},{row}" for picture, row in zip(NAMES, rows, strict=False))]
    (pictures / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return pictures


@pytest.mark.parametrize(
    ("spelt", "kept", "noted"),
    [
        (("happy\u200b", "\ufeffhappy"), "happy", False),  # nobody sees the difference
        (("happy", "ｈａｐｐｙ"), "happy", True),
        (("4", "04"), "4", True),
        (("بی\u200cتفاوت", "بیتفاوت"), "بی\u200cتفاوت", True),  # with and without the joiner of Persian
    ],
)
def test_one_label_in_two_spellings_is_one_class(pictures, spelt, kept, noted):
    rows = [(spelt[row % 3 == 0] if row % 2 else "other") for row in range(len(NAMES))]
    dataset = open_dataset(write(pictures, "path,label", rows))
    assert set(dataset.classes) == {kept, "other"}
    assert any("are one class spelt in several ways" in note for note in dataset.notes) == noted


def test_all_forms_of_words_are_joined_by_one_command(tmp_path, write_faces):
    """The line named the first pair alone, and once that was joined, the next one."""
    counts = {f"train/{name}": 4 for name in ("anger", "happiness")}
    write_faces(tmp_path, {**counts, "test/angry": 4, "test/happy": 4})
    with pytest.raises(DataError, match="and so are 'happiness', 'happy'; join them") as error:
        open_dataset(tmp_path)
    rules = str(error.value).partition("--merge ")[2].partition(";")[0]
    assert rules == "anger=anger+angry,happiness=happiness+happy"
    assert open_dataset(tmp_path, DataConfig(merge=tuple(rules.split(",")))).classes == ("anger", "happiness")


def test_numbers_beside_names_are_noted(tmp_path, write_faces):
    """Two sets, one with numbers for its classes, became six classes without a word."""
    write_faces(tmp_path / "one", {"0": 4, "1": 4})
    write_faces(tmp_path / "two", {"angry": 4, "happy": 4})
    both = joined_paths([tmp_path / "one", tmp_path / "two"])
    told = (
        "some labels are numbers, others names (0, 1); what they mean can be said: --labels 0=angry,1=happy,…"
    )
    assert told in open_dataset(both).notes
    named = open_dataset(both, DataConfig(labels=("0=angry", "1=happy")))
    assert named.classes == ("angry", "happy")
    assert not any("are numbers" in note for note in named.notes)


class _Unsaid(zipfile.ZipInfo):
    """A member whose name is stored as bytes, without the flag that says UTF-8."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode("cp437"), self.flag_bits


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", {"fâché", "開心"}), ("cp437", {"fâché", "heureux"})]
)
def test_names_in_a_zip_of_macos_are_what_they_are(tmp_path, write_faces, encoding, shown):
    """Its names are UTF-8, which nothing says: fâché was f├óch├⌐."""
    write_faces(tmp_path / "in", dict.fromkeys(shown, 3))
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*.png")):
            name = path.relative_to(tmp_path / "in").as_posix().encode(encoding)
            archive.writestr(_Unsaid(name.decode("cp437")), path.read_bytes())
    assert set(open_dataset(tmp_path / "faces.zip").classes) == shown


@pytest.mark.parametrize(("renamed", "joy"), [(False, "开心"), (True, "开心".encode("gbk").decode("cp437"))])
def test_names_that_winrar_says_in_utf8_beside_are_taken(tmp_path, write_faces, renamed, joy):
    """The name itself is GBK; a program that renamed the member without a word of it leaves the old name beside."""
    write_faces(tmp_path / "in", {"开心": 3, "sad": 3})
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*.png")):
            name = path.relative_to(tmp_path / "in").as_posix()
            member = _Unsaid(name.encode("gbk").decode("cp437"))
            beside = struct.pack("<BI", 1, zlib.crc32(name.encode("gbk")) ^ renamed) + name.encode()
            other = struct.pack("<HH", 0x5455, 5) + b"\x01\0\0\0\0"  # the time, which comes first
            member.extra = other + struct.pack("<HH", 0x7075, len(beside)) + beside
            archive.writestr(member, path.read_bytes())
    assert set(open_dataset(tmp_path / "faces.zip").classes) == {joy, "sad"}


def test_persons_are_one_in_every_spelling_and_nobody_is_no_person(pictures):
    """pandas writes 1.0 and nan where some persons are not known: a leak was not seen, and nan was a person."""
    moods = ["happy", "sad"]
    write(
        pictures, "path,label,subject", [f"{moods[n % 2]},{('1.0', 'nan', '2.0')[n % 3]}" for n in range(9)]
    )
    (pictures / "labels.csv").rename(pictures / "train.csv")
    rows = [f"{name},{moods[n % 2]},{1 + n % 2}" for n, name in enumerate(NAMES[9:], start=1)]
    (pictures / "test.csv").write_text("path,label,subject\n" + "\n".join(rows) + "\n", encoding="utf-8")
    dataset = open_dataset(pictures, carve_validation=False)
    assert "leak: 2 groups, such as '1', in train and test" in dataset.notes
    assert (
        "grouped by the column 'subject': 2 groups; alone: the pictures of 3 rows that name none"
        in dataset.notes
    )
    assert (dataset.split("train").groups or []).count("") == 3


def test_persons_of_one_picture_each_are_persons_of_the_other_table(pictures):
    """A short test.csv shows nobody twice: its column was left out, and a leak to train.csv was not seen."""
    moods = ["happy", "sad"]
    write(pictures, "path,label,subject", [f"{moods[n % 2]},p{n % 4}" for n in range(9)])
    (pictures / "labels.csv").rename(pictures / "train.csv")
    rows = [f"{name},{moods[n % 2]},p{n + 2}" for n, name in enumerate(NAMES[9:])]
    (pictures / "test.csv").write_text("path,label,subject\n" + "\n".join(rows) + "\n", encoding="utf-8")
    dataset = open_dataset(pictures, carve_validation=False)
    assert dataset.split("test").groups == ["p2", "p3", "p4"]
    assert "leak: 2 groups, such as 'p2', in train and test" in dataset.notes


@pytest.mark.parametrize(("yes", "used"), [(3, True), (6, True), (7, False), (12, False)])
def test_a_column_valid_that_most_rows_have_is_no_validation(pictures, yes, used):
    """It says which pictures are good: once, 54 of 60 were for validation and six for training."""
    rows = [f"{('happy', 'sad')[n % 2]},{int(n < yes)}" for n in range(len(NAMES))]
    dataset = open_dataset(write(pictures, "path,label,valid", rows), carve_validation=False)
    assert {name: len(part) for name, part in dataset.splits.items()} == (
        {"train": 12 - yes, "validation": yes} if used else {"train": 12}
    )
    assert (
        any("the column 'valid' is not used (most rows have a yes" in note for note in dataset.notes) != used
    )
