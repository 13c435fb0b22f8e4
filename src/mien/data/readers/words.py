"""The words that data sets use: for splits, for the columns of tables, for folders of persons and folds."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from mien.errors import DataError
from mien.files import clipped, natural, plain_text
from mien.images.kinds import is_picture_name
from mien.labels import is_expression
from mien.terminal import first_names

_NEGATIONS = frozenset(("not", "no", "non", "un", "never", "without"))
_MOST_CLASSES = 20  # in a command that a message proposes
_NAMED, _LONGEST = 12, 24  # columns in a message, before 'and more'; letters of each

# What the known data sets and tools call their splits. 'dev' and 'eval' as Hugging Face Datasets reads them
# (https://huggingface.co/docs/datasets/repository_structure, 'Split names').
_CALLED = {
    "train": "train training trn trainval",
    "validation": "val valid validation validate validating dev development publictest",
    "test": "test testing tst eval evaluation holdout privatetest",
}
SPLIT_WORDS = {word: split for split, words in _CALLED.items() for word in words.split()}
# Beside one of those words these say nothing: training_set, FER2013Train, test-images, val_labels.
_FILLERS = frozenset((
    "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "pic", "pics", "picture",
    "pictures", "photo", "photos", "face", "faces", "folder", "split", "splits", "part", "label", "labels",
    "annotation", "annotations", "list", "metadata", "files", "the", "of", "my", "fer", "ferplus",
    "plus", "ck", "ckplus", "raf",
    "rafdb", "db", "kdef", "rafd", "jaffe", "affectnet", "expw", "aligned", "cropped",
))  # fmt: skip
# Nor do these around an expression, while very happy, happy_male and happy_1 are not all that another set calls happy.
_AROUND = _FILLERS.union((
    "emotion", "emotions", "emo", "expression", "expressions", "class", "category", "feeling", "mood",
))  # fmt: skip
_GLUED = re.compile(f"({'|'.join(SPLIT_WORDS)})({'|'.join(_FILLERS)})")  # testset, trainimages

PATH_COLUMNS = (
    "path", "file", "image", "filename", "file_name", "filepath", "file_path", "image_path", "imagepath", "img_path",
    "pth", "img", "picture", "photo", "image_name", "imagename", "img_name", "image_file", "image_id", "images",
    "image_filename", "img_file", "photo_path", "picture_path", "face_path", "paths", "files", "filepaths",
    "file_paths", "filenames", "file_names", "image_paths", "subdirectory_filepath", "relative_path", "name",
    "image_bytes", "img_bytes", "bytes", "jpg", "jpeg", "png", "image_url", "img_url", "url",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "emotion", "class", "expression", "labels", "emotions", "class_name", "label_name", "emotion_label",
    "expression_label", "category", "target", "facial_expression", "class_label", "feeling", "mood", "y", "choice",
    "emotion_name", "expression_name", "emotion_class", "category_name", "emotion_id", "expression_id", "label_id",
    "class_id", "category_id",
)  # fmt: skip
FOLDER_COLUMNS = (
    "folder", "dir", "directory", "subfolder", "subdir", "sub_folder", "sub_dir", "subdirectory", "image_folder",
    "image_dir", "foldername", "folder_name", "dirname", "path",
)  # fmt: skip
RATERS = ("rater", "annotator", "annotation", "coder", "labeler", "labeller", "judge", "worker")
LABEL_COLUMNS_BESIDE_X = tuple(name for name in LABEL_COLUMNS if name != "y")
SPLIT_COLUMNS = (
    "split", "usage", "set", "subset", "partition", "phase", "fold_name", "data_split", "dataset_split", "train_test",
    "purpose", "mode", "stage",
)  # fmt: skip
# In a column that is called so, these mean splits too; in names of folders they would be guesses.
SHORT_SPLITS = {
    "tr": "train", "fit": "train", "va": "validation", "vl": "validation", "te": "test", "ts": "test",
}  # fmt: skip
NUMBERED_SPLITS = {"0": "train", "1": "validation", "2": "test"}  # as CelebA's list of partitions has them
FLAG_COLUMNS = {  # a yes or no: what 'yes' means
    "is_valid": "validation", "is_val": "validation", "is_validation": "validation", "valid": "validation",
    "validation": "validation", "is_test": "test", "test": "test", "is_train": "train", "train": "train",
    "is_training": "train", "training": "train", "is_testing": "test", "is_dev": "validation", "is_holdout": "test",
}  # fmt: skip
FOLD_COLUMNS = ("fold", "folds", "kfold", "k_fold", "cv", "cv_fold", "fold_id", "fold_no", "fold_number")
GROUP_COLUMNS = (
    "subject", "person", "pid", "identity", "individual", "participant", "actor", "speaker", "user",
    "patient", "celebrity", "film", "movie", "video", "clip", "session", "sequence", "group",
)  # fmt: skip
_OF_A_GROUP = re.compile(r"_?(id|no|nr|num|number|name|code|key|index)$")  # person_no, VideoName, subjectid
_YES, _NO = ("true", "yes", "y", "t", "1", "1.0"), ("false", "no", "n", "f", "0", "0.0", "")

_FOLD = re.compile(r"^(fold|k|cv|split|part|batch|chunk|shard)[-_ ]?\d{1,3}$", re.IGNORECASE)
_PERSON = re.compile(
    r"^(?:(?:sub|subj|subject|person|participant|actor|user|id|speaker|model|individual|[a-z]{1,4})[-_ ]?\d{1,5}"
    r"|\d{3,5})[a-z]?$",
    re.IGNORECASE,
)


def split_of(word: str) -> str | None:
    """Return train, validation or test for a word, a folder's or a file's name that means one of them; else None.

    >>> [split_of(word) for word in ("Training", "test_set", "FER2013Valid", "devlist", "train_1", "latest", "happy")]
    ['train', 'test', 'validation', 'validation', 'train', None, None]
    """
    plain = word.strip().lower()
    if plain in SPLIT_WORDS:
        return SPLIT_WORDS[plain]
    if (joined := re.sub(r"[-_ ]", "", plain)) in SPLIT_WORDS:  # hold-out, private_test
        return SPLIT_WORDS[joined]
    parts = _parts_of(word)
    if any(part not in SPLIT_WORDS and part not in _FILLERS for part in parts):
        return None
    return _only_split(parts)


def split_in(name: str) -> str | None:
    """Return the only split that a word of a name means, whatever the others are (train_augmented); None for none.

    For names that are no guess, as those beside them have such words, too.

    >>> split_in("train_aug"), split_in("happy test"), split_in("train-test"), split_in("trained")
    ('train', 'test', None, None)
    """
    return _only_split(_parts_of(name))


def _parts_of(word: str) -> list[str]:
    parts = [part for part in re.split(r"[^a-z]+", _spaced(word)) if part]
    return [glued[1] if (glued := _GLUED.fullmatch(part)) else part for part in parts]


def _only_split(parts: Sequence[str]) -> str | None:
    meant = {SPLIT_WORDS[part] for part in parts if part in SPLIT_WORDS}
    return meant.pop() if len(meant) == 1 else None


def _spaced(word: str) -> str:
    """Put a blank where a capital follows a small letter (ferTrain), in lower case.

    >>> _spaced("FER2013TrainSet")
    'fer2013train set'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word).lower()


