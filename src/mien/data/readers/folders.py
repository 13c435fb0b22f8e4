"""Folders of pictures: what their names and depths say about classes, splits, persons and folds.

A layout is recognised or refused; what the folders cannot mean for certain is listed, with what to type instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from mien.data.dataset import DataConfig
from mien.data.index import Found, LabelledFile
from mien.data.readers import public, words
from mien.data.readers.public import shown_below
from mien.data.readers.tree import Folder, Tree, holds_tables
from mien.errors import DataError
from mien.files import plain_text, shell_word
from mien.images.listing import passed_over_note
from mien.labels import is_expression
from mien.terminal import counted, first_names

# Folders between the one given and its train folder (Kaggle sets: images/train, NAME/NAME/train).
_DEEPEST = 6
_KAGGLE_PREFIXES = ("Training_", "PublicTest_", "PrivateTest_")
_listed = partial(first_names, most=6)  # in a message


def entered(folder: Folder) -> Folder:
    """Go down through folders that only wrap another one, to where something is decided."""
    for _ in range(_DEEPEST):
        held = [
            child for child in folder.folders if child.has_pictures or child.tables or holds_tables(child)
        ]
        wraps = not folder.pictures and not folder.tables and len(held) == 1
        if (
            not wraps
            or words.split_of(held[0].name)
            or is_expression(held[0].name)
            or not (held[0].filled or held[0].tables or holds_tables(held[0]))
        ):
            break
        folder = held[0]
    return folder


def are_classes(folder: Folder) -> bool:
    """Say whether some level of folders below is named like expressions."""
    return words.mostly_expressions([child.name for child in folder.filled]) or any(
        map(are_classes, folder.filled)
    )


def find_in_folders(tree: Tree, config: DataConfig) -> Found | None:
    """Read the folders' names; None where they hold no labelled pictures. DataError where they cannot be understood."""
    reader = _Reader(tree.root.path, config)
    start = entered(tree.root)
    if start is not tree.root:
        reader.notes.append(f"read from {shown_below(start.path, tree.root.path)}/")
    files = reader.read(start)
    if not files:
        return None
    return _finished(tree, reader, files)


def find_in_names(tree: Tree, config: DataConfig) -> Found | None:
    """Read expressions in the names of pictures that lie together (happy_001.jpg), where every name has exactly one.

    None where some have none or two, or where folders may say something else; those named like splits say the splits.
    """
    folder = entered(tree.root)
    splits = _named_splits(folder)
    if len(splits) != len(folder.filled) or any(part.filled for _, part in splits):
        return None
    parts = [("train", folder.pictures), *((split, part.pictures) for split, part in splits)]
    files = [
        LabelledFile(path, shown_below(path, tree.root.path), words.expression_in(path.stem), split)
        for split, pictures in parts
        for path in pictures
    ]
    if not all(file.label for file in files) or len({file.label for file in files}) < 2:
        return None
    reader = _Reader(tree.root.path, config)
    first = files[0]
    reader.notes.append(
        f"labels are the expressions in the file names: {first.path.name} is {first.label}; where the names tell "
        "persons, too, --group keeps each on one side"
    )
    return _finished(tree, reader, files)


def _finished(tree: Tree, reader: _Reader, files: list[LabelledFile]) -> Found:
    files = _kaggle_parts(files)
    names = [file.path.name for file in files]
    if not any(file.group for file in files) and (code := public.person_code_of(names)):
        files = [
            replace(file, group=told[1] if (told := code.read(file.path.name)) else "") for file in files
        ]
        reader.notes.append(f"grouped by the person in the names, as {code.name} writes them")
    if public.is_rafdb(names, list({file.label for file in files})):
        files = [replace(file, label=public.RAFDB[file.label]) for file in files]
        reader.notes.append(public.RAFDB_NOTE)
    name = "fer2013" if _is_kaggle_fer2013(files) else plain_text(tree.root.path.resolve().name)
    passed = passed_over_note(tree.passed_over)
    renamed = reader.config.label_names
    if renamed:
        files = [replace(file, label=words.renamed(renamed, file.label)) for file in files]
    return Found(name, files, (*reader.notes, *([passed] if passed else [])))


