"""Photographs are searched closer, again and turned: real faces that the detector alone misses or takes wrongly."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien.detect.base import Box, Detection
from mien.detect.registry import open_detector
from mien.detect.search import PhotoSearch, second_look
from mien.errors import ConfigError
from mien.images import read_image
from mien.predict.results import reasons

Picture = NDArray[np.uint8]
PLAIN = PhotoSearch(second_look=False)
DETECTOR = open_detector("mien")


@pytest.fixture(scope="module")
def portrait() -> Picture:
    return read_image(Path(mien.__file__).parent / "samples" / "eileen-collins.jpg")


def middle(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def dimmed(picture: Picture, share: float) -> Picture:
    return (picture * share).astype(np.uint8)


def test_a_dark_face_is_found_and_its_crop_is_lit_up(portrait: Picture) -> None:
    dark = dimmed(portrait, 1 / 40)
    assert PLAIN(DETECTOR, dark) == ()
    (face,) = PhotoSearch()(DETECTOR, dark)
    (wanted,) = DETECTOR.detect(portrait)
    assert middle(face.box) == pytest.approx(middle(wanted.box), abs=0.1 * wanted.box.height)
    assert face.levels is not None and face.levels[1] < 8
    assert "low contrast" in reasons(face)
    bright, dull = mien.load()(portrait)[0], mien.load()(dark)[0]
    assert bright.emotion == dull.emotion == "happy"


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_face_is_found_with_its_eyes_where_they_are(portrait: Picture, turns: int) -> None:
    turned = np.ascontiguousarray(np.rot90(portrait, turns))
    (wanted,) = DETECTOR.detect(portrait)
    face = max(PhotoSearch()(DETECTOR, turned), key=lambda face: face.score or 0)
    assert wanted.landmarks is not None and face.landmarks is not None
    height, width = portrait.shape[:2]
    for before, after in zip(wanted.landmarks, face.landmarks, strict=True):
        x, y = before
        for _ in range(turns):  # np.rot90 turns anticlockwise
            x, y = y, (width if _ % 2 == 0 else height) - x
        assert (after.x, after.y) == pytest.approx((x, y), abs=0.12 * wanted.box.height)
    assert "turned" in reasons(face) and "low contrast" not in reasons(face)
    dark = max(PhotoSearch()(DETECTOR, dimmed(turned, 1 / 8)), key=lambda face: face.score or 0)
    assert {"turned", "low contrast"} <= set(reasons(dark))
    named = max(mien.load()(turned), key=lambda face: face.score or 0)
    assert named.emotion == mien.load()(portrait)[0].emotion == "happy"


def test_what_was_found_at_once_stays_as_it_was(portrait: Picture) -> None:
    assert PhotoSearch()(DETECTOR, portrait) == PLAIN(DETECTOR, portrait) == DETECTOR.detect(portrait)


def test_nothing_stays_nothing() -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (200, 300))
    for picture in (
        np.ascontiguousarray(ramp),
        np.zeros((200, 200, 3), np.uint8),
        np.full((7, 900), 9, np.uint8),
    ):
        assert second_look(DETECTOR, picture) == ()


def test_small_faces_of_a_large_picture_are_found_tile_by_tile(portrait: Picture) -> None:
    """Faces 30 pixels high in a picture of 4,000: below what one look at 1280 pixels can see."""
    scale = 30 / DETECTOR.detect(portrait)[0].box.height
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    scene = np.full((3000, 4000, 3), 90, np.uint8)
    places = [(0, 0), (1250, 600), (3700, 2700), (2000, 1500)]  # also where tiles meet
    for x, y in places:
        scene[y : y + small.shape[0], x : x + small.shape[1]] = small
    assert PhotoSearch().coarse(DETECTOR, scene) and not PhotoSearch(detect_size=4000).coarse(DETECTOR, scene)
    found = PhotoSearch(detect_size=4000)(DETECTOR, scene)
    assert len(found) == len(places) > len(PLAIN(DETECTOR, scene))
    wanted = DETECTOR.detect(portrait)[0].box
    for x, y in places:
        centre = (x + scale * middle(wanted)[0], y + scale * middle(wanted)[1])
        assert any(np.hypot(*np.subtract(middle(face.box), centre)) < 8 for face in found), (x, y)


def test_a_whole_picture_says_whether_it_looks_like_a_face(portrait: Picture) -> None:
    whole = open_detector("whole")
    (wanted,) = DETECTOR.detect(portrait)
    x, y, width, height = (round(value) for value in wanted.box)
    cut = np.ascontiguousarray(portrait[y : y + height, x : x + width])
    (face,) = PhotoSearch()(whole, cut)
    (none,) = PhotoSearch()(whole, np.zeros((64, 64, 3), np.uint8))
    assert face.score is not None and face.score > 0.5 and "no face?" not in reasons(face)
    assert reasons(none) == ("no face?",)
    (named,) = mien.load(detector="whole").analyze(np.zeros((48, 48), np.uint8))
    assert named.uncertain and named.reasons == ("no face?",)
    # One that lies on its side or on its head is turned first, and says so.
    analyzer = mien.load(detector="whole")
    for turns in (1, 2, 3):
        (lying,) = analyzer.analyze(np.ascontiguousarray(np.rot90(cut, turns)))
        assert lying.reasons == ("turned",)
        assert lying.probabilities == analyzer.analyze(cut)[0].probabilities


def test_faces_can_be_left_out_by_size_and_score(portrait: Picture) -> None:
    (face,) = PLAIN(DETECTOR, portrait)
    assert face.score is not None
    assert PhotoSearch(min_face=face.box.height + 1)(DETECTOR, portrait) == ()
    assert PhotoSearch(min_score=face.score + 0.01)(DETECTOR, portrait) == ()
    assert PhotoSearch(min_face=face.box.height - 1, min_score=face.score - 0.01)(DETECTOR, portrait) == (
        face,
    )
    for wrong in ({"detect_size": 10}, {"min_face": -1.0}, {"min_score": 1.5}):
        with pytest.raises(ConfigError):
            PhotoSearch(**wrong)  # type: ignore[arg-type]


def test_reasons_speak_of_small_and_unsure_faces() -> None:
    assert reasons(Detection(Box(0, 0, 20, 22), 0.9)) == ("small",)
    assert reasons(Detection(Box(0, 0, 60, 62), 0.45)) == ("unsure",)
    assert reasons(Detection(Box(0, 0, 60, 62), 0.9)) == ()
