"""The table of a face set: what people do to it in a spreadsheet, and what two processes do to it at once."""

from __future__ import annotations

import csv
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mien.detect.base import Box, Detection, Landmarks, align, crop
from mien.errors import DataError
from mien.faceset.row import COLUMNS, FaceRow
from mien.faceset.table import TABLE_FILE, FaceSet
from mien.label.history import MAX_NAME
from mien.label.store import Store

POINTS = Landmarks.of([(30, 40), (60, 42), (45, 55), (33, 70), (58, 71)])
FULL = FaceRow(
    id="aa-1",
    file="crops/aa-1.png",
    source="../film.mp4",
    time_s=2.04,
    track=3,
    box=Box(20, 25.5, 50, 60),
    landmarks=POINTS,
    margin=1.6,
    score=0.937,
    sharpness=210.4,
    reasons="small turned",
    group="film.mp4 3",
    status="blurred",
    label="very calm, 平静",
    votes={"bored": 1, "very calm, 平静": 2},
    who="anna, ben",
    when="2026-11-26T17:43:05.123Z",
    extra={"person": "=17"},
)


def written(folder: Path, *rows: FaceRow) -> FaceSet:
    faces = FaceSet.open(folder, create=True)
    faces.add(rows)
    faces.write()
    return faces


def test_every_column_survives_writing_and_reading(tmp_path: Path) -> None:
    written(tmp_path, FULL, FaceRow(id="aa-2", file="crops/aa-2.png"))
    again = FaceSet.open(tmp_path)
    assert again.faces == [FULL, FaceRow(id="aa-2", file="crops/aa-2.png")]
    assert again.problems == ()
    with (tmp_path / TABLE_FILE).open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == [*(column.name for column in COLUMNS), "person"]
    assert rows[0][header.index("person")] == "'=17"  # no spreadsheet runs it


def test_columns_without_a_name_or_with_one_that_is_there_are_kept(tmp_path: Path) -> None:
    written(tmp_path, FULL)
    path = tmp_path / TABLE_FILE
    header, row = path.read_text(encoding="utf-8").splitlines()
    path.write_text(f"{header},,note,note,,Label\n{row},my remark,first,second,,mine\n", encoding="utf-8")
    for _ in range(2):
        (face,) = FaceSet.open(tmp_path)
        assert face.label == FULL.label
        assert list(face.extra.values()) == ["=17", "my remark", "first", "second", "mine"]
        FaceSet.open(tmp_path).write()
    named = path.read_text(encoding="utf-8").splitlines()[0].removeprefix(header)
    assert named == f",column {header.count(',') + 2},note,note 2,label 2"


def test_a_landmark_that_is_no_number_is_a_wrong_row(tmp_path: Path) -> None:
    written(tmp_path, FULL)
    path = tmp_path / TABLE_FILE
    path.write_text(path.read_text(encoding="utf-8").replace("58", "nan"), encoding="utf-8")
    assert "a landmark is no place" in FaceSet.open(tmp_path).problems[0]
    with pytest.raises(DataError, match="must be places"):
        Detection(Box(0, 0, 9, 9), 0.9, Landmarks.of([(float("nan"), 1)] * 5))


def test_the_table_as_dicts_and_data_frame(tmp_path: Path) -> None:
    faces = written(tmp_path, FULL, FaceRow(id="aa-2", file="crops/aa-2.png"))
    first, second = faces.to_dicts()
    assert list(first) == [*(column.name for column in COLUMNS), "person"]
    assert (first["x"], first["left_mouth_y"], first["votes"]["bored"], first["person"]) == (20, 71, 1, "=17")
    assert second["label"] is None
    pandas = pytest.importorskip("pandas")
    frame = faces.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["width"].tolist()[0] == 50


