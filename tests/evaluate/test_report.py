"""A whole evaluation: the right pictures, the right figures, and files that stand alone."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data import open_dataset
from mien.data.pictures import fingerprints_of
from mien.errors import ConfigError, DataError, OutputError
from mien.evaluate import charts, render
from mien.evaluate.charts import class_colours
from mien.evaluate.config import EvaluateConfig
from mien.evaluate.evaluate import evaluate
from mien.evaluate.report import Report
from mien.faceset.row import content_key
from mien.model.folder import read_model_folder
from mien.train import run_folder
from mien.train.export.card import model_card

FILES = {
    "report.json", "report.md", "report.html", "predictions.csv",
    "confusion.png", "reliability.png", "risk_coverage.png", "roc.png", "top_losses.png",
}  # fmt: skip
CONFIG = EvaluateConfig(resamples=200)


class Page(HTMLParser):
    """Collects what a browser would load or follow, and checks that elements are closed in order."""

    VOID = frozenset({"meta", "img", "col", "br", "line", "circle", "rect", "path", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.elements: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in {"src", "href", "srcset", "xlink:href"}
        ]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def close(self) -> None:
        super().close()
        assert self._open == []


def check_page(text: str) -> Page:
    """Parse a page and check that it asks nobody for anything."""
    page = Page()
    page.feed(text)
    page.close()
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.elements)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert "$" not in text  # every place of the skeleton was filled
    return page


@pytest.fixture
def report(model_folder: Callable[..., Path], faces: Path, tmp_path: Path) -> Report:
    return evaluate(model_folder(), faces, config=CONFIG, to=tmp_path / "out")


def test_near_copies_of_training_pictures_are_left_out_as_well(
    model_folder: Callable[..., Path], faces: Path, tmp_path: Path
) -> None:
    """A test picture that is a training picture mirrored: no pixel copy, and seen in training all the same."""
    detail = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 60, (64, 64)), (0, 0), 1.5) + 128
    picture = np.clip(detail, 0, 255).astype(np.uint8)
    cv2.imwrite(str(faces / "train" / "middle" / "seen.png"), picture)
    cv2.imwrite(str(faces / "test" / "middle" / "again.png"), picture[:, ::-1])
    found = evaluate(model_folder(), faces, config=CONFIG, to=tmp_path / "out")
    assert found.scores.n == 13 and found.deduplicated.n == 12 and found.without_near_copies.n == 11
    assert "without near copies (11 pictures)" in found.headline()
    assert [entry["n"] for entry in found.recorded()][:3] == [13, 12, 11]
    assert (
        "accuracy without near copies of training pictures, n = 11"
        in (tmp_path / "out" / "report.md").read_text()
    )
    assert json.loads((tmp_path / "out" / "report.json").read_text())["without_near_copies"]["n"] == 11


def test_the_figures_are_those_of_the_pictures(report: Report) -> None:
    """Twelve pictures; one has the wrong label and one is a copy of a training picture with another label."""
    assert (report.data.split, report.data.n, report.data.copies) == ("test", 12, 1)
    assert report.scores.accuracy == pytest.approx(10 / 12)
    assert report.deduplicated is not None and report.without_near_copies is None
    assert (report.deduplicated.n, report.deduplicated.accuracy) == (11, pytest.approx(10 / 11))
    names = [found.name for found in report.scores.classes]
    assert names == ["bright", "dark", "middle"]
    assert report.scores.confusion == ((3, 0, 1), (1, 3, 0), (0, 0, 4))
    assert {(mistake.label, mistake.predicted) for mistake in report.top_losses} == {
        ("dark", "bright"),
        ("bright", "middle"),
    }
    sureness = [mistake.confidence for mistake in report.top_losses]
    assert sureness == sorted(sureness, reverse=True)
    assert [found.fitted for found in report.calibration][1:] == ["on the validation split"]


def test_the_folder_is_whole(report: Report, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES
    stored = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert stored == report.to_dict()
    assert stored["scores"]["accuracy"] == pytest.approx(10 / 12)
    with (out / "predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    assert sum(int(row["right"]) for row in rows) == 10
    assert [row["name"] for row in rows if row["copy_of_training"] == "1"] == ["test/bright/1.png"]
    for row in rows:
        assert sum(float(row[f"p_{name}"]) for name in ("bright", "dark", "middle")) == pytest.approx(
            1, abs=1e-4
        )


def test_the_page_stands_alone(report: Report, tmp_path: Path) -> None:
    page = check_page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert page.elements.count("img") == len(report.top_losses) == 2
    assert page.elements.count("svg") >= 3


def test_a_class_has_the_colour_of_its_expression(report: Report, tmp_path: Path) -> None:
    """As in marked pictures and on the page, whatever its place; a little darker, since lines are thin."""
    assert class_colours(("neutral", "Anger")) == ["#a4a4a4", "#aa4b00"]
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for colour in class_colours([found.name for found in report.scores.classes]):
        assert text.count(f"--k:{colour}") == 1 and text.count(f"stroke: {colour}") >= 2


def test_the_page_escapes_names(model_folder: Callable[..., Path], faces: Path) -> None:
    from dataclasses import replace

    from mien.evaluate.render import report_page

    found = evaluate(model_folder(), faces, config=CONFIG)
    evil = "<script>alert('$')</script>"
    found = replace(
        found,
        model=replace(found.model, name=evil),
        top_losses=tuple(
            replace(mistake, name=evil, label=evil, predicted=evil) for mistake in found.top_losses
        ),
        notes=(evil,),
    )
    text = report_page(found)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&#39;$&#39;)&lt;/script&gt;") >= 9


def test_the_markdown_says_the_same(report: Report, tmp_path: Path) -> None:
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# levels on faces, test\n")
    assert "| accuracy | 83.3% |" in text
    assert "| accuracy without 1 copy of training pictures | 90.9% |" in text
    assert all(f"![]({name})" in text for name in ("confusion.png", "reliability.png", "top_losses.png"))
    assert "An expression is not a feeling" in text
    assert report.headline() in text.replace("Accuracy 83.3%", "accuracy 83.3%")


def test_a_failure_leaves_what_was_there(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tmp_path / "out" / "report.json").read_bytes()

    def full_disk(_report: Report) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(charts.CHARTS, "roc.png", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        render.write_report(report, tmp_path / "out")
    assert (tmp_path / "out" / "report.json").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_folder_with_other_things_is_left_alone(report: Report, faces: Path) -> None:
    with pytest.raises(OutputError, match=r"is not a report \(it has .*\); name another place"):
        render.write_report(report, faces)
    assert (faces / "test").is_dir()


def test_a_set_without_splits_is_scored_whole(model_folder: Callable[..., Path], faces: Path) -> None:
    found = evaluate(model_folder(), faces / "train", config=CONFIG)
    assert (found.data.split, found.data.n, found.scores.accuracy) == ("train", 18, 1.0)
    assert (found.data.copies, found.data.part, found.data.pictures) == (None, "all", "18 pictures")
    assert any("all of it was scored" in note for note in found.notes)
    assert found.top_losses == ()


def test_training_pictures_are_called_so(model_folder: Callable[..., Path], faces: Path) -> None:
    found = evaluate(model_folder(), faces, config=EvaluateConfig(split="train", resamples=200))
    assert any("these are training pictures" in note for note in found.notes)


def test_a_split_that_is_not_there(model_folder: Callable[..., Path], faces: Path) -> None:
    shutil.rmtree(faces / "test")
    with pytest.raises(DataError, match="no pictures in its test split"):
        evaluate(model_folder(), faces, config=EvaluateConfig(split="test"))


def test_fewer_classes_than_the_model(model_folder: Callable[..., Path], faces: Path) -> None:
    found = evaluate(model_folder(), faces, config=EvaluateConfig(classes=("dark", "bright"), resamples=200))
    assert [one.name for one in found.scores.classes] == ["dark", "bright"]
    assert any("2 of the model's 3 classes" in note for note in found.notes)
    np.testing.assert_allclose(found.predictions.probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_same_settings_give_the_same_report(model_folder: Callable[..., Path], faces: Path) -> None:
    folder = model_folder()
    first, second = (evaluate(folder, faces, config=CONFIG).to_dict() for _ in range(2))
    assert {**first, "provenance": None} == {**second, "provenance": None}


def test_pictures_that_a_run_was_trained_on_are_left_out(
    model_folder: Callable[..., Path], faces: Path
) -> None:
    """Whatever was added since: such a set was scored whole, training pictures included."""
    run = model_folder("run/model").parent
    before = open_dataset(faces / "train", EvaluateConfig(), carve_validation=False).split("train")
    learnt = before.take(np.arange(0, 18, 2))
    run_folder.write_seen(run, {"train": fingerprints_of(learnt.pictures).keys})
    cv2.imwrite(str(faces / "train" / "dark" / "new.png"), np.full((8, 8), 41, np.uint8))
    found = evaluate(run, faces / "train", config=CONFIG)
    assert found.data.n == 10
    assert any(
        note.startswith("left out, as the model was trained on them: 9 of 19 pictures")
        for note in found.notes
    )
    assert not set(found.predictions.names) & set(learnt.names)
    assert evaluate(run, faces / "train", config=EvaluateConfig(split="train", resamples=200)).data.n > 10
    run_folder.write_seen(run, {"train": fingerprints_of(before.pictures).keys})
    (faces / "train" / "dark" / "new.png").unlink()
    with pytest.raises(DataError, match=r"this model was trained on all of 18 pictures of "):
        evaluate(run, faces / "train", config=CONFIG)


def _as_trained(folder: Path, **training: object) -> None:
    facts = json.loads((folder / "model.json").read_text())
    facts["training"] = training
    (folder / "model.json").write_text(json.dumps(facts))


def test_the_faces_are_cut_as_in_the_training(model_folder: Callable[..., Path], faces: Path) -> None:
    """It scored photographs uncropped, 69 % for 87 %, unless one asked for what the run knows."""
    folder = model_folder()
    _as_trained(folder, settings={"faces": "crop", "detector": "whole"})
    found = evaluate(folder, faces, config=CONFIG)
    assert any("'whole'" in note and note.startswith("cropped") for note in found.notes)
    assert any("--faces whole" in note for note in found.notes)
    asked = evaluate(folder, faces, config=EvaluateConfig(faces="whole", resamples=200))
    assert not any("cropped" in note for note in asked.notes)
    with pytest.raises(ConfigError, match="nosuch"):
        evaluate(folder, faces, config=EvaluateConfig(detector="nosuch", resamples=200))


def test_classes_are_joined_as_in_the_training_where_that_fits(
    model_folder: Callable[..., Path], faces: Path
) -> None:
    folder = model_folder(labels=("dark", "bright"))
    _as_trained(folder, settings={"merge": ["dark=dark+middle"], "seed": 3})
    found = evaluate(folder, faces, config=CONFIG)
    assert [one.name for one in found.scores.classes] == ["bright", "dark"]
    assert any(note.endswith("--merge dark=dark+middle") for note in found.notes)
    shutil.rmtree(faces / "train" / "middle")
    shutil.rmtree(faces / "test" / "middle")
    assert evaluate(folder, faces, config=CONFIG).data.n == 8


def test_moved_and_renamed_pictures_are_known_by_their_content(
    model_folder: Callable[..., Path], faces: Path
) -> None:
    """A picture that was learnt says nothing, wherever it lies now; a copy of one that lies in train is counted."""
    run = model_folder("run/model").parent
    learnt = open_dataset(faces, carve_validation=False).split("train")
    run_folder.write_seen(run, {"train": fingerprints_of(learnt.pictures).keys})
    assert (evaluate(run, faces, config=CONFIG).data.n, evaluate(run, faces, config=CONFIG).data.copies) == (
        12,
        1,
    )
    (faces / "train" / "dark" / "0.png").rename(faces / "test" / "dark" / "renamed.png")
    found = evaluate(run, faces, config=CONFIG)
    assert (found.data.n, found.data.copies) == (12, 1)
    assert "left out, as the model was trained on them: 1 of 13 test pictures" in found.notes


def test_pictures_that_chose_the_epoch_are_told_from_new_ones(
    model_folder: Callable[..., Path], faces: Path
) -> None:
    run = model_folder("run/model").parent
    split = open_dataset(faces / "train", carve_validation=False).split("train")
    keys = fingerprints_of(split.pictures).keys
    run_folder.write_seen(run, {"train": keys[:8], "validation": keys[8:12]})
    found = evaluate(run, faces / "train", config=CONFIG)
    assert (found.data.split, found.data.n) == ("validation", 10)
    assert any(
        "4 chose the model's best epoch and calibration; 6 are new to it" in note for note in found.notes
    )
    run_folder.write_seen(run, {"train": keys[:8]})
    assert evaluate(run, faces / "train", config=CONFIG).data.split == "test"


def test_the_report_says_what_is_gained_by_answering_less(
    model_folder: Callable[..., Path], faces: Path
) -> None:
    folder = model_folder()
    facts = json.loads((folder / "model.json").read_text())
    sure = evaluate(folder, faces, config=CONFIG).predictions.probabilities.max(axis=1)
    threshold = facts["heads"][0]["threshold"] = float(np.sort(sure)[4:6].mean())
    (folder / "model.json").write_text(json.dumps(facts))
    found = evaluate(folder, faces, config=CONFIG)
    answered = sure >= threshold
    assert 0 < answered.mean() < 1
    assert found.selective.answered == answered.mean()
    assert found.selective.accuracy == found.predictions.right[answered].mean()
    assert found.selective.below == found.predictions.right[~answered].mean()
    markdown = render.report_markdown(found)
    assert "of the others, below its threshold of" in markdown
    assert "Area under the risk-coverage curve" in render.report_page(found)
    # Pictures of three levels: their light tells them apart, their size does not.
    names = [group.name for group in found.quality]
    assert "darkest" in names
    assert "smallest" not in names
    assert "| darkest |" in markdown


def test_names_of_classes_run_nowhere(model_folder: Callable[..., Path], faces: Path, tmp_path: Path) -> None:
    """Neither as HTML or a link in Markdown, nor as a formula in a spreadsheet, nor as codes in a terminal."""
    hostile = {
        "dark": "<img src=x onerror=alert(1)>",
        "middle": "[x](javascript:alert(1))",
        "bright": "=cmd|calc",
    }
    folder = model_folder()
    text = (folder / "model.json").read_text(encoding="utf-8")
    for old, new in hostile.items():
        text = text.replace(f'"{old}"', json.dumps(new))
    (folder / "model.json").write_text(text, encoding="utf-8")
    for split in ("train", "test"):
        for old, new in hostile.items():
            (faces / split / old).rename(faces / split / new)
    found = evaluate(folder, faces, config=CONFIG)
    assert set(found.predictions.classes) == set(hostile.values())
    markdown = render.report_markdown(found) + model_card(
        replace(read_model_folder(folder).metadata, scores=found.recorded())
    )
    prose = markdown.split("## How it was made")[0] + markdown.split("## What it is for")[0]
    assert "<img" not in prose
    assert "](javascript" not in markdown
    assert "<img src=x" not in render.report_page(found)
    render.write_report(found, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not any(cell.startswith("=") for cell in cells)


def test_a_class_may_be_called_like_a_column_of_the_predictions(
    model_folder: Callable[..., Path], faces: Path, tmp_path: Path
) -> None:
    folder = model_folder("named")
    text = (folder / "model.json").read_text(encoding="utf-8")
    renamed = {"bright": "right", "dark": "name", "middle": "predicted"}
    for old, new in renamed.items():
        text = text.replace(f'"{old}"', json.dumps(new))
        for split in ("train", "test"):
            (faces / split / old).rename(faces / split / new)
    (folder / "model.json").write_text(text, encoding="utf-8")
    found = evaluate(folder, faces, config=CONFIG)
    render.write_report(found, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert len(set(header)) == len(header) == 9
    assert header[-3:] == [f"p_{name}" for name in found.predictions.classes]
    assert {*found.predictions.classes} == {*renamed.values()}
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        assert cells["right"] == str(int(cells["label"] == cells["predicted"]))
        assert float(cells[f"p_{cells['predicted']}"]) == float(cells["confidence"])


def test_photographs_out_of_which_learnt_faces_were_cut_are_left_out(
    model_folder: Callable[..., Path], faces: Path
) -> None:
    """A run on a face set knows the photographs that its faces are from."""
    run = model_folder("run/model").parent
    photo = faces / "train" / "dark" / "0.png"
    cv2.imwrite(str(photo), np.full((9, 9), 40, np.uint8))  # of another size: the files are not held decoded
    run_folder.write_seen(run, {"train": [bytes(16)]}, {content_key(photo.read_bytes())})
    found = evaluate(run, faces / "train", config=CONFIG)
    assert found.data.n == 17
    assert "left out, as the model was trained on them: 1 of 18 pictures" in found.notes
