"""From photographs and films to a face set: what is found, what is set aside, what a second run keeps."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien.cli.main import main
from mien.data import DataConfig, open_dataset
from mien.data.decisions import digests_of
from mien.detect.base import Box, Detection
from mien.detect.registry import open_detector
from mien.errors import ConfigError, DataError, OutputError
from mien.faceset import extract
from mien.faceset.crops import write_crop
from mien.faceset.extract import Extraction, extract_faces
from mien.faceset.row import COLUMNS
from mien.faceset.settings import FacesConfig
from mien.faceset.sources import shared_groups
from mien.faceset.table import FaceSet
from mien.images import read_image
from mien.images.canvas import write_picture
from mien.video.writer import constant_rate, encoder, suffix

from ..video.video_files import write_video

SAMPLES = Path(mien.__file__).parent / "samples"
COLLINS, HOPPER = SAMPLES / "eileen-collins.jpg", SAMPLES / "grace-hopper.jpg"
DOCS = Path(__file__).parents[2] / "docs" / "face-sets.md"
Picture = NDArray[np.uint8]


def picture(path: Path, longer: int = 360) -> Picture:
    image = read_image(path)
    scale = longer / max(image.shape[:2])
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def beside(*pictures: Picture) -> Picture:
    height = min(one.shape[0] for one in pictures)
    return np.ascontiguousarray(np.hstack([one[:height] for one in pictures]))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two persons, one of them smaller and saved again, a group, a blurred one, one without a face, and rubbish."""
    folder = tmp_path_factory.mktemp("photos")
    one, two = picture(COLLINS), picture(HOPPER)
    write_picture(folder / "anna-1.png", one)
    write_picture(folder / "ben-1.png", two)
    write_picture(folder / "below" / "anna-again.jpg", picture(COLLINS, 200))
    write_picture(folder / "group.png", beside(one[:, ::-1], np.full_like(one, 120), two))
    write_picture(folder / "blurred.png", np.asarray(cv2.GaussianBlur(two, (0, 0), 6), np.uint8))
    write_picture(folder / "sky.png", np.full((200, 300, 3), (90, 140, 220), np.uint8))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (folder / "notes.txt").write_text("no picture either")
    return folder


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shots: one person moving, blurred for half a second; two at once; nobody."""
    path = tmp_path_factory.mktemp("film") / f"talk{suffix()}"
    one, two = picture(COLLINS, 320), picture(HOPPER, 320)
    height, width = 320, 640
    out = encoder(path, (width, height), constant_rate(30.0))

    def scene(*placed: tuple[Picture, int]) -> Picture:
        frame = np.full((height, width, 3), 110, np.uint8)
        for image, left in placed:
            part = image[:height, : width - left]
            frame[: part.shape[0], left : left + part.shape[1]] = part
        return frame

    for number in range(75):
        frame = scene((one, 2 * number))
        blurred = np.asarray(cv2.GaussianBlur(frame, (0, 0), 7), np.uint8)
        out.write(blurred if 30 <= number < 45 else frame)
    for _ in range(30):
        out.write(scene((two, 0), (one, 330)))
    for _ in range(6):
        out.write(np.full((height, width, 3), 30, np.uint8))
    out.close()
    return path


@pytest.fixture(scope="session")
def extracted(photos: Path, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Extraction:
    return extract_faces([photos, film], tmp_path_factory.mktemp("set") / "faces", spacing=0.5)


@pytest.fixture
def faces(extracted: Extraction, tmp_path: Path) -> Path:
    """A copy of the face set, to be changed."""
    shutil.copytree(extracted.faces.folder, tmp_path / "faces")
    return tmp_path / "faces"


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def of(found: FaceSet, name: str) -> list[str]:
    """Return the statuses of the faces of a source, in order."""
    return [face.status for face in found if Path(face.source).name == name]


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
    extract_faces([photos], tmp_path / "faces", per_track=2)
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


class Counting:
    """The shipped detector, which counts the frames that it is given, and is killed at one of them."""

    def __init__(self, dies_at: int = -1) -> None:
        self._detector = open_detector("mien", None)
        self.name, self.searches, self.metadata = self._detector.name, True, self._detector.metadata
        self.count, self._dies_at = 0, dies_at

    def detect(self, image: Picture) -> tuple[Detection, ...]:
        self.count += 1
        if self.count == self._dies_at:
            raise KeyboardInterrupt
        return self._detector.detect(image)


def test_a_film_goes_on_where_the_run_was_killed(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the search, then while crops are written: no frame is searched twice, and the same faces come."""
    whole = Counting()
    wanted = extract_faces([film], tmp_path / "whole" / "faces", detector=whole, spacing=0.5)
    killed = Counting(dies_at=9)
    folder = tmp_path / "killed" / "faces"
    with pytest.raises(KeyboardInterrupt):
        extract_faces([film], folder, detector=killed, spacing=0.5)
    (log,) = folder.glob(".search-*.jsonl")
    kept = log.read_text(encoding="utf-8")
    log.write_text(f"{kept}[17, [[[1.0", encoding="utf-8")  # a line that was cut off
    second = Counting()
    written: list[str] = []

    def dying(*parts: Any) -> None:
        written.append(parts[1].id)
        if len(written) == 2:
            raise KeyboardInterrupt
        write_crop(*parts)

    monkeypatch.setattr(extract, "write_crop", dying)
    with pytest.raises(KeyboardInterrupt):
        extract_faces([film], folder, detector=second, spacing=0.5)
    assert second.count == whole.count - (len(kept.splitlines()) - 1)
    monkeypatch.undo()
    third = Counting()
    done = extract_faces([film], folder, detector=third, spacing=0.5)
    assert third.count == 0
    assert [face.cells() for face in done.faces] == [face.cells() for face in wanted.faces]
    for name in ("faces.csv", "sources.csv"):
        assert (folder / name).read_bytes() == (wanted.faces.folder / name).read_bytes()
    crops, others = (hashes(one / "crops") for one in (folder, wanted.faces.folder))
    assert {Path(name).name: what for name, what in crops.items()} == {
        Path(name).name: what for name, what in others.items()
    }
    assert not list(folder.glob(".search-*")), "nothing is left of it"


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed without warning in the middle, it leaves nothing half written, and the next run ends as one run would."""
    many = tmp_path / "many"
    base = picture(COLLINS, 300)
    for number in range(40):
        write_picture(many / f"{number}.png", np.ascontiguousarray(base[: 200 + number]))
    command = [sys.executable, "-m", "mien.cli.main", "faces", str(many), "--to", str(tmp_path / "faces")]
    begun = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    crops = tmp_path / "faces" / "crops"
    until = time.monotonic() + 60
    while time.monotonic() < until and (not crops.is_dir() or len(list(crops.glob("*.png"))) < 5):
        time.sleep(0.02)
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    done = extract_faces([many], tmp_path / "faces")
    fresh = extract_faces([many], tmp_path / "fresh")
    assert done.faces.faces == fresh.faces.faces
    assert len(done.faces) == 40
    for face in done.faces:
        assert read_image(done.faces.crop_path(face)).shape[2] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs the limits of a POSIX shell")
def test_a_full_disk_leaves_nothing_that_the_next_run_trips_over(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mien.cli.main", "faces", str(photos), "--to", str(tmp_path / "faces")]
    full = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command], capture_output=True, text=True, check=False
    )
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].startswith(f"mien: cannot write {tmp_path / 'faces'}")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "neither a half file nor a lock"
    (tmp_path / "faces" / ".lock").touch()  # of one that was killed before it had written anything
    assert len(extract_faces([photos], tmp_path / "faces").faces) == 6


def test_a_stopped_run_keeps_what_is_done(photos: Path, tmp_path: Path) -> None:
    def stop(_: str, done: int, __: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_faces([photos], tmp_path / "faces", progress=stop)
    assert len(FaceSet.open(tmp_path / "faces")) >= 1
    again = extract_faces([photos], tmp_path / "faces")
    assert again.known in {2, 3}  # the broken one is tried again
    assert len(again.faces) == 6


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_what_predict_wrote_gives_a_crop_per_row(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / f"answers.{form}"
    if form == "parquet":
        pytest.importorskip("pyarrow")
        main(["predict", str(photos), "--parquet", str(table)])
    else:
        main(["predict", str(photos), f"--{form}"])
        table.write_text(capsys.readouterr().out, encoding="utf-8")
    done = extract_faces([table], tmp_path / "faces")
    assert len(done.faces) == 6
    assert of(done.faces, "group.png") == ["duplicate", "duplicate"]
    assert any("1 row without a face" in note for note in done.notes)
    assert any("1 row whose picture could not be read" in note for note in done.notes)
    assert all(face.label == "" for face in done.faces)  # a prediction is no label
    searched = extract_faces([photos], tmp_path / "searched").faces
    for face in searched:
        assert any(
            np.abs(np.array(other.box) - np.array(face.box)).max() < 0.06
            for other in done.faces
            if other.source == face.source and other.box and face.box
        )


def test_what_video_wrote_gives_faces_of_each_track(film: Path, tmp_path: Path) -> None:
    assert main(["video", str(film), "--no-video", "--jsonl", "--to", str(tmp_path / "talk-faces")]) == 0
    lone = tmp_path / "talk-faces" / "talk-faces.csv"
    with pytest.raises(DataError, match="--film FILE"):
        extract_faces([lone], tmp_path / "faces")
    for name in ("talk-faces.csv", "talk-faces.jsonl"):
        done = extract_faces([tmp_path / "talk-faces" / name], tmp_path / name, film=film, spacing=0.5)
        assert {face.track for face in done.faces} == {1, 2, 3}
        assert {Path(face.source).name for face in done.faces} == {film.name}
        assert len(done.faces) < 20


def test_a_table_of_video_is_of_its_own_film_and_not_of_another_of_its_name(
    film: Path, tmp_path: Path
) -> None:
    """talk.day-1.avi lies beside, whose frames are others; a table without its timeline goes by the name."""
    own = shutil.copy(film, tmp_path / f"talk.day-1{film.suffix}")
    assert main(["video", str(own), "--no-video", "--to", str(tmp_path / "results")]) == 0
    table = tmp_path / "results" / "talk.day-1-faces.csv"
    other = write_video(tmp_path / "talk.day-1.avi", [np.zeros((64, 64, 3), np.uint8)] * 5, code="MJPG")
    done = extract_faces([table], tmp_path / "faces", spacing=0.5)
    assert {Path(face.source).name for face in done.faces} == {own.name}
    own.unlink()
    with pytest.raises(DataError, match=re.escape(own.name)):
        extract_faces([table], tmp_path / "more")
    (tmp_path / "results" / "talk.day-1-timeline.png").unlink()
    own.with_suffix(".mkv").write_bytes(film.read_bytes())
    other.unlink()
    done = extract_faces([table], tmp_path / "more", spacing=0.5)
    assert {Path(face.source).name for face in done.faces} == {"talk.day-1.mkv"}


def test_wrong_rows_of_a_table_are_named_and_counted(tmp_path: Path) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    rows = [f"a.jpg,{x},100,200,200" for x in (100, "left", -5000)] + ["gone.jpg,1,1,20,20", ",1,1,20,20"]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,x,y,width,height", *rows]), encoding="utf-8")
    done = extract_faces([tmp_path / "boxes.csv"], tmp_path / "faces")
    assert [face.box for face in done.faces] == [Box(100, 100, 200, 200)]
    assert len(done.problems) == 4
    parts = (
        "row 3: its box is",
        "row 6: it names no picture",
        "gone.jpg cannot be opened",
        "1 of its boxes lie out",
    )
    for part in parts:
        assert any(part in line for line in done.problems), (part, done.problems)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("path,xmin,ymin,xmax,ymax\na.jpg,100,90,300,290\n", Box(100, 90, 200, 200)),
        ("Image;x1;y1;x2;y2\na.jpg;100;90;300;290\n", Box(100, 90, 200, 200)),
        ("filename,bbox_x,bbox_y,bbox_w,bbox_h\na.jpg,100,90,200,210\n", Box(100, 90, 200, 210)),
    ],
)
def test_boxes_under_the_names_that_tables_have(tmp_path: Path, text: str, box: Box) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    done = extract_faces([tmp_path / "boxes.csv"], tmp_path / "faces")
    assert [face.box for face in done.faces] == [box] and not done.problems


def test_boxes_in_shares_and_addresses_are_named(tmp_path: Path) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    rows = ["a.jpg,100,100,200,200", "a.jpg,0.1,0.2,0.5,0.5", "https://a.org/b.jpg,1,1,90,90"]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,x,y,width,height", *rows]), encoding="utf-8")
    done = extract_faces([tmp_path / "boxes.csv"], tmp_path / "faces")
    assert len(done.faces) == 1 and len(done.problems) == 2
    assert "row 3: its box is ['0.1', '0.2', '0.5', '0.5'], shares of the picture's size" in done.problems[0]
    assert "row 4: it names an address, and mien fetches nothing" in done.problems[1]


def test_a_box_that_is_no_list_is_named(tmp_path: Path) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    (tmp_path / "boxes.json").write_text(
        '[{"path": "a.jpg", "faces": [5, [100, 100, 200, 200]]}]', encoding="utf-8"
    )
    done = extract_faces([tmp_path / "boxes.json"], tmp_path / "faces")
    assert [face.box for face in done.faces] == [Box(100, 100, 200, 200)]
    assert done.problems == ("boxes.json row 1: its box is 5; four numbers are needed; mend or delete it",)


def test_labels_of_a_table_are_said_not_to_be_taken_over(tmp_path: Path) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    shutil.copy(HOPPER, tmp_path / "b.jpg")
    (tmp_path / "list.csv").write_text("a.jpg,happy\nb.jpg,sad\n", encoding="utf-8")
    done = extract_faces([tmp_path / "list.csv"], tmp_path / "faces")
    assert len(done.faces) == 2 and not any(face.label for face in done.faces)
    assert any(
        "list.csv: its labels (label) are not taken over; --label takes" in note for note in done.notes
    )


def test_pictures_that_are_faces_are_taken_whole(tmp_path: Path) -> None:
    crop = picture(COLLINS)[20:250, 90:260]
    write_picture(tmp_path / "in" / "a.png", crop)
    done = extract_faces([tmp_path / "in"], tmp_path / "faces", detector="whole")
    (face,) = done.faces
    assert face.margin is None
    assert np.array_equal(read_image(done.faces.crop_path(face)), crop)
    assert face.in_crop(230).whole


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
    assert any("match nothing of --group" in note for note in done.notes)


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


def test_a_photograph_and_its_table_are_one_and_a_wrong_unit_takes_no_memory(tmp_path: Path) -> None:
    shutil.copy(HOPPER, tmp_path / "a.jpg")
    box = mien.load()(tmp_path / "a.jpg")[0].box
    lines = ["path,x,y,width,height", "a.jpg," + ",".join(map(str, box)), "a.jpg,-9000,-9000,18400,18400"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    for paths in ([tmp_path / "a.jpg", tmp_path / "boxes.csv"], [tmp_path / "boxes.csv", tmp_path]):
        done = extract_faces(paths, tmp_path / "faces")
        assert len(done.faces) == 1 and done.photographs + done.known == 1
    assert any(
        "1 of its boxes lie outside of it or are far larger" in line
        for line in extract_faces(tmp_path / "boxes.csv", tmp_path / "other").problems
    )


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
    for again in (tmp_path / "faces", tmp_path / "faces" / "faces.csv"):
        with pytest.raises(DataError, match="is a face set already"):
            extract_faces([again], tmp_path / "other")


def test_answers_that_are_called_faces_csv_are_no_face_set(photos: Path, tmp_path: Path) -> None:
    """The README writes them with `mien predict photos --csv > faces.csv`, perhaps into the photographs' folder."""
    whole = extract_faces([photos], tmp_path / "whole").faces
    table = photos / "faces.csv"
    table.write_text(
        f"path,face,emotion,x,y,width,height\n{photos / 'ben-1.png'},1,happy,20,20,60,60\n", encoding="utf-8"
    )
    (told,) = extract_faces([table], tmp_path / "told").faces
    assert told.box == (20, 20, 60, 60)
    assert [face.id for face in extract_faces([photos], tmp_path / "again").faces] == [
        face.id for face in whole
    ]


def test_two_runs_at_once_on_one_folder_are_refused(photos: Path, tmp_path: Path) -> None:
    def again(*_: object) -> None:
        with pytest.raises(ConfigError, match=r"being filled with faces by another process.*--to"):
            extract_faces([photos / "ben-1.png"], tmp_path / "faces")

    extract_faces([photos / "anna-1.png"], tmp_path / "faces", progress=again)


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


def test_a_notebook_shows_the_faces(extracted: Extraction) -> None:
    shown = extracted.faces._repr_html_()
    assert shown.count("<img ") == len(extracted.faces.shown())
    assert "no label: " in shown
    assert "duplicate" in shown


def test_the_documentation_has_every_column() -> None:
    rows = ["| column | holds | meaning |", "|---|---|---|"]
    rows += [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in COLUMNS]
    assert "\n".join(rows) in DOCS.read_text(encoding="utf-8")
