"""Face detectors: where faces are, on which pictures nothing may fail, and what is said where a file is missing."""

from __future__ import annotations

import hashlib
import re
import shutil
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray

from mien.detect.base import Detection, Detector, align, crop, largest_first, suppress_contained
from mien.detect.mien import SHIPPED
from mien.detect.registry import DETECTORS, open_detector
from mien.errors import ConfigError, DataError, MissingExtra, ModelError

Picture = NDArray[np.uint8]
YUNET = "face_detection_yunet_2026may.onnx"
# Grace Hopper's face in the picture that comes with matplotlib, by eye: hairline to chin, ear to ear; eyes.
FACE, EYES = (182, 120, 170, 212), ((227, 193), (308, 195))


@pytest.fixture(scope="module")
def hopper() -> Picture:
    with get_sample_data("grace_hopper.jpg") as file:
        data = np.frombuffer(file.read(), np.uint8)
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])


@pytest.fixture(scope="module")
def yunet_file(shared: Path) -> Path:
    return shared / "models" / "yunet" / YUNET


def _detectors(shared: Path | None = None) -> list[Detector]:
    detectors = [open_detector("mien"), open_detector("haar"), open_detector("whole")]
    return [*detectors, open_detector("yunet", shared / "models" / "yunet" / YUNET)] if shared else detectors


def _turned(picture: Picture, degrees: float) -> Picture:
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, turn, (width, height)), np.uint8)


# What a detector returns


def test_a_found_face_says_what_is_wrong_with_it() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"box": (0, 0, 0, 5)}, r"width and height above 0; got \(0, 0, 0, 5\)"),
        ({"box": (0, 0, 5, float("nan"))}, "must be"),
        ({"box": (0, 0, 5)}, "must be"),
        ({"box": (0, 0, 5, 5), "score": 1.5}, "from 0 to 1, got 1.5"),
        ({"box": (0, 0, 5, 5), "landmarks": ((1.0, 2.0),) * 4}, r"five \(x, y\) points, got shape \(4, 2\)"),
    ]
    for options, message in wrong:
        with pytest.raises(DataError, match=message):
            Detection(**options)
    face = Detection((1.0, 2.0, 3.0, 4.0), 0.5)
    assert face.to_dict() == {
        "box": (1.0, 2.0, 3.0, 4.0),
        "score": 0.5,
        "landmarks": None,
        "whole": False,
        "levels": None,
        "quarter_turns": 0,
    }
    assert (face.box.width, face.box.xyxy, face.area) == (3.0, (1.0, 2.0, 4.0, 6.0), 12.0)
    with pytest.raises(AttributeError):
        face.score = 0.9  # type: ignore[misc]


def test_the_largest_comes_first_and_an_eye_inside_a_surer_face_is_dropped() -> None:
    face, eye = Detection((0, 0, 100, 100), 0.9), Detection((20, 30, 20, 20), 0.7)
    neighbour, twin = Detection((90, 0, 120, 120), 0.6), Detection((5, 5, 100, 100), 0.8)
    assert largest_first([eye, face, neighbour]) == (neighbour, face, eye)
    assert suppress_contained([eye, twin, neighbour, face]) == (neighbour, face)
    assert suppress_contained([]) == ()
    sure_eye = Detection((20, 30, 20, 20), 0.95)  # then it is the large box that is wrong
    assert suppress_contained([sure_eye, face]) == (sure_eye,)


# Haar: always there


def test_haar_finds_a_portrait_with_the_box_that_all_detectors_share(hopper: Picture) -> None:
    (face,) = open_detector("haar").detect(hopper)
    x, y, width, height = face.box
    assert width == height
    assert abs(x + width / 2 - (FACE[0] + FACE[2] / 2)) < 0.1 * FACE[3]
    assert abs(y + height / 2 - (FACE[1] + FACE[3] / 2)) < 0.1 * FACE[3]
    assert 1.0 < height / FACE[3] < 1.5  # her hat makes it large; web-faces: 0.9 to 1.1
    assert face.score is None
    assert face.landmarks is None


@pytest.mark.parametrize("width", [64, 200, 1100, 3000])
def test_haar_answers_in_pixels_of_the_picture_whatever_its_size(hopper: Picture, width: int) -> None:
    scale = width / hopper.shape[1]
    picture = cv2.resize(hopper, (width, round(hopper.shape[0] * scale)), interpolation=cv2.INTER_AREA)
    usual, scaled = open_detector("haar").detect(hopper)[0].box, open_detector("haar").detect(picture)[0].box
    np.testing.assert_allclose(np.array(scaled) / scale, usual, atol=0.1 * usual[2])


