"""The server of `mien label` as others may meet it: its own page, several people, attackers, full disks, kills."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.cli.main import main
from mien.errors import ConfigError
from mien.faceset.table import FaceSet
from mien.label.config import LabelConfig
from mien.label.database import FILE
from mien.label.store import Store

from .conftest import MARK, Labelling, StartLabel, write_face_set

TOKEN = "a-token.of_twenty~letters"


@pytest.fixture(scope="module")
def server(start_label: StartLabel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labelling]:
    folder = tmp_path_factory.mktemp("faces") / "set"
    write_face_set(folder)
    with start_label(folder, "--classes", "calm,bored", "--no-learn") as running:
        yield running


def answers(state: dict) -> dict[int, tuple[str, str, dict[str, str]]]:
    return {place: (label, status, people) for place, label, status, people, *_ in state["answers"]}


def test_what_the_page_loads(server: Labelling) -> None:
    state = server.state()
    assert len(state["id"]) == 24 and state["classes"] == ["calm", "bored"]
    assert state["sources"][0].endswith(f"{MARK}.png") and state["source"][:3] == [0, 0, 1]
    assert state["status"][5] == "blurred" and state["default_who"] == "me"


def test_answers_of_two_people_undo_and_changes(server: Labelling) -> None:
    before = server.state()["seq"]
    told = server.say("ann", ["id-000", "id-001"], "label", "calm").json
    assert answers(told) == {0: ("calm", "", {"ann": "calm"}), 1: ("calm", "", {"ann": "calm"})}
    server.say("ben", ["id-000"], "label", "bored")
    server.say("ben", ["id-001"], "no face")
    seen = server.ask("GET", f"/v1/changes?since={before}&who=ann").json
    assert answers(seen)[0] == ("", "", {"ann": "calm", "ben": "bored"})
    assert seen["people"] == {"ann": 2, "ben": 2} and seen["agreement"]["faces"] == 2
    assert answers(server.ask("GET", f"/v1/changes?since={seen['seq']}").json) == {}
    undone = server.post("/v1/undo", who="ben").json
    assert (undone["undone"], undone["faces"]) == ("no face", [1])
    assert server.state()["people"] == {"ann": 2, "ben": 1}
    said = server.ask("GET", f"/v1/history/1?session={seen['session']}").json["history"]
    assert [(one["who"], one["action"], one["taken_back"]) for one in said] == [
        ("ann", "label", False),
        ("ben", "no face", True),
    ]


def test_classes_for_many_faces_are_one_answer(server: Labelling) -> None:
    labels = {"id-020": "calm", "id-021": "bored", "id-022": "calm"}
    told = server.post("/v1/answers", who="cem", labels=labels).json
    assert {place: label for place, (label, *_) in answers(told).items() if place > 19} == {
        20: "calm",
        21: "bored",
        22: "calm",
    }
    assert server.post("/v1/undo", who="cem").json["faces"] == [20, 21, 22]
    assert server.post("/v1/answers", who="cem", labels={"id-020": 7}).status == 422
    assert server.post("/v1/answers", who="cem", labels={"elsewhere": "calm"}).status == 422
    assert "cem" not in server.state()["people"]


def test_what_is_sent_again_under_one_key_counts_once(server: Labelling) -> None:
    def told_twice(path: str, key: str, **body: object) -> dict:
        first, again = (server.post(path, who="dot", idempotency_key=key, **body) for _ in range(2))
        assert (first.status, again.status) == (200, 200)
        assert first.json["seq"] == again.json["seq"], "nothing was added"
        return again.json

    told_twice("/v1/answers", "1", faces=["id-012"], action="label", **{"class": "calm"})
    told_twice("/v1/answers", "2", labels={"id-012": "bored", "id-013": "fresh"})
    told_twice("/v1/classes", "3", action="rename", name="fresh", to="freshest")
    undone = told_twice("/v1/undo", "4")
    assert (undone["undone"], undone["class"]) == ("rename", "fresh")
    undone = told_twice("/v1/undo", "5")
    assert (undone["undone"], undone["faces"]) == ("label", [12, 13]), "also where a class came with it"
    assert answers(server.state())[12] == ("calm", "", {"dot": "calm"})
    told_twice("/v1/undo", "6")
    assert "dot" not in server.state()["people"]
    for key in (7, "k" * 101):
        wrong = server.post("/v1/undo", who="dot", idempotency_key=key)
        assert wrong.status == 422 and wrong.line.startswith("idempotency_key: ")


def test_classes_come_go_by_other_names_and_merge(server: Labelling) -> None:
    server.say("ann", ["id-010"], "label", "開心, very\n")
    assert answers(server.state())[10][0] == "開心, very"
    server.post("/v1/classes", who="ann", action="rename", name="開心, very", to="joy")
    told = server.post("/v1/classes", who="ann", action="merge", name="joy", to="calm").json
    assert told["classes"] == ["calm", "bored"] and answers(server.state())[10][0] == "calm"
    for about, line in (
        ({"action": "add", "name": "x" * 300}, "the name of a class has 1 to 100 letters"),
        ({"action": "add", "name": "CALM"}, "there is a class 'calm' already"),
        ({"action": "merge", "name": "calm", "to": "nothing"}, "there is no class 'nothing'"),
        ({"action": "burn", "name": "calm"}, "classes can be added, renamed and merged"),
    ):
        answer = server.post("/v1/classes", who="ann", **about)
        assert (answer.status, answer.line[: len(line)]) == (422, line)


def test_small_crops_come_by_the_dozen(server: Labelling) -> None:
    state = server.state()
    answer = server.ask("GET", f"/v1/small?session={state['session']}&side=96&faces=3,17")
    data, levels = answer.body, []
    while data:
        (length,) = struct.unpack("<I", data[:4])
        image = cv2.imdecode(np.frombuffer(data[4 : 4 + length], np.uint8), cv2.IMREAD_COLOR)
        levels.append(int(image[2, 2, 0]))
        data = data[4 + length :]
    assert levels == [pytest.approx(20 + 200 * 3 // 24, abs=3), pytest.approx(20 + 200 * 17 // 24, abs=3)]
    for query, status in (
        (f"session={state['session']}&side=96&faces=99", 404),
        (f"session={state['session']}&side=97&faces=1", 422),
        (f"session={state['session']}&side=96&faces=../1", 422),
        (f"session={state['session']}&side=96&faces={','.join(['1'] * 500)}", 422),
        ("session=another&side=96&faces=1", 409),
    ):
        answer = server.ask("GET", f"/v1/small?{query}")
        assert (answer.status, bool(answer.line)) == (status, True)


def test_the_whole_photograph_with_the_place_of_the_face(server: Labelling) -> None:
    session = server.state()["session"]
    answer = server.ask("GET", f"/v1/photograph/3?session={session}")
    image = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (120, 200, 3)
    assert [float(share) for share in answer.headers["x-face-box"].split(",")] == [0.55, 0.25, 0.25, 0.5]


def test_others_are_kept_out(server: Labelling) -> None:
    body = b'{"who": "eve", "faces": ["id-002"], "action": "label", "class": "owned"}'
    kind = {"Content_Type": "application/json"}
    before = server.state()["seq"]
    for headers, status in (
        ({"Host": "evil.example", **kind}, 421),
        ({"Host": f"localhost:{server.port}", "Origin": "http://evil.example", **kind}, 403),
        ({"Host": f"localhost:{server.port}", "Origin": "null", **kind}, 403),
        ({"Host": f"localhost:{server.port}", "Content_Type": "text/plain"}, 415),
    ):
        answer = server.ask("POST", "/v1/answers", body, **headers)
        assert (answer.status, bool(answer.line)) == (status, True)
    assert server.ask("GET", "/v1/faces", Host="evil.example").status == 421
    assert server.state()["seq"] == before
    policy = server.ask("GET", "/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"no json", "the body is not JSON"),
        (b"[1]", "the body must be a JSON object"),
        (b'{"who": "ann", "faces": "id-001", "action": "label"}', "faces: a list of ids is needed"),
        (b'{"who": "ann", "faces": [], "action": "label", "class": "calm"}', "about which faces?"),
        (b'{"who": "ann", "faces": ["../../etc/passwd"], "action": "no face"}', "there is no face"),
        (b'{"who": "ann", "faces": ["id-001"], "action": "burn"}', "there is no answer 'burn'"),
        (
            b'{"who": "", "faces": ["id-001"], "action": "no face"}',
            "the name of a person has 1 to 100 letters",
        ),
        (b'{"who": 7, "faces": ["id-001"], "action": "no face"}', "who: a text is needed"),
        (
            b'{"who": "ann", "faces": ["id-001"], "action": "label"}',
            "the name of a class has 1 to 100 letters",
        ),
        (
            b'{"who": "ann\\ud800", "faces": ["id-001"], "action": "no face"}',
            "the body has halves of letters",
        ),
        (
            b'{"who": "ann", "faces": ["\\uDC00"], "action": "no face"}',
            "the body has halves of letters",
        ),
        (
            b'{"who": "a\\u0000", "faces": ["id-001"], "action": "no face"}',
            "the name of a person has letters that can be shown",
        ),
        (
            b'{"who": " table ", "faces": ["id-001"], "action": "no face"}',
            "'table' stands for whoever edits the table",
        ),
        (b'{"who": "ann", "faces": ["id-001"], "action": "duplicate"}', "'duplicate' is about two faces"),
        (
            b'{"who": "ann", "faces": ["id-001"], "action": "distinct", "target": "id-001"}',
            "'distinct' is about two faces",
        ),
        (
            b'{"who": "ann", "faces": ["id-001"], "action": "keep"}',
            "the name of a class has 1 to 100 letters",
        ),
        (
            b'{"who": "ann", "faces": ["id-001"], "action": "no face", "since": "7"}',
            "since: a whole number is needed",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(server: Labelling, body: bytes, line: str) -> None:
    answer = server.ask("POST", "/v1/answers", body, Content_Type="application/json")
    assert answer.status in (400, 422) and answer.line.startswith(line)
    huge = server.ask("POST", "/v1/answers", b" " * 5_000_000, Content_Type="application/json")
    assert huge.status == 413


def test_wrong_addresses_and_orders_are_told(server: Labelling) -> None:
    assert server.post("/v1/training", cancel="yes").line == "cancel: true or false is needed"
    assert server.ask("GET", "/v1/faces/").status == 404, (
        "no redirection, which would lose https behind a proxy"
    )
    assert "openapi" not in server.ask("GET", "/docs").line, "there is none here"


def test_no_two_classes_differ_by_small_and_large_letters(server: Labelling) -> None:
    server.say("fay", ["id-014"], "label", "CALM")
    told = server.post("/v1/answers", who="fay", labels={"id-015": "Bored", "id-016": "Odd", "id-017": "odd"})
    state = answers(told.json)
    assert [state[place][0] for place in (15, 16, 17)] == ["bored", "Odd", "Odd"]
    assert answers(server.state())[14][0] == "calm"
    assert told.json["classes"] == ["calm", "bored", "Odd"]
    for _ in range(2):
        server.post("/v1/undo", who="fay")
    assert server.state()["classes"] == ["calm", "bored"]


def test_an_answer_by_a_name_that_another_person_has_just_changed(server: Labelling) -> None:
    """A page hears of it a second later; what is said meanwhile must not bring the old class back."""
    server.say("gil", ["id-018"], "label", "keen")
    since = server.state()["seq"]
    server.post("/v1/classes", who="hal", action="rename", name="keen", to="eager")
    late = {"who": "gil", "faces": ["id-019"], "action": "label", "class": "keen"}
    told = server.post("/v1/answers", **late, since=since).json
    assert (answers(told)[19][0], told["classes"]) == ("eager", ["calm", "bored", "eager"])
    told = server.post(
        "/v1/answers", who="gil", labels={"id-019": "keen"}, known=since, since=told["seq"]
    ).json
    assert told["classes"] == ["calm", "bored", "eager"]
    told = server.post("/v1/answers", **late, since=told["seq"]).json
    assert told["classes"] == ["calm", "bored", "eager", "keen"], "who knows of it means a new one"
    for who in ("gil", "gil", "gil", "hal", "gil"):
        server.post("/v1/undo", who=who)
    assert server.state()["classes"] == ["calm", "bored"]


@pytest.mark.parametrize(
    "path",
    [
        "/label/../../store.py",
        "/label/%2e%2e/%2e%2e/store.py",
        "/static/..%2f..%2fauth.py",
        "/v1/crop/%2e%2e",
    ],
)
def test_no_path_leads_out(server: Labelling, path: str) -> None:
    assert server.ask("GET", path).status in (404, 422)


def test_only_sources_of_the_table_that_are_pictures_are_shown(folder: Path, start_label: StartLabel) -> None:
    secret = folder.parent / "secret.txt"
    secret.write_text("the secret")
    (folder / "crops" / "000.png").unlink()
    (folder / "crops" / "000.png").symlink_to(secret)
    (folder / "crops" / "001.png").unlink()
    for number, source in enumerate(
        ["../secret.txt", "http://127.0.0.1:9/x.mp4", "../gone.png", "/dev/zero", "/etc"]
    ):
        faces = FaceSet.open(folder)
        row = faces.faces[number]

        faces.put(dataclasses.replace(row, source=source, time_s=1.0 if "mp4" in source else None))
        faces.write()
    with start_label(folder, "--no-learn") as server:
        session = server.state()["session"]
        for number in range(5):
            answer = server.ask("GET", f"/v1/photograph/{number}?session={session}")
            assert answer.status == 422 and b"secret</" not in answer.body and answer.line
            assert str(folder.parent) not in answer.line, "no path of the machine is told"
        assert "leads out of the folder" in server.ask("GET", f"/v1/crop/0?session={session}").line
        assert "is not there any more" in server.ask("GET", f"/v1/crop/1?session={session}").line
        small = server.ask("GET", f"/v1/small?session={session}&side=96&faces=0,1").body
        assert small == struct.pack("<II", 0, 0)


def test_a_token_is_wanted_for_everything_but_the_page(folder: Path, start_label: StartLabel) -> None:
    with start_label(folder, "--token", TOKEN, "--no-learn") as server:
        assert server.ask("GET", "/").status == server.ask("GET", "/label/label.js").status == 200
        for path in ("/v1/faces", "/v1/changes", "/v1/crop/0?session=x"):
            assert server.ask("GET", path).status == 401
        assert server.say("eve", ["id-001"], "no face").status == 401
        assert server.ask("GET", "/v1/faces", Authorization=f"Bearer {TOKEN}").status == 200


def test_other_networks_need_a_token() -> None:
    with pytest.raises(
        ConfigError, match=r"everybody who reaches 0\.0\.0\.0 could see the faces .* give a token"
    ):
        LabelConfig(host="0.0.0.0")
    assert LabelConfig(host="0.0.0.0", token=TOKEN).serve.hosts == ()


def test_a_kill_loses_nothing_and_undo_goes_on(folder: Path, start_label: StartLabel) -> None:
    with start_label(folder, "--no-learn") as server:
        for number in range(20):
            assert server.say("ann", [f"id-{number:03}"], "label", "calm").status == 200
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    assert len(FaceSet.open(folder).labelled()) == 20, "training sees them without the page"
    with start_label(folder, "--no-learn") as server:
        assert server.state()["people"] == {"ann": 20}
        assert server.post("/v1/undo", who="ann").json["faces"] == [19]


def test_the_table_follows_and_edits_of_it_are_taken_in(folder: Path, start_label: StartLabel) -> None:
    with start_label(folder, "--no-learn") as server:
        server.say("ann", ["id-000", "id-001", "id-005"], "label", "calm")
        server.say("ben", ["id-001"], "label", "bored")
        server.say("ann", ["id-002"], "cannot tell")
    with (folder / "faces.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["status"], row["who"]) for row in rows[:3]] == [
        ("calm", "", "ann"),
        ("", "", "ann, ben"),
        ("", "cannot tell", "ann"),
    ]
    assert (rows[1]["votes"], rows[5]["status"]) == ('{"calm": 1, "bored": 1}', ""), (
        "a person says it is good enough"
    )
    text = (folder / "faces.csv").read_text(encoding="utf-8")
    (folder / "faces.csv").write_text(text.replace(",calm,,ann,", ",amused,,ann,", 1), encoding="utf-8")
    with start_label(folder, "--no-learn") as server:
        assert answers(server.state())[0] == ("amused", "", {"table": "amused"})
        assert server.state()["classes"] == ["calm", "bored", "amused"]


def test_a_full_disk_is_told_and_nothing_is_lost(folder: Path, start_label: StartLabel) -> None:
    with start_label(folder, "--no-learn", before="ulimit -f 128") as server:
        count, answer = 0, server.say("ann", ["id-000"], "label", "calm")
        while answer.status == 200 and count < 2000:
            count += 1
            answer = server.say("ann", [f"id-{count % 24:03}"] * 20, "label", "calm")
        assert answer.status == 507 and "free some space" in answer.line, answer.body
        assert server.ask("GET", "/v1/faces").status == 200, "what is there can be looked at"
    with Store.open(folder) as store:
        assert len(store.history("id-001")) >= 20


def test_a_database_that_is_locked_is_told(folder: Path, start_label: StartLabel) -> None:
    with start_label(folder, "--no-learn") as server:
        holder = sqlite3.connect(folder / FILE, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        answer = server.say("ann", ["id-000"], "label", "calm")
        assert answer.status == 507 and "is held by another program" in answer.line
        holder.execute("ROLLBACK")
        holder.close()
        assert server.say("ann", ["id-000"], "label", "calm").status == 200


def test_what_cannot_be_opened_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*words: str) -> str:
        assert main(["label", *words, "--port", "0"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    newer = sqlite3.connect(folder / FILE)
    newer.executescript("PRAGMA application_id = 1835623790; PRAGMA user_version = 99; CREATE TABLE x (y);")
    newer.close()
    assert "was written by a newer mien" in line(str(folder))
    (folder / FILE).write_bytes(os.urandom(20_000))
    assert "is damaged" in line(str(folder))
    said = line(str(folder.parent))
    assert "is no face set" in said and said.endswith(f"with: mien faces {folder.parent} --to DIR\n")
    assert "give a token" in line(str(folder), "--host", "0.0.0.0")
    (folder / FILE).unlink()
    assert "the name of a class has 1 to 100 letters" in line(str(folder), "--classes", "x" * 300)


def news(server: Labelling, since: int) -> dict:
    return server.ask("GET", f"/v1/changes?since={since}").json


def waited(what: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.2)


def test_what_is_written_to_the_table_meanwhile_shows_by_itself(
    folder: Path, start_label: StartLabel
) -> None:
    """Faces that `mien faces` adds, and labels that are edited by hand: nobody need answer anything first."""
    with start_label(folder, "--no-learn", "--classes", "calm") as server:
        before = server.state()
        server.say("ann", ["id-003"], "label", "calm")
        other = FaceSet.open(folder)
        other.add([dataclasses.replace(other.faces[0], id="new", file="crops/001.png")])
        other.write()
        waited(lambda: news(server, 0)["session"] != before["session"])
        after = server.state()
        assert after["id"] == [*before["id"], "new"]
        assert server.say("ann", ["new"], "label", "calm").status == 200
        waited(lambda: FaceSet.open(folder)["new"].label == "calm" and ",calm," in table(folder))

        lines = table(folder).splitlines(keepends=True)
        column = next(csv.reader(lines[:1])).index("label")
        cells = next(csv.reader([lines[8]]))
        assert (cells[0], cells[column]) == ("id-007", "")
        cells[column] = "typed"
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerow(cells)
        (folder / "faces.csv").write_text("".join([*lines[:8], rows.getvalue(), *lines[9:]]), "utf-8")
        waited(lambda: answers(news(server, 0)).get(7, ("",))[0] == "typed")
        assert "typed" in server.state()["classes"]
        assert server.state()["session"] == after["session"], "the places of the faces are as they were"


def table(folder: Path) -> str:
    return (folder / "faces.csv").read_text("utf-8")


def test_rows_that_vanish_or_cannot_be_read_are_told_and_cost_no_answer(
    folder: Path, start_label: StartLabel
) -> None:
    with start_label(folder, "--no-learn", "--classes", "calm,bored") as server:
        session = server.state()["session"]
        server.say("ann", ["id-003", "id-020"], "label", "calm")
        waited(lambda: ",calm," in table(folder))
        whole = table(folder)
        (folder / "faces.csv").write_text("no table", "utf-8")
        waited(lambda: "faces.csv is no table of a face set" in news(server, 0)["problem"])
        assert server.state()["session"] == session, "what was there stays"
        assert server.say("ann", ["id-004"], "label", "bored").status == 200
        lines = whole.splitlines(keepends=True)
        (folder / "faces.csv").write_text("".join([*lines[:1], *lines[11:]]), "utf-8")
        waited(lambda: news(server, 0)["session"] != session)
        state = server.state()
        assert state["id"] == [f"id-{number:03}" for number in range(10, 24)]
        assert answers(news(server, 0)) == {10: ("calm", "", {"ann": "calm"})}, "by the places of now"
        waited(lambda: news(server, 0)["problem"] == "")
        assert server.say("ann", ["id-003"], "label", "bored").status == 422
        (folder / "faces.csv").write_text(whole, "utf-8")
        waited(lambda: len(server.state()["id"]) == 24)
        assert answers(server.state())[4][0] == "bored"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_table_that_lacks_the_last_answers_is_told_at_the_end(
    folder: Path, start_label: StartLabel, sent: signal.Signals, code: int
) -> None:
    with start_label(folder, "--no-learn", "--classes", "calm,bored") as server:
        (folder / "faces.csv").unlink()
        (folder / "faces.csv").mkdir()
        assert server.say("ann", ["id-003"], "label", "calm").status == 200
        server.process.send_signal(sent)
        assert server.process.wait(30) == code
        assert "mien: the answers are stored, but the table is not: " in server.log.read_text()
