"""What was said is kept: votes, undo, renames, other processes, kills, full and damaged files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mien.errors import ConfigError, DataError, OutputError
from mien.label import database
from mien.label import store as store_module
from mien.label.agreement import CANNOT_TELL, NO_FACE, Agreement
from mien.label.database import FILE
from mien.label.history import CLEAR, DISTINCT, KEEP, LABEL, SAME, SETTLE
from mien.label.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def labels(store: Store) -> dict[str, str]:
    return {face: agreed.label for face, agreed in store.agreed.items()}


def test_an_answer_is_there_when_the_file_is_opened_again(store: Store, tmp_path: Path) -> None:
    store.add_classes(["calm", "bored", "calm"], "ann")
    assert store.answer(["a", "b"], "ann", LABEL, "calm") == {"a", "b"}
    store.answer(["b"], "ann", LABEL, "bored")
    store.answer(["c"], "ann", CANNOT_TELL)
    store.answer(["d"], "ann", NO_FACE)
    store.close()
    with Store.open(tmp_path) as again:
        assert again.classes == ("calm", "bored")
        assert labels(again) == {"a": "calm", "b": "bored", "c": "", "d": ""}
        assert [again.agreed[face].status for face in "abcd"] == ["", "", CANNOT_TELL, NO_FACE]
        assert [row.class_ for row in again.history("b")] == ["calm", "bored"]
        assert again.agreed["b"].who == "ann" and again.agreed["b"].when.endswith("+00:00")


def test_undo_goes_back_across_restarts_and_touches_nobody_else(store: Store, tmp_path: Path) -> None:
    store.answer(["a", "b"], "ann", LABEL, "calm")
    store.answer(["a"], "ben", LABEL, "bored")
    store.answer(["a"], "ann", LABEL, "bored")
    store.close()
    again = Store.open(tmp_path)
    assert again.agreed["a"].label == "bored"
    row, changed = again.undo("ann")
    assert row is not None and (row.class_, changed) == ("bored", {"a"})
    assert again.agreed["a"].votes == {"calm": 1, "bored": 1} and not again.agreed["a"].label
    again.close()
    again = Store.open(tmp_path)
    assert again.undo("ann")[1] == {"a", "b"}
    assert labels(again) == {"a": "bored", "b": ""}
    assert again.classes == ("bored",), "the class came with the answer, and goes with it"
    assert again.undo("ann") == (None, set())
    assert len(again.history("a")) == 3, "nothing is ever removed"


def test_several_people(store: Store) -> None:
    for who, word in (("ann", "calm"), ("ben", "calm"), ("cem", "bored")):
        store.answer(["a"], who, LABEL, word)
    assert (store.agreed["a"].label, store.agreed["a"].votes) == ("calm", {"calm": 2, "bored": 1})
    store.answer(["a"], "ben", CANNOT_TELL)
    assert not store.agreed["a"].label, "who cannot tell abstains"
    store.answer(["a"], "dee", SETTLE, "bored")
    assert (store.agreed["a"].label, store.agreed["a"].who) == ("bored", "dee")
    store.answer(["a"], "ann", CLEAR)
    assert store.agreed["a"].label == "bored"
    store.answer(["b"], "ann", NO_FACE)
    store.answer(["b"], "ben", LABEL, "calm")
    assert not store.agreed["b"].label
    assert store.people() == {"dee": 1, "ann": 1, "ben": 1}
    assert store.alpha()[1] == 2, "what settled a face is no independent answer"


def test_krippendorffs_own_example() -> None:
    """Krippendorff 2011, example C: four observers, twelve units, missing answers; nominal alpha is .743."""
    observers = ("123321412...", "123322412 5.3".replace(" ", ""), ".3332342251.", "12332441251.")
    units = [[word for word in words if word != "."] for words in zip(*observers, strict=True)]
    assert alpha(units) == (pytest.approx(0.743, abs=5e-4), 11)
    assert alpha(["aa", "aa"]) == (None, 2)
    assert alpha(["aa", "bb", "a"]) == (1, 2)
    counted = Agreement()
    for times in (1, -1, 1):
        for unit in units:
            counted.count(unit, times)
    assert counted.alpha() == pytest.approx(0.743, abs=5e-4)


def alpha(units: Iterable[Iterable[str]]) -> tuple[float | None, int]:
    counted = Agreement()
    for unit in units:
        counted.count(unit)
    return counted.alpha(), counted.units


def test_classes_are_renamed_and_merged_in_all_answers_and_back(store: Store) -> None:
    store.answer(["a"], "ann", LABEL, "calm")
    store.answer(["b"], "ann", LABEL, "relaxed")
    store.answer(["a"], "ben", LABEL, "relaxed")
    store.rename("calm", "at ease", "ann")
    assert (labels(store), store.classes) == ({"a": "", "b": "relaxed"}, ("at ease", "relaxed"))
    store.merge("relaxed", "at ease", "ben")
    assert (labels(store), store.classes) == ({"a": "at ease", "b": "at ease"}, ("at ease",))
    store.answer(["c"], "ann", LABEL, "relaxed")
    assert store.agreed["c"].label == "relaxed", "a class may take the name of one that is gone"
    store.undo("ben")
    assert labels(store) == {"a": "", "b": "relaxed", "c": "relaxed"}
    with pytest.raises(ConfigError, match="there is a class 'relaxed' already; merge the two"):
        store.rename("at ease", "Relaxed ", "ann")
    with pytest.raises(ConfigError, match="there is no class 'x'; there are: at ease, relaxed"):
        store.merge("x", "relaxed", "ann")


@pytest.mark.parametrize("name", ["a, b", "開心", "l'ennui", "<b>bold</b>", "x" * 100, "=1+1"])
def test_names_that_a_class_may_have(store: Store, name: str) -> None:
    store.answer(["a"], "ann", LABEL, f" {name}\n")
    assert (store.classes, store.agreed["a"].label) == ((name,), name)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("calm\x1b[1m", "the name of a class has letters that can be shown"),
        ("x" * 300, r"the name of a class has 1 to 100 letters, got 'x+… \(300 letters\)'; choose another"),
        ("  ", "the name of a class has 1 to 100 letters, got ''"),
        ("No face", "'No face' is an answer of its own, not the name of a class"),
    ],
)
def test_names_that_a_class_may_not_have(store: Store, name: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line) as error:
        store.answer(["a"], "ann", LABEL, name)
    assert "\n" not in str(error.value)
    assert store.agreed == {}


def test_decisions_are_remembered(store: Store) -> None:
    store.answer(["a"], "ann", LABEL, "calm")
    store.answer(["a"], "ann", KEEP, "calm")
    store.answer(["b"], "ann", SAME, target="a")
    store.answer(["c"], "ann", DISTINCT, target="a")
    assert store.agreed["a"].kept == "calm"
    assert (store.agreed["b"].status, store.agreed["b"].duplicate_of) == ("duplicate", "a")
    assert (store.agreed["c"].status, store.agreed["c"].duplicate_of) == ("", "")
    assert store.agreed["c"].status_over("duplicate") == ""
    store.undo("ann")
    assert store.agreed["c"].status_over("duplicate") == "duplicate"
    assert store.agreed["c"].status_over(NO_FACE) == ""


def test_another_process_is_seen(store: Store, tmp_path: Path) -> None:
    with Store.open(tmp_path) as other:
        other.answer(["a"], "ben", LABEL, "calm")
        assert store.refresh() == {"a"}
        store.undo("ben")
        assert other.refresh() == {"a"}
        assert labels(other) == {"a": ""}


def test_two_at_once_lose_nothing(store: Store, tmp_path: Path) -> None:
    def work(who: str) -> None:
        with Store.open(tmp_path) as mine:
            for number in range(40):
                mine.answer([f"{number}"], who, LABEL, "calm")

    threads = [threading.Thread(target=work, args=(who,)) for who in ("ann", "ben", "cem")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.refresh()
    assert all(store.agreed[f"{number}"].votes == {"calm": 3} for number in range(40))


def test_edits_of_the_table_settle_a_face_and_what_mien_wrote_is_none(store: Store) -> None:
    store.answer(["a"], "ann", LABEL, "calm")
    store.answer(["b"], "ann", LABEL, "bored")
    table = {"a": "", "b": "", "c": "amused"}
    assert store.take_edits(table) == {"c"}, "a label that was there before the first answer"
    with pytest.raises(OSError), store.writing_table({"a": "calm", "b": "bored", "c": "amused"}):
        raise OSError
    assert store.take_edits(table) == set(), "the table is still as it was"
    with store.writing_table(labels(store)):
        pass
    assert store.take_edits({"a": "calm", "b": "bored", "c": "amused"}) == set()
    store.answer(["a"], "ann", LABEL, "bored")
    store.answer(["a"], "ben", LABEL, "bored")
    assert store.take_edits({"a": "calm", "b": "amused", "c": ""}) == {"b", "c"}
    assert labels(store) == {"a": "bored", "b": "amused", "c": ""}
    assert store.agreed["b"].who == "table"
    with pytest.raises(ConfigError, match="can be shown"):
        store.take_edits({"a": "calm", "b": "one\x07two", "c": "new"})
    assert labels(store)["c"] == ""


@pytest.mark.parametrize("later", [11_000, 6_400], ids=["a break", "the clock is put back"])
def test_the_pace_is_the_person_s_own_without_breaks(
    store: Store, monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    moments = iter([*range(10_000, 10_040, 2), *range(later, later + 40, 2)])

    class Clock(store_module.datetime):
        @classmethod
        def now(cls, tz: object = None) -> store_module.datetime:
            return cls.fromtimestamp(next(moments), tz)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "datetime", Clock)
    for number in range(20):
        store.answer([f"{number}"], "ann", LABEL, "calm")
        if number == 5:
            assert store.pace_s("ann") is None, "too few to say"
    for number in range(20, 40):
        store.answer([f"{number}", f"{number}b"], "ann", LABEL, "calm")
    assert store.pace_s("ann") == pytest.approx(2 * 38 / (19 + 2 * 19))
    assert store.pace_s("ben") is None


def test_several_may_open_a_set_that_has_no_answers_yet(tmp_path: Path) -> None:
    begin = threading.Barrier(4)

    def opened(folder: Path) -> None:
        begin.wait()
        Store.open(folder).close()

    with ThreadPoolExecutor(4) as people:
        for number in range(40):
            (folder := tmp_path / str(number)).mkdir()
            list(people.map(opened, [folder] * 4))


KILLED = """
import sys
from pathlib import Path
from mien.label.history import LABEL
from mien.label.store import Store
store = Store.open(Path(sys.argv[1]))
for number in range(100_000):
    store.answer([str(number)], "ann", LABEL, "calm")
    print(number, flush=True)
