"""What was decided about labels and copies counts whenever the data is opened, by content, and is not asked again."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys

import pytest

from mien.cli.main import main
from mien.data import DataConfig, open_dataset
from mien.data.decisions import (
    CHANGE,
    DROP,
    KEEP,
    Decision,
    Decisions,
    about_copy,
    about_label,
    copy_pairs,
    decisions_file,
    decisions_for,
    decisions_in_copies,
    digests_of,
    read_decisions,
    remember,
    write_copies,
)
from mien.data.duplicates import find_duplicates
from mien.data.label_errors import decisions_in, find_label_errors
from mien.errors import ConfigError, DataError
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet
from mien.label.store import Store
from mien.model.folder import model_path


@pytest.fixture
def data(tmp_path, write_faces):
    """Three classes of twelve faces; sad/0.png once more as happy/copy.png."""
    root = tmp_path / "photos"
    write_faces(root, {"happy": 12, "sad": 12, "surprise": 12})
    shutil.copy(root / "sad" / "0.png", root / "happy" / "copy.png")
    return root


def labels(path, config=None):
    """Return what each picture is, by name."""
    dataset = open_dataset(path, config, carve_validation=False)
    return {
        name: dataset.classes[label]
        for part in dataset.splits.values()
        for name, label in zip(part.names, part.labels, strict=True)
    }


def place(dataset, name):
    return next(
        (key, list(part.names).index(name)) for key, part in dataset.splits.items() if name in part.names
    )


def test_labels_are_changed_dropped_and_kept_by_content(data):
    dataset = open_dataset(data, carve_validation=False)
    before = labels(data)
    made = [
        about_label(dataset, *place(dataset, "happy/3.png"), CHANGE, to="sad"),
        about_label(dataset, *place(dataset, "sad/5.png"), DROP),
        about_label(dataset, *place(dataset, "surprise/1.png"), KEEP),
    ]
    file = remember(data, made)
    assert file == decisions_file(data) == data / "mien-decisions.csv"
    (data / "happy" / "3.png").rename(data / "happy" / "renamed.png")
    after = labels(data)
    assert after["happy/renamed.png"] == "sad" and "sad/5.png" not in after and len(after) == len(before) - 1
    notes = open_dataset(data).notes
    assert any(
        "as decided in mien-decisions.csv: 1 picture left out, 1 given another label" in one for one in notes
    )
    assert labels(data, DataConfig(decisions="none"))["happy/renamed.png"] == "happy"
    assert read_decisions(file).on_label(made[2].digest, "surprise").action == KEEP
    assert read_decisions(file).on_label(made[2].digest, "happy") is None


def test_a_decision_ends_with_the_label_that_it_was_about(data):
    dataset = open_dataset(data, carve_validation=False)
    remember(data, [about_label(dataset, *place(dataset, "happy/3.png"), DROP)])
    (data / "happy" / "3.png").rename(data / "sad" / "moved.png")
    assert labels(data)["sad/moved.png"] == "sad"


def test_a_later_decision_replaces_an_earlier_one(data):
    dataset = open_dataset(data, carve_validation=False)
    where = place(dataset, "happy/3.png")
    file = remember(data, [about_label(dataset, *where, DROP)])
    remember(data, [about_label(dataset, *where, KEEP)])
    assert len(read_decisions(file)) == 1 and labels(data)["happy/3.png"] == "happy"
    with file.open("a", encoding="utf-8") as stream:
        stream.write("\n,,,,,,,,\n")  # as editors and spreadsheets leave them
    assert len(read_decisions(file)) == 1


def test_of_copies_one_is_dropped_or_both_are_kept(data):
    dataset = open_dataset(data, carve_validation=False)
    copy, original = place(dataset, "happy/copy.png"), place(dataset, "sad/0.png")
    pairs = copy_pairs(dataset, find_duplicates(dataset))
    assert [(pair.kind, pair.across) for pair in pairs] == [("pixel copy", False)]
    kept = Decisions.of([about_copy(dataset, copy, original, KEEP)])
    assert copy_pairs(dataset, find_duplicates(dataset), kept) == ()
    remember(data, [about_copy(dataset, copy, original, DROP)])
    assert len({"happy/copy.png", "sad/0.png"} & set(labels(data))) == 1
    other = place(dataset, "sad/7.png")
    remember(data, [about_copy(dataset, other, original, DROP)])
    assert "sad/7.png" not in labels(data)


def test_of_a_leak_the_training_picture_goes(tmp_path, write_faces):
    root = tmp_path / "set"
    write_faces(root, {f"{split}/{name}": 4 for split in ("train", "test") for name in ("happy", "sad")})
    shutil.copy(root / "train" / "sad" / "0.png", root / "test" / "sad" / "same.png")
    dataset = open_dataset(root, carve_validation=False)
    pairs = copy_pairs(dataset, find_duplicates(dataset))
    assert pairs[0].across and pairs[0].first[0] == "train" and pairs[0].second[0] == "test"
    write_copies(tmp_path / "copies.csv", dataset, pairs)
    remember(root, decisions_in_copies(dataset, tmp_path / "copies.csv"))
    after = labels(root)
    assert "test/sad/same.png" in after and "train/sad/0.png" not in after


def test_what_was_kept_is_not_listed_again(data):
    pytest.importorskip("cleanlab", reason="looking for wrong labels takes the training extra")
    dataset = open_dataset(data, carve_validation=False)
    found = find_label_errors(dataset, model_path("mien"))
    first = found.doubts[0]
    decided = Decisions.of([about_label(dataset, first.split, first.row, KEEP)])
    again = find_label_errors(dataset, model_path("mien"), decided=decided)
    assert len(again.doubts) == len(found.doubts) - 1
    assert first.name not in [doubt.name for doubt in again.doubts]
    assert "not listed: 1 label that somebody decided to keep" in again.notes


def test_lists_are_remembered_by_the_command(data, tmp_path, capsys):
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("split", "name", "decision"), ("train", "happy/1.png", "sad"), ("train", "sad/2.png", "keep")]
        )
    whole = ["--quick", "--sheet", "none"]
    # As the command reads it: with validation pictures set aside.
    dataset = open_dataset(data)
    rows = [
        (place(dataset, name)[0], name, what)
        for name, what in (("happy/1.png", "sad"), ("sad/2.png", "keep"))
    ]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("split", "name", "decision"), *rows])
    assert main(["data", str(data), "--remember", str(tmp_path / "list.csv"), *whole]) == 0
    assert ": 2 decisions, for" in capsys.readouterr().err and labels(data)["happy/1.png"] == "sad"
    (tmp_path / "empty.csv").write_text(f"split,name,decision\n{rows[0][0]},happy/1.png,\n", encoding="utf-8")
    assert main(["data", str(data), "--remember", str(tmp_path / "empty.csv"), *whole]) == 0
    assert "empty.csv decides nothing: fill in its column decision" in capsys.readouterr().err
    assert main(["data", str(data), "--copies", str(tmp_path / "copies"), *whole]) == 0
    assert "1 pair of copies, " in capsys.readouterr().out and (tmp_path / "copies" / "copies.png").is_file()
    assert main(["data", str(data), "--remember", str(tmp_path / "copies" / "copies.csv"), *whole]) == 0
    capsys.readouterr()
    assert main(["data", str(data), "--copies", str(tmp_path / "again"), *whole]) == 0


def test_wrong_files_lists_and_words_are_refused(data, tmp_path):
    dataset = open_dataset(data, carve_validation=False)
    path = tmp_path / "list.csv"
    path.write_text("split,name,other_split,other_name,decision\ntrain,sad/0.png,train,sad/1.png,perhaps\n")
    with pytest.raises(DataError, match="row 2 decides 'perhaps'; allowed are keep, drop, drop other"):
        decisions_in_copies(dataset, path)
    path.write_text("split,name,other_split,other_name,decision\ntrain,sad/0.png,train,nowhere.png,drop\n")
    with pytest.raises(DataError, match=r"there is no nowhere\.png in train"):
        decisions_in_copies(dataset, path)
    path.write_text("split,name,decision\ntrain,nowhere.png,drop\n")
    with pytest.raises(DataError, match="of other data"):
        decisions_in(dataset, path)
    path.write_text("about,action,digest\nlabel,guess,ab\n")
    with pytest.raises(DataError, match="row 2: a decision must keep, change or drop, got 'guess'"):
        read_decisions(path)
    path.write_text("name\nx\n")
    with pytest.raises(DataError, match="is no file of decisions"):
        labels(data, DataConfig(decisions=str(path)))
    with pytest.raises(DataError, match="there is no file of decisions"):
        labels(data, DataConfig(decisions=str(tmp_path / "nothing.csv")))
    with pytest.raises(DataError, match="no class 'mad'"):
        about_label(dataset, "train", 0, CHANGE, to="mad")
    with pytest.raises(ConfigError, match="only a changed label has a new class"):
        Decision(about="label", action=KEEP, digest="ab", to="sad")


@pytest.fixture
def typed(tmp_path, write_faces):
    """A face set whose labels were typed into its table: nobody has answered on the page yet."""
    write_faces(tmp_path / "in", {"happy": 5, "sad": 5})
    faces = FaceSet.open(tmp_path / "set", create=True)
    (tmp_path / "set" / "crops").mkdir(parents=True)
    for path in sorted((tmp_path / "in").rglob("*.png")):
        name = f"crops/{path.parent.name}-{path.name}"
        shutil.copy(path, tmp_path / "set" / name)
        faces.add([FaceRow(id=name, file=name, label=path.parent.name)])
    faces.write()
    return tmp_path / "set"


def test_what_is_decided_about_labels_that_were_typed_is_remembered(typed):
    dataset = open_dataset(typed, carve_validation=False)
    first, second = (place(dataset, f"crops/happy-{number}.png") for number in (0, 1))
    remember(typed, [about_label(dataset, *first, CHANGE, to="sad"), about_label(dataset, *second, KEEP)])
    before = {face.file: face.file.split("/")[1].partition("-")[0] for face in FaceSet.open(typed)}
    assert labels(typed) == {**before, "crops/happy-0.png": "sad"}
    with Store.open(typed) as store:
        assert store.agreed["crops/happy-1.png"].kept == "happy"


def test_a_face_set_keeps_decisions_among_its_answers(typed):
    """One home: what the page decided is not asked here, what is decided here becomes an answer there."""
    root = typed
    with Store.open(root) as store:
        store.answer(["crops/sad-1.png"], "ann", "keep", "sad")
        store.answer(["crops/sad-2.png"], "ann", "distinct", target="crops/sad-3.png")
    dataset = open_dataset(root, carve_validation=False)
    where = {name: place(dataset, name) for name in dataset.split("train").names}
    digests = dict(zip(dataset.split("train").names, digests_of(dataset.split("train")), strict=True))
    decided = decisions_for([root], DataConfig())
    assert decided.on_label(digests["crops/sad-1.png"], "sad").action == KEEP
    assert decided.on_copy(digests["crops/sad-3.png"], digests["crops/sad-2.png"]).action == KEEP

    made = [
        about_label(dataset, *where["crops/happy-0.png"], CHANGE, to="sad"),
        about_label(dataset, *where["crops/happy-1.png"], DROP),
        about_label(dataset, *where["crops/happy-2.png"], KEEP),
        about_copy(dataset, where["crops/sad-4.png"], where["crops/sad-0.png"], DROP),
    ]
    assert remember(root, made) == root / "labels.sqlite"
    assert not (root / "mien-decisions.csv").exists()
    after = labels(root)
    assert after["crops/happy-0.png"] == "sad"
    assert not {"crops/happy-1.png", "crops/sad-4.png"} & set(after)
    opened = FaceSet.open(root)
    assert (opened["crops/happy-1.png"].status, opened["crops/sad-4.png"].duplicate_of) == (
        "cannot tell",
        "crops/sad-0.png",
    )
    assert decisions_for([root], DataConfig()).on_label(made[2].digest, "happy").action == KEEP
    with Store.open(root) as store:
        assert store.agreed["crops/happy-2.png"].kept == "happy"
    with pytest.raises(DataError, match=r"about pictures that .* does not have: 1 of 1 decision"):
        remember(root, [Decision(about="label", action=DROP, digest="0" * 32, label="sad")])


def test_processes_that_remember_at_once_lose_nothing(data):
    """Each adds twenty decisions, one by one; every one is there in the end."""
    script = (
        "import sys; from pathlib import Path; from mien.data.decisions import Decision, remember\n"
        "for number in range(20): remember(Path(sys.argv[1]), [Decision(about='label', action='keep', "
        "digest=sys.argv[2] + f'{number:031}', label='sad')])"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(data), first]) for first in "ab"]
    assert [process.wait(120) for process in running] == [0, 0]
    assert len(read_decisions(decisions_file(data))) == 40
