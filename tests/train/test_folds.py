"""`--folds K`: dealt by content and group, judged out of fold, trained on all, and resumed in whichever fold."""

import csv
import json
import signal
import subprocess

import numpy as np
import pytest

pytest.importorskip("keras")

from mien.cli.main import main
from mien.data import open_dataset
from mien.data.dataset import Split
from mien.data.drawn import draw_dataset
from mien.data.pictures import InMemoryPictures, fingerprints_of
from mien.errors import ConfigError, DataError
from mien.model.folder import read_model_folder
from mien.train.config import TrainConfig
from mien.train.folds import FoldAnswers, check_folds, deal, pooled
from mien.train.run import train

from .test_train import mien, wait_for_epoch

CLASSES = ("calm", "bored")
QUICK = ["--folds", "2", "--epochs", "2", "--batch-size", "16", "--size", "16"]


def pool(labels, groups=None, first=0):
    """Different noisy pictures, which nobody takes for copies of each other."""
    pixels = np.stack(
        [
            np.random.default_rng(first + row).integers(0, 256, (24, 24), dtype=np.uint8)
            for row in range(len(labels))
        ]
    )
    return Split(
        InMemoryPictures(pixels),
        np.array(labels, np.int64),
        [f"{row}.png" for row in range(len(labels))],
        None,
        groups,
    )