def looks_like_fold(name: str) -> bool:
    """Say whether a folder is named like a fold of a cross-validation: fold1, cv_2."""
    return bool(_FOLD.match(name))


def looks_like_person(name: str) -> bool:
    """Say whether a folder is named as persons are numbered: AF01, S005, subject 3, 001. Classes 0 to 99 are not."""
    return bool(_PERSON.match(name)) and not is_expression(name)


def expressions_among(names: Iterable[str]) -> int:
    """Count the names that are expressions' ('happy', 'Anger'), numbered or not ('0_angry')."""
    return sum(is_expression(re.sub(r"^\d+[-_. ]*", "", name)) for name in names)


def mostly_expressions(names: Collection[str]) -> bool:
    """Say whether two or more of the names, and at least half of them, are expressions, numbered or not."""
    found = expressions_among(names)
    return found > 1 and 2 * found >= len(names)


def plain_expressions(names: Collection[str]) -> dict[str, str]:
    """Return names without what all have around an expression: a number (0_angry), idle words (happy faces).

    Nothing where some have none, or where two would become one.

    >>> plain_expressions(["0_happy", "1: bored", "2 sad"])
    {'0_happy': 'happy', '1: bored': 'bored', '2 sad': 'sad'}
    >>> plain_expressions(["happy_faces", "sad_faces"]), plain_expressions(["happy_faces", "sad"])
    ({'happy_faces': 'happy', 'sad_faces': 'sad'}, {})
    >>> plain_expressions(["very happy", "very sad"]), plain_expressions(["happy_1", "sad_1"])
    ({}, {})
    """
    numbered = {name: re.sub(r"^\d+(?:[-_. :]+|$)", "", name) for name in sorted(names, key=natural)}
    frame = frame_of(numbered)  # in order, as of two frames that are as common the first counts
    if not _AROUND.issuperset(re.findall(r"[^\W\d_]+|\d+", " ".join(frame).lower())):
        frame = ("", "")
    for plain in (numbered, {name: unframed(name, frame) for name in numbered}):
        changed = all(inside and inside != name for name, inside in plain.items())
        if changed and len(set(plain.values())) == len(plain) and mostly_expressions(plain.values()):
            return plain
    return {}


