"""`mien explain`: a picture and a data set, by name, with numbers, and what bad input is told."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien import terminal
from mien.cli.main import main
from mien.detect.base import crop
from mien.images import read_image

from .quadrant_onnx import lit_face, write_quadrant


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder with a model folder `quarter`, a face and a data set."""
    monkeypatch.chdir(tmp_path)
    write_quadrant(tmp_path / "quarter")
    write(tmp_path / "face.png", lit_face())
    for label, level in (("bright", 0), ("dark", -70)):
        for number in range(3):
            picture = lit_face(seed=number).astype(int)
            picture[:8, 8:] += level - (30 if level else 0)
            write(
                tmp_path / "faces" / "test" / label / f"{number}.png", picture.clip(0, 255).astype(np.uint8)
            )
    return tmp_path


def write(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
    return path


def read(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)


def explain(*words: str) -> int:
    return main(["explain", "quarter", *words])


def test_pictures_of_one_name_and_other_targets_keep_their_maps(capsys: pytest.CaptureFixture[str]) -> None:
    """The same command writes anew what it wrote; --to replaces nothing that mien has not written."""
    for name in ("a/face.png", "b/face.png", "a/face.day2.png"):
        write(Path(name), lit_face())
    commands = {
        ("a/face.png",): "explained-face.png",
        ("b/face.png",): "explained-face-2.png",
        ("a/face.day2.png",): "explained-face-3.png",
        ("a/face.png", "--target", "dark"): "explained-face-4.png",
    }
    for _ in range(2):
        for words, written in commands.items():
            assert explain(*words, "--detector", "whole") == 0
            assert capsys.readouterr().out.endswith(f"picture  {written}\n")
    own = write(Path("mine.png"), lit_face())
    before = own.read_bytes()
    assert explain("a/face.png", "--detector", "whole", "--to", "mine.png") == 2
    told = (
        "mien: --to mine.png is there already, and mien did not write it; delete it or name another place\n"
    )
    assert capsys.readouterr().err == told and own.read_bytes() == before
    for words in commands:
        assert explain(*words, "--detector", "whole", "--to", "map.png") == 0


def test_a_face_is_explained_in_words_and_as_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("face.png", "--detector", "whole") == 0
    said = capsys.readouterr().out
    assert said.startswith("face 1   bright ")
    assert "masking the top 20% of pixels takes bright from " in said
    assert "so the map holds" in said
    assert "picture  explained-face.png" in said
    picture = read(Path("explained-face.png")).astype(int)
    blue, _, red = np.moveaxis(picture, -1, 0)
    rows, columns = np.nonzero(red - blue > 60)  # orange
    face = (rows > 30) & (rows < 30 + 240)
    assert np.median(columns[face]) > 12 + 240 + 8 + 120  # in the right half of the right panel


def test_the_numbers_are_json_and_no_picture_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("face.png", "--detector", "whole", "--json", "--target", "dark") == 0
    told = json.loads(capsys.readouterr().out)
    (face,) = told["faces"]
    assert (face["label"], face["decision"], face["head"]) == ("dark", "bright", "light")
    assert np.shape(face["grid"]) == (8, 8)
    # What is bright speaks against dark.
    assert np.argmin(face["grid"]) // 8 < 4 <= np.argmin(face["grid"]) % 8
    assert set(face["faithfulness"]) == {
        "drop", "random_drop", "beaten", "deletion", "insertion", "random_curve", "holds",
    }  # fmt: skip
    assert not list(Path().glob("explained*"))


def test_a_target_of_another_head_chooses_that_head(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("face.png", "--detector", "whole", "--json", "--target", "happy") == 0
    assert json.loads(capsys.readouterr().out)["faces"][0]["head"] == "mood"


def test_a_target_that_the_default_head_has_is_explained_there(capsys: pytest.CaptureFixture[str]) -> None:
    """As `mien predict` answers, although an earlier head of the network that ships has that label, too."""
    assert main(["explain", "mien", "face.png", "--detector", "whole", "--json", "--target", "happy"]) == 0
    (face,) = json.loads(capsys.readouterr().out)["faces"]
    assert face["head"] == mien.load().head.name == "expression"


def test_a_data_set_becomes_a_sheet_with_a_row_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("faces", "--limit", "2") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("bright: 2 of 3 faces; bright ")
    assert said[1].startswith("dark: 2 of 3 faces; dark ")
    assert said[2] == "sheet    explained-faces.png"
    assert read(Path("explained-faces.png")).shape[1] > 7 * 132
    assert explain("faces", "--limit", "1") == 0
    assert re.search(r"[01] of 1 map holds$", capsys.readouterr().out.splitlines()[0])


def test_the_bar_counts_the_faces_that_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two classes with three faces each: it counted to 6 of 16, as many as --limit allows."""
    monkeypatch.setattr(terminal, "EVERY_S", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert explain("faces") == 0
    assert "6 of 6 " in capsys.readouterr().err


def test_the_numbers_of_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("faces/test/dark/taken-for-bright.png"), lit_face())
    assert explain("faces", "--json", "--classes", "dark,bright", "--to", "sheets.png") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["split"] == "test"
    assert [one["class"] for one in told["classes"]] == ["dark", "bright"]
    for one in told["classes"]:
        count = 4 if one["class"] == "dark" else 3
        assert (one["available"], one["explained"], len(one["faces"])) == (count,) * 3
        assert {face["label"] for face in one["faces"]} == {one["class"]}  # not the decision
        np.testing.assert_allclose(one["grid"], np.mean([f["grid"] for f in one["faces"]], axis=0), atol=1e-6)
    assert Path("sheets.png").is_file()


def test_the_map_does_not_write_over_the_picture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (place / "face.png").read_bytes()
    assert main(["explain", "quarter", "face.png", "--to", str(place / "face.png")]) == 2
    assert "would write over the picture" in capsys.readouterr().err
    assert (place / "face.png").read_bytes() == before
    labelled = next((place / "faces").rglob("*.png"))
    before = labelled.read_bytes()
    assert main(["explain", "quarter", "faces", "--to", str(labelled)]) == 2
    assert "is there already, among the data" in capsys.readouterr().err
    assert labelled.read_bytes() == before


def test_out_may_be_a_folder(place: Path) -> None:
    (place / "shown").mkdir()
    assert explain("face.png", "--detector", "whole", "--to", "shown") == 0
    assert (place / "shown" / "explained-face.png").is_file()


def test_a_run_is_explained_by_its_exported_model(place: Path) -> None:
    shutil.copytree("quarter", "run/model")
    (place / "run" / "settings.json").write_text("{}")
    assert main(["explain", "run", "face.png", "--detector", "whole"]) == 0


def test_data_is_read_as_the_training_of_the_network_read_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by `mien evaluate`: a class that was left out of the training is left out of the sheet."""
    write(place / "faces" / "test" / "odd" / "0.png", lit_face(seed=9))
    path = place / "quarter" / "model.json"
    told = json.loads(path.read_text("utf-8"))
    told["training"]["settings"] = {"classes": ["bright", "dark"]}
    path.write_text(json.dumps(told), "utf-8")
    assert explain("faces") == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()[:2]] == ["bright", "dark"]
    assert explain("faces", "--classes", "bright,odd") == 2
    assert "does not know the data's class odd" in capsys.readouterr().err


def test_a_portrait_has_the_map_on_the_face(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as stream:
        (place / "hopper.jpg").write_bytes(stream.read())
    assert explain("hopper.jpg", "--detector", "haar") == 0
    picture = read(Path("explained-hopper.png")).astype(int)
    photo = picture[12:652, 12 : 12 + 540]
    rows, _ = np.nonzero(np.ptp(photo, axis=2) > 15)
    image = read(place / "hopper.jpg")
    scale = 640 / max(image.shape[:2])
    assert rows.size
    assert rows.max() < 0.7 * image.shape[0] * scale  # the face, not the uniform
    assert "(decision: " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["face.png", "--target", "sad"], "the head 'light' has no label 'sad'; it has: dark, bright"),
        (["face.png", "--head", "votes"], "there is no head 'votes'; this model has: light, mood"),
        (["nothing.png"], "there is no file or folder nothing.png"),
        (["face.png", "--split", "test"], "--split is for DATA, and face.png is a picture; leave it out"),
        (["face.png", "--limit", "0"], "limit must be 1 or more, got 0"),
        (["face.png", "--to", "map.txt"], "cannot write map.txt: it is a picture"),
        (["face.png", "--detector", "dlib"], "there is no face detector 'dlib'"),
        (["faces", "--split", "validation"], "has no pictures in its validation split"),
        (["faces", "--head", "mood"], "the model does not know the data's classes bright, dark"),
    ],
)
def test_bad_input_is_told_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(Path().glob("explained*"))


