"""Two people label copies of one face set on two machines; afterwards the two are brought together."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from mien.cli.main import main
from mien.faceset.extract import extract_faces
from mien.faceset.table import FaceSet
from mien.images.canvas import write_picture
from mien.label.history import MAX_NAME
from mien.label.store import Store

from .conftest import HOPPER, hashes, picture


def said(folder: Path) -> dict[str, dict[str, str]]:
    """Return what each person says of each face."""
    with Store.open(folder) as store:
        return {face: dict(agreed.people) for face, agreed in store.agreed.items()}


def answer(folder: Path, who: str, labels: dict[str, str], action: str = "label") -> None:
    with Store.open(folder) as store:
        for face, label in labels.items():
            store.answer([face], who, action, label)


@pytest.fixture
def bob(faces: Path, tmp_path: Path) -> Path:
    """A copy of the set, both with an answer from before they parted."""
    answer(faces, "ann", {FaceSet.open(faces).faces[0].id: "calm"})
    shutil.copytree(faces, tmp_path / "elsewhere" / "bob")
    return tmp_path / "elsewhere" / "bob"


def test_answers_of_both_count_once_however_often_they_are_joined(faces: Path, bob: Path) -> None:
    one, two, three, four, five = (face.id for face in FaceSet.open(faces).faces[:5])
    answer(faces, "ann", {two: "calm", three: "calm", five: "calm"})
    answer(bob, "bob", {two: "calm", three: "bored", four: "開心"})
    answer(
        bob, "bob", {five: "bored"}, "settle"
    )  # settles nothing that ann, whom it did not know of, has said
    answer(bob, "ann", {one: "bored"})  # a change of mind: nobody said something else of it here
    before = hashes(bob)
    done = extract_faces(bob, faces)
    assert (sum(done.new.values()), done.problems) == (0, ())
    expected = {
        one: {"ann": "bored"},
        two: {"ann": "calm", "bob": "calm"},
        three: {"ann": "calm", "bob": "bored"},
        four: {"bob": "開心"},
        five: {"ann": "calm", "bob": "bored"},
    }
    assert said(faces) == expected
    assert any("answers about 5 faces taken over" in note for note in done.notes)
    assert any("about 2 faces of these people do not agree" in note for note in done.notes)
    joined = FaceSet.open(faces)
    assert [joined[face].label for face in (one, two, three, four)] == ["bored", "calm", "", "開心"]
    assert joined[three].votes == {"calm": 1, "bored": 1}
    rows = [joined[face] for face in expected]
    with Store.open(faces) as store:
        count = store.seq
        assert store.classes == ("calm", "bored", "開心")
    extract_faces(bob, faces)
    assert said(faces) == expected
    assert [FaceSet.open(faces)[face] for face in expected] == rows
    with Store.open(faces) as store:
        assert store.seq == count
    assert {name: seen for name, seen in hashes(bob).items() if "sqlite-" not in name} == before


def test_two_of_one_name_stay_two_however_long_it_is(faces: Path, bob: Path) -> None:
    _, two, *_ = (face.id for face in FaceSet.open(faces).faces)
    who = MAX_NAME * "a"
    answer(faces, who, {two: "calm"})
    answer(bob, who, {two: "bored"})
    extract_faces(bob, faces)
    assert said(faces)[two] == {who: "calm", f"{who[:-6]} (bob)": "bored"}


def test_one_name_with_two_answers_is_two_persons(faces: Path, bob: Path) -> None:
    face = FaceSet.open(faces).faces[3].id
    answer(faces, "me", {face: "calm"})
    answer(bob, "me", {face: "bored"})
    for _ in range(2):
        done = extract_faces(bob, faces)
        assert said(faces)[face] == {"me": "calm", "me (bob)": "bored"}
        assert any("there me is me (bob)" in note for note in done.notes)


def test_faces_that_are_new_bring_their_crop_and_their_source(faces: Path, bob: Path) -> None:
    photo = bob.parent / "photos" / "new.png"
    write_picture(photo, picture(HOPPER, 300)[:, ::-1])
    extract_faces(photo, bob)
    added = FaceSet.open(bob).faces[-1]
    answer(bob, "bob", {added.id: "calm"})
    extract_faces(bob, faces)
    row = FaceSet.open(faces)[added.id]
    assert (row.label, row.who, row.status) == ("calm", "bob", FaceSet.open(bob)[added.id].status)
    path = FaceSet.open(faces).source_path(row)
    assert path is not None and path.samefile(photo)
    assert row.group == row.source
    assert FaceSet.open(faces).crop_path(row).read_bytes() == (bob / added.file).read_bytes()
    # The photograph is known here as well.
    assert sum(extract_faces(photo, faces).new.values()) == 0


def test_labels_that_were_typed_into_two_tables_are_answers(faces: Path, tmp_path: Path) -> None:
    """Neither has answers; here the table says calm of two faces, there bored of the second and of a third."""
    shutil.copytree(faces, tmp_path / "there")
    places = [face.id for face in FaceSet.open(faces).faces[:3]]
    for folder, labels in ((faces, ("calm", "calm", "")), (tmp_path / "there", ("", "bored", "bored"))):
        typed = FaceSet.open(folder)
        for face, label in zip(places, labels, strict=True):
            typed.put(dataclasses.replace(typed[face], label=label))
        typed.write()
    for _ in range(2):
        extract_faces(tmp_path / "there", faces)
        joined = FaceSet.open(faces)
        assert [joined[face].label for face in places] == ["calm", "", "bored"]
        assert joined[places[1]].votes == {"calm": 1, "bored": 1}


def test_two_sets_make_a_third(
    faces: Path, bob: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(bob, "bob", {FaceSet.open(faces).faces[1].id: "bored"})
    assert main(["faces", str(faces), str(bob), "--to", str(tmp_path / "both")]) == 0
    out, _ = capsys.readouterr()
    assert f"added {len(FaceSet.open(faces))} faces" in out
    assert [face.label for face in FaceSet.open(tmp_path / "both").faces[:3]] == ["calm", "bored", ""]