def test_grey_and_colour_give_the_same_faces(hopper: Picture) -> None:
    grey = cv2.cvtColor(hopper, cv2.COLOR_RGB2GRAY)
    expected = open_detector("haar").detect(hopper)
    assert open_detector("haar").detect(grey) == expected
    assert open_detector("haar").detect(grey[:, :, None]) == expected


def _odd_pictures() -> dict[str, Picture]:
    noise = np.random.default_rng(0).integers(0, 256, (7000, 7200), dtype=np.uint8)
    return {
        "nothing at all": np.zeros((0, 0, 3), np.uint8),
        "no rows": np.zeros((0, 9), np.uint8),
        "one pixel": np.zeros((1, 1, 3), np.uint8),
        "one grey pixel": np.zeros((1, 1), np.uint8),
        "a strip": np.zeros((3, 5000, 3), np.uint8),
        "a standing strip": np.full((40000, 20), 90, np.uint8),
        "black": np.zeros((480, 640, 3), np.uint8),
        "white": np.full((100, 100, 1), 255, np.uint8),
        "upside down in memory": np.zeros((120, 90, 3), np.uint8)[::-1, ::-1],
        "50 megapixels": noise,
    }


@pytest.mark.parametrize("name", _odd_pictures())
def test_odd_pictures_have_no_face_and_raise_nothing(name: str) -> None:
    picture = _odd_pictures()[name]
    assert open_detector("haar").detect(picture) == ()
    assert open_detector("mien").detect(picture) == ()
    whole = open_detector("whole").detect(picture)
    assert len(whole) == (1 if picture.size else 0)


@pytest.mark.shared
@pytest.mark.parametrize("name", _odd_pictures())
def test_yunet_finds_nothing_in_odd_pictures(name: str, yunet_file: Path) -> None:
    assert open_detector("yunet", yunet_file).detect(_odd_pictures()[name]) == ()


@pytest.mark.parametrize("name", ["mien", "haar"])
def test_threads_share_a_detector(hopper: Picture, name: str) -> None:
    detector = open_detector(name)
    small = np.ascontiguousarray(hopper[::2, ::2])
    pictures = [small, small[:, ::-1], small[25:225], small[:, :, 0]] * 3
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, pictures))
    assert together == [detector.detect(picture) for picture in pictures]
    assert len(together[0]) == 1


# YuNet: where its file is


@pytest.mark.shared
def test_yunet_finds_box_and_landmarks_largest_first(hopper: Picture, yunet_file: Path) -> None:
    (face,) = open_detector("yunet", yunet_file).detect(hopper)
    np.testing.assert_allclose(face.box, FACE, atol=6)
    assert face.score is not None
    assert 0.9 < face.score <= 1
    assert face.landmarks is not None
    # Her right eye is on the left of the picture.
    np.testing.assert_allclose(face.landmarks[:2], EYES, atol=6)
    points = np.array(face.landmarks)
    assert points[0, 0] < points[2, 0] < points[1, 0]
    assert points[3, 0] < points[4, 0]
    assert points[:2, 1].max() < points[2, 1] < points[3:, 1].min()


@pytest.mark.shared
@pytest.mark.parametrize("width", [32, 100, 700, 1500, 4000])
def test_yunet_finds_faces_of_every_size(hopper: Picture, yunet_file: Path, width: int) -> None:
    scale = width / hopper.shape[1]
    picture = cv2.resize(hopper, (width, round(hopper.shape[0] * scale)), interpolation=cv2.INTER_AREA)
    (face,) = open_detector("yunet", yunet_file).detect(picture)
    np.testing.assert_allclose(np.array(face.box) / scale, FACE, atol=15 if width >= 512 else 25)


@pytest.mark.shared
def test_yunet_finds_faces_that_fill_a_large_picture(shared: Path, yunet_file: Path) -> None:
    """YuNet knows faces up to about 300 px: without the smaller look it misses one in ten of these."""
    detector = open_detector("yunet", yunet_file)
    for path in sorted((shared / "data" / "web-faces" / "images").glob("*.jpg"))[::30]:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)[:, :, ::-1]
        large = cv2.resize(np.ascontiguousarray(picture), (640, 640), interpolation=cv2.INTER_LINEAR)
        assert detector.detect(large), path.name


@pytest.mark.shared
def test_yunet_looks_closer_for_a_small_face_beside_a_large_one(hopper: Picture, yunet_file: Path) -> None:
    """A picture of 1,280 px: in the usual look, at half its size, the small face has 9 px, in the closer one 17."""
    scene = np.full((1280, 1280, 3), 120, np.uint8)
    small = cv2.resize(hopper, (41, 48), interpolation=cv2.INTER_AREA)
    scene[100:148, 1000:1041] = small
    (face,) = open_detector("yunet", yunet_file).detect(scene)
    assert abs(face.box[0] + face.box[2] / 2 - 1000 - 41 * 267 / 512) < 4
    assert abs(face.box[3] - 17) < 4