class _Reader:
    """The decisions about one tree."""

    def __init__(self, root: Path, config: DataConfig) -> None:
        self.config, self._root = config, root
        self.notes: list[str] = []
        self._named_elsewhere: set[str] = set()
        self.named = config.named

    def read(self, folder: Folder) -> list[LabelledFile]:
        """Return the labelled files of a folder; nothing where there are none."""
        pictures = folder.pictures_below()
        if (code := public.code_of(pictures)) and not are_classes(folder):
            return self._coded(code, folder, pictures)
        splits = self._split_folders(folder)
        if splits is not None:
            # A split with one class folder only is not a wrapper around it.
            self._named_elsewhere = {
                child.name for _, part in splits if len(part.filled) > 1 for child in part.filled
            }
            return [file for split, part in splits for file in self._classes(part, split)]
        told = [found for top in folder.filled if top.name not in self.named and (found := _glued(top.name))]
        if len(told) == len(folder.filled) and all(len(set(part)) > 1 for part in zip(*told, strict=True)):
            self.notes.append(
                f"split and class are read from the folders' names: {_listed(_names(folder.filled))}"
            )
            return [
                file
                for top, (split, label) in zip(folder.filled, told, strict=True)
                for file in self._of_class(top, label, split)
            ]
        return list(self._classes(folder, "train"))

    def _coded(self, code: public.NameCode, folder: Folder, pictures: Sequence[Path]) -> list[LabelledFile]:
        files, without = public.by_code(code, self._root, pictures, folder.path)
        persons = len({file.group for file in files})
        self.notes.append(
            f"labels and persons from the file names, as {code.name} writes them: {counted(persons, 'person')}"
        )
        if without:
            self.notes.append(f"not used: {counted(without, 'picture')} without such a name")
        return files

    def _split_folders(self, start: Folder) -> list[tuple[str, Folder]] | None:
        """Return the folders of the splits: those of the only folder on the shallowest level that has any."""
        level, passed = [start], list[Folder]()  # passed: folders of pictures on the way down
        for depth in range(_DEEPEST):
            holders = [folder for folder in level if _named_splits(folder)]
            if holders and depth:
                names = _names(level)
                if words.mostly_expressions(names) or len(self.named & set(names)) > 1:
                    return None  # each class has its own train and test folder (happy/train, sad/train)
                if len(others := [folder for folder in level if folder.filled]) > 1:
                    self._refuse_several(others)
            if holders:
                splits = _named_splits(holders[0])
                if len(self.named & set(_names(passed))) > 1:
                    return None
                inside = {child.name for _, part in splits for child in part.filled}
                again = [name for name in _names(passed) if name in inside or is_expression(name)]
                if len(again) > 1:
                    tops = (top for top in start.filled if holders[0].path.is_relative_to(top.path))
                    self._refuse_second(next(tops), again)
                if depth and not any(note.startswith("read from") for note in self.notes):
                    self.notes.append(f"read from {self._shown(holders[0])}/")
                used = {id(part) for _, part in splits}
                for other in (
                    *holders[0].filled,
                    *(one for one in (*level, *passed) if one is not holders[0]),
                ):
                    if id(other) not in used and other.has_pictures:
                        count = len(other.pictures_below())
                        self.notes.append(
                            f"{self._shown(other)}/ ({counted(count, 'picture')}) lies beside the folders of the "
                            "splits; not used"
                        )
                if holders[0].pictures:
                    self._loose(holders[0])
                if rest := [
                    f"{part.name} ({split})" for split, part in splits if not words.split_of(part.name)
                ]:
                    self.notes.append(f"splits by a word of the folders' names: {_listed(rest)}")
                return splits
            passed += [child for folder in level for child in folder.filled if child.pictures]
            level = [child for folder in level for child in folder.filled if not child.pictures]
        return None

    def _refuse_second(self, other: Folder, classes: Sequence[str]) -> NoReturn:
        raise DataError(
            f"{self._shown(other)}/ has splits of its own, beside folders of classes ({_listed(classes)}); is it "
            f"another data set? Leave it out: {words.classes_option(classes)}; or give its own path as DATA: "
            f"{shell_word(other.path)}"
        )

    def _refuse_several(self, holders: Sequence[Folder]) -> NoReturn:
        names = _listed([f"{self._shown(folder)}/" for folder in holders])
        both = " ".join(str(folder.path) for folder in holders[:2])
        raise DataError(
            f"{len(holders)} data sets lie in {self._root}: {names}; name one as DATA, or several to combine them, "
            f"such as: {both}"
        )

    def _classes(self, folder: Folder, split: str) -> Iterator[LabelledFile]:
        """Yield the pictures of a folder, sorted into classes by the level of folders that can be classes."""
        while len(folder.filled) == 1 and not folder.pictures and _is_again(folder.filled[0], split):
            folder = folder.filled[0]
        inner = entered(folder)
        if inner is not folder and not {child.name for child in folder.filled} & (
            self.named | self._named_elsewhere
        ):
            folder = inner
        if folder.pictures:
            self._loose(folder)
        for child in folder.folders:
            if child.is_closed:
                self.notes.append(f"{self._shown(child)}/ cannot be opened; nothing in it is used")
            elif not child.has_pictures and not holds_tables(child):
                self.notes.append(f"{self._shown(child)}/ holds no pictures; it is not taken for a class")
        tops = []
        for top in folder.filled:
            if top.filled or not words.split_of(top.name) or top.name in self.named:
                tops.append(top)
            else:
                count = len(top.pictures)
                self.notes.append(
                    f"not used: {counted(count, 'picture')} in {self._shown(top)}/, outside any class folder"
                )
        if not tops:
            return
        kind = self._level(folder, tops)
        if kind == "classes":
            persons = self._persons_below(tops)
            for top in tops:
                for file in self._of_class(top, top.name, split):
                    inside = file.path.relative_to(top.path).parts[0]
                    yield replace(file, group=inside) if inside in persons else file
            return
        for top in tops:
            if top.pictures:
                self._loose(top)
            for second in top.filled:
                group = top.name if kind == "persons" else ""
                for file in self._of_class(second, _of_two_names(second.name), split):
                    yield replace(file, group=group)
        if kind == "persons":
            self.notes.append(
                f"folders that are read as persons with their classes below, {len(tops)}: {_listed(_names(tops))}"
            )
        if kind == "folds":
            self.notes.append(f"{len(tops)} folds are read as one set: {_listed(_names(tops))}")

    def _persons_below(self, tops: Sequence[Folder]) -> set[str]:
        """Return the folders below the classes that are named like persons, where some are in several classes."""
        below = Counter(child.name for top in tops for child in top.filled)
        if len(below) < 2 or max(below.values()) < 2 or any(map(words.split_of, below)):
            return set()
        if not all(map(words.looks_like_person, below)):
            if not self.config.group:
                self.notes.append(
                    f"folders such as {_listed(sorted(below)[:2])} lie below several classes; if they are persons or "
                    "films, keep each on one side: --group '([^/]+)/[^/]+$'"
                )
            return set()
        self.notes.append(
            f"{counted(len(below), 'person has', 'persons have')} folders below the classes: {_listed(sorted(below))}"
        )
        return set(below)

    def _of_class(self, folder: Folder, label: str, split: str) -> Iterator[LabelledFile]:
        """Yield the pictures of one class; a folder named like a split inside it says theirs."""
        inside = dict(_named_splits(folder)) if split == "train" else {}
        for path in folder.pictures:
            yield LabelledFile(path, shown_below(path, self._root), label, split)
        for child in folder.filled:
            own = next((name for name, part in inside.items() if part is child), split)
            for path in child.pictures_below():
                yield LabelledFile(path, shown_below(path, self._root), label, own)

    def _level(self, folder: Folder, tops: Sequence[Folder]) -> str:
        """Decide what the folders right below are: 'classes', or 'persons', 'folds' or 'parts' with classes below."""
        names = _names(tops)
        seconds = [child.name for top in tops for child in top.filled]
        if len(self.named & set(names)) > 1:
            return "classes"
        if words.mostly_expressions(names):
            self._refuse_second_set(tops)
            self._note_other_words(names)
            return "classes"
        nested = not any(top.pictures for top in tops) and bool(seconds)
        if nested and len(self.named & set(seconds)) > 1:
            return self._above_classes(names)
        if len(tops) < 2:
            return "classes"
        shared = [name for name, count in Counter(seconds).items() if count > 1]
        if nested and words.mostly_expressions({_of_two_names(name) for name in seconds}):
            kind = self._above_classes(names)
            if kind != "parts" or self.config.group:
                return kind
            self._refuse_parts(folder, tops, set(seconds))
        if all(map(words.looks_like_fold, names)) or all(map(words.looks_like_person, names)):
            if nested and len(shared) > 1 and not all(name.isdecimal() for name in shared):
                return self._above_classes(names)
            self._refuse_no_classes(folder, names)
        if nested and len(shared) > 1:
            self._refuse_parts(folder, tops, shared)
        return "classes"

    def _refuse_second_set(self, tops: Sequence[Folder]) -> None:
        """Refuse a folder beside classes that holds folders of their names: happy/ sad/ augmented/happy/."""
        names = set(_names(tops))
        for top in tops:
            inside = [child.name for child in top.filled if child.name in names]
            if inside and not top.pictures and top.name not in self.named:
                rest = [name for name in _names(tops) if name != top.name]
                raise DataError(
                    f"{self._shown(top)}/ lies beside classes and holds folders of their names ({_listed(inside)}); is "
                    f"it another data set? Leave it out: {words.classes_option(rest)}; move it elsewhere to "
                    "combine both; or name it there, too, if it is a class"
                )

    def _note_other_words(self, names: Sequence[str]) -> None:
        """Name the folders beside expressions that are none: images/, trash/ or plots/ are taken for classes, too."""
        others = [name for name in names if not words.expressions_among([name]) and name not in self.named]
        rest = [name for name in names if name not in others]
        note = (
            f"of the classes, {_listed(others)} {'are no expressions' if len(others) > 1 else 'is no expression'} that "
            f"mien knows; to leave {'them' if len(others) > 1 else 'it'} out: {words.classes_option(rest)}"
        )
        if others and note not in self.notes:
            self.notes.append(note)

    def _above_classes(self, names: Sequence[str]) -> str:
        if all(map(words.looks_like_fold, names)):
            return "folds"
        return "persons" if all(map(words.looks_like_person, names)) else "parts"

    def _refuse_parts(self, folder: Folder, tops: Sequence[Folder], below: Collection[str]) -> NoReturn:
        names = _names(tops)
        here, inside = plain_text(str(folder.path)), _listed(sorted(below))
        what = f"{here} holds {_listed(names)}, and in each are folders such as {inside}"
        sets = f"name one or several as DATA ({tops[0].path} {tops[1].path})"
        if all(map(words.looks_like_person, below)):
            raise DataError(
                f"{what}: {sets}; if the same persons are in several, keep each on one side: --group '^[^/]+/([^/]+)'"
            )
        above = "" if folder.path == self._root else f"{re.escape(self._shown(folder))}/"
        raise DataError(
            f"{what}: if they are data sets, {sets}; if they are training and test pictures, call them train and "
            f"test; if persons or films, add --group '^{above}[^/]+'; if they are the classes, say so: "
            f"{words.classes_option(names)}"
        )

    def _refuse_no_classes(self, folder: Folder, names: Sequence[str]) -> NoReturn:
        what = "folds" if all(map(words.looks_like_fold, names)) else "persons or numbers"
        raise DataError(
            f"{plain_text(str(folder.path))} holds {_listed(names)}, which look like {what}, not like classes, and no "
            "file name carries a code that we know; put the pictures of each class into a folder of its own, give a "
            f"table of paths and labels, or, if they are the classes, say so: {words.classes_option(names)}"
        )

    def _loose(self, folder: Folder) -> None:
        where = "this folder" if folder.path == self._root else f"{self._shown(folder)}/"
        note = f"not used: {counted(len(folder.pictures), 'picture')} in {where}, outside any class folder"
        if note not in self.notes:
            self.notes.append(note)

    def _shown(self, folder: Folder) -> str:
        return shown_below(folder.path, self._root)


