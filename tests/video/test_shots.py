"""Cuts: found between shots, not in pans and flashes; after one, faces and smoothing begin anew."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.model.classifier import Classifier
from mien.predict.analyzer import Analyzer
from mien.video.analyze import analyze_video
from mien.video.reader import Frame, open_video
from mien.video.tracking import with_cuts

from ..model.tiny_onnx import write_folder
from .video_files import Squares, scene, write_video


def cuts(images: list[np.ndarray]) -> list[int]:
    frames = (Frame(index, index / 25, image) for index, image in enumerate(images))
    marked = list(with_cuts(frames))
    assert [frame.index for frame, _ in marked] == list(range(len(images)))
    return [frame.index for frame, cut in marked if cut]


def shades(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 40, 3)).astype(np.uint8)
    return cv2.resize(coarse, (1600, 180), interpolation=cv2.INTER_CUBIC)


def pan(ground: np.ndarray, count: int, step: int) -> list[np.ndarray]:
    return [ground[:, step * number : step * number + 320] for number in range(count)]


def test_a_cut_is_the_first_frame_of_a_new_shot() -> None:
    assert cuts(pan(shades(0), 10, 2) + pan(shades(1), 10, 2) + pan(shades(2), 3, 2)) == [10, 20]
    assert cuts(pan(shades(0), 5, 0) + pan(shades(1), 1, 0)) == [5]
    assert cuts(pan(shades(0), 1, 0) + pan(shades(1), 5, 0)) == [1]
    assert cuts([]) == []


def test_pans_flashes_jerks_and_fades_are_no_cuts() -> None:
    for step in (2, 10, 40, 80):
        assert cuts(pan(shades(0), 16, step)) == [], step
    flash = pan(shades(0), 12, 2)
    flash[6] = np.clip(flash[6].astype(int) + 120, 0, 255).astype(np.uint8)
    assert cuts(flash) == []
    ground = shades(3)
    for right, down in ((8, 0), (30, 0), (35, 20)):  # a camera that is knocked, and stays where it came to
        jerk = [ground[:100, 300:460]] * 8 + [ground[down : 100 + down, 300 + right : 460 + right]] * 8
        assert cuts(jerk) == [], (right, down)
    fade = [np.full((90, 160, 3), level, np.uint8) for level in range(0, 250, 6)]
    assert cuts(fade) == []


def test_after_a_cut_a_face_in_the_old_place_is_another_one(tmp_path: Path) -> None:
    first = [scene([(40, 30, 90)])] * 12
    second = [np.maximum(scene([(42, 30, 220)]), 30)] * 12
    second = [np.where(image < 90, image + 12, image).astype(np.uint8) for image in second]
    path = write_video(tmp_path / "a.avi", first + second, 30, "MJPG")
    model = write_folder(tmp_path / "tiny")
    analyzer = Analyzer(Classifier(model), Squares())
    frames = list(analyze_video(path, analyzer))
    assert [[face.track for face in frame.faces] for frame in frames] == [[1]] * 12 + [[2]] * 12
    begin = frames[12].faces[0]
    assert dict(begin.face.probabilities) == pytest.approx(dict(begin.raw))


@pytest.mark.shared
def test_a_film_of_two_clips_has_two_people(tmp_path: Path, shared: Path) -> None:
    """Both sit in the same place of the same studio; the first clip is cut where she smiles."""
    clips = []
    for name in ("002.mp4", "019.mp4"):
        with open_video(shared / "data" / "morphs" / name) as video:
            clips.append([frame.image for frame in video.frames()])
    film = clips[0][40:75] + clips[1][:35]
    assert cuts(film) == [35]
    frames = list(analyze_video(write_video(tmp_path / "film.mp4", film, 25), mien.load()))
    assert [[face.track for face in frame.faces] for frame in frames] == [[1]] * 35 + [[2]] * 35
    last, first = frames[34].faces[0], frames[35].faces[0]
    assert last.face.probabilities["happy"] > 0.8
    assert dict(first.face.probabilities) == pytest.approx(dict(first.raw))
    assert first.face.probabilities["happy"] < 0.2