@pytest.mark.shared
@pytest.mark.parametrize("short", [8, 17, 32, 33])
def test_yunet_finds_nothing_in_strips(yunet_file: Path, short: int) -> None:
    """OpenCV 4.14 answers with infinite boxes where a side is at most 32 px."""
    detector = open_detector("yunet", yunet_file)
    for level in (0, 90, 255):
        for long in (100, 300, 640, 2000):
            strip = np.full((short, long, 3), level, np.uint8)
            assert detector.detect(strip) == ()
            assert detector.detect(strip.transpose(1, 0, 2)) == ()


@pytest.mark.shared
def test_yunet_finds_a_tilted_face_that_haar_misses(hopper: Picture, yunet_file: Path) -> None:
    turned = _turned(hopper, 25)
    assert len(open_detector("yunet", yunet_file).detect(turned)) == 1
    assert open_detector("haar").detect(turned) == ()


@pytest.mark.shared
def test_yunet_threads_and_sizes_do_not_mix(hopper: Picture, yunet_file: Path) -> None:
    detector = open_detector("yunet", yunet_file)
    pictures = [hopper, hopper[::2, ::2], hopper[:, :, 0], hopper[60:400]] * 4
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, pictures))
    assert together == [detector.detect(picture) for picture in pictures]
    assert all(len(faces) == 1 for faces in together)


@pytest.mark.shared
def test_the_file_that_was_used_is_on_record(yunet_file: Path, tmp_path: Path) -> None:
    metadata = open_detector("yunet", yunet_file).metadata
    assert metadata["sha256"] == hashlib.sha256(yunet_file.read_bytes()).hexdigest()
    assert metadata["known_as"] == YUNET
    changed = tmp_path / "mine.onnx"
    changed.write_bytes(yunet_file.read_bytes().replace(b"pytorch", b"pYtorch"))
    if changed.read_bytes() != yunet_file.read_bytes():
        assert "not measured" in open_detector("yunet", changed).metadata["known_as"]


@pytest.mark.shared
def test_haar_and_yunet_boxes_agree_on_portraits(shared: Path, yunet_file: Path) -> None:
    """The same margin must cut the same crop, whichever detector is there."""
    haar, yunet = open_detector("haar"), open_detector("yunet", yunet_file)
    ratios, offsets = [], []
    for path in sorted((shared / "data" / "web-faces" / "images").glob("*.jpg"))[::40]:
        picture = np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[:, :, ::-1])
        first, second = haar.detect(picture), yunet.detect(picture)
        if first and second:
            side = max(second[0].box[2:])
            ratios.append(first[0].box[3] / side)
            centres = [np.array(f[0].box[:2]) + np.array(f[0].box[2:]) / 2 for f in (first, second)]
            offsets.append((centres[0] - centres[1]) / side)
    assert len(ratios) > 30
    assert 0.96 < np.median(ratios) < 1.04
    np.testing.assert_allclose(np.median(offsets, axis=0), 0, atol=0.03)


# Choosing a detector


def test_names_of_detectors_and_what_is_said_about_others() -> None:
    assert DETECTORS == ("auto", "mien", "yunet", "haar", "whole")
    with pytest.raises(ConfigError, match="no face detector 'mtcnn'; known: auto, mien, yunet, haar, whole"):
        open_detector("mtcnn")
    for name in ("haar", "whole"):
        with pytest.raises(ConfigError, match=f"'{name}' takes no file, got faces.onnx"):
            open_detector(name, Path("faces.onnx"))


def test_the_default_is_the_detector_that_ships_whatever_lies_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    (tmp_path / "face-detectors").mkdir()
    (tmp_path / "face-detectors" / YUNET).write_bytes(b"not asked for")
    detector = open_detector()
    assert (detector.name, detector.metadata) == ("mien", open_detector("mien").metadata)
    assert hashlib.sha256((SHIPPED / "detector.onnx").read_bytes()).hexdigest() == detector.metadata["sha256"]


def test_a_file_decides_which_detector_auto_is(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "mine")
    for named in (tmp_path / "mine", tmp_path / "mine" / "detector.onnx"):
        assert open_detector("auto", named).name == "mien"
    (tmp_path / "faces.onnx").write_bytes(b"hello")
    with pytest.raises(ModelError, match=r"faces\.onnx is not a YuNet file"):
        open_detector("auto", tmp_path / "faces.onnx")


def test_yunet_without_a_file_says_where_it_goes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"needs its file.*save {YUNET} from https://github.com/opencv"):
        open_detector("yunet")
    with pytest.raises(ModelError, match=r"cannot read the YuNet file .*no\.onnx: No such file"):
        open_detector("auto", tmp_path / "no.onnx")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08\x12\x07pytorch" * 50])