def _named_splits(folder: Folder) -> list[tuple[str, Folder]]:
    """Return the folders named like splits; none where folders of another name stand beside ones without classes.

    Where none is named like the training split, one word of each name is enough: train_augmented beside test.
    """
    found = [(split, child) for child in folder.filled if (split := words.split_of(child.name))]
    if not any(split == "train" for split, _ in found):
        told = [
            (split, child)
            for child in folder.filled
            if child.filled and (split := words.split_in(child.name))
        ]
        if len(told) == len(folder.filled) and len({split for split, _ in told}) > 1:
            return told
    return found if len(found) == len(folder.filled) or any(child.filled for _, child in found) else []


def _is_again(folder: Folder, split: str) -> bool:
    """Say whether a folder only says the split of the one around it again: Train/Train_Aligned_Faces/Angry."""
    return words.split_of(folder.name) == split and bool(folder.filled)


def _of_two_names(name: str) -> str:
    """Return the expression in the name of a folder that holds another name, too (aia_anger); else the name itself."""
    return name if is_expression(name) else words.expression_in(name) or name


def _glued(name: str) -> tuple[str, str] | None:
    """Return split and class of a folder that names both; None for any other.

    >>> _glued("train_happy"), _glued("happy-test"), _glued("trainA"), _glued("happy")
    (('train', 'happy'), ('test', 'happy'), ('train', 'A'), None)
    """
    parts = re.split(r"[-_. ]+|(?<=[a-z])(?=[A-Z])", name)
    for split, rest in ((parts[0], parts[1:]), (parts[-1], parts[:-1])):
        if rest and (found := words.SPLIT_WORDS.get(split.lower())):
            return found, " ".join(rest)
    return None


def _names(folders: Sequence[Folder]) -> list[str]:
    return [folder.name for folder in folders]


def _kaggle_parts(files: list[LabelledFile]) -> list[LabelledFile]:
    """Give FER-2013's two test parts their places where only the names of the pictures tell them apart."""
    if not _is_kaggle_fer2013(files) or any(file.split == "validation" for file in files):
        return files
    return [
        replace(file, split=words.split_of(file.path.name.partition("_")[0]) or file.split)
        if file.split == "test"
        else file
        for file in files
    ]


def _is_kaggle_fer2013(files: Sequence[LabelledFile]) -> bool:
    return all(file.path.name.startswith(_KAGGLE_PREFIXES) for file in files)