def test_a_hand_edited_table_gives_a_line_for_each_wrong_row_and_keeps_it(tmp_path: Path) -> None:
    text = "\r\n".join(
        [
            "ID;file;label;width;x;y;height;votes;status;note",
            "a;crops/a.png;calm;10,5;1;2;12;;;mine",
            "b;crops/b.png;calm;wide;1;2;12;;;",
            "a;crops/c.png;calm;;;;;;;",
            "c;crops/c.png;calm;0;1;2;12;;;",
            "d;../../etc/passwd;calm;;;;;;;",
            "e;crops/e.png;" + "x" * 300 + ";;;;;;;",
            "f;crops/f.png;calm;;;;;3 times;;",
            "g;crops/g.png;calm;;;;;;hidden;",
            ";crops/h.png;calm;;;;;;;",
            "i;crops/i.png;calm;5;;;;;;",
            'j;crops/j.png;"two\r\nlines";;;;;;;',
            "",
            "k;crops/k.png;bored;;;;;;;;;too much",
        ]
    )
    (tmp_path / TABLE_FILE).write_bytes(b"\xef\xbb\xbf" + text.encode())
    faces = FaceSet.open(tmp_path)
    assert [(face.id, face.label) for face in faces] == [("a", "calm"), ("j", "two lines")]
    assert faces["a"].box == Box(1, 2, 10.5, 12)
    said = [problem.removeprefix("faces.csv ") for problem in faces.problems]
    starts = (
        "row 3: width is 'wide'; it must be a number",
        "row 4: id a is that of row 2 already",
        "row 5: the box is (1.0, 2.0, 0.0, 12.0)",
        "row 6: file is '../../etc/passwd'",
        f"row 7: the name of a class has 1 to {MAX_NAME} letters",
        "row 8: votes are '3 times'",
        "row 9: status is 'hidden'",
        "row 10: it has no id",
        "row 11: the box is not complete",
        "row 14: it has 12 cells, the first line 10",
    )
    assert len(said) == len(starts)
    for line, start in zip(said, starts, strict=True):
        assert line.startswith(start)
        assert line.endswith("; mend or delete it")
        assert "\n" not in line

    faces.write()
    again = FaceSet.open(tmp_path)
    assert again["a"].extra == {"note": "mine"}
    assert len(again.problems) == len(starts)
    kept = (tmp_path / TABLE_FILE).read_text(encoding="utf-8")
    assert "x" * 300 in kept
    assert "too much" in kept


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"path,label\na.png,calm\n", "no column 'id'"),
        (b"", "no column 'id'"),
        ("id,file\nä,b".encode("utf-16"), "not UTF-8"),
    ],
)
def test_what_is_no_such_table_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / TABLE_FILE).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        FaceSet.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_table_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"mien faces {tmp_path} --to DIR"):
        FaceSet.open(tmp_path)
    with pytest.raises(DataError, match="mien faces PATH… --to DIR"):
        FaceSet.open(tmp_path / "nowhere")


def test_adding_keeps_what_is_there(tmp_path: Path) -> None:
    faces = written(tmp_path, FULL)
    new = FaceRow(id="bb-1", file="crops/bb-1.png")
    assert faces.add([dataclasses.replace(FULL, label="", votes={}), new]) == 1
    assert faces["aa-1"].label == "very calm, 平静"


def test_labelled_leaves_out_what_people_called_no_face(tmp_path: Path) -> None:
    rows = [
        FaceRow(id="1", file="1.png", label="calm"),
        FaceRow(id="2", file="2.png", votes={"bored": 1, "amused": 1}),
        FaceRow(id="3", file="3.png", label="calm", status="no face"),
        FaceRow(id="4", file="4.png"),
        FaceRow(id="5", file="5.png", label="calm", status="blurred"),
    ]
    faces = written(tmp_path, *rows)
    assert [face.id for face in faces.labelled()] == ["1", "2", "5"]
    assert faces.classes == ("amused", "bored", "calm")
    assert [face.id for face in faces.shown()] == ["1", "2", "4"]


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """One labels while the other adds faces; and a row that was deleted meanwhile stays deleted."""
    written(tmp_path, FULL, FaceRow(id="x", file="x.png"), FaceRow(id="y", file="y.png"))
    labels, adds = FaceSet.open(tmp_path), FaceSet.open(tmp_path)
    labels.put(dataclasses.replace(labels["x"], label="bored"))
    labels.write()
    path = tmp_path / TABLE_FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("y,")), encoding="utf-8")
    adds.add([FaceRow(id="z", file="z.png")])
    adds.write()
    assert [(face.id, face.label) for face in FaceSet.open(tmp_path)] == [
        ("aa-1", "very calm, 平静"),
        ("x", "bored"),
        ("z", ""),
    ]


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    written(tmp_path, FULL)

    def add(number: int) -> None:
        faces = FaceSet.open(tmp_path)
        faces.add([FaceRow(id=f"n{number}", file="n.png")])
        faces.write()

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {face.id for face in FaceSet.open(tmp_path)} == {"aa-1", *(f"n{number}" for number in range(8))}