def plain_note(plain: Mapping[str, str]) -> str:
    """Say what plain_expressions did."""
    listed = ", ".join(f"{clipped(name, 40)!r} is {inside}" for name, inside in list(plain.items())[:3])
    return f"of the classes' names only the expressions are taken: {listed}{', …' if len(plain) > 3 else ''}"


def yes_or_no(word: str) -> bool | None:
    """Return what a cell means as yes or no; None where it is neither."""
    plain = word.strip().lower()
    return True if plain in _YES else False if plain in _NO else None


def pick_column(header: Sequence[str], names: Iterable[str]) -> int | None:
    """Return the place of the first of `names` in a table's header, whatever its blanks and capitals."""
    return next(iter(pick_columns(header, names).values()), None)


def pick_columns(header: Sequence[str], names: Iterable[str]) -> dict[str, int]:
    """Return the places of all of `names` that a table's header has, in their order."""
    plain = [plain_column(word) for word in header]
    return {name: plain.index(name) for name in names if name in plain}


def label_names(header: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a column of labels, the likeliest first; 'y' is none beside 'x', where it is a place."""
    return LABEL_COLUMNS if pick_column(header, ["x"]) is None else LABEL_COLUMNS_BESIDE_X


def group_column(word: str) -> str:
    """Return which of GROUP_COLUMNS a column is; '' for none.

    >>> group_column("Subject ID"), group_column("video_name"), group_column("name")
    ('subject', 'video', '')
    """
    plain = plain_column(word)
    base = plain if plain in GROUP_COLUMNS else _OF_A_GROUP.sub("", plain)
    return base if base in GROUP_COLUMNS else ""


def series_of(word: str) -> str:
    """Return what a numbered column of labels or of raters is called without its number; '' for any other.

    >>> [series_of(name) for name in ("label_1", "Rater 2", "vote3", "emotion", "x1")]
    ['label', 'rater', 'vote', '', '']
    """
    name = re.fullmatch(r"(.*?)_?\d+", plain_column(word))
    return name[1] if name and name[1] in (*LABEL_COLUMNS_BESIDE_X, *RATERS, "vote") else ""


def plain_column(word: str) -> str:
    """Return a column's name without the differences that people make.

    >>> plain_column(" Image Name"), plain_column("is-valid")
    ('image_name', 'is_valid')
    """
    return re.sub(r"[-. ]+", "_", word.strip().lower())


def need_column(header: Sequence[str], names: Sequence[str], source: str, option: str = "") -> int:
    """Like pick_column, but a DataError where there is none. option: what names the column instead."""
    place = pick_column(header, names)
    if place is None:
        raise DataError(_no_column(header, names, source, option))
    return place


def named_column(header: Sequence[str], name: str, source: str) -> int:
    """Return the place of the column that the user named; DataError with those that there are."""
    words = [word.strip() for word in header]
    if name in words:
        return words.index(name)
    place = pick_column(header, [plain_column(name)])
    if place is None:
        raise DataError(f"{source} has no column {name!r}; its first line has: {shown_columns(header)}")
    return place


def shown_columns(header: Sequence[str]) -> str:
    """Return a table's columns for a message. Without its header, what stands there may be 9,000 characters of data."""
    have = [
        name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
        for name in map(plain_text, map(str.strip, header))
    ]
    return first_names(have, _NAMED)


def _no_column(header: Sequence[str], names: Sequence[str], source: str, option: str) -> str:
    if not any(word.strip() for word in header):
        return f"{source} is empty or begins with an empty line; its first line must name the columns"
    if any(map(is_picture_name, header)):
        return (
            f"{source} does not name its columns: its first line is a picture's ({shown_columns(header)}); put a line "
            "above it that names them, such as: path,label"
        )
    wanted = " or ".join(names[:4]) + (" or the like" if len(names) > 4 else "")
    rest = f", or name the column with {option}" if option else ""
    return (
        f"{source} has no column {wanted}; its first line has: {shown_columns(header)}; "
        f"that line must name the columns: rename or add one{rest}"
    )


def classes_option(names: Sequence[str]) -> str:
    """Return the option that chooses these classes, for a message, as a shell takes it.

    >>> print(classes_option(["happy", "calm, still", "very sad"]))
    --classes 'happy,"calm, still",very sad'
    """
    words = [f'"{name}"' if "," in name else name for name in names[:_MOST_CLASSES]]
    return f"--classes {shlex.quote(','.join(words))}{',…' if len(names) > _MOST_CLASSES else ''}"


def renamed(labels: Mapping[str, str], label: str) -> str:
    """Return what --labels calls a label; 3, 3.0 and 03 are one number."""
    if label in labels:
        return labels[label]
    number = as_number(label)
    return labels.get(number, label) if number else label


def as_number(label: str) -> str:
    """Return the plain digits of a whole number however it is written; '' for anything else.

    >>> as_number(" 3.0"), as_number("07"), as_number("3.5"), as_number("happy")
    ('3', '7', '', '')
    """
    found = re.fullmatch(r"\s*(-?\d{1,9})(?:\.0*)?\s*", label)
    return str(int(found[1])) if found else ""


def as_float(cell: str) -> float:
    """Return a number, with a decimal comma as well: 0,5 as spreadsheets write it in half of Europe. ValueError.

    Of a percentage the number before the sign.

    >>> as_float("0.5"), as_float("0,5"), as_float("60 %")
    (0.5, 0.5, 60.0)
    """
    cell = cell.strip().removesuffix("%")
    return float(cell.replace(",", ".") if re.fullmatch(r"\s*-?\d*,\d+\s*", cell) else cell)


def as_share(cell: str) -> float | None:
    """Return the number in a cell: 0 for an empty one, 1 and 0 for yes and no; None for anything else."""
    try:
        return as_float(cell or "0")
    except ValueError:
        told = yes_or_no(cell)
        return None if told is None else float(told)


def expression_in(name: str) -> str:
    """Return the only part of a name that is an expression; '' where none or several are.

    >>> expression_in("happy_001"), expression_in("aia_anger_12"), expression_in("happy-sad"), expression_in("IMG_1")
    ('happy', 'anger', '', '')
    """
    found = [part for part in re.split(r"[^a-zA-Z]+", _spaced(name)) if is_expression(part)]
    return found[0] if len(found) == 1 else ""


def frame_of(names: Iterable[str]) -> tuple[str, str]:
    """Return what stands before and after the expression in most of the names that hold one; '', '' for nothing.

    >>> frame_of(["image", "emotion_happy", "emotion_sad", "emotion_bored"]), frame_of(["happy (%)", "sad (%)"])
    (('emotion_', ''), ('', ' (%)'))
    >>> frame_of(["happy", "sad", "very_sad"]), frame_of(["sad_1", "image"]), frame_of(["not_happy", "not_sad"])
    (('', ''), ('', ''), ('', ''))
    """
    found: Counter[tuple[str, str]] = Counter()
    for name in names:
        parts = re.split(r"([^a-zA-Z]+)", name)
        places = [place for place, part in enumerate(parts) if is_expression(part)]
        if len(places) == 1:
            found["".join(parts[: places[0]]), "".join(parts[places[0] + 1 :])] += 1
    frame, count = next(iter(found.most_common(1)), (("", ""), 0))
    around = re.split(r"[^a-z]+", " ".join(frame).lower())
    is_denied = not _NEGATIONS.isdisjoint(around)  # not_happy is not happy
    return frame if count > 1 and not is_denied else ("", "")


def unframed(name: str, frame: tuple[str, str]) -> str:
    """Return a name without the words that frame_of found around the expressions; as it is where it has them not.

    >>> unframed("emotion_bored", ("emotion_", "")), unframed("image", ("emotion_", ""))
    ('bored', 'image')
    """
    before, after = frame
    inside = name[len(before) : len(name) - len(after)]
    return inside if inside and name == f"{before}{inside}{after}" else name
