"""`mien demo`: two portraits that come with the package, and nothing else needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.cbook import get_sample_data

import mien
from mien.cli.main import main
from mien.images import read_image

from ..model.tiny_onnx import write_folder

SAMPLES = Path(mien.__file__).parent / "samples"


def test_the_samples_are_small_and_say_where_they_are_from() -> None:
    pictures = sorted(SAMPLES.glob("*.jpg"))
    assert [path.name for path in pictures] == ["eileen-collins.jpg", "grace-hopper.jpg"]
    assert sum(path.stat().st_size for path in pictures) < 150_000
    origin = (SAMPLES / "ORIGIN.md").read_text(encoding="utf-8")
    assert all(path.name in origin for path in pictures)
    assert origin.count("public domain") >= 3
    with get_sample_data("grace_hopper.jpg") as file:
        assert file.read() == (SAMPLES / "grace-hopper.jpg").read_bytes()  # as it says there


def test_it_finds_both_faces_and_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "tiny")
    assert main(["demo", "--model", "tiny"]) == 0
    head, first, second, marked, following, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["picture", "face", "expression", "sure"]
    assert first.split()[:2] == ["eileen-collins.jpg", "1"]
    assert second.split()[:2] == ["grace-hopper.jpg", "1"]
    for word, name in zip(marked.split()[1:], ("eileen-collins.jpg", "grace-hopper.jpg"), strict=True):
        assert Path(word) == Path("mien-demo", name)
        copy, portrait = read_image(Path(word)), read_image(SAMPLES / name)
        assert copy.shape == portrait.shape
        assert (abs(copy.astype(int) - portrait) > 60).mean() > 0.005  # a box and a label
    assert following.startswith("next     mien predict PHOTO.jpg --model tiny ")
    with pytest.raises(SystemExit):
        main(["demo", "--model", "tiny", "--save", "tiny/model.json"])
    assert "'tiny/model.json' is named like a file" in capsys.readouterr().err