def test_the_face_in_its_crop_is_the_face_in_the_picture() -> None:
    """What is cut out of a crop is what would have been cut out of the photograph, at the crop's resolution."""
    picture = np.random.default_rng(0).integers(0, 256, (200, 220, 3), np.uint8)
    face = Detection(
        Box(60.4, 50.2, 61, 70), 0.9, Landmarks.of([(75, 80), (105, 86), (90, 95), (78, 105), (103, 108)])
    )
    row = FaceRow(id="a", file="a.png", box=face.box, landmarks=face.landmarks, margin=1.6)
    cut = crop(picture, face.box, 1.6)
    inside = row.in_crop(cut.shape[0])
    assert np.array_equal(crop(cut, inside.box, 1.0), crop(picture, face.box, 1.0))
    turned, wanted = align(cut, inside, 1.1), align(picture, face, 1.1)
    assert turned.shape == wanted.shape
    assert np.abs(turned.astype(int) - wanted.astype(int)).mean() < 1.0
    half = row.in_crop(cut.shape[0] // 2)
    assert half.box.width == pytest.approx(face.box.width / 2)


def answered(folder: Path, *ids: str, label: str = "calm", who: str = "anna") -> None:
    with Store.open(folder) as store:
        store.answer(ids, who, "label", label)


def test_answers_lie_over_a_table_that_was_not_written_again(tmp_path: Path) -> None:
    """A label server that was killed before it wrote the table loses nothing."""
    written(tmp_path, *(FaceRow(id=name, file="a.png", status="blurred") for name in "abcd"))
    answered(tmp_path, "a", "b")
    answered(tmp_path, "b", label="bored", who="ben")
    with Store.open(tmp_path) as store:
        store.answer(["c"], "anna", "no face")
    faces = FaceSet.open(tmp_path)
    assert [(face.label, face.status, dict(face.votes), face.who) for face in faces] == [
        ("calm", "", {}, "anna"),
        ("", "", {"calm": 1, "bored": 1}, "anna, ben"),
        ("", "no face", {}, "anna"),
        ("", "blurred", {}, ""),
    ]
    assert [face.id for face in faces.labelled()] == ["a", "b"]


def test_a_label_typed_into_the_table_holds_and_becomes_an_answer(tmp_path: Path) -> None:
    written(tmp_path, *(FaceRow(id=name, file="a.png") for name in "ab"))
    answered(tmp_path, "a", "b")
    FaceSet.open(tmp_path).write()
    path = tmp_path / TABLE_FILE
    path.write_text(path.read_text(encoding="utf-8").replace("calm", "bored", 1), encoding="utf-8")

    faces = FaceSet.open(tmp_path)
    assert [face.label for face in faces] == ["bored", "calm"]
    faces.write()
    with Store.open(tmp_path) as store:
        assert store.agreed["a"].label == "bored"
        assert store.agreed["a"].who == "table"
    answered(tmp_path, "a", "b", label="amused", who="ben")
    answered(tmp_path, "b", label="amused")
    assert [face.label for face in FaceSet.open(tmp_path)] == [
        "",
        "amused",
    ]  # two against each other; both agree


def test_a_label_put_in_by_a_program_holds(tmp_path: Path) -> None:
    written(tmp_path, FaceRow(id="a", file="a.png"))
    answered(tmp_path, "a")
    faces = FaceSet.open(tmp_path)
    faces.put(dataclasses.replace(faces["a"], label="bored"))
    faces.write()
    assert FaceSet.open(tmp_path)["a"].label == "bored"


def test_what_others_write_right_behind_a_writing_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the moment in which the table has its name and the writing is still being recorded in the database."""
    Store.open(tmp_path).close()
    faces = written(tmp_path, FaceRow(id="aa-1", file="crops/aa-1.png"))
    recorded = faces._recorded

    @contextmanager
    def followed() -> Iterator[None]:
        with recorded():
            yield
        table = tmp_path / TABLE_FILE
        table.write_text(table.read_text("utf-8").replace("crops/aa-1.png", "crops/moved.png"), "utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(faces, "_recorded", followed)
        faces.write()
    faces.write()
    assert FaceSet.open(tmp_path)["aa-1"].file == "crops/moved.png"


def test_an_answer_given_meanwhile_is_not_taken_for_typed(tmp_path: Path) -> None:
    """`mien faces` holds the set open while somebody changes their mind in `mien label`."""
    written(tmp_path, FaceRow(id="a", file="a.png"))
    answered(tmp_path, "a", label="calm")
    adds = FaceSet.open(tmp_path)
    answered(tmp_path, "a", label="bored")
    adds.add([FaceRow(id="b", file="b.png")])
    adds.write()
    answered(tmp_path, "a", label="amused")
    faces = FaceSet.open(tmp_path)
    assert [(face.id, face.label) for face in faces] == [("a", "amused"), ("b", "")]
    faces.write()
    with Store.open(tmp_path) as store:
        assert {row.who for row in store.history("a")} == {"anna"}


def test_a_damaged_store_is_one_line(tmp_path: Path) -> None:
    written(tmp_path, FULL)
    (tmp_path / "labels.sqlite").write_bytes(b"SQLite format 3" + bytes(500))
    with pytest.raises(DataError, match=r"labels\.sqlite") as caught:
        FaceSet.open(tmp_path)
    assert "\n" not in str(caught.value)
