"""Nothing is scored or chosen on what was learnt before: by `--from`, `--teacher`, or as a member of an ensemble."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the train extra")

from mien.cli.main import main
from mien.data import open_dataset
from mien.data.dataset import DataConfig
from mien.data.drawn import draw_dataset
from mien.data.pictures import fingerprints_of
from mien.errors import ConfigError, DataError
from mien.evaluate.evaluate import evaluate
from mien.terminal import ProgressBar
from mien.train import run_folder
from mien.train.config import TrainConfig
from mien.train.ensemble import make_ensemble
from mien.train.run import train

CLASSES = ("happy", "sad")


class Shown(ProgressBar):
    """Keeps what a training shows."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return faces that lie together, so that a seed decides what is set aside."""
    drawn, folder = tmp_path_factory.mktemp("drawn") / "faces", tmp_path_factory.mktemp("data") / "faces"
    draw_dataset(drawn, classes=CLASSES, per_class=24, seed=5)
    for path in drawn.rglob("*.png"):
        place = folder / path.parent.name / f"{path.parent.parent.name}-{path.name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    return folder


@pytest.fixture(scope="module")
def first(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained(faces, tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def folded(faces: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a run with folds that starts from the first one, and what it said."""
    shown = Shown()
    out = tmp_path_factory.mktemp("runs") / "folded"
    return _trained(faces, out, shown, init_from=str(first), folds=2), shown.lines


def _trained(data: Path, out: Path, show: ProgressBar | None = None, **settings: object) -> Path:
    values = {"size": 16, "epochs": 1, "batch_size": 16, **settings}
    if "init_from" in values:
        del values["size"]
    return train(TrainConfig(**values), data, out, show=show).folder  # type: ignore[arg-type]


def _keys(data: Path, split: str, **settings: int) -> set[bytes]:
    found = open_dataset(data, DataConfig(**settings)).split(split)  # type: ignore[arg-type]
    return set(fingerprints_of(found.pictures).keys)


@pytest.mark.slow
def test_what_was_learnt_before_is_noted_and_not_scored(faces: Path, first: Path, tmp_path: Path) -> None:
    """With another seed most validation pictures were learnt by the run that --from names; nothing said so."""
    shown = Shown()
    out = _trained(faces, tmp_path / "next", shown, init_from=str(first), split_seed=3)
    learnt, held = _keys(faces, "train"), _keys(faces, "validation", split_seed=3)
    known = len(held & learnt)
    assert 0 < known < len(held)
    note = f"leak: {first}, from which this training learns, has learnt {known} of {len(held)} validation pictures"
    assert sum(note in line for line in shown.lines) == 1
    assert run_folder.learnt(out) == learnt | _keys(faces, "train", split_seed=3)
    report = evaluate(out, faces)
    assert report.scores.n == len(held - learnt)
    assert report.data.trained_on
    # A third one knows of the first as well, and of a file in a run as of the run.
    third = _trained(faces, tmp_path / "third", init_from=str(out / "best.keras"), limit=4)
    assert run_folder.learnt(third) == run_folder.learnt(out) | run_folder.seen(third)


@pytest.mark.slow
def test_a_training_that_nothing_could_judge_is_refused(
    faces: Path, first: Path, folded: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Out of fold is what no network has learnt, and the network that a run with folds leaves has learnt all."""
    run, lines = folded
    total, learnt = len(_keys(faces, "train")) + len(_keys(faces, "validation")), len(_keys(faces, "train"))
    assert any(
        f"leak: {first}, from which this training learns, has learnt {learnt} of {total} pictures" in line
        for line in lines
    )
    assert evaluate(run, faces).scores.n == total - learnt
    for settings in ({}, {"folds": 2}):
        with pytest.raises(ConfigError, match=r"has learnt all (validation|train) pictures, so that nothing"):
            _trained(faces, tmp_path / "none", init_from=str(run), **settings)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_an_ensemble_is_calibrated_on_what_no_member_has_learnt(
    faces: Path, first: Path, folded: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The validation pictures of the first member were training pictures of the second, and counted all the same."""
    second = _trained(faces, tmp_path / "second", split_seed=3)
    learnt, held = _keys(faces, "train", split_seed=3), _keys(faces, "validation")
    shown = Shown()
    made = make_ensemble([str(first), str(second)], tmp_path / "both", data=faces, show=shown)
    assert [score["n"] for score in made.scores] == [len(held - learnt)]
    assert any(f"trained on them: {len(held & learnt)} of {len(held)} validation pictures" in line
               for line in shown.lines)  # fmt: skip
    both = learnt | _keys(faces, "train")
    assert evaluate(tmp_path / "both", faces).scores.n == len(
        (held | _keys(faces, "validation", split_seed=3)) - both
    )
    make_ensemble(
        [str(first), str(second)], tmp_path / "both", data=faces
    )  # takes the place of the older one
    with pytest.raises(ConfigError, match=r"the models have learnt all of \d+ validation pictures of"):
        make_ensemble([str(first), str(folded[0])], tmp_path / "none", data=faces)


@pytest.mark.slow
def test_what_a_teacher_learnt_and_what_an_exported_folder_learnt(
    faces: Path, first: Path, tmp_path: Path
) -> None:
    """Neither was known: a student was scored on its teacher's pictures, and what began with a folder on that's."""
    folder = tmp_path / "exported"
    assert main(["export", str(first), "--to", str(folder)]) == 0
    learnt, held = _keys(faces, "train"), _keys(faces, "validation", split_seed=3)
    assert run_folder.learnt(folder) == learnt
    assert run_folder.seen(folder, "validation") == _keys(faces, "validation")
    for place, settings in (("student", {"teacher": (str(folder),)}), ("next", {"init_from": str(folder)})):
        shown = Shown()
        out = _trained(faces, tmp_path / place, shown, split_seed=3, **settings)
        note = (
            f"leak: {folder}, from which this training learns, has learnt {len(held & learnt)} of {len(held)} "
            "validation pictures"
        )
        assert sum(note in line for line in shown.lines) == 1
        assert evaluate(out, faces).scores.n == len(held - learnt)


@pytest.mark.slow
def test_an_ensemble_of_one_network_twice_is_refused(faces: Path, first: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied.keras"
    copied.write_bytes((first / "best.keras").read_bytes())
    for other in (first / "model", first / "model" / "model.onnx", copied):
        with pytest.raises(
            ConfigError, match=f"^{first} and {other} are one network; name each network once$"
        ):
            make_ensemble([str(first), str(other)], tmp_path / "both", data=faces)
    assert not (tmp_path / "both").exists()


def test_a_folder_says_what_was_learnt_before(tmp_path: Path) -> None:
    own, before = [bytes([1] * 16)], {bytes([2] * 16), bytes([3] * 16)}
    run_folder.write_seen(tmp_path, {"train": own}, before=before)
    assert run_folder.seen(tmp_path) == set(own)
    assert run_folder.learnt(tmp_path) == set(own) | before
    assert run_folder.run_of(tmp_path / "best.keras") == tmp_path.absolute()
    with np.load(tmp_path / "trained-on.npz") as stored:  # written by an earlier version
        np.savez(tmp_path / "trained-on.npz", train=stored["train"])
    assert run_folder.learnt(tmp_path) == set(own)
    whole = (tmp_path / "trained-on.npz").read_bytes()
    for damaged in (b"", b"3", whole[: len(whole) // 2]):
        (tmp_path / "trained-on.npz").write_bytes(damaged)
        for asked in (run_folder.learnt, run_folder.seen_sources):
            with pytest.raises(
                DataError, match=r"trained-on\.npz is damaged, so that nobody can say which pictures"
            ):
                asked(tmp_path)
