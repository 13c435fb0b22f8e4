"""What is shown of a face: the frame of a film in which it was found, and its photograph."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import mien
from mien.detect.base import Box, tilt_degrees
from mien.detect.registry import open_detector
from mien.errors import DataError, ImageError
from mien.faceset.extract import extract_faces
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet
from mien.images import read_image
from mien.images.canvas import write_picture
from mien.images.decode import decode_image
from mien.label.pictures import Pictures
from mien.video.reader import open_video

from ..video.video_files import write_video


@pytest.mark.parametrize(("name", "code"), [("film.mp4", "mp4v"), ("film.avi", "MJPG")])
def test_the_frame_at_a_time(tmp_path: Path, name: str, code: str) -> None:
    levels = [40 + 6 * number for number in range(30)]
    film = write_video(
        tmp_path / name, [np.full((48, 64, 3), level, np.uint8) for level in levels], 10.0, code
    )
    with open_video(film) as video:
        seen = [(frame.time_s, float(frame.image.mean())) for frame in video.frames()]
    faces = FaceSet(tmp_path)
    pictures = Pictures()
    for time_s, level in seen[::7]:
        face = FaceRow(id="a", file="a.png", source=name, time_s=time_s, box=Box(16, 12, 32, 24))
        data, box = pictures.photograph(faces, face)
        assert decode_image(data, "shown").mean() == pytest.approx(level, abs=1.5)
        assert box == (0.25, 0.25, 0.5, 0.5)
    with pytest.raises(DataError, match=rf"{name} cannot be shown at 99.0 s; the crop is all there is"):
        pictures.photograph(faces, FaceRow(id="a", file="a.png", source=name, time_s=99.0))
    with open_video(film) as video, pytest.raises(ImageError, match=r"has no frame at 99\.0 s"):
        video.at(99.0)
    pictures.close()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_lying_face_is_shown_upright(tmp_path: Path, turns: int) -> None:
    """A photograph that lies on its side, or on its head, is found, cut out, and shown as people look at it."""
    portrait = read_image(Path(mien.__file__).parent / "samples" / "grace-hopper.jpg")
    write_picture(tmp_path / "lying.png", np.ascontiguousarray(np.rot90(portrait, turns)))
    faces = extract_faces([tmp_path / "lying.png"], tmp_path / "faces").faces
    (face,) = faces
    pictures = Pictures()
    shown = decode_image(pictures.crop(faces, face), "shown")
    small = pictures.small(faces, [face], 96)
    pictures.close()
    for image in (shown, decode_image(small[4:], "small")):
        (seen,) = open_detector("mien").detect(image)
        assert seen.landmarks is not None
        assert abs(tilt_degrees(seen.landmarks)) < 20


def test_what_has_changed_since_is_said(tmp_path: Path) -> None:
    write_picture(tmp_path / "p.png", np.zeros((48, 64, 3), np.uint8))
    pictures, faces = Pictures(), FaceSet(tmp_path)
    for source, line in (
        ("p.png", r"p\.png has changed since its faces were found \(it is 64x48 now\)"),
        ("", "does not say which photograph"),
        ("q.png", r"q\.png is not where it was"),
    ):
        with pytest.raises(DataError, match=line):
            pictures.photograph(faces, FaceRow(id="a", file="a.png", source=source, box=Box(200, 10, 20, 20)))
    pictures.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes as a name")
def test_a_photograph_whose_name_is_no_text_is_shown(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    (tmp_path / "in").mkdir()
    portrait = Path(mien.__file__).parent / "samples" / "eileen-collins.jpg"
    shutil.copy(portrait, tmp_path / "in" / name)
    faces = extract_faces([tmp_path / "in"], tmp_path / "faces").faces
    (face,) = FaceSet.open(tmp_path / "faces").faces
    assert face.source == "../in/caf\\xe9 \\xff.jpg"
    assert faces.source_path(face) == tmp_path / "faces" / ".." / "in" / name
    pictures = Pictures()
    data, box = pictures.photograph(faces, face)
    pictures.close()
    assert data.startswith(b"\xff\xd8") and 0 < box[0] < 0.5
    (tmp_path / "in" / "caf\\xe9 \\xff.jpg").touch()  # a name that is meant as it stands
    assert faces.source_path(face) == tmp_path / "faces" / face.source
