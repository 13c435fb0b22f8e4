"""What belongs together stays on one side; adding pictures moves none; what leaks is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import ConfigError, DataError


def sides(dataset) -> dict[str, str]:
    return {name: side for side, split in dataset.splits.items() for name in split.names}


def note(dataset, beginning: str) -> str:
    return next(note for note in dataset.notes if note.startswith(beginning) or beginning in note)


@pytest.fixture
def frames(tmp_path: Path, face) -> Path:
    """Ten persons with three frames each in either of two classes; the frames are nearly the same."""
    for label in ("angry", "happy"):
        (tmp_path / "frames" / label).mkdir(parents=True)
        for person in range(10):
            picture = face(person + 100 * (label == "happy"), 48).astype(np.int16)
            for frame in range(3):
                shifted = np.clip(picture + 3 * frame, 0, 255).astype(np.uint8)
                path = tmp_path / "frames" / label / f"p{person}_{frame}.png"
                path.write_bytes(cv2.imencode(".png", shifted)[1].tobytes())
    return tmp_path / "frames"


def test_near_copies_stay_on_one_side_and_it_is_said(frames):
    for seed in range(5):
        dataset = open_dataset(frames, DataConfig(split_seed=seed))
        by_person: dict[str, set[str]] = {}
        for name, side in sides(dataset).items():
            by_person.setdefault(name.split("_")[0], set()).add(side)
        assert all(len(found) == 1 for found in by_person.values()) and len(by_person) == 20
        assert "kept on one side: 60 with near copies" in note(dataset, "set aside for validation")
        assert not any("leak" in line for line in dataset.notes)


def test_persons_stay_on_one_side_over_all_classes(frames):
    dataset = open_dataset(frames, DataConfig(group="p[0-9]+", validation_share=0.3))
    persons = {
        side: {name.split("/")[1].split("_")[0] for name in split.names}
        for side, split in dataset.splits.items()
    }
    assert persons["train"] | persons["validation"] == {f"p{number}" for number in range(10)}
    assert not persons["train"] & persons["validation"]
    assert note(dataset, "grouped by") == "grouped by 'p[0-9]+' in the names: 10 groups"


def test_adding_pictures_moves_none(frames, face):
    # Shares at which chance sets some of either class aside: where it set none, one is taken, and may go back.
    for config in (DataConfig(group="p[0-9]+", validation_share=0.4), DataConfig(validation_share=0.4)):
        before = sides(open_dataset(frames, config))
        assert set(before.values()) == {"train", "validation"}
        added = []
        for number in range(40):
            path = frames / ("angry", "happy")[number % 2] / f"p{20 + number}_0.png"
            path.write_bytes(cv2.imencode(".png", face(1000 + number, 48))[1].tobytes())
            added.append(path)
        after = sides(open_dataset(frames, config))
        assert {name: after[name] for name in before} == before and len(after) == len(before) + 40
        for path in added:
            path.unlink()


def test_a_part_of_the_name_in_parentheses_is_the_group(frames):
    dataset = open_dataset(frames, DataConfig(group=r"p(\d)_"), carve_validation=False)
    assert set(dataset.splits["train"].groups) == set("0123456789")


def test_groups_that_cannot_be(frames):
    with pytest.raises(
        DataError, match=r"--group 'film' is neither a column nor found in any picture's name, such as"
    ):
        open_dataset(frames, DataConfig(group="film"))
    with pytest.raises(ConfigError, match=r"group must be a column's name or a regular expression, got '\('"):
        DataConfig(group="(")


def test_a_class_that_one_person_has_alone_is_for_training_and_it_is_said(tmp_path, write_faces):
    write_faces(tmp_path, {"happy": 6, "sad": 6, "calm": 3})
    for path in tmp_path.rglob("*.png"):
        person = "z" if path.parent.name == "calm" else path.stem
        path.rename(path.with_name(f"{person}_{path.name}"))
    dataset = open_dataset(tmp_path, DataConfig(group=r"[^/]+(?=_\d)", classes=("happy", "sad", "calm")))
    assert np.bincount(dataset.splits["validation"].labels, minlength=3)[2] == 0
    assert any(
        line.startswith("no validation picture of calm: all of it belongs to one group")
        for line in dataset.notes
    )


def test_leaks_of_splits_that_the_data_brought(tmp_path, write_faces):
    write_faces(tmp_path, {"train/happy": 4, "train/sad": 4, "test/happy": 2, "test/sad": 2}, size=48)
    shutil.copy(tmp_path / "train/sad/0.png", tmp_path / "test/sad/copy.png")
    picture = cv2.imread(str(tmp_path / "train/happy/0.png"), cv2.IMREAD_GRAYSCALE)
    lighter = np.clip(picture.astype(np.int16) + 4, 0, 255).astype(np.uint8)
    (tmp_path / "test/happy/lighter.png").write_bytes(cv2.imencode(".png", lighter)[1].tobytes())
    dataset = open_dataset(tmp_path, DataConfig(group=r"[^/]+\.png$"), carve_validation=False)
    leak = next(line for line in dataset.notes if line.startswith("leak: of 6 test pictures"))
    assert "1 are pixel copies of train pictures and 1 near copies" in leak
    assert any(
        line.startswith("leak: 2 groups, such as '0.png', in train and test") for line in dataset.notes
    )


def test_near_copies_through_a_whole_class_do_not_keep_it_from_being_checked(tmp_path, face):
    for label in range(2):
        for number in range(6):
            picture = np.clip(face(label, 48).astype(np.int16) + number, 0, 255).astype(np.uint8)
            path = tmp_path / "ab"[label] / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    dataset = open_dataset(tmp_path)
    assert np.bincount(dataset.splits["validation"].labels, minlength=2).min() > 0
    assert any(line.startswith("near copies lie on both sides") for line in dataset.notes)
    assert any(line.startswith("leak: of ") for line in dataset.notes)


def test_a_column_that_one_of_two_data_sets_has_groups_that_one(tmp_path, write_faces):
    write_faces(tmp_path / "web", {"happy": 2, "sad": 2})
    write_faces(tmp_path / "lab", {"happy": 2, "sad": 2})
    rows = [
        f"{path.relative_to(tmp_path / 'lab')},{path.parent.name},{path.stem}"
        for path in sorted((tmp_path / "lab").rglob("*.png"))
    ]
    (tmp_path / "lab" / "lab.csv").write_text("\n".join(["path,label,mood", *rows]))
    both = Path(f"{tmp_path / 'lab' / 'lab.csv'}:{tmp_path / 'web'}")
    dataset = open_dataset(both, DataConfig(group="mood"), carve_validation=False)
    groups = dict(zip(dataset.splits["train"].names, dataset.splits["train"].groups, strict=True))
    assert groups["lab/happy/0.png"] == groups["lab/sad/0.png"] == "lab/0"
    assert groups["web/happy/0.png"] == ""
    assert note(dataset, "--group 'mood'").startswith("--group 'mood' is a column that web lacks")
