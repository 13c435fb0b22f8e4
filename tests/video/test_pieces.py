"""A video in pieces: what all of them say together is what the analysis of the whole video says."""

from __future__ import annotations

import json
from io import BufferedReader
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mien
from mien.detect.registry import open_detector
from mien.errors import ImageError
from mien.images import read_image
from mien.model.classifier import Classifier
from mien.predict.analyzer import Analyzer
from mien.video import pieces
from mien.video.analyze import VideoSettings, analyze_video

from ..model.tiny_onnx import write_folder
from .video_files import Squares, scene, write_video

SETTINGS = VideoSettings()


@pytest.fixture
def analyzer(tmp_path: Path) -> Analyzer:
    return Analyzer(Classifier(write_folder(tmp_path / "tiny", tells_cover=True)), Squares())


def film(path: Path, shots: list[int], code: str = "MJPG") -> Path:
    """Write shots of so many frames, at 30 a second: two squares that move, each shot before another wall."""
    frames = []
    for shot, count in enumerate(shots):
        for n in range(count):
            frame = scene([(4 + 3 * n % 60, 8 + shot % 5, 70), (120 - 2 * n % 50, 60, 220)])
            frame[..., 1] = 60 * (shot % 4)  # the detector sees the first colour alone
            frames.append(frame)
    return write_video(path, frames, 30, code)


def through_json(plain: Any) -> Any:
    return json.loads(json.dumps(plain))


def looked(path: Path, plan: pieces.Outline, analyzer: Analyzer) -> list[Any]:
    count = len(plan.firsts)
    return [through_json(pieces.look(path, plan, number, analyzer, SETTINGS)) for number in range(count)]


def in_pieces(path: Path, plan: pieces.Outline, analyzer: Analyzer) -> list[dict[str, Any]]:
    looks = looked(path, plan, analyzer)
    wanted = through_json(pieces.wanted(plan, looks, SETTINGS))
    named = [pieces.name(path, plan, number, faces, analyzer) for number, faces in enumerate(wanted)]
    shares = (row for one in through_json(named) for row in one)
    return [frame.to_dict() for frame in pieces.answers(plan, looks, shares, analyzer, SETTINGS)]


@pytest.mark.parametrize("length", [4, 5, 6, 7, 40])
def test_pieces_say_what_the_whole_says_wherever_a_cut_is(
    tmp_path: Path, analyzer: Analyzer, length: int
) -> None:
    path = film(tmp_path / "a.avi", [6, 5, 1, 7, 2, 2, 8, 1, 1, 4, 3, 9])
    truth = [frame.to_dict() for frame in analyze_video(path, analyzer)]
    assert len({face["track"] for frame in truth for face in frame["faces"]}) > 10  # the cuts are found
    plan = pieces.outline(path, length / 30 - 1e-4)
    assert plan.firsts == tuple(range(0, 49, length))
    assert in_pieces(path, plan, analyzer) == truth


def test_a_frame_that_is_said_to_be_a_face_is_asked_as_a_photograph_is(tmp_path: Path) -> None:
    portrait = read_image(Path(mien.__file__).parent / "samples" / "eileen-collins.jpg")
    face = cv2.resize(portrait[50:190, 155:295], (660, 660), interpolation=cv2.INTER_LINEAR)
    lying = np.ascontiguousarray(face[::-1, ::-1])
    path = write_video(tmp_path / "film.avi", [lying, np.full_like(face, 90), lying], 30, "MJPG")
    whole = Analyzer(Classifier(write_folder(tmp_path / "tiny")), open_detector("whole"))
    frames = list(analyze_video(path, whole, VideoSettings(stride=1, smoothing=False)))
    said = [seen.face.reasons for frame in frames for seen in frame.faces]
    assert said == [("turned",), ("no face?",), ("turned",)]
    for frame in frames:
        (seen,), (wanted,) = frame.faces, whole.analyze(frame.image)
        assert seen.face == wanted
    # Also between two keyframes, and by way of JSON.
    between = list(analyze_video(path, whole, SETTINGS))
    assert between[1].faces[0].interpolated and between[1].faces[0].face.reasons == ("turned",)
    assert between[1].faces[0].raw == frames[1].faces[0].raw
    assert in_pieces(path, pieces.outline(path), whole) == [frame.to_dict() for frame in between]


def test_a_file_is_cut_where_a_decoder_can_begin(tmp_path: Path, analyzer: Analyzer) -> None:
    path = film(tmp_path / "a.mp4", [40, 33], "mp4v")  # a keyframe in twelve
    plan = pieces.outline(path, 0.5)
    assert plan.firsts == (0, 24, 40, 64)  # and at the cut
    truth = [frame.to_dict() for frame in analyze_video(path, analyzer)]
    assert in_pieces(path, plan, analyzer) == truth
    assert in_pieces(path, plan.whole(), analyzer) == truth
    assert pieces.outline(path).firsts == (0,)
    with path.open("rb") as stream:
        assert isinstance(stream, BufferedReader)
        assert pieces.outline(path, 0.5, stream) == plan
        here = pieces.look(path, plan, 2, analyzer, SETTINGS)
        assert pieces.look(Path("elsewhere"), plan, 2, analyzer, SETTINGS, stream=stream) == here


def test_pieces_that_do_not_fit_are_told(tmp_path: Path, analyzer: Analyzer) -> None:
    path = film(tmp_path / "a.mp4", [40, 33], "mp4v")
    plan = pieces.outline(path, 0.5)
    looks = looked(path, plan, analyzer)
    others = through_json(looks)
    others[1]["seam"][0] += 1
    with pytest.raises(pieces.NotAlike, match="are not alike there"):
        pieces.wanted(plan, others, SETTINGS)
    others = through_json(looks)
    del others[1]["faces"]["4"]
    with pytest.raises(pieces.NotAlike, match="nobody has looked"):
        pieces.wanted(plan, others, SETTINGS)
    shorter = film(tmp_path / "b.mp4", [30], "mp4v")
    with pytest.raises(pieces.NotAlike):
        pieces.look(shorter, plan, 1, analyzer, SETTINGS)
    faces = pieces.wanted(plan, looks, SETTINGS)[2]
    with pytest.raises(pieces.NotAlike, match=r"cannot be read from|has other frames"):
        pieces.name(shorter, plan, 2, faces, analyzer)
    assert pieces.problem(path, plan, looks) == ""
    assert "ends after 1.3 of 2.4 seconds" in pieces.problem(path, plan, looks[:2])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ImageError, match="is a text, not a video"):
        pieces.outline(tmp_path / "text.mp4")


def test_what_is_not_followed_is_not_decoded_again(tmp_path: Path, analyzer: Analyzer) -> None:
    path = write_video(tmp_path / "a.avi", [np.zeros((96, 160, 3), np.uint8)] * 12, 30, "MJPG")
    plan = pieces.outline(path)
    assert pieces.wanted(plan, looked(path, plan, analyzer), SETTINGS) == [[]]
    assert [frame["faces"] for frame in in_pieces(path, plan, analyzer)] == [[]] * 12