"""


def test_a_kill_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 50:
                process.send_signal(signal.SIGKILL)
                break
        last = int([line, *process.stdout.read().split()][-1])
    with Store.open(tmp_path) as again:
        assert last >= 50
        assert {str(number) for number in range(last + 1)} <= labels(again).keys()


FULL = """
import resource, sys
from pathlib import Path
from mien.errors import OutputError
from mien.label.history import LABEL
from mien.label.store import Store
store = Store.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for number in range(100_000):
    try:
        store.answer([str(number)], "ann", LABEL, "calm")
    except OutputError as error:
        print(number, error)
        assert str(number) not in store.agreed
        break
"""


def test_a_full_disk_is_said_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    number, line = done.stdout.strip().split(" ", 1)
    assert line.startswith(f"cannot write {tmp_path / FILE}: ") and line.endswith(
        "what was stored before is safe"
    )
    with Store.open(tmp_path) as again:
        assert len(again.agreed) == int(number) > 10
        again.answer([number], "ann", LABEL, "calm")


def test_a_file_that_is_held_damaged_or_newer(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.answer([str(number) for number in range(2000)], "ann", LABEL, "calm")
    monkeypatch.setattr(database, "_WAIT_S", 0.1)
    holder = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Store.open(tmp_path) as other, pytest.raises(OutputError, match="is held by another program"):
        other.answer(["a"], "ann", LABEL, "bored")
    holder.execute("ROLLBACK")
    holder.execute("PRAGMA user_version = 7")
    holder.close()
    store.close()
    with pytest.raises(
        DataError, match=r"by a newer mien \(its version is 7, this mien reads up to 1\); update mien"
    ):
        Store.open(tmp_path)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[64:64] = b""
    data[60:64] = (1).to_bytes(4, "big")
    data[4096:40_000] = os.urandom(40_000 - 4096)
    (tmp_path / FILE).write_bytes(data)
    for opening in (Store.open, Store.read):
        with pytest.raises(DataError, match=r"is damaged \(.*\); move it away and put back a copy"):
            opening(tmp_path)
        if Path("/proc/self/fd").is_dir():  # so that it can be moved away on Windows, too
            held = [one.readlink() for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
            assert tmp_path / FILE not in held
    (tmp_path / FILE).write_bytes(b"no database at all" * 99)
    with pytest.raises(DataError, match="is damaged"):
        Store.open(tmp_path)
    (tmp_path / FILE).unlink()
    with sqlite3.connect(tmp_path / FILE) as theirs:
        theirs.execute("CREATE TABLE theirs (x)")
    theirs.close()
    with pytest.raises(DataError, match="is a database of another program"):
        Store.open(tmp_path)


def test_reading_alone_makes_nothing_and_works_beside_a_writer(store: Store, tmp_path: Path) -> None:
    store.answer(["a"], "ann", LABEL, "calm")
    reading = Store.read(tmp_path)
    assert reading is not None and labels(reading) == {"a": "calm"}
    store.answer(["b"], "ann", LABEL, "calm")
    assert reading.refresh() == {"b"}
    with pytest.raises(OutputError, match="was opened for reading"):
        reading.answer(["c"], "ann", LABEL, "calm")
    reading.close()
    (tmp_path / "empty").mkdir()
    assert Store.read(tmp_path / "empty") is None
    assert list((tmp_path / "empty").iterdir()) == []


def test_rows_cannot_be_changed_by_mistake(store: Store, tmp_path: Path) -> None:
    store.answer(["a"], "ann", LABEL, "calm")
    with sqlite3.connect(tmp_path / FILE) as other:
        for line in ("DELETE FROM answers", "UPDATE answers SET who = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="answers are only added"):
                other.execute(line)
    other.close()


def test_what_is_sent_again_under_its_key_is_stored_once(store: Store, tmp_path: Path) -> None:
    def told(one: Store, key: str) -> list[str]:
        with one.under(key) as stored:
            if not stored:
                one.answer(["a"], "ann", LABEL, "calm")
        return [row.action for row in one.history("a")]

    assert told(store, "k1") == ["label"]
    assert told(store, "k1") == ["label"]
    with Store.open(tmp_path) as other:  # a server that was started anew, or another on the same folder
        assert told(other, "k1") == ["label"]
        with other.under("k2") as stored:
            assert not stored
            told_meanwhile = told(store, "k2")
            other.answer(["a"], "ann", LABEL, "bored")  # the transaction itself looks once more
        assert told_meanwhile == ["label", "label"] == [row.action for row in other.history("a")]
        assert labels(other) == {"a": "calm"}
    assert told(store, "") == ["label"] * 3
    assert told(store, "") == ["label"] * 4, "without a key, everything counts"


def test_an_undo_that_is_sent_again_takes_back_one_answer(store: Store) -> None:
    store.answer(["a", "b"], "ann", LABEL, "calm")
    store.answer(["b"], "ann", LABEL, "bored")
    with store.under("z") as stored:
        assert not stored
        row, _ = store.undo("ann")
    assert row is not None and (row.class_, row.action) == ("bored", LABEL)
    with store.under("z") as stored:
        assert stored
        assert store.undone_under("z") == (row, {"b"})
    assert labels(store) == {"a": "calm", "b": "calm"}


def test_a_database_from_before_keys_were_kept_opens(store: Store, tmp_path: Path) -> None:
    store.answer(["a"], "ann", LABEL, "calm")
    store.close()
    with sqlite3.connect(tmp_path / FILE) as earlier:
        earlier.execute("DROP TABLE idempotency_keys")
    earlier.close()
    before = (tmp_path / FILE).read_bytes()
    reading = Store.read(tmp_path)
    assert reading is not None and labels(reading) == {"a": "calm"}
    reading.close()
    assert (tmp_path / FILE).read_bytes() == before, "reading changes nothing"
    with Store.open(tmp_path) as again, again.under("k") as stored:
        assert not stored
        assert labels(again) == {"a": "calm"}
        again.answer(["a"], "ann", LABEL, "bored")
    with sqlite3.connect(tmp_path / FILE) as earlier:
        (version,) = earlier.execute("PRAGMA user_version").fetchone()
        assert version == 1, "an older mien still opens it"
    earlier.close()


def test_a_class_is_one_however_its_letters_are_typed(store: Store) -> None:
    store.add_classes(["Calm"], "ann")
    store.answer(["a"], "ann", LABEL, "calm")
    store.label_each({"b": "CALM", "c": "odd", "d": "Odd"}, "ann")
    assert labels(store) == {"a": "Calm", "b": "Calm", "c": "odd", "d": "odd"}
    assert store.classes == ("Calm", "odd")
    assert store.take_edits({"a": "calm", "b": "ODD"}) == {"b"}, "by hand, in the table"
    assert store.take_edits({"a": "calm", "b": "ODD"}) == set(), "once"
    assert labels(store)["b"] == "odd"