def test_a_file_that_is_not_yunet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "faces.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"faces\.onnx is not a YuNet file that OpenCV can use"):
        open_detector("yunet", tmp_path / "faces.onnx")


@pytest.mark.shared
def test_another_network_is_not_yunet(tmp_path: Path, yunet_file: Path) -> None:
    (tmp_path / "half.onnx").write_bytes(yunet_file.read_bytes()[:100_000])
    with pytest.raises(ModelError, match="is not a YuNet file"):
        open_detector("auto", tmp_path / "half.onnx")


@pytest.mark.shared
def test_yunet_takes_the_newest_file_from_the_cache(
    tmp_path: Path, yunet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    folder = tmp_path / "face-detectors"
    folder.mkdir()
    (folder / "face_detection_yunet_2023mar.onnx").write_bytes(b"an older one")
    shutil.copy(yunet_file, folder / YUNET)
    detector = open_detector("yunet")
    assert (detector.name, detector.metadata["file"]) == ("yunet", YUNET)


def test_without_cascades_the_message_says_which_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "CascadeClassifier")  # as in OpenCV 5
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    (opencv,) = (need for need in pyproject["project"]["dependencies"] if need.startswith("opencv"))
    with pytest.raises(MissingExtra, match=re.escape(f'pip install "{opencv}"')):
        open_detector("haar")


# Cutting


def test_a_crop_is_square_centred_and_exact() -> None:
    picture = np.arange(100 * 120 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 120, 3)
    np.testing.assert_array_equal(crop(picture, (30, 40, 20, 20)), picture[40:60, 30:50])
    np.testing.assert_array_equal(crop(picture, (30, 40, 10, 20)), picture[40:60, 25:45])
    np.testing.assert_array_equal(crop(picture, (30, 40, 20, 20), 2.0), picture[30:70, 20:60])
    assert crop(picture, (30, 40, 20, 20), 0.5).shape == (10, 10, 3)
    assert crop(picture, (30, 40, 0.2, 0.3)).shape == (1, 1, 3)


def test_beyond_the_picture_its_border_is_repeated() -> None:
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4)
    cut = crop(picture, (-2, -1, 4, 4))
    assert cut.shape == (4, 4, 3)
    assert cut[:, :, 0].tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [4, 4, 4, 5], [8, 8, 8, 9]]
    assert (cut == cut[:, :, :1]).all()  # grey becomes RGB with equal channels
    far = crop(picture, (100, 100, 2, 2))
    assert (far == 15).all()


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf")])
def test_a_margin_that_cuts_nothing_is_refused(margin: float) -> None:
    with pytest.raises(ConfigError, match="margin must be above 0"):
        crop(np.zeros((9, 9), np.uint8), (0, 0, 5, 5), margin)


def test_aligning_levels_the_eyes() -> None:
    """Two bright eyes on a line that falls by 20 degrees to the right of the picture."""
    picture = np.full((200, 200, 3), 50, np.uint8)
    step = 30 * np.array([np.cos(np.radians(20)), np.sin(np.radians(20))])
    right, left = np.array([100, 90]) - step, np.array([100, 90]) + step
    for (x, y), colour in ((right, (255, 0, 0)), (left, (0, 255, 0))):
        cv2.circle(picture, (round(x), round(y)), 5, colour, -1)
    eyes = ((float(right[0]), float(right[1])), (float(left[0]), float(left[1])))
    face = Detection((50, 50, 100, 100), 0.9, (*eyes, (100.0, 105.0), (85.0, 120.0), (115.0, 120.0)))
    level = align(picture, face)
    assert level.shape == (100, 100, 3)
    centres = [np.argwhere(level[:, :, channel] > 150).mean(axis=0) for channel in (0, 1)]
    assert abs(centres[0][0] - centres[1][0]) < 1  # the same height
    assert abs(centres[1][1] - centres[0][1] - 60) < 2  # the same distance, right eye on the left
    assert level.min() > 0 or level.max() == 255
    plain = Detection(face.box, 0.9)
    np.testing.assert_array_equal(align(picture, plain, 1.3), crop(picture, face.box, 1.3))


def test_level_eyes_leave_a_crop_as_it_is(hopper: Picture) -> None:
    points = ((230.0, 200.0), (300.0, 200.0), (265.0, 240.0), (230.0, 270.0), (300.0, 270.0))
    face = Detection((190.0, 120.0, 160.0, 200.0), None, points)
    difference = align(hopper, face).astype(int) - crop(hopper, face.box)
    assert np.abs(difference).mean() < 8  # at most half a pixel of shift
