"""What is measured of a face: sharpness, likeness, and whether it repeats another one."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien.detect.base import Box
from mien.detect.registry import open_detector
from mien.faceset.crops import (
    Copies,
    Cut,
    cut_out,
    likeness,
    row_of,
    sharpness,
    status_of,
    thumbnail,
    write_crop,
)
from mien.faceset.row import FaceRow
from mien.faceset.settings import FacesConfig
from mien.faceset.table import FaceSet
from mien.images import read_image

SAMPLES = Path(mien.__file__).parent / "samples"
CONFIG = FacesConfig()
Picture = NDArray[np.uint8]


def resized(picture: Picture, scale: float) -> Picture:
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.fixture(scope="module")
def collins() -> tuple[Picture, Box]:
    picture = read_image(SAMPLES / "eileen-collins.jpg")
    return picture, open_detector().detect(picture)[0].box


def test_sharpness_sees_blur_and_not_size_or_light(collins: tuple[Picture, Box]) -> None:
    picture, box = collins
    sharp = sharpness(picture, box)
    smaller = sharpness(resized(picture, 0.7), Box(*(0.7 * side for side in box)))
    dark = sharpness((picture * 0.4).astype(np.uint8), box)
    assert smaller == pytest.approx(sharp, rel=0.5)
    assert dark == pytest.approx(sharp, rel=0.1)
    values = [
        sharpness(np.asarray(cv2.GaussianBlur(picture, (0, 0), share * max(box[2:])), np.uint8), box)
        for share in (0.01, 0.02, 0.04)
    ]
    assert sharp > values[0] > values[1] > values[2]
    assert values[2] < CONFIG.min_sharpness < sharp


def test_what_is_set_aside_and_why() -> None:
    assert status_of(100, 0.9, "", 200, CONFIG) == ""
    assert status_of(31, 0.9, "", 200, CONFIG) == "tiny"
    assert status_of(100, 0.4, "", 200, CONFIG) == "doubtful"
    assert status_of(100, None, "no-face?", 200, CONFIG) == "doubtful"
    assert status_of(100, 0.9, "turned", 19, CONFIG) == "blurred"


def test_grey_and_colour_pictures_are_cut_alike(collins: tuple[Picture, Box]) -> None:
    picture, _ = collins
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    face = open_detector().detect(picture)[0]
    assert cut_out(grey, face, CONFIG).image.ndim == 2
    assert np.array_equal(
        cut_out(grey, face, CONFIG).thumbnail, cut_out(grey[:, :, None], face, CONFIG).thumbnail
    )
    large = cut_out(np.asarray(cv2.resize(picture, None, fx=3, fy=3), np.uint8), face, CONFIG)
    assert large.image.shape[0] <= CONFIG.crop_size


@pytest.mark.shared
def test_another_expression_is_no_copy_and_another_file_is_one(shared: Path, tmp_path: Path) -> None:
    """Of films in which one face begins to smile: the neutral frame again, smaller, mirrored; and the smiling one."""
    films = shared / "data" / "morphs"
    with (films / "truth.csv").open(newline="") as file:
        smiles = [(row["file"], int(row["frame"]), float(row["smile"])) for row in csv.DictReader(file)]
    detector = open_detector()
    for film in ("002.mp4", "004.mp4", "019.mp4"):
        wanted = {smile: frame for name, frame, smile in reversed(smiles) if name == film and smile in (0, 1)}
        capture = cv2.VideoCapture(str(films / film))
        frames = [capture.read()[1] for _ in range(max(wanted.values()) + 1)]
        neutral, smiling = (np.ascontiguousarray(frames[wanted[smile]][:, :, ::-1]) for smile in (0.0, 1.0))
        cuts = {}
        for name, picture in {
            "neutral": neutral,
            "smaller": resized(neutral, 0.5),
            "mirrored": np.ascontiguousarray(neutral[:, ::-1]),
            "smiling": smiling,
        }.items():
            cuts[name] = cut_out(picture, detector.detect(picture)[0], CONFIG)
        faces = FaceSet.open(tmp_path / film, create=True)
        row = row_of(cuts["neutral"], "0123456789ab", film, film, CONFIG)
        faces.add([row])
        write_crop(faces.folder, row, cuts["neutral"])
        copies = Copies(faces)
        found = {name: copies.original(cut.thumbnail) for name, cut in cuts.items()}
        assert found == {"neutral": row.id, "smaller": row.id, "mirrored": row.id, "smiling": ""}, film
        calm, smile = (likeness(one, detector.detect(one)[0]) for one in (neutral, smiling))
        assert calm @ calm == pytest.approx(1, abs=1e-4)
        assert calm @ smile < 0.96


def with_one_face(folder: Path, picture: Picture) -> tuple[FaceSet, FaceRow, Cut]:
    """Return a new face set with the face of a picture, its row and its crop."""
    cut = cut_out(picture, open_detector().detect(picture)[0], CONFIG)
    faces = FaceSet.open(folder, create=True)
    row = row_of(cut, "0123456789ab", "a.jpg", "a.jpg", CONFIG)
    faces.add([row])
    write_crop(folder, row, cut)
    return faces, row, cut


def test_hashes_are_made_again_from_the_crops(tmp_path: Path, collins: tuple[Picture, Box]) -> None:
    faces, row, cut = with_one_face(tmp_path, collins[0])
    Copies(faces).save()
    assert Copies(faces).original(cut.thumbnail) == row.id
    (tmp_path / "hashes.npz").write_bytes(b"damaged")
    assert Copies(faces).original(cut.thumbnail) == row.id
    (tmp_path / row.file).unlink()
    assert Copies(faces).original(cut.thumbnail) == ""  # a crop that is gone repeats nothing
    assert np.array_equal(thumbnail(cut.image, cut.margin), cut.thumbnail)


def test_a_face_that_somebody_took_out_of_the_table_meanwhile_is_repeated_by_none(
    tmp_path: Path, collins: tuple[Picture, Box]
) -> None:
    faces, row, cut = with_one_face(tmp_path, collins[0])
    faces.write()
    copies = Copies(faces)
    header, *_ = (tmp_path / "faces.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "faces.csv").write_text(header, encoding="utf-8")
    faces.write()
    assert (row.id in faces, copies.original(cut.thumbnail)) == (False, "")
