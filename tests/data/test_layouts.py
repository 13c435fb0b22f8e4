"""Folders of splits, classes, persons and folds: recognised, or refused with a list of what was found."""

from __future__ import annotations

import numpy as np
import pytest

from mien.data import open_dataset
from mien.errors import DataError

from .conftest import TWO, groups, labels, read, said, sizes


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("training_set", "test_set", "test"),
        ("Train Data", "val-images", "validation"),
        ("FER2013Train", "FER2013Valid", "validation"),
        ("trainset", "dev", "validation"),
        ("train_images", "eval", "test"),
    ],
)
def test_split_folders_by_what_their_names_mean(write, train, other, split):
    root = write(*(f"{train}/{name}" for name in TWO), *(f"{other}/{name}" for name in TWO))
    dataset = read(root)
    assert dataset.classes == ("angry", "happy") and sizes(dataset) == {"train": 2, split: 2}


@pytest.mark.parametrize("again", ["Train/Train", "Train/Train_Aligned_Faces", "Train/Train/Train"])
def test_a_split_folder_that_only_holds_its_like_is_entered(write, again):
    # As SFEW is given out, and as many a zip unpacks: the classes were 'Train' and 'Val'.
    root = write(
        *(f"{again}/{name}" for name in TWO), *(f"Val/Val/{name}" for name in TWO), "Test/Test/1.png"
    )
    dataset = read(root)
    assert dataset.classes == ("angry", "happy") and sizes(dataset) == {"train": 2, "validation": 2}
    assert labels(dataset)[f"{again}/happy/0.png"] == "happy"
    assert said(dataset, "not used: 1 picture in Test/Test/, outside any class folder")


def test_one_word_of_the_names_tells_splits_where_nothing_else_is_called_train(write):
    names = ("faces_augmented_train", "faces_augmented_test")
    dataset = read(write(*(f"{name}/{picture}" for name in names for picture in TWO)))
    assert dataset.classes == ("angry", "happy") and sizes(dataset) == {"train": 2, "test": 2}
    assert said(dataset, "faces_augmented_test (test), faces_augmented_train (train)")
    root = write(
        *(f"more/{name}/{picture}" for name in ("train", "train_augmented", "test") for picture in TWO)
    )
    beside = read(root / "more")
    assert sizes(beside) == {"train": 2, "test": 2}
    assert said(beside, "train_augmented/ (2 pictures) lies beside the folders of the splits; not used")


def test_paths_that_are_named_like_splits_are_parts_of_one_data_set(write):
    # Both were training: a network learnt its own test pictures.
    root = write(*(f"{part}/{name}" for part in ("train", "testing") for name in TWO))
    dataset = read([root / "train", root / "testing"])
    assert sizes(dataset) == {"train": 2, "test": 2}
    assert labels(dataset)["testing/happy/0.png"] == "happy"
    assert said(dataset, "one data set, split by the names of its parts: train (train), testing (test)")
    own = write(*(f"own/{name}" for name in TWO)) / "own"
    assert sizes(read([own, root / "testing"])) == {"train": 4}  # somebody's own choice


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "faces.rar",
            b"Rar!\x1a\x07\x00",
            "is a rar archive, which mien does not unpack; unpack it and give",
        ),
        ("faces.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive, which"),
        ("faces", b"PK\x03\x04", "is a zip archive; let its name end in .zip"),
        ("faces.npz", b"PK\x03\x04", "is not read; write the pictures as files"),
        ("faces.xls", b"\xd0\xcf\x11\xe0", "is not read; save it as .xlsx or as CSV UTF-8"),
        (
            "talk.mp4",
            b"\0\0\0\x18ftypmp42",
            "is a video; cut its faces out first: mien faces .*talk.mp4 --to",
        ),
    ],
)
def test_what_holds_labels_or_pictures_in_another_form_is_told_what_to_do(tmp_path, name, content, words):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(content + bytes(40))
    for path in (tmp_path / "set", tmp_path / "set" / name):
        with pytest.raises(DataError, match=f"{name} {words}"):
            read(path)


def test_one_picture_is_no_data_set(write):
    with pytest.raises(
        DataError, match=r"a\.png is one picture; give the folder with the folders of all classes"
    ):
        read(write("a.png") / "a.png")


