"""Several models side by side."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.errors import ConfigError, ModelError
from mien.evaluate.charts import apart
from mien.evaluate.compare import CompareConfig, compare
from mien.evaluate.config import EvaluateConfig
from mien.evaluate.render import comparison_text, write_comparison
from mien.evaluate.report import bytes_in_words, count_in_words
from mien.model.views import WORDS

CONFIG = EvaluateConfig(resamples=200)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SAMPLES = Path(mien.__file__).with_name("samples")
REVERSED = ("bright", "dark", "middle")


@pytest.fixture
def two(model_folder: Callable[..., Path], onnx_file: Callable[..., Path]) -> list[Path]:
    """A network that is right, and a foreign one whose labels the user mixes up."""
    return [onnx_file("mixed.onnx", ("dark", "middle", "bright"), ours=False), model_folder("good")]


def test_a_table_a_picture_and_a_verdict(two: list[Path], faces: Path, tmp_path: Path) -> None:
    config = EvaluateConfig(resamples=200, labels=REVERSED)
    found = compare(two, faces, config=config)
    write_comparison(found, tmp_path / "out")
    assert [row.name for row in found.rows] == ["good", "mixed"]  # the best comes first
    assert found.rows[0].report.scores.accuracy == pytest.approx(10 / 12)
    assert found.best_two is not None
    right = [row.report.predictions.right for row in found.rows]
    assert found.best_two.only_first == int((right[0] & ~right[1]).sum())
    for row in found.rows:
        assert row.profile.ms_per_face is not None and row.profile.ms_per_face > 0
    assert (found.rows[0].profile.parameters, found.rows[0].profile.macs) == (6, 64)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"comparison.{suffix}" for suffix in ("json", "md", "csv", "html", "png")}
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert stored == found.to_dict()
    with (tmp_path / "out" / "comparison.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["good", "mixed"]
    assert float(rows[0]["accuracy_low"]) < 10 / 12 < float(rows[0]["accuracy_high"])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
def test_the_page_of_a_comparison_on_a_phone_and_on_paper(
    model_folder: Callable[..., Path], faces: Path, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    models = [model_folder("a-network-with-quite-a-long-name"), model_folder("good")]
    write_comparison(compare(models, faces, config=CONFIG), tmp_path / "out")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
        page.goto((tmp_path / "out" / "comparison.html").as_uri())
        assert page.evaluate(
            "[...document.querySelectorAll('table')].every((one) => one.scrollWidth <= one.parentElement.clientWidth)"
        ), "a column is cut off"
        ink = "getComputedStyle(document.querySelector('h1')).color.match(/[0-9]+/g).map(Number)"
        assert min(page.evaluate(ink)) > 200
        page.emulate_media(media="print", color_scheme="dark")
        assert max(page.evaluate(ink)) < 60, "paper is white"
        browser.close()


def test_the_page_of_a_comparison_stands_alone(two: list[Path], faces: Path, tmp_path: Path) -> None:
    import re

    write_comparison(
        compare(two, faces, config=EvaluateConfig(resamples=200, labels=REVERSED)), tmp_path / "out"
    )
    text = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|@import|src=|\$\w", text)
    assert text.count("var(--c1)") > text.count("var(--c2)")  # one colour a model


def test_columns_line_up(two: list[Path], faces: Path) -> None:
    lines = comparison_text(compare(two[1:], faces, config=CONFIG)).splitlines()
    assert lines[0].startswith("model  accuracy")
    assert lines[1].startswith("good      83.3%")
    assert len({len(line) for line in lines}) == 1


def test_one_model_has_no_verdict(two: list[Path], faces: Path, tmp_path: Path) -> None:
    found = compare(two[1:], faces, config=CONFIG)
    write_comparison(found, tmp_path / "out")
    assert found.best_two is None
    assert found.headline() == "good: accuracy 83.3%"


def test_what_cannot_be_compared(two: list[Path], faces: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([], faces)
    with pytest.raises(ConfigError, match="named more than once"):
        compare([two[1], two[1]], faces, config=CONFIG)
    with pytest.raises(ModelError, match="--labels"):
        compare(two, faces, config=CONFIG)


def test_two_models_of_one_name_are_told_apart(model_folder: Callable[..., Path], faces: Path) -> None:
    folders = [model_folder("a/same"), model_folder("b/same")]
    for folder in folders:  # both say in model.json that they are called a/same and b/same
        metadata = folder / "model.json"
        metadata.write_text(metadata.read_text().replace('"a/same"', '"same"').replace('"b/same"', '"same"'))
    found = compare(folders, faces, config=CONFIG)
    assert sorted(row.name for row in found.rows) == sorted(map(str, folders))
    assert found.best_two is not None and found.best_two.p_value == 1


def test_each_model_is_asked_as_in_prediction(model_folder: Callable[..., Path], faces: Path) -> None:
    once, twice = model_folder("once"), model_folder("twice")
    stored = json.loads((twice / "model.json").read_text())
    stored["training"] = {"settings": {"augment": True, "flip": True}}
    (twice / "model.json").write_text(json.dumps(stored))
    found = compare([once, twice], faces, config=CONFIG)
    assert {row.name: row.report.tta["tta"] for row in found.rows} == {"once": "single", "twice": "adaptive"}
    assert found.tta == {"tta": "auto", "words": WORDS["auto"]}
    assert compare([twice, once], faces, config=replace(CONFIG, tta="flip")).tta["tta"] == "flip"
    assert all("views" in entry for row in found.rows for entry in row.report.recorded())


def test_settings_of_scoring_are_those_of_evaluate() -> None:
    config = CompareConfig(split="validation", tta="flip", labels=("a", "b"), merge=("x=a+b",), faces="crop")
    scoring = config.evaluation()
    assert (scoring.split, scoring.tta, scoring.labels) == ("validation", "flip", ("a", "b"))
    assert (scoring.merge, scoring.faces) == (("x=a+b",), "crop")
    assert CompareConfig().evaluation() == EvaluateConfig()


def test_names_keep_their_distance() -> None:
    assert apart([50, 10, 12, 48], 14) == [50, -2, 12, 36]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (count_in_words(1_696_732), "1.7 M"),
        (count_in_words(670_000_000), "670 M"),
        (count_in_words(950), "950"),
        (count_in_words(None), "–"),
        (bytes_in_words(6_800_000), "6.8 MB"),
    ],
)
def test_numbers_in_words(text: str, said: str) -> None:
    assert text == said


def test_each_model_sees_faces_cut_as_in_its_own_training(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """One was trained on faces that were cut out, the other on whole pictures: here faces on black, which are dark."""
    cut, whole = model_folder("cut"), model_folder("whole")
    described = json.loads((cut / "model.json").read_text(encoding="utf-8"))
    described["training"] = {"settings": {"faces": "crop", "detector": "mien"}}
    (cut / "model.json").write_text(json.dumps(described), encoding="utf-8")
    for name, label in (("eileen-collins", "middle"), ("grace-hopper", "middle"), ("", "dark")):
        photo = np.zeros((600, 600, 3), np.uint8)
        if name:
            portrait = cv2.imread(str(SAMPLES / f"{name}.jpg"))
            photo[200:400, 200:400] = cv2.resize(portrait, (200, 200), interpolation=cv2.INTER_AREA)
        (tmp_path / "photos" / "test" / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / "test" / label / f"{name or 'nobody'}.png"), photo)
    for models in ([cut, whole], [whole, cut]):
        found = compare(models, tmp_path / "photos", config=CONFIG)
        assert [(row.name, row.report.scores.accuracy, row.report.scores.n) for row in found.rows] == [
            ("cut", 1.0, 2),
            ("whole", 0.0, 2),
        ]
        assert found.rows[0].report.predictions.names == found.rows[1].report.predictions.names
        assert any("left out for all models: test/dark/nobody.png" in note for note in found.notes)
        assert any(note.startswith("cut: cropped the largest face out of 2 of 3") for note in found.notes)
    alike = compare([cut, whole], tmp_path / "photos", config=EvaluateConfig(resamples=200, faces="whole"))
    assert [row.report.scores.n for row in alike.rows] == [3, 3] and alike.best_two is not None
    assert alike.best_two.p_value == 1
