"""What small, doubtful and covered faces are answered: as `mien predict` does, before it makes them less sure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

import mien
from mien.data.dataset import Split
from mien.data.pictures import InMemoryPictures
from mien.detect.base import Box, crop
from mien.images import read_image
from mien.model.classifier import Classifier
from mien.model.folder import SHIPPED

pytest.importorskip("sklearn", reason="needs the train extra")
PORTRAIT = SHIPPED.parent / "samples" / "eileen-collins.jpg"
COUNT = 40


def test_faces_are_named_as_predict_names_them(tool: Any) -> None:
    """By two views where it asks about two: by one it was found to be less often right than it is."""
    fit_quality = tool("fit_quality")
    analyzer = mien.load(tta="flip")
    grey = cv2.cvtColor(crop(read_image(PORTRAIT), Box(178, 72, 92, 122)), cv2.COLOR_RGB2GRAY)
    face = np.asarray(cv2.resize(grey, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)
    happy = np.array([analyzer.head.labels.index("happy")])
    split = Split(InMemoryPictures(face[None]), happy, ["portrait"])
    said = fit_quality.ask(analyzer, Classifier(SHIPPED / "mien"), split, COUNT)

    rng = np.random.default_rng(0)
    rng.permutation(1)  # the order of the faces
    photos = [fit_quality.photograph(face, rng) for _ in range(COUNT)]
    analyzer.metadata = replace(analyzer.metadata, quality=None)
    named = [faces[0].probabilities for faces in map(analyzer, photos) if faces]
    shares = np.array([list(one.values()) for one in named])
    assert len(shares) > 10
    np.testing.assert_allclose(said.shares, shares, atol=1e-5)