def test_groups_are_never_parted_and_classes_are_spread():
    groups = [f"g{row // 3}" for row in range(36)]
    split = pool([row // 3 % 2 for row in range(36)], groups)
    fold, problems = deal(split, CLASSES, 3, 0)
    assert problems == ()
    assert all(len({fold[row] for row in range(36) if groups[row] == name}) == 1 for name in set(groups))
    counts = [np.bincount(split.labels[fold == number], minlength=2).tolist() for number in range(3)]
    assert counts == [[6, 6]] * 3


def test_neither_order_nor_names_matter():
    split = pool([row % 2 for row in range(20)])
    fold, _ = deal(split, CLASSES, 4, 0)
    order = np.random.default_rng(1).permutation(20)
    again, _ = deal(split.take(order), CLASSES, 4, 0)
    np.testing.assert_array_equal(again, fold[order])
    assert (deal(split, CLASSES, 4, 1)[0] != fold).any()


@pytest.mark.parametrize(
    ("labels", "groups", "count", "said"),
    [
        ([0, 0, 1, 1], None, 5, r"--folds 5 needs at least as many pictures, and there are 4"),
        ([0, 1] * 6, ["a"] * 6 + ["b"] * 6, 3, "needs at least as many groups of pictures .* there are 2"),
        ([0, 0, 0, 1, 1], ["a", "b", "c", "d", "d"], 2, r"class 'bored' has all 2 pictures in one group"),
        ([0, 0, 0, 1], None, 2, r"class 'bored' has one picture alone"),
        ([0, 0, 1, 1], None, 3, r"--folds 3 needs a class with as many pictures, and the largest has 2"),
    ],
)
def test_what_cannot_be_dealt_is_refused_in_one_line(labels, groups, count, said):
    with pytest.raises(DataError, match=said):
        deal(pool(labels, groups), CLASSES, count, 0)


def test_a_class_with_fewer_pictures_than_folds_is_told():
    fold, problems = deal(pool([0] * 9 + [1, 1]), CLASSES, 3, 0)
    assert problems == (
        f"fewer pictures than folds, so that some folds ask about none of them: {CLASSES[1]}",
    )
    assert fold[9] != fold[10]


def test_nothing_is_chosen_on_held_out_pictures():
    for settings in ({"patience": 3}, {"schedule": "plateau"}, {"phases": ({"patience": 2},)}):
        with pytest.raises(ConfigError, match="--patience 0 --schedule cosine"):
            check_folds(TrainConfig(folds=5, **settings))
    with pytest.raises(ConfigError, match="folds must be 2 or more"):
        check_folds(TrainConfig(folds=1))


def test_answers_are_found_by_content_and_survive_writing(tmp_path):
    split = pool([0, 1, 0])
    keys = np.frombuffer(b"".join(fingerprints_of(split.pictures).keys), np.uint8).reshape(-1, 16)
    told = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    FoldAnswers(keys, np.array([0, 1, 0]), (told,)).write(tmp_path / "answers.npz")
    found = FoldAnswers.read(tmp_path / "answers.npz").for_pictures(split.take(np.array([2, 0])))
    np.testing.assert_array_equal(found.answers[0], told[[2, 0]])
    assert FoldAnswers.read(tmp_path / "answers.npz").for_pictures(pool([0], first=9)) is None
    np.savez(tmp_path / "other.npz", keys=keys, head0=told)
    assert FoldAnswers.read(tmp_path / "other.npz") is None
    (tmp_path / "answers.npz").write_bytes(b"PK broken")
    assert FoldAnswers.read(tmp_path / "answers.npz") is None


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    draw_dataset(folder, classes=("happy", "sad"), per_class=16, seed=1)
    return folder / "train"


def test_a_limit_holds_for_all_that_is_dealt(faces):
    """Validation pictures came on top of it: 3,689 of FER-2013 with a limit of 100."""
    dataset = open_dataset(faces)
    assert len(dataset.splits["validation"]) > 0
    part, dealt = pooled(dataset, TrainConfig(folds=2, limit=20))
    assert len(part.split("train")) == len(dealt) == 20


@pytest.mark.slow
def test_mistakes_out_of_fold_are_of_the_last_epoch_of_all_phases(faces, tmp_path):
    config = TrainConfig(folds=2, network="lenet5", size=16, epochs=1, batch_size=32, phases=({"epochs": 2},))
    train(config, faces, tmp_path / "run")
    with (tmp_path / "run" / "mistakes.csv").open(encoding="utf-8") as stream:
        assert {row["epoch"] for row in csv.DictReader(stream)} == {"3"}


@pytest.mark.slow
def test_a_run_in_folds_is_killed_goes_on_and_says_what_it_is(faces, tmp_path, capsys):
    run = tmp_path / "run"
    process = mien("train", faces, "--to", run, *QUICK, start=subprocess.Popen)
    wait_for_epoch(run / "folds" / "2", process)
    first = (run / "folds" / "1" / "out-of-fold.npz").stat().st_mtime_ns
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert main(["train", str(faces), "--to", str(run), *QUICK]) == 0
    out = capsys.readouterr().out
    assert (run / "folds" / "1" / "out-of-fold.npz").stat().st_mtime_ns == first  # not trained again
    count = sum(1 for _ in faces.glob("*/*.png"))
    assert f"on {count} pictures, out of fold" in out
    report = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    assert (report["data"]["split"], report["data"]["n"]) == ("out-of-fold", count)
    assert any(
        note.startswith("out of fold: each picture is answered by one of 2 networks")
        for note in report["notes"]
    )
    metadata = read_model_folder(run / "model").metadata
    (score,) = metadata.scores
    assert (score["split"], score["n"], score["accuracy"]) == (
        "out-of-fold",
        count,
        report["scores"]["accuracy"],
    )
    assert "This network learnt from all of the pictures" in (run / "model" / "CARD.md").read_text(
        encoding="utf-8"
    )
    with np.load(run / "trained-on.npz") as seen:
        assert seen.files == ["train"]
        assert len(seen["train"]) == count
    # What the report says is what the networks of the folds said, each of what it had not seen.
    with (run / "report" / "predictions.csv").open(encoding="utf-8") as stream:
        right = [row["right"] == "1" for row in csv.DictReader(stream)]
    assert np.mean(right) == pytest.approx(report["scores"]["accuracy"])
    sides = []
    for number in (1, 2):
        with np.load(run / "folds" / str(number) / "trained-on.npz") as seen:
            held = {key.tobytes() for key in seen["validation"]}
            assert not held & {key.tobytes() for key in seen["train"]}
            sides.append(held)
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == count
    assert (
        main(["evaluate", str(run), str(faces), "--to", str(tmp_path / "again"), "--resamples", "200"]) == 0
    )
    assert f"on {count} pictures, out of fold" in capsys.readouterr().out
    # Beside a test part, too: there the report of every training in folds was a KeyError.
    beside = ["evaluate", str(run), str(faces.parent), "--split", "out-of-fold", "--resamples", "200"]
    assert main([*beside, "--to", str(tmp_path / "beside")]) == 0
    assert f"on {count} pictures, out of fold" in capsys.readouterr().out
