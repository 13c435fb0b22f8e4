"""Beside the people who label: guesses, their order, doubtful labels, on drawn faces and the shipped network."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data.drawn import draw_face
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet
from mien.label.agreement import NO_FACE
from mien.label.history import KEEP, LABEL
from mien.label.learning import CACHE, Learning
from mien.label.wall import Wall

EACH = 20


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face set of drawn faces; the id says which expression was drawn."""
    folder = tmp_path_factory.mktemp("drawn") / "set"
    (folder / "crops").mkdir(parents=True)
    faces = FaceSet.open(folder, create=True)
    random = np.random.default_rng(0)
    for number in range(EACH):
        for expression in ("happy", "surprise"):
            name = f"crops/{expression}-{number}.png"
            cv2.imwrite(str(folder / name), draw_face(expression, random)[:, :, ::-1])
            faces.add([FaceRow(id=f"{expression} {number}", file=name)])
    faces.add([FaceRow(id="blurred", file=name, status="blurred"), FaceRow(id="lost", file="crops/gone.png")])
    faces.write()
    return folder


def wait_for(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + 120
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_guesses_orders_and_doubts(drawn: Path) -> None:
    wall = Wall.open(drawn, [], "ann")
    learning = Learning(wall)
    try:
        learning.start()
        wait_for(lambda: learning.told()["step"] == "ready")
        first = learning.guesses
        assert set(first.guess) == {-1} and learning.told()["expected"] is None
        assert sorted(first.alike) == list(range(len(wall.faces))), "the wall can be sorted before any label"
        happy = [f"happy {number}" for number in range(12)]
        wrong = "surprise 2"
        surprised = [f"surprise {number}" for number in range(12)]
        wall.answer([*happy, wrong], "ann", LABEL, "glad", "")  # one by mistake
        wall.answer([one for one in surprised if one != wrong], "ann", LABEL, "amazed", "")
        wall.answer(["happy 19"], "ann", NO_FACE, None, "")
        wait_for(lambda: learning.guesses.about.get("labelled") == 24 and learning.told()["step"] == "ready")
        guesses = learning.guesses
        rest = [
            place
            for place, face in enumerate(wall.faces)
            if guesses.guess[place] >= 0 and not wall.agreed(face).label
        ]
        assert len(rest) == 2 * EACH - 24 - 1, "not what is no face, blurred or cannot be read"
        right = [
            guesses.classes[guesses.guess[place]]
            == ("glad" if wall.faces[place].id.startswith("happy") else "amazed")
            for place in rest
        ]
        assert np.mean(right) >= 0.85
        assert all(50 <= guesses.share[place] <= 99 for place in rest)
        assert sorted(guesses.helpful) == rest
        assert guesses.doubts[0][:2] == (wall.place[wrong], "amazed")
        wall.answer([wrong], "ann", KEEP, "glad", "")
        wait_for(lambda: learning.guesses.version > guesses.version)
        assert wall.place[wrong] not in [place for place, *_ in learning.guesses.doubts], (
            "it is not asked again"
        )
    finally:
        learning.close()
        wall.close()


def test_features_are_computed_once(drawn: Path) -> None:
    assert (drawn / CACHE).is_file()
    shutil.rmtree(drawn / "crops")
    wall = Wall.open(drawn, [], "ann")
    learning = Learning(wall)
    try:
        learning.start()
        wait_for(lambda: learning.told()["step"] in ("ready", "off"))
        assert learning.told()["step"] == "ready", learning.note
        assert len(set(learning.guesses.alike)) == len(wall.faces)
        assert learning.guesses.about["accuracy"] > 0.8, "the features are those of the faces that are gone"
    finally:
        learning.close()
        wall.close()


class _MeanwhileGrown(Learning):
    def _look_at_faces(self, *faces: object) -> None:
        """A further face comes into the table behind those that are looked at."""
        super()._look_at_faces(*faces)
        if len(self.wall.faces) < 3:
            table = FaceSet.open(self.wall.folder)
            table.add([FaceRow(id="new", file="crops/new.png")])
            table.write()
            self.wall.read_table()


def test_a_face_that_comes_while_others_are_looked_at_waits_for_the_next_time(tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    FaceSet(tmp_path, [FaceRow(id=one, file=f"crops/{one}.png") for one in ("one", "two")]).write()
    wall = Wall.open(tmp_path, ["joy"], "ann")
    before, learning = wall.session, _MeanwhileGrown(wall)
    try:
        learning._work()
        assert (learning.step, learning.note) == ("ready", "")
        assert wall.session != before and len(wall.faces) == 3
        learning._work()
        assert learning.step == "ready" and len(learning._features) == 3
    finally:
        wall.close()


_SLOW = """
import sys, time
from mien.cli.main import main
from mien.label.learning import Learning

def fit(*_):
    print("fitting", file=sys.stderr, flush=True)
    time.sleep(60)  # as on a machine that is busy with other things

Learning._fit = fit
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_guesses_that_nobody_will_see_are_not_waited_for(
    drawn: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    """One signal ends `mien label` with its own exit code, and the answers are in the table."""
    folder = shutil.copytree(drawn, tmp_path / "set")
    wall = Wall.open(folder, ["joy"], "ann")
    wall.answer(["happy 0"], "ann", LABEL, "joy", "")
    wall.store.close()  # before the table is written, as by a kill
    words = [sys.executable, "-c", _SLOW, "label", str(folder), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        said = [process.stderr.readline() for _ in range(2)]  # type: ignore[union-attr]
        assert "fitting\n" in said and any("listening" in line for line in said)
        process.send_signal(sent)
        assert process.wait(30) == code
        assert "Traceback" not in process.stderr.read()  # type: ignore[union-attr]
    with (folder / "faces.csv").open(encoding="utf-8", newline="") as file:
        assert {row["id"]: row["label"] for row in csv.DictReader(file)}["happy 0"] == "joy"