def test_a_picture_without_a_face_ends_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("face.png", "--detector", "haar") == 1
    assert capsys.readouterr().err == (
        "mien: no face found in face.png; if the picture is a face already, use --detector whole\n"
    )


def test_models_that_cannot_be_explained(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "unfinished").mkdir()
    (place / "unfinished" / "settings.json").write_text("{}")
    (place / "other.onnx").write_bytes(b"not a network")
    (place / "net.keras").write_bytes(b"not a network")
    for model, words, said in (
        ("unfinished", [], "its training has not finished"),
        ("other.onnx", [], "is not a network that ONNX Runtime opens"),
        ("nowhere", [], "there is no model nowhere"),
        ("net.keras", ["--method", "rise"], "is a Keras file; make a model folder of it first"),
        ("net.keras", [], "net.keras is damaged or not a .keras file"),
    ):
        assert main(["explain", model, "face.png", *words]) == 2, model
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("detector", ["mien", "whole"])
def test_a_turned_face_has_the_answer_explained_that_predict_gives(
    place: Path, detector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    portrait = read_image(Path(mien.__file__).parent / "samples" / "grace-hopper.jpg")
    if detector == "whole":
        (face,) = mien.load().detect(portrait)
        portrait = crop(portrait, face.box, 1.1)
    write(place / "turned.png", np.ascontiguousarray(np.rot90(portrait, 2)[:, :, ::-1]))
    words = ["turned.png", "--detector", detector, "--json"]
    assert main(["predict", *words]) == 0
    ((answer,),) = [picture["faces"] for picture in json.loads(capsys.readouterr().out)]
    assert main(["explain", "mien", *words]) == 0
    (explained,) = json.loads(capsys.readouterr().out)["faces"]
    assert answer["reasons"] == ["turned"]
    assert explained["label"] == answer["emotion"] == "neutral"
    assert explained["box"] == pytest.approx(answer["box"], abs=0.1)
