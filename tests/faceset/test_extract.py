"""From photographs and films to a face set: what is found, what is set aside, what a second run keeps."""

from __future__ import annotations

import csv
import dataclasses
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import mien
from mien.cli.main import main, parser
from mien.errors import ConfigError, DataError, OutputError
from mien.faceset.extract import Extraction, extract_faces
from mien.faceset.settings import FacesConfig
from mien.faceset.table import FaceSet
from mien.images import read_image
from mien.images.canvas import write_picture

from .conftest import COLLINS, HOPPER, hashes, of, picture


def test_each_face_of_photographs_is_listed_once(extracted: Extraction) -> None:
    found = extracted.faces
    assert of(found, "anna-1.png") == [""]
    assert of(found, "ben-1.png") == [""]
    assert of(found, "anna-again.jpg") == ["duplicate"]
    assert of(found, "group.png") == ["duplicate", "duplicate"]  # mirrored, and as it was
    assert of(found, "blurred.png") == ["blurred"]
    assert of(found, "sky.png") == []
    first = next(face for face in found if face.source.endswith("anna-1.png"))
    again = next(face for face in found if face.source.endswith("anna-again.jpg"))
    assert again.duplicate_of == first.id
    assert extracted.photographs == 7
    assert extracted.without == 1
    assert len(extracted.problems) == 1
    assert "broken.jpg" in extracted.problems[0]
    assert any("1 text" in note for note in extracted.notes)
    with (found.folder / "sources.csv").open(newline="", encoding="utf-8") as file:
        rows = {Path(row["source"]).name: row for row in csv.DictReader(file)}
    assert rows["group.png"]["faces"] == "2"
    assert rows["group.png"]["set_aside"] == "2"
    assert "broken.jpg" in rows["broken.jpg"]["problem"]


def test_a_crop_has_the_face_in_the_middle_and_its_surroundings(extracted: Extraction) -> None:
    for face in extracted.faces:
        crop = read_image(extracted.faces.crop_path(face))
        assert crop.shape[0] == crop.shape[1] <= 256
        inside = face.in_crop(crop.shape[0])
        assert inside.box.x + inside.box.width / 2 == pytest.approx(crop.shape[1] / 2, abs=1.5)
        assert max(inside.box[2:]) == pytest.approx(crop.shape[0] / 1.6, abs=1.5)
        assert inside.landmarks is not None
        assert all(0 < value < crop.shape[0] for point in inside.landmarks for value in point)
    first = next(face for face in extracted.faces if face.source.endswith("anna-1.png"))
    assert np.ptp(read_image(extracted.faces.crop_path(first)), axis=2).max() > 50  # its colour is kept


def test_a_film_gives_few_sharp_frames_of_each_track_that_differ(extracted: Extraction) -> None:
    rows = [face for face in extracted.faces if face.track is not None]
    tracks = {face.track for face in rows}
    assert len(tracks) == 3  # one before the cut, two behind it
    assert 3 <= len(rows) <= 12  # of 22 looks at faces
    for track in tracks:
        times = sorted(face.time_s for face in rows if face.track == track and face.time_s is not None)
        assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))
    assert not [
        face for face in rows if face.time_s is not None and 1.0 <= face.time_s < 1.5
    ]  # blurred there
    assert all(face.status in ("", "duplicate") for face in rows)
    assert {face.group for face in rows} == {rows[0].source}


def test_originals_are_only_read(photos: Path, film: Path, tmp_path: Path) -> None:
    before = {**hashes(photos), **hashes(film.parent)}
    extract_faces([photos, film], tmp_path / "faces", per_track=2)
    assert {**hashes(photos), **hashes(film.parent)} == before


def test_a_second_run_adds_what_is_new_and_keeps_every_label(
    photos: Path, film: Path, faces: Path, tmp_path: Path
) -> None:
    found = FaceSet.open(faces)
    for number, face in enumerate(found.faces):
        found.put(dataclasses.replace(face, label="calm" if number % 2 else "bored"))
    found.write()
    labels = {face.id: face.label for face in found}
    more = tmp_path / "more"
    shutil.copytree(photos, more)
    write_picture(more / "new.png", np.ascontiguousarray(picture(HOPPER)[::-1, ::-1][:, 20:]))
    shutil.copy(photos / "anna-1.png", more / "copy.png")
    done = extract_faces([more, film], faces, spacing=0.5)
    assert done.films == 0
    assert done.known == 8  # six photographs under another path, the copy, the film
    assert len(done.faces) == len(labels) + sum(done.new.values())
    assert sum(done.new.values()) == 1
    assert {face.id: face.label for face in FaceSet.open(faces) if face.label} == labels


