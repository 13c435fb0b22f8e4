"""`mien evaluate` and `mien compare` as a user types them."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.cli.main import main


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_evaluate_says_where_to_look(
    model_folder: Callable[..., Path], faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder()
    assert main(["evaluate", str(folder), str(faces), "--resamples", "200"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("accuracy 83.3% (")
    assert "report   report-levels-faces/report.html" in out
    assert Path("report-levels-faces/report.html").is_file()


def test_the_report_of_a_run_lies_in_it(
    model_folder: Callable[..., Path], faces: Path, tmp_path: Path
) -> None:
    model_folder("run/model")
    (tmp_path / "run" / "settings.json").write_text("{}")
    ways = [[], ["--tta", "flip"], ["--split", "train", "--tta", "flip"]]
    for way in ways:  # none replaces another
        assert main(["evaluate", "run", str(faces), *way, "--resamples", "200"]) == 0
    stored = [
        json.loads((tmp_path / "run" / f"report-faces{end}" / "report.json").read_text(encoding="utf-8"))
        for end in ("", "-flip", "-train-flip")
    ]
    assert [one["tta"]["tta"] for one in stored] == ["single", "flip", "flip"]
    assert [one["data"]["split"] for one in stored] == ["test", "test", "train"]


def test_json_is_all_that_is_printed(
    model_folder: Callable[..., Path], faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder()
    assert main(["evaluate", str(folder), str(faces), "--json", "--to", "here", "--resamples", "200"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["split"] == "test"
    assert main(["compare", str(faces), str(folder), "--json", "--resamples", "200"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["name"] == "levels"
    assert Path("comparison-faces/comparison.html").is_file()


def test_where_no_result_can_be_written_nothing_is_read_for_it(
    model_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(model_folder())
    Path("notes").write_text("mine")
    shutil.copytree(folder, "run/model")
    for words in (
        ["evaluate", folder, "missing", "--to", "notes/report"],
        ["compare", "missing", folder, "--to", "notes/comparison"],
        ["evaluate-detector", "missing", "--to", "notes/report"],
        ["data", "missing", "--label-errors", "--errors-to", "notes/errors"],
        ["data", "missing", "--copies", "notes/copies"],
        ["data", "missing", "--to-table", "notes/table"],
    ):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("mien: cannot write notes") and "is a file, not a folder" in line


def test_a_report_replaces_none_on_other_data_or_of_another_model_of_the_same_name(
    model_folder: Callable[..., Path], faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_folder()
    (tmp_path / "b").mkdir()
    shutil.copytree(faces, tmp_path / "b" / "faces")
    shutil.copytree(tmp_path / "levels", tmp_path / "b" / "levels")

    def written(model: str, data: str) -> list[str]:
        assert main(["evaluate", model, data, "--resamples", "200", "--quiet"]) == 0
        said = capsys.readouterr()
        return [said.out.splitlines()[-1].removeprefix("report   ").partition("/")[0], said.err]

    name = "report-levels-faces"
    note = f"mien: {name} is not known to be of this input, and stays; writing {name}"
    assert written("levels", "faces") == [name, ""]
    assert written("levels", "b/faces") == [f"{name}-2", f"{note}-2\n"]
    assert written("b/levels", "faces") == [f"{name}-3", f"{note}-3\n"]
    (tmp_path / "b" / "faces" / "test" / "dark" / "1.png").unlink()  # data that changes is the same data
    assert written("./levels", str(tmp_path / "b" / "faces")) == [f"{name}-2", f"{note}-2\n"]
    counts = [
        json.loads(Path(place, "report.json").read_text())["data"]["n"] for place in (name, f"{name}-2")
    ]
    assert counts == [12, 11]


def test_a_comparison_replaces_none_of_other_models_or_data(
    model_folder: Callable[..., Path], faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_folder()
    model_folder("other")
    shutil.copytree(faces, tmp_path / "b" / "faces")

    def written(*words: str) -> str:
        assert main(["compare", *words, "--resamples", "200", "--quiet"]) == 0
        return capsys.readouterr().out.splitlines()[-1].removeprefix("page     ").partition("/")[0]

    assert written("faces", "levels", "other") == "comparison-faces"
    assert written("faces", "levels") == "comparison-faces-2"
    assert written("b/faces", "levels", "other") == "comparison-faces-3"
    assert written("faces", "other", "levels") == "comparison-faces"
    places = ("comparison-faces", "comparison-faces-2", "comparison-faces-3")
    stored = [json.loads(Path(place, "comparison.json").read_text()) for place in places]
    assert [len(found["models"]) for found in stored] == [2, 1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "nothing", "faces"], "there is no model nothing"),
        (["evaluate", "levels", "nowhere"], "there is no file or folder"),
        (["evaluate", "levels", "faces", "--to", "faces"], "faces is there already and is not a report"),
        (["evaluate", "levels", "faces", "--resamples", "5"], "resamples must be 100 or more, got 5"),
        (["evaluate", "levels", "faces", "--seed", "-1"], "seed must be from 0 to 4294967295, got -1"),
        (["compare", "faces"], "nothing to compare; name models"),
        (["compare", "faces", "--networks", "small", "--network", "lenet5"], "with --networks"),
    ],
)
def test_wrong_input_is_one_line(
    model_folder: Callable[..., Path],
    faces: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    model_folder()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("mien: ") and error.count("\n") == 1
    assert faces.is_dir()


@pytest.mark.parametrize("words", ["data loop", "train loop", "evaluate levels loop", "compare loop levels"])
def test_data_that_is_a_circle_of_links_is_one_line(
    model_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str], words: str
) -> None:
    model_folder()
    Path("loop").symlink_to("loop")
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert "loop is a link that leads nowhere or in a circle" in error and error.count("\n") == 1


def test_unreadable_pictures_are_named(
    model_folder: Callable[..., Path], faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(faces.glob("test/*/")).joinpath("broken.jpg").write_text("no picture")
    assert main(["evaluate", str(model_folder()), str(faces), "--resamples", "200"]) == 0
    note = next(line for line in capsys.readouterr().out.splitlines() if "cannot be read" in line)
    assert "broken.jpg; mien data " in note


def test_letters_that_the_font_of_figures_lacks_are_no_warning(
    model_folder: Callable[..., Path], faces: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    named = faces.rename(faces.with_name("\u7b11 faces"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["evaluate", str(model_folder()), str(named), "--resamples", "200", "--quiet"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("package", ["sklearn", "matplotlib"])
def test_a_light_installation_says_what_to_install(
    faces: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # cannot be imported
    assert main(["evaluate", "levels", str(faces)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mien: evaluating needs {package}")
    assert 'pip install "mien[train]"' in error


@pytest.mark.slow
def test_networks_are_trained_first_and_loaded_the_second_time(
    faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(faces), "--networks", "small", "--epochs", "1", "--size", "16", "--quiet"]
    words += ["--batch-size", "8", "--resamples", "200"]
    assert main(words) == 0
    (epochs,) = Path("runs").glob("faces-small*/epochs.csv")
    first = epochs.stat().st_mtime_ns
    assert "faces-small" in capsys.readouterr().out
    assert main(words) == 0
    assert epochs.stat().st_mtime_ns == first
