"""A face set as labelled data: what is used, what is counted, how votes, groups and margins are read."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data import DataConfig, open_dataset
from mien.data.crops import crop_faces, stored_faces, with_margin
from mien.detect.base import Box, Detection, Landmarks, align, crop
from mien.detect.registry import open_detector
from mien.errors import DataError
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet

from .conftest import smooth_picture

STORED = 2.0  # margin of the crops
BOX = Box(60, 50, 40, 48)
POINTS = Landmarks.of([(70, 66), (91, 70), (80, 78), (73, 88), (90, 90)])


@pytest.fixture
def face_set(tmp_path: Path) -> Callable[..., FaceSet]:
    """Writes a face set of photographs 160 pixels a side: face_set(row's changes, …)."""

    def make(*rows: dict[str, object], name: str = "set") -> FaceSet:
        folder = tmp_path / name
        (folder / "crops").mkdir(parents=True)
        found = FaceSet.open(folder, create=True)
        for number, changes in enumerate(rows):
            photo = smooth_picture(number, 160, colour=True)
            file = f"crops/{number}.png"
            cv2.imwrite(str(folder / file), crop(photo, BOX, STORED)[:, :, ::-1])
            row = FaceRow(
                id=str(number),
                file=file,
                source=f"../p{number}.jpg",
                box=BOX,
                landmarks=POINTS,
                margin=STORED,
            )
            found.put(replace(row, **changes))  # type: ignore[arg-type]
        found.write()
        return found

    return make


def labelled(*labels: str) -> list[dict[str, object]]:
    return [{"label": label} for label in labels]


def test_only_labelled_faces_are_used_and_the_others_counted(face_set: Callable[..., FaceSet]) -> None:
    opened = face_set(
        *labelled("calm", "calm", "bored", "bored"),
        {"label": "calm", "status": "duplicate", "duplicate_of": "0"},
        {"label": "calm", "status": "no face"},
        {"status": "blurred"},
        {"label": "bored", "status": "blurred"},  # somebody looked at it all the same
        {},
        {"label": "bored", "status": "duplicate", "duplicate_of": "8"},  # its original has no label
    )
    dataset = open_dataset(opened.folder, carve_validation=False)
    train = dataset.split("train")
    assert dataset.classes == ("bored", "calm")
    assert sorted(train.names) == [f"crops/{number}.png" for number in (0, 1, 2, 3, 7, 9)]
    assert any(
        note.startswith("a face set: 6 of 10 faces with a label that is used; left out: ")
        and all(part in note for part in ("1 no face", "1 duplicate", "1 blurred", "1 without a label"))
        for note in dataset.notes
    )
    assert (
        open_dataset(opened.folder / "faces.csv", carve_validation=False).fingerprint == dataset.fingerprint
    )


def test_faces_are_cut_at_the_networks_margin_as_out_of_the_photograph(
    face_set: Callable[..., FaceSet],
) -> None:
    opened = face_set(*labelled("calm", "bored"))
    dataset = open_dataset(opened.folder, carve_validation=False)
    assert stored_faces(dataset.split("train").pictures).all()
    for margin in (1.0, 1.3):
        pictures = with_margin(dataset, margin).split("train").pictures
        for row in (0, 1):
            wanted = align(smooth_picture(row, 160, colour=True), Detection(BOX, None, POINTS), margin)
            assert pictures.read(row).shape == wanted.shape
            assert np.abs(pictures.read(row).astype(int) - wanted).mean() < 1.5
    same, without = crop_faces(dataset, open_detector("mien"), 1.0)  # nothing to search
    assert (same, without) == (dataset, ())


def test_faces_that_are_in_two_sets_are_told_with_what_makes_one_of_them(
    face_set: Callable[..., FaceSet], tmp_path: Path
) -> None:
    ann = face_set(*labelled("calm", "bored", "calm", "bored"), name="ann")
    shutil.copytree(ann.folder, tmp_path / "bob's")
    other = face_set(*labelled("calm", "bored"), name="other")
    for number in range(2):  # of the same names, but other pictures
        cv2.imwrite(str(other.folder / f"crops/{number}.png"), smooth_picture(9 + number, 160, colour=True))
    read = open_dataset([ann.folder, tmp_path / "bob's", other.folder], DataConfig())
    (told,) = (note for note in read.notes if "count twice" in note)
    assert told.startswith("4 faces of ann are in bob's, too, and count twice; ")
    command = shlex.split(told.partition("labels: ")[2])
    assert command == ["mien", "faces", str(tmp_path / "bob's"), "--to", str(ann.folder)]


def test_votes_become_soft_labels(face_set: Callable[..., FaceSet]) -> None:
    opened = face_set(
        *labelled("calm", "bored"),
        {"label": "calm", "votes": {"calm": 3, "bored": 1}},
        {"votes": {"calm": 1, "amused": 1}},
    )
    train = open_dataset(opened.folder, carve_validation=False).split("train")
    assert train.shares is not None
    assert train.shares.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0.25, 0.75], [0.5, 0, 0.5]]
    assert train.labels.tolist() == [2, 1, 2, 0]


