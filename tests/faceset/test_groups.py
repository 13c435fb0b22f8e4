"""Which faces of a set belong together, and the labels that their paths give them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from mien.data import DataConfig, open_dataset
from mien.data.decisions import digests_of
from mien.faceset.extract import extract_faces
from mien.faceset.sources import shared_groups
from mien.faceset.table import FaceSet
from mien.images.canvas import write_picture

from .conftest import COLLINS, HOPPER, picture


def test_a_live_photo_and_its_film_are_one_group(film: Path, tmp_path: Path) -> None:
    folder = tmp_path / "DCIM"
    (folder / "other").mkdir(parents=True)
    shutil.copy(HOPPER, folder / "IMG_1.JPG")
    shutil.copy(film, folder / "img_1_HEVC.MOV")
    write_picture(folder / "IMG_2.jpg", picture(COLLINS, 300)[:, ::-1])
    write_picture(folder / "other" / "IMG_1.jpg", picture(HOPPER, 300)[20:])
    done = extract_faces([folder], tmp_path / "faces", spacing=0.5)
    groups = {Path(face.source).relative_to("../DCIM").as_posix(): face.group for face in done.faces}
    assert groups == {
        "IMG_1.JPG": "../DCIM/IMG_1.JPG",
        "img_1_HEVC.MOV": "../DCIM/IMG_1.JPG",
        "IMG_2.jpg": "../DCIM/IMG_2.jpg",
        "other/IMG_1.jpg": "../DCIM/other/IMG_1.jpg",
    }


def test_a_photo_that_comes_after_its_film_joins_its_group(film: Path, tmp_path: Path) -> None:
    shutil.copy(film, tmp_path / f"IMG_1{film.suffix}")
    extract_faces([tmp_path / f"IMG_1{film.suffix}"], tmp_path / "faces", per_film=3)
    shutil.copy(HOPPER, tmp_path / "IMG_1.jpg")
    done = extract_faces([tmp_path / "IMG_1.jpg"], tmp_path / "faces", per_film=3)
    assert {Path(face.source).name for face in done.faces} == {"IMG_1.jpg", f"IMG_1{film.suffix}"}
    assert {face.group for face in done.faces} == {f"../IMG_1{film.suffix}"}


def test_names_that_differ_in_the_suffix_alone_are_one_moment() -> None:
    names = ["a/1.heic", "a/1.JPG", "a/1_HEVC.MOV", "b/1.mov", "scan.001", "scan.002", "v1.2.jpg", "v1.3.jpg"]
    assert shared_groups([], names) == {"a/1.JPG": "a/1.heic", "a/1_HEVC.MOV": "a/1.heic"}
    known = [("b/1.jpg", "b/1.jpg"), ("c/1.jpg", "Anna")]  # a group that --group found is no moment's
    assert shared_groups(known, ["b/1.mov", "c/1.mov"]) == {"b/1.mov": "b/1.jpg"}


def test_groups_by_pattern(photos: Path, tmp_path: Path) -> None:
    done = extract_faces([photos], tmp_path / "faces", group=r"/(\w+)-\w+\.")
    groups = {Path(face.source).name: face.group for face in done.faces}
    assert groups["anna-1.png"] == groups["anna-again.jpg"] == "anna"
    assert groups["ben-1.png"] == "ben"
    assert groups["group.png"].endswith("group.png")


def test_a_pattern_groups_the_faces_that_are_there_as_well(photos: Path, tmp_path: Path) -> None:
    extract_faces([photos], tmp_path / "faces", group="mistyped")
    done = extract_faces([photos], tmp_path / "faces", group=r"/(anna|group)")
    groups = sorted((Path(face.source).name, face.group) for face in done.faces)
    assert [group for name, group in groups if name == "group.png"] == ["group", "group"]
    assert [group for name, group in groups if name.startswith("anna")] == ["anna", "anna"]
    assert all(group.endswith(name) for name, group in groups if name.startswith("b"))
    assert "faces grouped by --group: 4" in done.notes
    unmatched = "sources that match nothing of --group (their faces keep the group that they have): 4"
    # ben-1, blurred, sky, broken: a source counts once, however many faces it has.
    assert unmatched in done.notes
    assert extract_faces([photos], tmp_path / "faces").faces[done.faces.shown()[0].id].group == "anna"


def test_labels_by_pattern(photos: Path, tmp_path: Path) -> None:
    """The largest face of each source is labelled, once; what somebody said stays."""
    folder = tmp_path / "faces"
    assert not extract_faces([photos], folder).faces.labelled()
    done = extract_faces([photos], folder, label=r"/(anna|ben)-\w+\.")  # also of sources that are known
    named = {Path(face.source).name: face.label for face in done.faces.labelled()}
    assert set(named.values()) == {"anna", "ben"}
    assert named["anna-1.png"] == "anna"
    assert f"faces labelled by --label: {len(named)}" in done.notes
    assert any("match nothing of --label" in note for note in done.notes)
    again = extract_faces([photos], folder, label=r"/(\w)\w+-\w+\.")
    assert {Path(face.source).name: face.label for face in again.faces.labelled()} == named
    beside = extract_faces([photos / "group.png"], tmp_path / "other", label=r"(\w+)\.png")
    largest = max(beside.faces, key=lambda face: face.box.width * face.box.height)
    assert [face.id for face in beside.faces if face.label == "group"] == [largest.id]


def test_a_label_that_is_no_class_is_one_line(tmp_path: Path) -> None:
    for folder in ("no face", "calm"):
        (tmp_path / folder).mkdir()
    shutil.copy(HOPPER, tmp_path / "no face" / "a.jpg")
    shutil.copy(COLLINS, tmp_path / "calm" / "b.jpg")
    done = extract_faces(
        [tmp_path / "no face", tmp_path / "calm"], tmp_path / "faces", label="([^/]+)/[^/]+$"
    )
    (problem,) = done.problems
    assert "a.jpg is not labelled by --label: 'no face' is an answer of its own" in problem
    again = FaceSet.open(tmp_path / "faces")
    assert (again.problems, sorted(face.label for face in again)) == ((), ["", "calm"])


def test_a_picture_in_two_face_sets_stays_on_one_side(photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        faces = extract_faces([photos], tmp_path / name).faces
        for number, face in enumerate(sorted(faces, key=lambda face: face.id)):
            faces.put(dataclasses.replace(face, status="", duplicate_of="", label="ab"[number % 2]))
        faces.write()
    dataset = open_dataset([tmp_path / "one", tmp_path / "two"], DataConfig(validation_share=0.4))
    learnt, held = (set(digests_of(dataset.split(name))) for name in ("train", "validation"))
    assert learnt and held and not learnt & held
    assert len(learnt | held) < sum(map(len, dataset.splits.values())), "each lies in both sets"