def test_two_data_sets_side_by_side_are_refused_by_name_and_combined_on_request(write):
    for name in ("first", "second"):
        write(*(f"{name}/{split}/{picture}" for split in ("train", "test") for picture in TWO))
    root = write("second/train/Happy/extra.png")
    with pytest.raises(
        DataError, match=r"2 data sets lie in .*: first/, second/; name one as DATA, or several"
    ):
        read(root)
    both = read([root / "first", root / "second"], merge=("happy=happy+Happy",))
    assert both.name == "first+second" and sizes(both) == {"train": 5, "test": 4}
    assert labels(both)["second/train/Happy/extra.png"] == "happy"
    picture = both.splits["train"].names.index("second/train/angry/0.png")
    alone = read(root / "second", merge=("happy=happy+Happy",)).splits["train"]
    np.testing.assert_array_equal(
        both.splits["train"].pictures.read(picture),
        alone.pictures.read(alone.names.index("train/angry/0.png")),
    )


def test_a_set_with_splits_beside_one_without_is_not_dropped_in_silence(write):
    root = write(*(f"one/train/{name}" for name in TWO), *(f"two/{name}" for name in TWO))
    with pytest.raises(DataError, match="2 data sets lie in"):
        read(root)
    root = write(*(f"set/train/{name}" for name in TWO), "set/raw/a.png", root=root / "other")
    assert said(read(root), "set/raw/ (1 picture) lies beside the folders of the splits; not used")


def test_sets_without_splits_side_by_side(write):
    root = write(*(f"{name}/{picture}" for name in ("lab", "web") for picture in TWO))
    with pytest.raises(
        DataError, match="lab, web, and in each are folders such as angry, happy: if they are data sets"
    ):
        read(root)
    assert sizes(read([root / "lab", root / "web"])) == {"train": 4}
    grouped = read(root, group="^[^/]+")
    assert grouped.classes == ("angry", "happy") and groups(grouped) == {"lab", "web"}
    assert read(root, classes=("lab", "web")).classes == ("lab", "web")


def test_each_class_with_its_own_train_and_test_folder(write):
    root = write(*(f"{label}/{split}/0.png" for label in ("happy", "sad") for split in ("train", "test")))
    dataset = read(root)
    assert dataset.classes == ("happy", "sad") and sizes(dataset) == {"train": 2, "test": 2}


def test_wrappers_are_entered(write):
    root = write(*(f"archive/my faces/{name}" for name in TWO))
    dataset = read(root)
    assert dataset.classes == ("angry", "happy") and said(dataset, "read from archive/my faces/")
    deeper = write(
        *(f"x/{split}/images/{name}" for split in ("train", "test") for name in TWO), root=root / "deep"
    )
    assert read(deeper).classes == ("angry", "happy") and sizes(read(deeper)) == {"train": 2, "test": 2}


def test_a_split_with_one_class_only_is_no_wrapper(write):
    root = write("train/tired/0.png", "train/awake/0.png", "test/tired/set1/0.png", "test/tired/set2/0.png")
    assert labels(read(root))["test/tired/set2/0.png"] == "tired"


def test_persons_with_classes_below(write):
    root = write(*(f"S{person:03}/{label}/0.png" for person in range(3) for label in ("happy", "tired")))
    dataset = read(root)
    assert dataset.classes == ("happy", "tired") and groups(dataset) == {"S000", "S001", "S002"}
    assert said(dataset, "folders that are read as persons with their classes below, 3: S000, S001, S002")


def test_folds_with_classes_below(write):
    root = write(*(f"fold{fold}/{label}/0.png" for fold in (1, 2, 3) for label in ("happy", "sad")))
    dataset = read(root)
    assert dataset.classes == ("happy", "sad") and sizes(dataset) == {"train": 6}
    assert said(dataset, "3 folds are read as one set: fold1, fold2, fold3")


@pytest.mark.parametrize(
    "names", [("AF01", "AF02", "BM03"), ("fold1", "fold2"), ("001", "002"), ("subject 1", "subject 2")]
)
def test_persons_and_folds_without_classes_are_refused_unless_called_classes(write, names):
    root = write(*(f"{name}/{number}.png" for name in names for number in range(2)))
    with pytest.raises(
        DataError, match=rf"holds {', '.join(names)}, which look like (persons or numbers|folds)"
    ):
        read(root)
    assert read(root, classes=names).classes == names


