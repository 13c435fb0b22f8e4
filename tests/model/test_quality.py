"""Answers about small and doubtful faces: less sure, in the same order; others as they were."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mien
from mien.detect.base import Box, Detection
from mien.errors import ModelError
from mien.model.calibration import quality_temperature, with_temperature
from mien.model.classifier import Classifier
from mien.model.folder import CARD_FILE, METADATA_FILE, MODEL_FILE, read_model_folder
from mien.model.metadata import Quality
from mien.predict.analyzer import Analyzer
from mien.train.export.card import rewrite_metadata

from .tiny_onnx import write_folder

QUALITY = Quality(size=0.4, score=1.5)


def found(px: float, score: float | None) -> Detection:
    return Detection(Box(2, 2, px, 0.8 * px), score)


def test_the_temperature_by_hand() -> None:
    assert quality_temperature(None, 5, 0.1) == 1
    assert quality_temperature(QUALITY, 28, 0.75) == quality_temperature(QUALITY, 900, 1.0) == 1
    assert quality_temperature(QUALITY, 14, None) == pytest.approx(2**0.4)
    assert quality_temperature(QUALITY, 14, 0.55) == pytest.approx(2**0.4 * math.exp(0.3))
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
