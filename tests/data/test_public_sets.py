"""Public data sets as they are distributed, and the codes in the names of their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data import open_dataset
from mien.errors import DataError

from .conftest import groups, labels, read, said, sizes

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
    file.write_text("   9.0000000e+00\n")
    with pytest.raises(DataError, match=r"emotion\.txt line 1 has '9\.0000000e\+00'; allowed are 0 to 7"):
        read(root)
    file.rename(file.with_name("S012_001_00000003_emotion.txt")).write_text("   1.0000000e+00\n")
    with pytest.raises(DataError, match=r"labels the sequence S012_001, of which no picture is there"):
        read(root)


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
    with pytest.raises(DataError, match=r"no picture that .* names is there, of 2;"):
        open_dataset(tmp_path / "list.csv")


def test_affectnet_whose_validation_names_no_columns(tmp_path, write_faces):
    """As it is distributed: the columns are named in training.csv alone."""
    write_faces(tmp_path / "Manually_Annotated_Images", {"1": 4, "2": 4})
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
    tables = [
        "".join(f"{folder}/{n}.png,2,2,20,20,1.5;2.5,{n % 2},.5,-.25\n" for n in range(4)) for folder in "12"
    ]
    (tmp_path / "training.csv").write_text(header + tables[0])
    (tmp_path / "validation.csv").write_text(tables[1])
    dataset = open_dataset(tmp_path)
    assert {name: part.labels.tolist() for name, part in dataset.splits.items()} == {
        "train": [1, 0, 1, 0], "validation": [1, 0, 1, 0],
    }  # fmt: skip
    assert dataset.classes == ("happy", "neutral")
    assert "validation.csv does not name its columns; they are read as those of training.csv" in dataset.notes
    (tmp_path / "training.csv").write_text("who,what\n" + tables[0])
    with pytest.raises(DataError, match=r"its first line is a picture's"):
        open_dataset(tmp_path / "validation.csv")


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
    np.save(tmp_path / "val_set" / "annotations" / "0_exp.npy", np.array("11"))
    with pytest.raises(DataError, match=r"0_exp\.npy has the expression '11'; allowed are 0 to 10"):
        open_dataset(tmp_path)
    (tmp_path / "val_set" / "annotations" / "0_exp.npy").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"0_exp\.npy is no NumPy file with one number"):
        open_dataset(tmp_path)


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
