"""From a face set to a network that knows how photographs are cut for it."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("keras")

from mien.cli.main import main
from mien.data.drawn import draw_dataset
from mien.detect.base import Box
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet
from mien.model.folder import read_model_folder


@pytest.fixture
def face_set(tmp_path):
    """Forty drawn faces as crops whose middle half is the face; two are not labelled."""
    draw_dataset(tmp_path / "drawn", classes=("happy", "sad"), per_class=20, seed=3)
    folder = tmp_path / "faces"
    (folder / "crops").mkdir(parents=True)
    opened = FaceSet.open(folder, create=True)
    for number, path in enumerate(sorted((tmp_path / "drawn").glob("*/*/*.png"))):
        (folder / "crops" / f"{number}.png").write_bytes(path.read_bytes())
        side = cv2.imread(str(path)).shape[0] / 2
        opened.put(
            FaceRow(
                id=str(number), file=f"crops/{number}.png", source=path.name, box=Box(0, 0, side, side), margin=2.0,
                label=path.parent.name if number > 1 else "", group=f"g{number // 2}",
            )
        )  # fmt: skip
    opened.write()
    return folder


@pytest.mark.slow
def test_a_face_set_is_trained_on_and_evaluated_without_what_was_learnt(face_set, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--epochs", "1", "--size", "16", "--margin", "1.2", "--to", str(run), "--no-report"]
    assert main(["train", str(face_set), *words]) == 0
    out = capsys.readouterr()
    assert "38 of a face set, cut at a margin of 1.2" in out.out + out.err
    assert "mien data" in out.out.splitlines()[-1]
    assert "--label-errors" in out.out.splitlines()[-1]
    metadata = read_model_folder(run / "model").metadata
    assert metadata.face_detector == ("mien", None)
    assert metadata.preprocess.margin == 1.2
    with np.load(run / "trained-on.npz") as seen:
        learnt, held = len(seen["train"]), len(seen["validation"])
    assert learnt + held == 38
    assert main(["evaluate", str(run), str(face_set), "--to", str(tmp_path / "r"), "--resamples", "200"]) == 0
    assert f"on {held} validation pictures" in capsys.readouterr().out
    # Two more labels, and the same command sees that the data has changed.
    opened = FaceSet.open(face_set)
    for name in ("0", "1"):
        row = opened[name]
        opened.put(FaceRow(**{**{field: getattr(row, field) for field in row.__slots__}, "label": "happy"}))
    opened.write()
    assert main(["evaluate", str(run), str(face_set), "--to", str(tmp_path / "r"), "--resamples", "200"]) == 0
    report = json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8"))
    assert report["data"]["n"] == held + 2
    assert any("2 are new to it" in note for note in report["notes"])
    assert main(["train", str(face_set), *words]) == 2
    assert "the data has changed" in capsys.readouterr().err