def test_ordinary_numbers_are_classes_and_can_be_named(write):
    root = write("0/a.png", "1/a.png", "6/a.png")
    assert read(root).classes == ("0", "1", "6") and said(read(root), "--labels 0=angry,1=happy")
    assert read(root, labels=("0=angry", "1=disgust", "6=neutral")).classes == ("angry", "disgust", "neutral")
    with pytest.raises(DataError, match="--labels renames 7, and the data has no such label"):
        read(root, labels=("7=angry",))


@pytest.mark.parametrize("name", ["@eaDir", "$RECYCLE.BIN", "__MACOSX", "System Volume Information", ".git"])
def test_system_folders_are_no_classes(write, name):
    dataset = read(write(*TWO, f"{name}/happy/thumb.png", f"{name}/0.png"))
    assert dataset.classes == ("angry", "happy") and said(dataset, "passed over, as no pictures: 1")


def test_content_decides_and_what_is_passed_over_is_counted(write):
    root = write("angry/0.jfif", "angry/1.jpg_large", "angry/2", "happy/0.JPG", "happy/1.jpg.1")
    (root / "angry/clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(99))
    (root / "happy/read me.txt").write_text("hello")
    dataset = read(root)
    assert sizes(dataset) == {"train": 5} and said(dataset, "passed over, as no pictures: 1 text, 1 video")


def test_a_split_named_folder_without_classes_beside_class_folders(write):
    dataset = read(write(*TWO, "test/a.png", "test/b.png"))
    assert dataset.classes == ("angry", "happy") and sizes(dataset) == {"train": 2}
    assert said(dataset, "not used: 2 pictures in test/, outside any class folder")


def test_names_that_would_write_to_the_terminal(write):
    dataset = read(write("hap\x1b[31mpy/0.png", "s\u202ead/\x07.png"))
    assert dataset.classes == ("hap\ufffd[31mpy", "s\ufffdad")
    assert all(name.isprintable() for split in dataset.splits.values() for name in split.names)


@pytest.mark.parametrize("classes", [("angry", "happy"), ("calm", "bored")])
@pytest.mark.parametrize("above", ["clean", "mended/images"])
def test_a_set_with_splits_beside_the_classes_is_refused(tmp_path, write_faces, classes, above):
    # As `mien data . --to-folders clean` and `--to-table mended` leave it: only clean/ was read, without a word.
    write_faces(tmp_path, dict.fromkeys(classes, 4))
    for split in ("train", "validation"):
        write_faces(tmp_path / above / split, dict.fromkeys(classes, 2))
    listed = ",".join(sorted(classes))
    top = above.partition("/")[0]
    with pytest.raises(
        DataError, match=rf"{top}/ has splits .* Leave it out: --classes {listed}; .* DATA: .*/{top}$"
    ):
        read(tmp_path)
    assert sizes(read(tmp_path, classes=tuple(sorted(classes)))) == {"train": 8}


def test_pictures_beside_the_folder_of_the_splits_are_named(write):
    root = write("samples/0.png", *(f"data/{split}/{name}" for split in ("train", "test") for name in TWO))
    assert said(read(root), "samples/ (1 picture) lies beside the folders of the splits; not used")


def test_persons_below_the_classes_stay_on_one_side(tmp_path, write_faces):
    write_faces(
        tmp_path, {f"{label}/subject{person:02d}": 2 for label in ("happy", "sad") for person in range(1, 6)}
    )
    dataset = open_dataset(tmp_path)
    assert any(note.startswith("5 persons have folders below the classes") for note in dataset.notes)
    sides = [set(part.groups or ()) for part in dataset.splits.values()]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_split_and_class_in_one_name(write):
    folder = write(
        *(
            f"{part}_{name}/{n}.png"
            for part in ("train", "test")
            for name in ("happy", "sad")
            for n in range(2)
        )
    )
    dataset = read(folder)
    assert dataset.classes == ("happy", "sad") and sizes(dataset) == {"train": 4, "test": 4}
    assert said(
        dataset, "split and class are read from the folders' names: test_happy, test_sad, train_happy"
    )
    asked = read(folder, classes=("train_happy", "train_sad"))
    assert asked.classes == ("train_happy", "train_sad") and sizes(asked) == {"train": 4}


def test_numbers_before_expressions_are_no_part_of_the_class(write):
    folder = write("0_angry/0.png", "0_angry/1.png", "1_happy/0.png", "1_happy/1.png")
    dataset = read(folder)
    assert dataset.classes == ("angry", "happy") and said(dataset, "only the expressions are taken")
    assert read(folder, classes=("1_happy", "0_angry")).classes == ("1_happy", "0_angry")
    assert read(write("3 calm/0.png", "4 bored/0.png", root=folder / "own")).classes == ("3 calm", "4 bored")


def test_expressions_in_names_of_files_and_of_folders_below_persons(write):
    folder = write(
        *(
            f"{split}/{name}_{n:03}.png"
            for split in ("train", "test")
            for name in ("happy", "Sad")
            for n in (1, 2)
        )
    )
    dataset = read(folder)
    assert dataset.classes == ("happy", "sad") and sizes(dataset) == {"train": 4, "test": 4}
    assert said(dataset, "labels are the expressions in the file names")
    with pytest.raises(DataError, match="holds no labelled pictures"):
        read(write("train/IMG_1.png", root=folder))
    ferg = write(
        *(f"FERG/{who}/{who}_{what}/0.png" for who in ("aia", "ray") for what in ("joy", "anger")),
        root=folder / "x",
    )
    with pytest.raises(
        DataError, match=r"aia, ray, and in each are .* persons or films, add --group '\^FERG/\[\^/\]\+'"
    ):
        read(ferg)
    dataset = read(ferg, group="^FERG/[^/]+")
    assert dataset.classes == ("anger", "joy") and groups(dataset) == {"FERG/aia", "FERG/ray"}


def test_persons_called_alike_in_several_data_sets_are_mentioned(write):
    folder = write(
        *(
            f"{light}/{who}/{mood}/0.png"
            for light in ("Dark", "Weak")
            for who in ("P001", "P002")
            for mood in ("anger", "joy")
        )
    )
    with pytest.raises(
        DataError, match=r"name one or several as DATA .* --group '\^\[\^/\]\+/\(\[\^/\]\+\)'"
    ):
        read(folder)
    both = [folder / "Dark", folder / "Weak"]
    assert said(read(both), "2 groups, such as 'P001', are called alike in several data sets")
    assert groups(read(both, group="^[^/]+/([^/]+)")) == {"P001", "P002"}


def test_two_sets_of_one_name_and_one_that_is_called_as_they_are_numbered_stay_apart(write):
    root = write(*(f"{place}/{name}" for place in ("x/faces", "y/faces", "faces-1") for name in TWO))
    three = read([root / "x" / "faces", root / "y" / "faces", root / "faces-1"])
    names = three.splits["train"].names
    assert len(names) == len(set(names)) == 3 * len(TWO)


def test_films_below_several_classes_are_mentioned(write):
    folder = write(
        *(f"{name}/{film}/{n}.png" for name in ("happy", "sad") for film in ("alien", "brazil") for n in "01")
    )
    dataset = read(folder)
    assert said(
        dataset, "folders such as alien, brazil lie below several classes; if they are persons or films"
    )
    assert groups(read(folder, group="([^/]+)/[^/]+$")) == {"alien", "brazil"}


def test_a_second_set_beside_classes_is_no_class(write):
    folder = write(
        *(f"{part}{name}/{n}.png" for part in ("", "augmented/") for name in ("happy", "sad") for n in "01")
    )
    with pytest.raises(
        DataError, match=r"augmented/ lies beside classes and holds folders of their names \(happy, sad\)"
    ):
        read(folder)
    assert sizes(read(folder, classes=("happy", "sad"))) == {"train": 4}
    assert read(folder, classes=("happy", "sad", "augmented")).classes == ("happy", "sad", "augmented")


def test_copies_of_a_class_folder_are_mentioned_before_training(write):
    folder = write(*(f"{name}/{n}.png" for name in ("happy", "happy - Copy", "sad", "sad (1)") for n in "01"))
    with pytest.raises(DataError, match="the classes 'happy', 'happy - Copy' are one expression"):
        read(folder)
    assert read(folder, merge=("happy=happy+happy - Copy", "sad=sad+sad (1)")).classes == ("happy", "sad")
