"""Layouts that people and public data sets have: recognised, or refused with a list of what was found."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data import DataConfig, open_dataset
from mien.errors import DataError


@pytest.fixture
def write(tmp_path, face):
    """Write a different picture under each name, below the test's folder; return that folder."""

    def write_them(*names: str, root: Path = tmp_path) -> Path:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = zlib.crc32(name.encode())
            path.write_bytes(cv2.imencode(".png", face(seed, 24))[1].tobytes())
        return root

    return write_them


def read(path: Path | Sequence[Path], **settings):
    return open_dataset(path, DataConfig(**settings), carve_validation=False)


def labels(dataset) -> dict[str, str]:
    """Name of each picture to its class."""
    return {
        name: dataset.classes[label]
        for split in dataset.splits.values()
        for name, label in zip(split.names, split.labels.tolist(), strict=True)
    }


def sizes(dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


def groups(dataset) -> set[str]:
    return {group for split in dataset.splits.values() for group in split.groups or ()}


def said(dataset, words: str) -> bool:
    return any(words in note for note in dataset.notes)


TWO = ("angry/0.png", "happy/0.png")


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
    assert said(dataset, "3 folders are read as persons with their classes below: S000, S001, S002")


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


CODED = {
    "KDEF": (
        ("AF01/AF01ANS.JPG", "AF01/BF01HAHL.JPG", "BM03/BM03SUS.JPG"),
        ("angry", "happy", "surprise"),
        {"F01", "M03"},
    ),
    "RaFD": (
        ("Rafd090_01_Caucasian_female_angry_frontal.jpg", "Rafd045_02_Moroccan_male_contemptuous_left.jpg"),
        ("angry", "contempt"),
        {"01", "02"},
    ),
    "JAFFE": (
        ("KA.AN1.39.tiff", "KA.HA2.30.tiff", "YM.SU1.58.tiff"),
        ("angry", "happy", "surprise"),
        {"KA", "YM"},
    ),
    "NimStim": (("01F_AN_C.BMP", "02M_CA_O.BMP"), ("angry", "calm"), {"01F", "02M"}),
    "FACES": (("004_o_m_a_a.jpg", "066_y_m_h_b.jpg"), ("angry", "happy"), {"004", "066"}),
    "CFD": (
        ("WF-001/CFD-WF-001-003-A.jpg", "BM-002/CFD-BM-002-001-HO.jpg"),
        ("angry", "happy"),
        {"WF-001", "BM-002"},
    ),
    "BU-3DFE": (
        ("F0001/F0001_AN01WH_F2D.bmp", "M0002/M0002_NE00BL_F2D.bmp"),
        ("angry", "neutral"),
        {"F0001", "M0002"},
    ),
    "CREMA-D": (("1001_DFA_ANG_XX.jpg", "1002_IEO_HAP_HI.jpg"), ("angry", "happy"), {"1001", "1002"}),
    "RAVDESS": (
        ("Actor_01/02-01-02-01-01-01-01.png", "Actor_24/02-01-03-02-01-02-24.png"),
        ("calm", "happy"),
        {"01", "24"},
    ),
}


@pytest.mark.parametrize("name", CODED)
def test_codes_in_file_names(write, name):
    files, classes, persons = CODED[name]
    dataset = read(write(*files))
    assert dataset.classes == classes and groups(dataset) == persons
    assert said(dataset, f"as {name} writes them")


def test_class_folders_win_over_codes_which_still_tell_the_persons(write):
    dataset = read(write("afraid/AF01AFS.JPG", "afraid/AF02AFS.JPG", "happy/AF01HAS.JPG"))
    assert dataset.classes == ("afraid", "happy") and groups(dataset) == {"F01", "F02"}


def test_ck_plus_in_class_folders(write):
    dataset = read(
        write("anger/S010_004_00000017.png", "anger/S011_004_00000019.png", "happy/S010_006_00000015.png")
    )
    assert dataset.classes == ("anger", "happy") and groups(dataset) == {"S010", "S011"}
    assert said(dataset, "grouped by the person in the names, as CK+ writes them")


def test_ck_plus_as_it_is_distributed(write):
    frames = [
        f"cohn-kanade-images/S0{person}/001/S0{person}_001_0000000{n}.png"
        for person in (10, 11)
        for n in (1, 2, 3)
    ]
    root = write(*frames)
    for person, number in (("S010", "3.0000000e+00"), ("S011", "5.0000000e+00")):
        file = root / f"Emotion/{person}/001/{person}_001_00000003_emotion.txt"
        file.parent.mkdir(parents=True)
        file.write_text(f"   {number}\n")
    dataset = read(root)
    assert labels(dataset) == {frames[2]: "disgust", frames[5]: "happy"} and groups(dataset) == {
        "S010",
        "S011",
    }


def csv_of_pixels(path: Path, emotions: Sequence[str], side: int = 48) -> Path:
    lines = ["emotion,pixels,Usage"]
    for number, emotion in enumerate(emotions):
        pixels = np.random.default_rng(number).integers(0, 256, side * side)
        lines.append(f"{emotion},{' '.join(map(str, pixels))},Training")
    path.write_text("\n".join(lines))
    return path


def test_ck_plus_and_other_csvs_with_contempt(tmp_path):
    dataset = read(csv_of_pixels(tmp_path / "ckextended.csv", ["0", "7", "0", "7"]))
    assert dataset.classes == ("angry", "contempt")
    assert dataset.splits["train"].labels.tolist() == [0, 1, 0, 1]
    named = read(
        csv_of_pixels(tmp_path / "named.csv", ["happy", "8", "happy", "8"], side=32), labels=("8=calm",)
    )
    assert named.classes == ("happy", "calm") and named.splits["train"].pictures.read(0).shape == (32, 32)


def test_a_label_is_refused_only_where_it_is_used(tmp_path):
    path = csv_of_pixels(tmp_path / "fer.csv", ["0", "9", "3", "0", "3"])
    with pytest.raises(DataError, match=r"row 2 has emotion '9'; allowed are 0 angry"):
        read(path)
    assert sizes(read(path, classes=("angry", "happy"))) == {"train": 4}
    assert read(path, merge=("other=9+angry",)).classes == ("other", "happy")


def test_raf_db(write):
    root = write(
        *(f"basic/Image/aligned/{name}_aligned.jpg" for name in ("train_00001", "train_00002", "test_0001"))
    )
    (root / "basic/EmoLabel").mkdir()
    (root / "basic/EmoLabel/list_patition_label.txt").write_text(
        "train_00001.jpg 5\ntrain_00002.jpg 1\ntest_0001.jpg 4\n"
    )
    dataset = read(root)
    assert (
        Counter(labels(dataset).values()) == {"sad": 1, "surprise": 1, "happy": 1}
        and dataset.name == "RAF-DB"
    )
    assert sizes(dataset) == {"train": 2, "test": 1}
    assert labels(dataset)["basic/Image/aligned/test_0001_aligned.jpg"] == "happy"


def test_raf_db_in_numbered_folders(write):
    root = write("DATASET/train/1/train_00001_aligned.jpg", "DATASET/train/4/train_00002_aligned.jpg")
    dataset = read(write("DATASET/test/4/test_0001_aligned.jpg", root=root))
    assert dataset.classes == ("happy", "surprise") and sizes(dataset) == {"train": 2, "test": 1}


def test_affect_net(write):
    root = write("Manually_Annotated_Images/1/a.jpg", "Manually_Annotated_Images/2/b.jpg")
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
    (root / "training.csv").write_text(
        head
        + "1/a.jpg,2,3,10,12,0;0,1,0.5,0.1\n2/b.jpg,0,0,24,24,0;0,6,0,0\n1/a.jpg,0,0,24,24,0;0,10,-2,-2\n"
    )
    dataset = read(root / "training.csv")
    assert labels(dataset) == {"1/a.jpg": "happy", "2/b.jpg": "anger"}
    assert dataset.splits["train"].pictures.read(0).shape == (12, 10)
    whole = cv2.imread(str(root / "Manually_Annotated_Images/1/a.jpg"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(dataset.splits["train"].pictures.read(0), whole[3:15, 2:12])
    assert said(dataset, "rows without an expression are left out: 1 no-face")
    assert said(dataset, "pictures found in Manually_Annotated_Images/")


def test_affect_net_in_two_tables(write):
    root = write("images/a.jpg", "images/b.jpg", "images/c.jpg")
    for name, rows in (("training", "a.jpg,0\nb.jpg,1\n"), ("validation", "c.jpg,0\n")):
        (root / f"{name}.csv").write_text(f"subDirectory_filePath,expression\n{rows}")
    assert sizes(read(root)) == {"train": 2, "validation": 1}
    assert said(read(root), "read from the tables training.csv (train), validation.csv (validation)")


def test_fer_plus_label_csv(write):
    root = write(
        *(f"FER2013Train/fer000000{n}.png" for n in range(4)),
        "FER2013Valid/fer0000004.png",
        "FER2013Test/fer0000005.png",
    )
    votes = {
        "FER2013Train": [
            "4,0,0,1,3,2,0,0,0,0",
            "0,9,0,0,0,0,0,0,1,0",
            "5,5,0,0,0,0,0,0,0,0",
            "0,0,0,0,0,0,0,0,0,10",
        ],
        "FER2013Valid": ["0,0,0,0,0,0,0,8,2,0"],
        "FER2013Test": ["0,7,0,0,0,0,0,0,3,0"],
    }
    for folder, rows in votes.items():
        names = sorted(path.name for path in (root / folder).glob("*.png"))
        text = "".join(f'{name},"(0, 0, 48, 48)",{row}\n' for name, row in zip(names, rows, strict=True))
        (root / folder / "label.csv").write_text(text)
    dataset = read(root)
    assert list(labels(dataset).values()) == ["neutral", "happy", "contempt", "happy"]
    assert sizes(dataset) == {"train": 2, "validation": 1, "test": 1}
    assert dataset.splits["train"].votes.tolist() == [[4, 0, 0, 1, 3, 2, 0, 0], [0, 9, 0, 0, 0, 0, 0, 0]]
    assert said(dataset, "1 picture without one expression that most chose, 1 picture unknown or no face")


def test_expw(write):
    root = write("data/image/origin/a.jpg", "data/image/origin/b.jpg")
    (root / "data/label").mkdir()
    (root / "data/label/label.lst").write_text(
        "a.jpg 0 2 4 14 16 99.5 3\na.jpg 1 0 0 8 8 50 4\nb.jpg 0 0 0 24 24 9 0\n"
    )
    dataset = read(root)
    assert list(labels(dataset).values()) == ["happy", "sad", "angry"]
    whole = cv2.imread(str(root / "data/image/origin/a.jpg"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(dataset.splits["train"].pictures.read(0), whole[2:16, 4:14])
    assert groups(dataset) == {"a.jpg", "b.jpg"}  # the faces of one photograph stay together


def test_image_folder_with_metadata(write):
    root = write("train/0.png", "train/1.png", "test/0.png")
    (root / "train/metadata.csv").write_text("file_name,label\n0.png,happy\n1.png,sad\n")
    (root / "test/metadata.jsonl").write_text('{"file_name": "0.png", "label": "happy"}\n')
    dataset = read(root)
    assert dataset.classes == ("happy", "sad") and sizes(dataset) == {"train": 2, "test": 1}
    flat = write("0.png", "1.png", root=root / "flat")
    (flat / "metadata.csv").write_text("file_name,label\n0.png,happy\n1.png,sad\n")
    assert labels(read(flat)) == {"0.png": "happy", "1.png": "sad"}


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


def test_a_damaged_list_of_votes_names_its_line(write):
    root = write("FER2013Train/0.png", "FER2013Train/1.png")
    row = '0.png,"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0\n'
    for damage, words in (
        ("1.png\n", "line 2 has 0 votes"),
        ("1.png,b,1,2,x\n", "line 2 has votes that are no numbers"),
    ):
        (root / "FER2013Train/label.csv").write_text(row + damage)
        with pytest.raises(DataError, match=words):
            read(root)


def test_rafdb_as_kaggle_gives_it_with_tables_beside_numbered_folders(tmp_path, write_faces):
    """`DATASET/train/1/train_00001_aligned.jpg` and `train_labels.csv` with bare names."""
    for split, count in (("train", 2), ("test", 1)):
        lines = ["image,label"]
        for label in ("1", "4", "5"):
            write_faces(tmp_path / "made", {label: count}, first_seed=int(label) * 10 + len(split))
            for number in range(count):
                name = f"{split}_{label}{number:04d}_aligned.png"
                place = tmp_path / "raf" / "DATASET" / split / label / name
                place.parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "made" / label / f"{number}.png").rename(place)
                lines.append(f"{name},{label}")
        (tmp_path / "raf" / f"{split}_labels.csv").write_text("\n".join(lines))
    dataset = open_dataset(tmp_path / "raf", carve_validation=False)
    assert dataset.classes == ("happy", "sad", "surprise")
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 6, "test": 3}
    assert any(note.startswith("pictures found by their names below raf/") for note in dataset.notes)


def test_names_that_lie_in_several_places_are_not_guessed(tmp_path, write_faces):
    write_faces(tmp_path, {"deep/down/one/happy": 2, "deep/down/two/sad": 2})
    (tmp_path / "list.csv").write_text("image,label\n0.png,happy\n1.png,sad\n")
    with pytest.raises(DataError, match=r"none of the 2 pictures .* is there"):
        open_dataset(tmp_path / "list.csv")


def test_affectnet_with_an_annotation_file_for_each_picture(tmp_path, write_faces):
    for number, split in enumerate(("train_set", "val_set")):
        write_faces(tmp_path, {f"{split}/images": 4}, first_seed=10 * number)
        (tmp_path / split / "annotations").mkdir()
        for row, label in enumerate(("1", "2", "1", "8")):
            np.save(tmp_path / split / "annotations" / f"{row}_exp.npy", np.array(label))
    np.save(tmp_path / "val_set" / "annotations" / "99_exp.npy", np.array("1"))
    dataset = open_dataset(tmp_path)
    assert {name: part.labels.tolist() for name, part in dataset.splits.items()} == {
        "train": [0, 1, 0], "validation": [0, 1, 0],
    }  # fmt: skip
    assert dataset.classes == ("happy", "sad")
    assert "not used: 1 annotation without a picture" in dataset.notes
    assert "rows without an expression are left out: 2" in dataset.notes
    (tmp_path / "val_set" / "annotations" / "0_exp.npy").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"0_exp\.npy is no NumPy file with one number"):
        open_dataset(tmp_path)


def test_persons_below_the_classes_stay_on_one_side(tmp_path, write_faces):
    write_faces(
        tmp_path, {f"{label}/subject{person:02d}": 2 for label in ("happy", "sad") for person in range(1, 6)}
    )
    dataset = open_dataset(tmp_path)
    assert any(note.startswith("5 persons have folders below the classes") for note in dataset.notes)
    sides = [set(part.groups or ()) for part in dataset.splits.values()]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_a_column_of_splits_is_used_whatever_it_is_called(tmp_path, write_faces):
    write_faces(tmp_path, {"pictures": 6})
    rows = [
        f"pictures/{row}.png,{('happy', 'sad')[row % 2]},{('Train', 'Test')[row > 3]}" for row in range(6)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,data_type", *rows]))
    dataset = open_dataset(tmp_path / "list.csv", carve_validation=False)
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 4, "test": 2}
    assert "split by the column 'data_type': train 4, test 2" in dataset.notes


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


def test_two_coded_data_sets_side_by_side_and_strangers_among_codes(write):
    kdef = [f"KDEF/AF0{n}/AF0{n}{code}S.JPG" for n in (1, 2) for code in ("AN", "HA", "SU")]
    mixed = read(write(*kdef, "AKDEF/AFF_S.JPG", "AKDEF/HAF_S.JPG"))
    assert mixed.classes == ("angry", "happy", "surprise") and groups(mixed) == {"F01", "F02"}
    assert said(mixed, "not used: 2 pictures without such a name")
    with pytest.raises(DataError, match=r"pictures of several data sets lie here \(KDEF 6, JAFFE 2\)"):
        read(write("jaffe/KA.AN1.39.png", "jaffe/KA.HA1.40.png"))


def test_lists_given_by_their_own_path_and_pictures_that_they_do_not_name(write):
    folder = write("image/origin/a.png", "image/origin/b.png", "image/origin/c.png")
    (folder / "label").mkdir()
    (folder / "label" / "ExpW.lst").write_text("a.png 0 2 2 20 20 99 0\nb.png 0 2 2 20 20 99 3\n")
    for data in (folder, folder / "label" / "ExpW.lst"):
        dataset = read(data)
        assert dataset.classes == ("angry", "happy") and sizes(dataset) == {"train": 2}
        assert said(dataset, "not used: 1 picture without a label, such as image/origin/c.png")


BOXED = {
    "YOLO": {
        "data.yaml": "names: [angry, 'happy']\nnc: 2\n",
        "train/labels/0.txt": "0 0.5 0.25 0.5 0.5\n1 0.5 0.75 1 0.5\n",
        "valid/labels/1.txt": "1 0.5 0.25 0.5 0.5\n",
    },
    "Pascal VOC": {
        f"{n}.xml": "<annotation><filename>{}.png</filename>{}</annotation>".format(
            n,
            "".join(
                f"<object><name>{label}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
                f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
                for label, (left, top, right, bottom) in faces
            ),
        )
        for n, faces in enumerate([
            [("angry", (6, 0, 18, 12)), ("happy", (0, 12, 24, 24))],
            [("happy", (6, 0, 18, 12))],
        ])
    },
    "COCO": {
        "annotations/instances.json": json.dumps({
            "images": [{"id": 5, "file_name": "0.png"}, {"id": 6, "file_name": "1.png"}],
            "categories": [{"id": 1, "name": "angry"}, {"id": 2, "name": "happy"}],
            "annotations": [
                {"image_id": 5, "category_id": 1, "bbox": [6, 0, 12, 12]},
                {"image_id": 5, "category_id": 2, "bbox": [0, 12, 24, 12]},
                {"image_id": 6, "category_id": 2, "bbox": [6.2, 0, 12, 12]},
            ],
        })
    },
    "a table": {
        "labels.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\ntrain/images/0.png,24,24,angry,6,0,18,12\n"
        "train/images/0.png,24,24,happy,0,12,24,24\nvalid/images/1.png,24,24,happy,6,0,18,12\n"
    },
}  # fmt: skip


@pytest.mark.parametrize("form", BOXED)
def test_faces_are_cut_out_by_boxes_as_detectors_have_them(write, form):
    folder = write("train/images/0.png", "valid/images/1.png", "valid/images/none.png")
    for name, text in BOXED[form].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    dataset = read(folder)
    assert dataset.classes == ("angry", "happy") and sizes(dataset) == {"train": 2, "validation": 1}
    train = dataset.splits["train"]
    assert train.labels.tolist() == [0, 1] and len(set(train.groups or ())) == 1
    whole = cv2.imread(str(folder / "train/images/0.png"), cv2.IMREAD_GRAYSCALE)
    for row, cut in enumerate((whole[:12, 6:18], whole[12:])):
        np.testing.assert_array_equal(train.pictures.read(row).reshape(cut.shape), cut)
    assert said(
        dataset,
        "1 pictures have no box" if form != "a table" else "1 pictures, such as valid/images/none.png",
    )


def test_boxes_belong_to_the_picture_of_their_own_split(write):
    """Pictures are numbered alike in train/ and test/; a picture that is gone is counted."""
    names = [f"{split}/JPEGImages/{number}.png" for split in ("train", "test") for number in (0, 1)]
    folder = write(*names)
    said_of = dict(zip(names, ("happy", "sad", "sad", "happy"), strict=True)) | {
        "test/JPEGImages/9.png": "sad"
    }
    coco = {"train": [], "test": []}
    for name, label in said_of.items():
        split, _, picture = name.split("/")
        (folder / split / "Annotations").mkdir(exist_ok=True)
        (folder / split / "Annotations" / f"{Path(picture).stem}.xml").write_text(
            f"<annotation><filename>{picture}</filename><object><name>{label}</name><bndbox><xmin>2</xmin>"
            "<ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
        )
        coco[split].append((picture, label))
    kinds = ["happy", "sad"]
    for form in ("Pascal VOC", "COCO"):
        dataset = read(folder)
        found = {name.partition(" face")[0]: label for name, label in labels(dataset).items()}
        assert found == {name: said_of[name] for name in names}, form
        assert len(dataset.unreadable) == 1 and "9.png" in str(dataset.unreadable[0]), form
        for file in folder.rglob("*.xml"):
            file.unlink()
        for split, rows in coco.items():
            told = {
                "categories": [{"id": number, "name": kind} for number, kind in enumerate(kinds)],
                "images": [{"id": number, "file_name": picture} for number, (picture, _) in enumerate(rows)],
                "annotations": [
                    {"image_id": number, "category_id": kinds.index(label), "bbox": [2, 2, 18, 18]}
                    for number, (_, label) in enumerate(rows)
                ],
            }
            (folder / split / "all.json").write_text(json.dumps(told))
    for file in folder.rglob("*.json"):
        file.unlink()
    for name, label in said_of.items():
        (folder / name).with_suffix(".txt").write_text(f"{kinds.index(label)} 0.5 0.5 0.9 0.9")
    (folder / names[0]).write_bytes(b"no picture")
    bad = read(folder).unreadable
    assert sorted(Path(one.name.partition(" face")[0]).name for one in bad) == ["0.png", "9.jpg"]


def test_numbers_with_their_names_beside_them(write):
    names = ("0/a.png", "0/b.png", "1/a.png", "2/a.png")
    folder = write(*names)
    assert read(folder).classes == ("0", "1", "2")
    for file, text in (
        ("classes.txt", "angry\nhappy\nsad\n"),
        ("labels.txt", "0 angry\n2: sad\n1,happy\n"),
        ("class_indices.json", '{"angry": 0, "happy": 1, "sad": 2}'),
    ):
        (folder / file).write_text(text)
        dataset = read(folder)
        assert dataset.classes == ("angry", "happy", "sad") and labels(dataset)["2/a.png"] == "sad"
        assert said(dataset, f"what the numbers mean is read from {file}: 0 angry, 1 happy, 2 sad")
        assert read(folder, labels=("0=calm",)).classes == ("1", "2", "calm")
        (folder / file).unlink()
    (folder / "classes.txt").write_text("angry\nhappy\n")  # of something else
    assert read(folder).classes == ("0", "1", "2")
    (folder / "classes.txt").write_text("angry\nhappy\nsad\n")
    with zipfile.ZipFile(folder / "all.zip", "w") as stored:
        for name in (*names, "classes.txt"):
            stored.write(folder / name, f"set/{name}")
    (folder / "classes.txt").unlink()
    assert read(folder / "all.zip").classes == ("angry", "happy", "sad")


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


def test_an_archive_for_each_split_and_a_table_without_labels(write, tmp_path):
    for split in ("train", "test"):
        write(*(f"{split}/{name}" for name in TWO), root=tmp_path / "in")
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as stored:
            for name in TWO:
                stored.write(tmp_path / "in" / split / name, name)
    shutil.rmtree(tmp_path / "in")
    dataset = read(tmp_path)
    assert sizes(dataset) == {"train": 2, "test": 2} and said(
        dataset, "read from the archives test.zip, train.zip"
    )
    (tmp_path / "test.zip").rename(tmp_path / "more.zip")
    with pytest.raises(
        DataError, match=r"2 archives \(more.zip, train.zip\), whose names are not one split each"
    ):
        read(tmp_path)
    folder = write("p/0.png", "p/1.png", "p/2.png", root=tmp_path / "competition")
    (folder / "train.csv").write_text("path,label\np/0.png,a\np/1.png,b\n")
    (folder / "test.csv").write_text("path\np/2.png\n")
    dataset = read(folder)
    assert sizes(dataset) == {"train": 2} and said(
        dataset, "not read: test.csv, without columns of pictures and labels"
    )


def test_roboflow_and_metadata_beside_pictures_that_they_do_not_name(write):
    folder = write(*(f"{part}/{n}.png" for part in ("train", "valid") for n in range(3)))
    for part in ("train", "valid"):
        (folder / part / "_classes.csv").write_text(
            "filename, bored, tired, Unlabeled\n0.png, 1, 0, 0\n1.png, 0, 1, 0\n"
        )
    dataset = read(folder)
    assert dataset.classes == ("bored", "tired") and sizes(dataset) == {"train": 2, "validation": 2}
    assert said(dataset, "2 pictures, such as train/2.png, are in no row that is used")


def test_labels_in_a_table_elsewhere_and_pictures_in_several_folders(write):
    folder = write("images/0.png", "images/1.png", "more/2.png", "more/3.png")
    (folder / "labels").mkdir()
    table = folder / "labels" / "all.csv"
    table.write_text("image,label\n0.png,happy\n1.png,sad\n")
    with pytest.raises(
        DataError, match=r"one folder of pictures \(alone\).*labels/all\.csv.*--root .*/alone"
    ):
        alone = write("alone/0.png", root=folder / "one")
        (alone / "labels").mkdir()
        (alone / "labels" / "all.csv").write_text(table.read_text())
        read(alone)
    assert labels(read(table, root=str(folder / "images"))) == {"0.png": "happy", "1.png": "sad"}
    both = folder / "both.csv"
    both.write_text("image,label\n0.png,happy\n1.png,sad\n2.png,happy\n3.png,sad\n")
    with pytest.raises(DataError, match="lie in several folders"):  # 0.png in two of them
        read(both)
    (folder / "one" / "alone" / "0.png").unlink()
    dataset = read(both)
    assert sizes(dataset) == {"train": 4} and said(dataset, "pictures found by their names below")


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