def test_a_renamed_photograph_is_known_and_its_faces_name_the_new_place(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(COLLINS, tmp_path / "in" / "a.jpg")
    extract_faces([tmp_path / "in"], tmp_path / "faces")
    (tmp_path / "in" / "a.jpg").rename(tmp_path / "in" / "b.jpg")
    done = extract_faces([tmp_path / "in"], tmp_path / "faces")
    assert [(face.source, face.group) for face in done.faces] == [("../in/b.jpg", "../in/b.jpg")]
    assert any("another name" in note for note in done.notes)
    assert done.faces.source_path(done.faces.faces[0]) == tmp_path / "faces" / "../in/b.jpg"

    shutil.copy(HOPPER, tmp_path / "in" / "b.jpg")  # and what has changed is looked at again
    done = extract_faces([tmp_path / "in"], tmp_path / "faces")
    old, new = done.faces.faces
    assert [face.is_from(HOPPER.read_bytes()) for face in (old, new)] == [False, True]
    assert any("have changed" in note for note in done.notes)


def test_other_limits_judge_anew_what_nobody_labelled(photos: Path, film: Path, faces: Path) -> None:
    found = FaceSet.open(faces)
    labelled = next(face for face in found if face.status == "")
    found.put(dataclasses.replace(labelled, label="calm"))
    found.write()
    done = extract_faces([photos, film], faces, spacing=0.5, min_size=1000)
    kinds = {face.status for face in done.faces if face.id != labelled.id}
    assert kinds == {"tiny", "duplicate"}
    assert done.faces[labelled.id].status == ""
    again = extract_faces([photos, film], faces, spacing=0.5)
    assert of(again.faces, "blurred.png") == ["blurred"]
    assert of(again.faces, "ben-1.png") == [""]


def test_another_search_keeps_the_faces_that_are_there(photos: Path, faces: Path) -> None:
    before = {face.id for face in FaceSet.open(faces)}
    done = extract_faces([photos / "anna-1.png", photos / "group.png"], faces, detect_size=320)
    assert done.photographs == 2
    assert {face.id for face in done.faces} == before


def test_pictures_that_are_faces_are_taken_whole(tmp_path: Path) -> None:
    crop = picture(COLLINS)[20:250, 90:260]
    write_picture(tmp_path / "in" / "a.png", crop)
    done = extract_faces([tmp_path / "in"], tmp_path / "faces", detector="whole")
    (face,) = done.faces
    assert face.margin is None
    assert np.array_equal(read_image(done.faces.crop_path(face)), crop)
    assert face.in_crop(230).whole


def test_a_broken_photograph_that_is_there_twice_is_told_each_time(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(HOPPER.read_bytes()[:3000])
    for _ in range(2):
        done = extract_faces(sorted(tmp_path.glob("*.jpg")), tmp_path / "faces")
        assert [Path(line.split(" ")[0]).name for line in done.problems] == ["a.jpg", "b.jpg", "c.jpg"]
        assert (done.photographs, done.known) == (3, 0)


def test_names_that_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(HOPPER, "~x.jpg")
    assert len(extract_faces("~x.jpg", "~faces").faces) == 1
    with pytest.raises(DataError, match=r"no file or folder ~nobody/a\.jpg"):
        extract_faces("~nobody/a.jpg", "faces")


def test_whoever_works_among_the_photographs_gets_none_of_what_mien_wrote_there(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "anna.png", picture(COLLINS))
    shutil.copy(film, tmp_path / f"talk{film.suffix}")
    monkeypatch.chdir(tmp_path)
    assert main(["predict", ".", "--save", "marked"]) == 0
    assert main(["video", f"talk{film.suffix}"]) == 0
    mien.load()("anna.png").save("anna-marked.png")
    (tmp_path / "anna-marked.png").rename(tmp_path / "marked" / "saved.png")
    extract_faces([tmp_path], tmp_path / "my-faces")
    sources = {face.source for face in FaceSet.open(tmp_path / "my-faces")}
    assert sources == {"../anna.png", f"../talk{film.suffix}"}
    capsys.readouterr()
    assert main(["predict", "."]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["anna.png"]
    assert "4 written by mien" in err and "1 folder that is a face set" in err
    assert main(["data", "."]) == 2
    assert f"but in 1 face set; give as DATA: {tmp_path / 'my-faces'}\n" in capsys.readouterr().err


def test_an_empty_folder_is_told_wherever_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = extract_faces([HOPPER, tmp_path / "empty", HOPPER.parent], tmp_path / "faces")
    assert [line.endswith(f"in the folder {tmp_path / 'empty'}") for line in done.problems] == [True]


def test_a_copy_of_a_photograph_whose_name_is_no_text_is_no_renaming(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    odd = tmp_path / "in" / os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(HOPPER, odd)
    extract_faces([tmp_path / "in"], tmp_path / "faces")
    shutil.copy(HOPPER, tmp_path / "in" / "copy.jpg")
    done = extract_faces([tmp_path / "in"], tmp_path / "faces")
    assert [face.source for face in done.faces] == ["../in/caf\\xe9.jpg"]
    assert not any("another name" in note for note in done.notes)


def test_wrong_input_is_one_line(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and nothing else")
    with pytest.raises(DataError, match="no photograph or film in the folder"):
        extract_faces([tmp_path / "empty"], tmp_path / "faces")
    with pytest.raises(DataError, match="no file or folder nowhere"):
        extract_faces(["nowhere"], tmp_path / "faces")
    with pytest.raises(OutputError, match="is not a face set"):
        extract_faces([photos], photos)
    with pytest.raises(ConfigError, match="margin must be from 1"):
        extract_faces([photos], tmp_path / "faces", margin=0.5)
    with pytest.raises(ConfigError, match="not both"):
        extract_faces([photos], tmp_path / "faces", FacesConfig(), margin=2.0)
    assert not (tmp_path / "faces").exists()
    done = extract_faces([tmp_path / "film.mp4", photos / "ben-1.png"], tmp_path / "faces")
    assert len(done.problems) == 1
    assert "film.mp4" in done.problems[0]
    for itself in (tmp_path / "faces", tmp_path / "faces" / "faces.csv"):
        with pytest.raises(DataError, match="is the face set that is added to"):
            extract_faces([itself], tmp_path / "faces")


def test_the_command_says_what_it_did_and_what_comes_next(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["faces", str(photos), "--to", str(tmp_path / "faces"), "--min-sharpness", "1"])
    out, err = capsys.readouterr()
    assert code == 1  # one could not be read
    assert "looked at 7 photographs" in out
    assert "added 6 faces: 3 to be labelled; set aside: 3 duplicate" in out
    assert f"next: mien label {tmp_path / 'faces'}   (its page asks for your classes)\n" in out
    assert "broken.jpg" in err
    main(["faces", str(photos), "--to", str(tmp_path / "faces"), "--min-sharpness", "1"])
    assert "copies, or looked at before" in capsys.readouterr().out


def test_what_comes_next_can_be_typed_whatever_the_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mien label -y` was printed, which is no folder but an option."""
    monkeypatch.chdir(tmp_path)
    for given in ("./-y", "two words"):
        assert main(["faces", str(HOPPER), "--to", given]) == 0
        command = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ").partition("   ")[0]
        asked = parser().parse_args(shlex.split(command)[1:])
        assert Path(asked.faces) == Path(given)


def test_a_folder_without_faces_says_what_to_try(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["faces", str(photos / "sky.png"), "--to", str(tmp_path / "faces")]) == 0
    out = capsys.readouterr().out
    assert "no face was found; " in out and "--detector whole" in out and "next:" not in out
    assert main(["label", str(tmp_path / "faces"), "--port", "0"]) == 2
    assert "holds no faces; add some with: mien faces PATH" in capsys.readouterr().err


def test_a_locked_folder_is_counted_and_the_rest_is_done(
    locked_folder: Path, run_unprivileged: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shutil.copy(HOPPER, locked_folder / "a.jpg")
    done = run_unprivileged("faces", ".", "--to", "faces")
    assert done.returncode == 0, done.stderr
    assert "added 1 face" in done.stdout
    assert "passed over, as neither photographs nor films: 1 folder that cannot be opened" in done.stderr


def test_a_photograph_that_vanishes_once_it_is_listed_is_one_line(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "in")

    def vanish(_: str, done: int, __: int) -> None:
        if not done:
            (tmp_path / "in" / "anna-1.png").unlink()

    done = extract_faces([tmp_path / "in"], tmp_path / "faces", progress=vanish)
    (line,) = [line for line in done.problems if "anna-1.png" in line]
    assert "No such file" in line and "\n" not in line
    assert {Path(face.source).name for face in done.faces} >= {"ben-1.png", "anna-again.jpg"}


def test_a_notebook_shows_the_faces(extracted: Extraction) -> None:
    shown = extracted.faces._repr_html_()
    assert shown.count("<img ") == len(extracted.faces.shown())
    assert "no label: " in shown
    assert "duplicate" in shown