def test_other_votes_are_other_data(face_set: Callable[..., FaceSet]) -> None:
    """A training must not say 'is trained already' where somebody else has voted since."""
    rows = [*labelled("calm", "bored"), {"label": "calm", "votes": {"calm": 3, "bored": 1}}]
    before = open_dataset(face_set(*rows).folder, carve_validation=False)
    rows[2] = {"label": "calm", "votes": {"calm": 2, "bored": 1}}
    after = open_dataset(face_set(*rows, name="other").folder, carve_validation=False)
    assert before.fingerprint != after.fingerprint


def test_groups_of_the_table_and_groups_that_are_asked_for_both_hold(
    face_set: Callable[..., FaceSet],
) -> None:
    rows = labelled("calm", "bored", "calm", "bored", "calm")
    for row, group, person in zip(
        rows, ("f1", "f1", "f2", "f2", ""), ("ann", "ben", "ben", "", "cy"), strict=True
    ):
        row |= {"group": group, "extra": {"person": person}}
    opened = face_set(*rows)

    def groups(**settings: str) -> list[str]:
        found = open_dataset(opened.folder, DataConfig(**settings), carve_validation=False)  # type: ignore[arg-type]
        return list(found.split("train").groups or [])

    assert groups() == ["f1", "f1", "f2", "f2", ""]
    first, second, third, fourth, alone = groups(group="person")
    assert first == second == third == fourth  # ben is in both films
    assert alone not in ("", first)
    assert groups(group="none") == []
    assert len(set(groups(group=r"p(\d)"))) == 3
    with pytest.raises(DataError, match=r"neither a column of faces\.csv nor found in any source's name"):
        groups(group="nosuch")


def test_faces_are_grouped_by_who_labelled_them_and_by_the_track_in_their_film(
    face_set: Callable[..., FaceSet],
) -> None:
    rows = labelled("calm", "bored", "calm", "bored")
    for row, who, source, track in zip(
        rows, ("ann", "ben", "ann", "ben"), ("a.mp4", "a.mp4", "b.mp4", "b.mp4"), (1, 1, 1, None), strict=True
    ):
        row |= {"who": who, "source": source, "track": track}
    folder = face_set(*rows).folder
    found = {
        name: open_dataset(folder, DataConfig(group=name), carve_validation=False).split("train").groups
        for name in ("who", "track")
    }
    for name, same in (("who", [0, 1, 0, 1]), ("track", [0, 0, 1, 2])):
        groups = list(found[name] or [])
        assert [groups.index(group) for group in groups] == [same.index(one) for one in same]


def test_a_folder_around_face_sets_names_them(face_set: Callable[..., FaceSet], tmp_path: Path) -> None:
    face_set(*labelled("calm", "bored"), name="one")
    face_set(*labelled("calm", "bored"), name="two")
    with pytest.raises(
        DataError, match=r"holds no labelled pictures but in 2 face sets; give as DATA: .*one .*two"
    ):
        open_dataset(tmp_path)


def test_one_more_face_moves_no_other(face_set: Callable[..., FaceSet]) -> None:
    rows = [
        {"label": label, "group": f"film {number // 3}"}
        for number, label in enumerate(["calm", "bored"] * 15)
    ]
    before = open_dataset(face_set(*rows).folder)
    after = open_dataset(face_set(*rows, {"label": "calm", "group": "new film"}, name="more").folder)
    held = set(before.split("validation").names)
    assert held
    assert held == set(after.split("validation").names) - {"crops/30.png"}
    sides = {name: set(split.groups or ()) for name, split in before.splits.items()}
    assert not sides["train"] & sides["validation"]


def test_a_set_that_nobody_labelled_says_how(face_set: Callable[..., FaceSet]) -> None:
    with pytest.raises(
        DataError, match=r"holds no labelled face yet \(faces: 2\); next: mien label \S+   \("
    ):
        open_dataset(face_set({}, {}).folder)


def test_wrong_rows_and_missing_crops_are_named(face_set: Callable[..., FaceSet]) -> None:
    opened = face_set(*labelled("calm", "bored", "calm"))
    (opened.folder / "crops" / "2.png").unlink()
    with (opened.folder / "faces.csv").open("a") as file:
        file.write("9,crops/9.png,,soon\n")
    unreadable = {
        bad.name: bad.reason for bad in open_dataset(opened.folder, carve_validation=False).unreadable
    }
    assert "time_s is 'soon'" in unreadable["faces.csv row 5"]
    assert "No such file" in unreadable["crops/2.png"]


def test_a_table_of_pictures_that_is_called_faces_is_no_face_set(tmp_path: Path) -> None:
    lines = ["id,file,label"]
    for number, label in enumerate(["calm", "bored"] * 2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), smooth_picture(number))
        lines.append(f"{number},{number}.png,{label}")
    (tmp_path / "faces.csv").write_text("\n".join(lines))
    assert len(open_dataset(tmp_path, carve_validation=False).split("train")) == 4
