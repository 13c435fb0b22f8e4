"""Results in the hands of people who program: tables, JSON, pickles, crops, notebooks, and the one door to them."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mien
from mien.errors import ConfigError, DataError, MissingExtra, OutputError
from mien.images import read_image
from mien.model.folder import SHIPPED
from mien.predict.analyzer import Analyzer
from mien.predict.results import COLUMNS, Faces

SAMPLE = Path(mien.__file__).parent / "samples" / "eileen-collins.jpg"


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return mien.load()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return read_image(SAMPLE)


def test_one_door_takes_path_array_bytes_and_pillow(analyzer: Analyzer, picture: np.ndarray) -> None:
    wanted = analyzer.analyze(picture)
    assert len(wanted) == 1 and wanted[0].emotion == "happy"
    for given in (SAMPLE, str(SAMPLE), picture, SAMPLE.read_bytes(), Image.open(SAMPLE)):
        assert analyzer(given) == wanted
    (entry,) = (entry for entry in os.scandir(SAMPLE.parent) if entry.name == SAMPLE.name)
    assert analyzer(entry) == wanted


def test_what_is_no_picture_is_a_data_error_that_says_so(analyzer: Analyzer, picture: np.ndarray) -> None:
    wrong: list[tuple[object, str]] = [
        (3, "a picture must be a path, .* got int"),
        ([picture], "call it for one picture after the other"),
        (picture.astype(np.float32), "uint8"),
        ("https://example.org/a.jpg", "https://example.org/a.jpg is an address, and mien fetches nothing"),
        ("s3://bucket/a.jpg", "fetches nothing"),
        ("", "a path must not be empty, got ''; the current folder is '.'"),
    ]
    for given, said in wrong:
        with pytest.raises(DataError, match=said):
            analyzer(given)
    methods = ("analyze_file", "analyze_bytes", "analyze_batch", "analyze_pil", "detect", "probabilities")
    for method in methods:
        with pytest.raises(DataError):
            getattr(analyzer, method)(3)
    with pytest.raises(DataError, match="got 1 pictures, 0 of them"):
        analyzer.classify_faces([picture], [])
    faces = analyzer(picture)
    with pytest.raises(DataError, match="a path must be a str or Path, got NoneType"):
        faces.save(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="margin must be a number above 0"):
        faces.crops("1.6")  # type: ignore[arg-type]


def test_a_generator_is_answered_picture_by_picture(analyzer: Analyzer, picture: np.ndarray) -> None:
    answers = analyzer.analyze_batch(image for image in (picture, np.zeros((40, 40, 3), np.uint8), picture))
    assert [len(faces) for faces in answers] == [1, 0, 1]
    assert answers[0] == answers[2] == analyzer.analyze(picture)


def test_boxes_and_landmarks_have_names(analyzer: Analyzer, picture: np.ndarray) -> None:
    (face,) = analyzer(picture)
    x, y, width, height = face.box
    assert face.box.xyxy == (x, y, x + width, y + height)
    assert face.landmarks is not None
    assert face.landmarks.right_eye.x < face.landmarks.nose.x < face.landmarks.left_eye.x
    assert face.landmarks.nose.y < face.landmarks.left_mouth.y
    assert repr(face).startswith("Face(happy ") and len(repr(face)) < 70


def test_results_survive_dicts_json_pickle_copies_and_other_libraries(
    analyzer: Analyzer, picture: np.ndarray
) -> None:
    faces = analyzer(picture)
    (face,) = faces
    assert dataclasses.asdict(face)["probabilities"] == dict(face.probabilities)
    stored = json.loads(json.dumps(face.to_dict()))
    assert stored["probability"] == round(face.probability, 4)
    assert json.loads(json.dumps(faces.to_dict())) == [stored]
    assert json.loads(json.dumps(face.probabilities)) == dict(face.probabilities)
    for again in (pickle.loads(pickle.dumps(faces)), copy.deepcopy(faces)):
        assert again == faces and isinstance(again, Faces)
        np.testing.assert_array_equal(again.image, picture)
    with pytest.raises(TypeError, match="read-only"):
        face.probabilities["happy"] = 0.1  # type: ignore[index]


def test_the_analyzer_travels_to_another_process(analyzer: Analyzer, picture: np.ndarray) -> None:
    for name in ("mien", "whole", "haar"):
        one = mien.load(detector=name, prior="balanced")
        assert pickle.loads(pickle.dumps(one)).analyze(picture) == one.analyze(picture)
    packed = pickle.dumps(analyzer)
    assert pickle.loads(packed).analyze(picture) == analyzer.analyze(picture)
    assert str(SHIPPED).encode() not in packed  # mien lies elsewhere on the other machine


def test_a_network_of_ones_own_travels_to_a_process_in_another_folder(
    picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SHIPPED / "mien", tmp_path / "mine")
    shutil.copytree(SHIPPED / "mien-detector", tmp_path / "finder")
    monkeypatch.chdir(tmp_path)
    one = mien.load("mine", detector_file="finder")
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(one)).analyze(picture) == one.analyze(picture)


def test_tables_have_the_columns_of_csv(analyzer: Analyzer, picture: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    faces = analyzer(picture)
    table = faces.to_pandas()
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert table.emotion.tolist() == ["happy"] and table.x[0] == round(faces[0].box.x, 1)
    assert pandas.DataFrame(list(faces)).emotion.tolist() == ["happy"]
    assert len(Faces().to_pandas()) == 0


def test_supervision_gets_corners_confidence_and_names(analyzer: Analyzer, picture: np.ndarray) -> None:
    pytest.importorskip("supervision")
    found = analyzer(picture).to_supervision()
    np.testing.assert_allclose(found.xyxy[0], analyzer(picture)[0].box.xyxy, rtol=1e-5)
    assert found.data["class_name"].tolist() == ["happy"]
    assert len(Faces().to_supervision()) == 0


def test_crops_and_marked_copies(analyzer: Analyzer, picture: np.ndarray, tmp_path: Path) -> None:
    faces = analyzer(picture)
    (crop,) = faces.crops(margin=1.2)
    assert crop.shape[0] == crop.shape[1] == round(1.2 * max(faces[0].box[2:]))
    assert faces.save(tmp_path / "marked.png") == tmp_path / "marked.png"
    assert read_image(tmp_path / "marked.png").shape[2] == 3
    assert faces[:1].save(tmp_path / "first.png").is_file()
    assert "data:image/jpeg;base64," in faces._repr_html_() and "happy" in faces._repr_html_()
    (kept_none,) = analyzer.analyze_batch([picture])
    assert kept_none.image is None and "<img" not in kept_none._repr_html_()
    with pytest.raises(DataError, match="give it"):
        kept_none.save(tmp_path / "x.png")
    empty = analyzer(np.zeros((0, 0, 3), np.uint8))
    assert empty._repr_html_() == "<p>no face found</p>"
    with pytest.raises(OutputError, match="the picture is empty"):
        empty.save(tmp_path / "x.png")
    assert kept_none.crops(image=picture)[0].shape == faces.crops()[0].shape


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(MissingExtra, match="pip install supervision"):
        Faces().to_supervision()


def test_what_mien_shows_is_what_is_meant_to_be_used() -> None:
    assert set(mien.__all__) <= set(dir(mien))
    assert [name for name in dir(mien) if not name.startswith("_")] == sorted(
        name for name in mien.__all__ if not name.startswith("_")
    )
