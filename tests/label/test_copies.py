"""Copies among the faces of a wall: found in any disguise, decided on once, remembered."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data.drawn import draw_face
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet
from mien.label.copies import PIXEL_COPY, CopySearch
from mien.label.history import DISTINCT, LABEL, SAME
from mien.label.wall import Wall


@pytest.fixture
def wall(tmp_path: Path):
    """Noise that differs, one of it twice, one mirrored and cropped, one of the same group."""
    folder = tmp_path / "set"
    (folder / "crops").mkdir(parents=True)
    random = np.random.default_rng(0)
    drawn = draw_face("happy", random)
    texture = cv2.resize(
        random.integers(0, 256, (14, 14, 3), np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC
    )
    other = cv2.resize(
        random.integers(0, 256, (14, 14, 3), np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC
    )
    pictures = {
        "drawn": drawn, "texture": texture, "same": texture, "mirrored": texture[8:, 150:6:-1], "other": other,
        "blurred": other,
    }  # fmt: skip
    faces = FaceSet.open(folder, create=True)
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / "crops" / f"{name}.png"), picture)
        faces.add(
            [
                FaceRow(
                    id=name, file=f"crops/{name}.png", group="one" if name in ("texture", "same") else name,
                    sharpness=9.0 if name == "texture" else 1.0, status="blurred" if name == "blurred" else "",
                )
            ]
        )  # fmt: skip
    faces.add([FaceRow(id="gone", file="crops/gone.png")])
    faces.write()
    wall = Wall.open(folder, ["calm", "bored"], "ann")
    yield wall
    wall.close()


def test_a_face_that_others_set_aside_in_the_table_is_shown_as_such(wall: Wall) -> None:
    wall.answer(["other"], "ann", LABEL, "calm", "")
    wall.write_table()
    session = wall.session
    table = FaceSet.open(wall.folder)
    for name in ("texture", "other"):
        table.put(replace(table[name], status="tiny"))
    table.write()  # as mien faces does with another --min-size
    wall.read_table()
    statuses = {face.id: wall.status(face) for face in wall.faces}
    assert (statuses["texture"], statuses["other"]) == ("tiny", ""), "what people said counts more"
    assert wall.session != session, "so that the page loads it"
    session = wall.session
    wall.answer(["same"], "ann", LABEL, "bored", "")
    wall.write_table()
    assert wall.session == session, "answers alone change no place"


def pairs(search: CopySearch) -> list[tuple[str, str]]:
    search.start()
    ends = time.monotonic() + 60
    while (told := search.told())["state"] in ("none", "reading", "comparing"):
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert told["state"] == "ready", told["note"]
    ids = [face.id for face in search._wall.faces]
    return [(ids[one], ids[other]) for one, other, _ in told["pairs"]]


def test_pairs_leaks_first_and_none_twice(wall: Wall) -> None:
    search = CopySearch(wall)
    found = pairs(search)
    assert {frozenset(pair) for pair in found} >= {
        frozenset({"texture", "same"}),
        frozenset({"texture", "mirrored"}),
    }
    assert found[-1] == ("texture", "same"), "of one group, so no leak; the sharper one first"
    assert not {"drawn", "other", "blurred", "gone"} & {face for pair in found for face in pair}
    kinds = {kind for *_, kind in search.told()["pairs"]}
    assert PIXEL_COPY in kinds and any("mirrored" in kind for kind in kinds)

    wall.answer(["texture"], "ann", LABEL, "calm", "")
    wall.answer(["same"], "ann", LABEL, "bored", "")
    assert pairs(search)[0] == ("texture", "same"), "two labels"
    wall.answer(["mirrored"], "ann", DISTINCT, None, "texture")
    wall.answer(["same"], "ann", SAME, None, "texture")
    assert ("texture", "mirrored") not in pairs(search) and ("texture", "same") not in pairs(search)
    assert wall.status(wall.faces[wall.place["mirrored"]]) == ""
    wall.undo("ann")
    assert ("texture", "same") in pairs(search)
    search.close()
