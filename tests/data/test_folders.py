"""Folders of class folders, alone and below train, validation and test, as people really have them."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.cli.main import main
from mien.data import DataConfig, open_dataset
from mien.data.pictures import FilePictures, InMemoryPictures
from mien.errors import DataError, ImageError


def counts(dataset):
    return {
        name: dict(
            zip(
                dataset.classes,
                np.bincount(split.labels, minlength=len(dataset.classes)).tolist(),
                strict=True,
            )
        )
        for name, split in dataset.splits.items()
    }


def test_class_folders_are_split_and_the_user_is_told(tmp_path: Path, write_faces):
    write_faces(tmp_path / "faces", {"happy": 20, "sad": 10})
    dataset = open_dataset(tmp_path / "faces")
    assert dataset.name == "faces" and dataset.classes == ("happy", "sad")
    assert counts(dataset) == {"train": {"happy": 18, "sad": 9}, "validation": {"happy": 2, "sad": 1}}
    assert dataset.notes == ("3 of 30 training pictures are set aside for validation (by a hash, seed 0)",)
    whole = open_dataset(tmp_path / "faces", carve_validation=False)
    assert counts(whole) == {"train": {"happy": 20, "sad": 10}}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "valid", "TEST")],
)
def test_split_folders_by_any_of_their_names(tmp_path, write_faces, train, validation, test):
    write_faces(
        tmp_path,
        {f"{train}/a": 3, f"{train}/b": 4, f"{validation}/a": 1, f"{validation}/b": 2, f"{test}/b": 5},
    )
    assert counts(open_dataset(tmp_path)) == {
        "train": {"a": 3, "b": 4},
        "validation": {"a": 1, "b": 2},
        "test": {"a": 0, "b": 5},
    }


def test_train_and_test_only_carves_validation_from_train(tmp_path, write_faces):
    write_faces(tmp_path, {"train/a": 20, "train/b": 20, "test/a": 4, "test/b": 4})
    assert counts(open_dataset(tmp_path)) == {
        "train": {"a": 18, "b": 18},
        "validation": {"a": 2, "b": 2},
        "test": {"a": 4, "b": 4},
    }


def test_a_set_with_only_a_test_part_stays_one(tmp_path, write_faces):
    write_faces(tmp_path, {"test/a": 2, "test/b": 2})
    assert list(open_dataset(tmp_path).splits) == ["test"]


def test_the_kaggle_face_expression_set_lies_one_level_down(tmp_path, write_faces):
    write_faces(tmp_path, {"images/train/angry": 3, "images/train/sad": 3, "images/validation/angry": 1})
    dataset = open_dataset(tmp_path)
    assert counts(dataset) == {"train": {"angry": 3, "sad": 3}, "validation": {"angry": 1, "sad": 0}}
    assert "read from images/" in dataset.notes


def test_kaggle_fer2013_pictures_tell_the_test_parts_by_their_names(tmp_path, write_faces):
    write_faces(tmp_path, {"train/angry": 2, "train/happy": 2, "test/angry": 4, "test/happy": 4}, size=48)
    for path in sorted(tmp_path.rglob("*.png")):
        part = (
            "Training"
            if "train" in path.parts[-3]
            else ("PublicTest" if int(path.stem) < 3 else "PrivateTest")
        )
        path.rename(path.with_name(f"{part}_{path.stem}{path.parent.name}.png"))
    dataset = open_dataset(tmp_path)
    assert dataset.name == "fer2013"
    assert counts(dataset) == {
        "train": {"angry": 2, "happy": 2},
        "validation": {"angry": 3, "happy": 3},
        "test": {"angry": 1, "happy": 1},
    }
    assert all("PublicTest" in name for name in dataset.splits["validation"].names)


def test_nested_folders_are_read_and_hidden_ones_are_not(tmp_path, write_faces):
    write_faces(tmp_path, {"happy": 2, "happy/more/still": 3, "sad": 2, "happy/.thumbs": 4, ".git/x": 2})
    (tmp_path / "sad" / ".hidden.png").write_bytes((tmp_path / "sad" / "0.png").read_bytes())
    (tmp_path / "sad" / "Thumbs.db").write_bytes(b"x")
    dataset = open_dataset(tmp_path, carve_validation=False)
    assert counts(dataset) == {"train": {"happy": 5, "sad": 2}}
    assert "happy/more/still/0.png" in dataset.splits["train"].names


def test_links_in_a_circle_end(tmp_path, write_faces):
    write_faces(tmp_path / "set", {"happy": 2, "sad": 2})
    (tmp_path / "set" / "happy" / "again").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set" / "happy" / "self").symlink_to(tmp_path / "set" / "happy", target_is_directory=True)
    (tmp_path / "set" / "sad" / "broken.png").symlink_to(tmp_path / "set" / "sad" / "broken.png")
    dataset = open_dataset(tmp_path / "set", carve_validation=False)
    assert counts(dataset)["train"] == {"happy": 2, "sad": 2}
    assert [bad.name for bad in dataset.unreadable] == ["sad/broken.png"]


def test_a_path_that_is_a_circle_of_links(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="is a link that leads nowhere or in a circle"):
        open_dataset(tmp_path / "a")


def test_unreadable_files_are_listed_by_name_and_left_out(tmp_path, write_faces, capfd):
    write_faces(tmp_path, {"happy": 4, "sad": 4})
    (tmp_path / "sad" / "note.jpg").write_text("hello")
    (tmp_path / "sad" / "nothing.png").write_bytes(b"")
    (tmp_path / "happy" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    for _ in ("decoded", "from the cache"):
        dataset = open_dataset(tmp_path, carve_validation=False)
        assert counts(dataset) == {"train": {"happy": 4, "sad": 4}}
        found = {bad.name: bad.reason for bad in dataset.unreadable}
        assert set(found) == {"happy/phone.heic", "sad/note.jpg", "sad/nothing.png"}
        assert "not a picture" in found["sad/note.jpg"] and "0 bytes" in found["sad/nothing.png"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_named_like_a_picture_is_not_waited_for(tmp_path, write_faces):
    write_faces(tmp_path, {"happy": 4, "sad": 4})
    os.mkfifo(tmp_path / "sad" / "pipe.jpg")
    dataset = open_dataset(tmp_path, carve_validation=False)
    assert dataset.notes == ("passed over, as no pictures: 1 pipe, socket or device",)


def test_a_damaged_jpeg_is_found_among_whole_ones(tmp_path, capfd):
    """libjpeg's complaint does not say which picture of a batch it means."""
    noise = np.random.default_rng(0)
    for number in range(6):
        for label in ("a", "b"):
            path = tmp_path / label / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            data = cv2.imencode(".jpg", noise.integers(0, 256, (64, 64), dtype=np.uint8))[1].tobytes()
            path.write_bytes(data[: len(data) // 2] + b"\xff\xd9" if (label, number) == ("b", 3) else data)
    dataset = open_dataset(tmp_path)
    assert [bad.name for bad in dataset.unreadable] == ["b/3.jpg"]
    assert capfd.readouterr() == ("", "")


def test_names_with_blanks_other_letters_and_200_characters(tmp_path, write_faces):
    write_faces(tmp_path, {"très heureux": 2, "грустный": 2})
    long = "x" * 196 + ".png"
    (tmp_path / "грустный" / "0.png").rename(tmp_path / "грустный" / long)
    (tmp_path / "грустный" / "1.png").rename(tmp_path / "грустный" / "面 1.png")
    dataset = open_dataset(tmp_path, carve_validation=False)
    assert dataset.classes == ("très heureux", "грустный")
    assert {f"грустный/{long}", "грустный/面 1.png"} <= set(dataset.splits["train"].names)


def test_names_that_are_no_text_can_still_be_printed(tmp_path, write_faces):
    write_faces(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / os.fsdecode(b"\xff\xfe.png"))
    names = open_dataset(tmp_path, carve_validation=False).splits["train"].names
    assert "a/\ufffd\ufffd.png" in names and "".join(names).encode()


def test_small_pictures_of_one_size_are_held_and_large_ones_stream(tmp_path, write_faces):
    write_faces(tmp_path / "small", {"a": 3, "b": 3}, size=48)
    write_faces(tmp_path / "large", {"a": 3, "b": 3}, size=256, colour=True)
    small, large = open_dataset(tmp_path / "small"), open_dataset(tmp_path / "large")
    assert isinstance(small.splits["train"].pictures, InMemoryPictures)
    assert isinstance(large.splits["train"].pictures, FilePictures)
    assert small.splits["train"].pictures.read(0).shape == (48, 48)
    assert large.splits["train"].pictures.read(0).shape == (256, 256, 3)


def test_pictures_are_what_was_written(tmp_path, write_faces, face):
    write_faces(tmp_path, {"a": 2, "b": 2}, size=120, colour=True)
    split = open_dataset(tmp_path, carve_validation=False).splits["train"]
    np.testing.assert_array_equal(split.pictures.read(3), face(3, 120, colour=True))
    np.testing.assert_array_equal(split.take(np.array([3, 0])).pictures.read(1), face(0, 120, colour=True))


def test_a_picture_that_goes_away_after_the_scan(tmp_path, write_faces):
    write_faces(tmp_path, {"a": 2, "b": 2}, size=120)
    split = open_dataset(tmp_path, carve_validation=False).splits["train"]
    (tmp_path / "a" / "0.png").unlink()
    with pytest.raises(ImageError, match=r"a/0\.png cannot be opened"):
        split.pictures.read(0)


BAD = {
    "one class": ({"happy": 4}, r"has only one class \(happy\)"),
    "one picture": (
        {"happy": 4, "sad": 1},
        "class 'sad' has only one picture, which cannot be both learnt and checked",
    ),
    "no class folders": ({".": 3}, r"holds no labelled pictures \(there is: 3 \.png\)"),
    "nothing": ({}, r"holds no labelled pictures \(there is: nothing\)"),
}


@pytest.mark.parametrize(("places", "words"), BAD.values(), ids=BAD.keys())
def test_folders_that_cannot_be_used(tmp_path, write_faces, places, words):
    (tmp_path / "set").mkdir()
    write_faces(tmp_path / "set", places)
    with pytest.raises(DataError, match=words) as caught:
        open_dataset(tmp_path / "set")
    assert "\n" not in str(caught.value)


def test_a_class_without_one_readable_picture(tmp_path, write_faces):
    write_faces(tmp_path, {"happy": 4, "sad": 0})
    (tmp_path / "sad" / "0.jpg").write_text("no")
    with pytest.raises(
        DataError, match=r"no readable picture of class sad \(unreadable files: 1; the first: sad/0"
    ):
        open_dataset(tmp_path)


def test_empty_folders_and_loose_pictures_are_mentioned(tmp_path, write_faces):
    write_faces(tmp_path, {"train/a": 2, "train/b": 2, "train/docs": 0, "train": 3, "val/a": 1})
    notes = open_dataset(tmp_path).notes
    assert "train/docs/ holds no pictures; it is not taken for a class" in notes
    assert "not used: 3 pictures in train/, outside any class folder" in notes


def test_a_folder_that_cannot_be_opened_is_said_to_be_so(locked_folder, run_unprivileged, write_faces):
    write_faces(locked_folder, {"happy": 3, "sad": 3})
    done = run_unprivileged("data", ".", "--quick", "--sheet", "none")
    assert done.returncode == 0, done.stderr
    assert "note: locked/ cannot be opened; nothing in it is used" in done.stdout
    assert "note: passed over, as no pictures: 1 folder that cannot be opened" in done.stdout


def test_a_path_in_a_locked_folder_is_one_line(run_unprivileged):
    done = run_unprivileged("data", "locked/set")
    assert done.returncode == 2
    assert done.stderr.endswith("/locked/set cannot be opened: Permission denied\n")
    assert done.stderr.startswith("mien: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["data", "train", "predict", "video"])
def test_a_path_that_is_too_long_is_one_line(command, capsys):
    assert main([command, "x" * 300]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mien: ") and said.endswith(" cannot be opened: File name too long\n")
    assert said.count("\n") == 1


def test_a_missing_path(tmp_path):
    with pytest.raises(DataError, match=r"there is no file or folder .*nowhere; DATA can be"):
        open_dataset(tmp_path / "nowhere")


def test_fingerprint_follows_content_and_not_names(tmp_path, write_faces):
    write_faces(tmp_path / "one", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    write_faces(tmp_path / "two", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    (tmp_path / "two/train/a/0.png").rename(tmp_path / "two/train/a/zzz.png")
    first, second = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "two")
    assert first.fingerprint == second.fingerprint and len(first.fingerprint) == 64
    (tmp_path / "two/train/a/1.png").rename(tmp_path / "two/train/b/moved.png")
    assert open_dataset(tmp_path / "two").fingerprint != first.fingerprint
    merged = open_dataset(tmp_path / "one", DataConfig(classes=("b", "a")))
    assert merged.fingerprint != first.fingerprint


def test_progress_is_told_only_for_what_is_decoded(tmp_path, write_faces):
    write_faces(tmp_path, {"a": 40, "b": 40}, size=16)
    told: list[tuple[int, int]] = []
    open_dataset(tmp_path, progress=lambda done, of: told.append((done, of)))
    assert told == [(64, 80), (80, 80)]
    open_dataset(tmp_path, progress=lambda done, of: told.append((done, of)))
    assert len(told) == 2


def test_pictures_that_are_written_oddly_are_used_and_counted(tmp_path, write_faces):
    write_faces(tmp_path, {"happy": 3, "sad": 3})
    for name in ("happy/0.png", "sad/2.png"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-12])  # without the part that ends a PNG
    for _ in range(2):  # read, and from the cache
        dataset = open_dataset(tmp_path, carve_validation=False)
        assert len(dataset.split("train")) == 6
        (note,) = [note for note in dataset.notes if "with a warning" in note]
        assert note.startswith(
            "2 pictures are used with a warning; the first, happy/0.png: it is written oddly ("
        )
