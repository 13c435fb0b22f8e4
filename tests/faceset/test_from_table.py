"""Face sets from tables that mien predict, mien video or people wrote."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import mien
from mien.cli.main import main
from mien.detect.base import Box
from mien.errors import DataError
from mien.faceset.extract import extract_faces
from mien.faceset.row import COLUMNS

from ..video.video_files import write_video
from .conftest import COLLINS, HOPPER, of

DOCS = Path(__file__).parents[2] / "docs" / "face-sets.md"


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_what_predict_wrote_gives_a_crop_per_row(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / f"answers.{form}"
    if form == "parquet":
        pytest.importorskip("pyarrow")
        main(["predict", str(photos), "--parquet", str(table)])
    else:
        main(["predict", str(photos), f"--{form}"])
        table.write_text(capsys.readouterr().out, encoding="utf-8")
    done = extract_faces([table], tmp_path / "faces")
    assert len(done.faces) == 6
    assert of(done.faces, "group.png") == ["duplicate", "duplicate"]
    assert any("1 row without a face" in note for note in done.notes)
    assert any("1 row whose picture could not be read" in note for note in done.notes)
    assert all(face.label == "" for face in done.faces)  # a prediction is no label
    searched = extract_faces([photos], tmp_path / "searched").faces
    for face in searched:
        assert any(
            np.abs(np.array(other.box) - np.array(face.box)).max() < 0.06
            for other in done.faces
            if other.source == face.source and other.box and face.box
        )


def test_what_video_wrote_gives_faces_of_each_track(film: Path, tmp_path: Path) -> None:
    assert main(["video", str(film), "--no-video", "--jsonl", "--to", str(tmp_path / "talk-faces")]) == 0
    lone = tmp_path / "talk-faces" / "talk-faces.csv"
    with pytest.raises(DataError, match="--film FILE"):
        extract_faces([lone], tmp_path / "faces")
    for name in ("talk-faces.csv", "talk-faces.jsonl"):
        done = extract_faces([tmp_path / "talk-faces" / name], tmp_path / name, film=film, spacing=0.5)
        assert {face.track for face in done.faces} == {1, 2, 3}
        assert {Path(face.source).name for face in done.faces} == {film.name}
        assert len(done.faces) < 20
    (tmp_path / film.name).write_bytes(film.read_bytes()[:-500])  # cut shorter afterwards
    with pytest.raises(
        DataError, match=f"and .*{film.name} is another one, or was changed since; name it: --film"
    ):
        extract_faces([lone], tmp_path / "faces")


def test_a_table_of_video_is_of_its_own_film_and_not_of_another_of_its_name(
    film: Path, tmp_path: Path
) -> None:
    """talk.day-1.avi lies beside, whose frames are others; a table without its timeline goes by the name."""
    own = shutil.copy(film, tmp_path / f"talk.day-1{film.suffix}")
    assert main(["video", str(own), "--no-video", "--to", str(tmp_path / "results")]) == 0
    table = tmp_path / "results" / "talk.day-1-faces.csv"
    other = write_video(tmp_path / "talk.day-1.avi", [np.zeros((64, 64, 3), np.uint8)] * 5, code="MJPG")
    done = extract_faces([table], tmp_path / "faces", spacing=0.5)
    assert {Path(face.source).name for face in done.faces} == {own.name}
    own.unlink()
    with pytest.raises(DataError, match=re.escape(own.name)):
        extract_faces([table], tmp_path / "more")
    (tmp_path / "results" / "talk.day-1-timeline.png").unlink()
    own.with_suffix(".mkv").write_bytes(film.read_bytes())
    other.unlink()
    done = extract_faces([table], tmp_path / "more", spacing=0.5)
    assert {Path(face.source).name for face in done.faces} == {"talk.day-1.mkv"}


def test_wrong_rows_of_a_table_are_named_and_counted(tmp_path: Path) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    rows = [f"a.jpg,{x},100,200,200" for x in (100, "left", -5000)] + ["gone.jpg,1,1,20,20", ",1,1,20,20"]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,x,y,width,height", *rows]), encoding="utf-8")
    done = extract_faces([tmp_path / "boxes.csv"], tmp_path / "faces")
    assert [face.box for face in done.faces] == [Box(100, 100, 200, 200)]
    assert len(done.problems) == 4
    parts = (
        "row 3: its box is",
        "row 6: it names no picture",
        "gone.jpg cannot be opened",
        "1 of its boxes lie out",
    )
    for part in parts:
        assert any(part in line for line in done.problems), (part, done.problems)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("path,xmin,ymin,xmax,ymax\na.jpg,100,90,300,290\n", Box(100, 90, 200, 200)),
        ("Image;x1;y1;x2;y2\na.jpg;100;90;300;290\n", Box(100, 90, 200, 200)),
        ("filename,bbox_x,bbox_y,bbox_w,bbox_h\na.jpg,100,90,200,210\n", Box(100, 90, 200, 210)),
    ],
)
def test_boxes_under_the_names_that_tables_have(tmp_path: Path, text: str, box: Box) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    done = extract_faces([tmp_path / "boxes.csv"], tmp_path / "faces")
    assert [face.box for face in done.faces] == [box] and not done.problems


def test_boxes_in_shares_and_addresses_are_named(tmp_path: Path) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    rows = ["a.jpg,100,100,200,200", "a.jpg,0.1,0.2,0.5,0.5", "https://a.org/b.jpg,1,1,90,90"]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,x,y,width,height", *rows]), encoding="utf-8")
    done = extract_faces([tmp_path / "boxes.csv"], tmp_path / "faces")
    assert len(done.faces) == 1 and len(done.problems) == 2
    assert "row 3: its box is ['0.1', '0.2', '0.5', '0.5'], shares of the picture's size" in done.problems[0]
    assert "row 4: it names an address, and mien fetches nothing" in done.problems[1]


def test_a_box_that_is_no_list_is_named(tmp_path: Path) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    (tmp_path / "boxes.json").write_text(
        '[{"path": "a.jpg", "faces": [5, [100, 100, 200, 200]]}]', encoding="utf-8"
    )
    done = extract_faces([tmp_path / "boxes.json"], tmp_path / "faces")
    assert [face.box for face in done.faces] == [Box(100, 100, 200, 200)]
    assert done.problems == ("boxes.json row 1: its box is 5; four numbers are needed; mend or delete it",)


def test_labels_of_a_table_are_said_not_to_be_taken_over(tmp_path: Path) -> None:
    shutil.copy(COLLINS, tmp_path / "a.jpg")
    shutil.copy(HOPPER, tmp_path / "b.jpg")
    (tmp_path / "list.csv").write_text("a.jpg,happy\nb.jpg,sad\n", encoding="utf-8")
    done = extract_faces([tmp_path / "list.csv"], tmp_path / "faces")
    assert len(done.faces) == 2 and not any(face.label for face in done.faces)
    assert any(
        "list.csv: its labels (label) are not taken over; --label takes" in note for note in done.notes
    )


def test_a_photograph_and_its_table_are_one_and_a_wrong_unit_takes_no_memory(tmp_path: Path) -> None:
    shutil.copy(HOPPER, tmp_path / "a.jpg")
    box = mien.load()(tmp_path / "a.jpg")[0].box
    lines = ["path,x,y,width,height", "a.jpg," + ",".join(map(str, box)), "a.jpg,-9000,-9000,18400,18400"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    for paths in ([tmp_path / "a.jpg", tmp_path / "boxes.csv"], [tmp_path / "boxes.csv", tmp_path]):
        done = extract_faces(paths, tmp_path / "faces")
        assert len(done.faces) == 1 and done.photographs + done.known == 1
    assert any(
        "1 of its boxes lie outside of it or are far larger" in line
        for line in extract_faces(tmp_path / "boxes.csv", tmp_path / "other").problems
    )


def test_answers_that_are_called_faces_csv_are_no_face_set(photos: Path, tmp_path: Path) -> None:
    """The README writes them with `mien predict photos --csv > faces.csv`, perhaps into the photographs' folder."""
    whole = extract_faces([photos], tmp_path / "whole").faces
    table = photos / "faces.csv"
    table.write_text(
        f"path,face,emotion,x,y,width,height\n{photos / 'ben-1.png'},1,happy,20,20,60,60\n", encoding="utf-8"
    )
    (told,) = extract_faces([table], tmp_path / "told").faces
    assert told.box == (20, 20, 60, 60)
    assert [face.id for face in extract_faces([photos], tmp_path / "again").faces] == [
        face.id for face in whole
    ]


def test_the_documentation_has_every_column() -> None:
    rows = ["| column | holds | meaning |", "|---|---|---|"]
    rows += [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in COLUMNS]
    assert "\n".join(rows) in DOCS.read_text(encoding="utf-8")
