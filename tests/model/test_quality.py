"""Answers about small, doubtful and covered faces: less sure, in the same order; others as they were."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.detect.base import Box, Detection
from mien.errors import ModelError
from mien.images import read_image
from mien.model.calibration import quality_temperature, with_temperature
from mien.model.classifier import Classifier
from mien.model.folder import CARD_FILE, METADATA_FILE, MODEL_FILE, read_model_folder
from mien.model.metadata import Quality
from mien.predict.analyzer import Analyzer
from mien.train.export.card import rewrite_metadata

from .tiny_onnx import METADATA, write_folder

QUALITY = Quality(size=0.4, score=1.5)
SAMPLES = Path(mien.__file__).parent / "samples"


def found(px: float, score: float | None) -> Detection:
    return Detection(Box(2, 2, px, 0.8 * px), score)


def test_the_temperature_by_hand() -> None:
    assert quality_temperature(None, 5, 0.1, 0.5) == 1
    assert quality_temperature(QUALITY, 28, 0.75, 0.9) == quality_temperature(QUALITY, 900, 1.0, 0) == 1
    assert quality_temperature(QUALITY, 14, None, 0) == pytest.approx(2**0.4)
    assert quality_temperature(QUALITY, 14, 0.55, 0) == pytest.approx(2**0.4 * math.exp(0.3))
    covered = replace(QUALITY, covered=0.5)
    assert quality_temperature(covered, 14, 0.55, 0.8) == pytest.approx(2**0.4 * math.exp(0.3 + 0.4))
    several = with_temperature(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([[1.0], [2.0]]))
    np.testing.assert_allclose(several, [[0.8, 0.2], [2 / 3, 1 / 3]])


def test_an_analyzer_is_less_sure_of_small_and_doubtful_faces_alone(tmp_path: Path) -> None:
    classifier = Classifier(write_folder(tmp_path / "tiny"))
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    boxes = [found(40, 0.9), found(14, 0.9), found(40, 0.5), found(14, None)]
    plain = Analyzer(classifier, mien.load().detector).classify_faces([image], [boxes])[0]
    classifier.metadata = replace(classifier.metadata, quality=QUALITY)
    after = Analyzer(classifier, mien.load().detector).classify_faces([image], [boxes])[0]
    assert after[0] == plain[0]
    for one, other in zip(plain[1:], after[1:], strict=True):
        assert other.probability < one.probability - 0.01
        assert other.emotion == one.emotion
    shares = np.array([list(plain[2].probabilities.values())])
    np.testing.assert_allclose(
        list(after[2].probabilities.values()), with_temperature(shares, math.exp(1.5 * 0.25))[0], atol=1e-5
    )
    # Scores of other detectors mean something else; a whole picture has none that counts.
    haar = mien.load(detector="whole").detector
    assert Analyzer(classifier, haar).classify_faces([image], [boxes])[0][2] == plain[2]


def test_an_analyzer_is_less_sure_of_covered_faces_and_says_so(tmp_path: Path) -> None:
    metadata = replace(METADATA, quality=Quality(size=0.0, score=0.0, covered=0.5))
    plain = Analyzer(Classifier(write_folder(tmp_path / "plain")), mien.load().detector)
    telling = Analyzer(
        Classifier(write_folder(tmp_path / "telling", metadata, tells_cover=True)), plain.detector
    )
    for level, cover in ((40, 1 / (1 + math.exp(0.1 * 40 - 6.4))), (90, 1 / (1 + math.exp(0.1 * 90 - 6.4)))):
        image, boxes = np.full((60, 60, 3), level, np.uint8), [[found(40, 0.9)]]
        before, after = (one.classify_faces([image], boxes)[0][0] for one in (plain, telling))
        assert after.reasons == (("covered?",) if level == 40 else ())
        shares = np.array([list(before.probabilities.values())])
        wanted = with_temperature(shares, math.exp(0.5 * cover))[0]
        np.testing.assert_allclose(list(after.probabilities.values()), wanted, atol=1e-6)
        assert after.emotion == before.emotion and after.probability < before.probability
    # Crops that are asked about by themselves are answered as the network answers them.
    inputs = np.full((1, 16, 16, 1), 40, np.uint8)
    np.testing.assert_array_equal(telling.probabilities(inputs), plain.probabilities(inputs))


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("*.jpg")))
def test_sunglasses_are_told_from_eyes(name: str) -> None:
    analyzer, picture = mien.load(), read_image(SAMPLES / name)
    face = analyzer(picture)[0]
    assert "covered?" not in face.reasons
    assert face.landmarks is not None
    eyes, side = face.landmarks[:2], face.box.width
    dark = picture.copy()
    for eye in eyes:
        cv2.ellipse(
            dark,
            (round(eye.x), round(eye.y)),
            (round(0.2 * side), round(0.13 * side)),
            0,
            0,
            360,
            (25, 20, 30),
            -1,
        )
    found = analyzer.classify_faces([dark], [[Detection(face.box, face.score, face.landmarks)]])[0][0]
    assert "covered?" in found.reasons


def test_it_is_stored_with_the_model_and_checked(tmp_path: Path) -> None:
    folder = shutil.copytree(write_folder(tmp_path / "tiny"), tmp_path / "copy")
    stored = json.loads((folder / METADATA_FILE).read_text())
    for quality, wrong in (
        ({"size": 0.4, "score": 1.5}, ""),
        ({"size": -1, "score": 0}, "numbers from 0 on"),
        ({"size": 1}, "score is missing"),
    ):
        (folder / METADATA_FILE).write_text(json.dumps({**stored, "quality": quality}))
        if wrong:
            with pytest.raises(ModelError, match=wrong):
                read_model_folder(folder)
        else:
            assert read_model_folder(folder).metadata.quality == QUALITY


def test_it_can_be_written_into_a_folder_and_its_network(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny")
    rewrite_metadata(folder, lambda metadata, _: replace(metadata, quality=QUALITY))
    for path in (folder, folder / MODEL_FILE):
        assert Classifier(path).metadata.quality == QUALITY
    assert "exp(0.4 * ln(28 / pixels) + 1.5 * (0.75 - score))" in (folder / CARD_FILE).read_text()
