"""Photographs and a film of two persons, and the face set that is made of them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien.faceset.extract import Extraction, extract_faces
from mien.faceset.table import FaceSet
from mien.images import read_image
from mien.images.canvas import write_picture
from mien.video.writer import constant_rate, encoder, suffix

SAMPLES = Path(mien.__file__).parent / "samples"


COLLINS, HOPPER = SAMPLES / "eileen-collins.jpg", SAMPLES / "grace-hopper.jpg"


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
