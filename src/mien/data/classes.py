"""Which classes a data set has: two spellings of one, several sets combined, `--merge` and `--classes`."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, count

import numpy as np

from mien.data.dataset import SPLITS, DataConfig, RawDataset, Split, Unreadable, in_order
from mien.data.pictures import JoinedPictures
from mien.data.readers.words import as_number, classes_option, plain_expressions, plain_note, renamed
from mien.errors import DataError
from mien.files import natural
from mien.labels import FERPLUS, canonical, same_letters, word_form
from mien.terminal import counted

_COPY = re.compile(r"(?i)( - copy)?( copy)?( ?\(\d+\))?$")  # what Windows and macOS add to a folder's name


def merge_classes(raw: RawDataset, rules: Sequence[str]) -> RawDataset:
    """Apply rules such as `nothappy=sad+angry`; the new class stands where the first of its old ones stood.

    Old names match exactly, or as another spelling of the same expression (labels.canonical). Raises
    DataError for a name that the data does not have and for a class that two rules claim.
    """
    new_names = list(raw.classes)
    claimed: dict[int, str] = {}
    for rule in rules:
        new, _, olds = rule.partition("=")
        for old in filter(None, (word.strip() for word in olds.split("+"))):
            place = find_class(old, raw.classes)
            if claimed.setdefault(place, new.strip()) != new.strip():
                raise DataError(
                    f"--merge puts {old!r} into both {claimed[place]!r} and {new.strip()!r}; choose one"
                )
            new_names[place] = new.strip()
    return _relabelled(raw, tuple(dict.fromkeys(new_names)), new_names)


def choose_classes(raw: RawDataset, wanted: Sequence[str]) -> RawDataset:
    """Keep only the wanted classes, in that order and under those names; none wanted keeps all."""
    if not wanted:
        return raw
    places = [find_class(name, raw.classes) for name in wanted]
    if len(set(places)) < len(places):
        raise DataError(f"--classes names a class twice: {', '.join(wanted)}; name each once")
    new_names: list[str | None] = [None] * len(raw.classes)
    for place, name in zip(places, wanted, strict=True):
        new_names[place] = name
    chosen = _relabelled(raw, tuple(wanted), new_names)
    left_out = sum(map(len, raw.splits.values())) - sum(map(len, chosen.splits.values()))
    return chosen.noting(f"left out: {counted(left_out, 'picture')} of other classes") if left_out else chosen


def find_class(name: str, classes: Sequence[str]) -> int:
    """Return the place of a class by its exact name or by a spelling that means the same expression."""
    if name in classes:
        return list(classes).index(name)
    alike = [place for place, known in enumerate(classes) if canonical(known) == canonical(name)]
    if len(alike) == 1:
        return alike[0]
    problem = f"several classes like {name!r}" if alike else f"no class {name!r}"
    raise DataError(f"the data has {problem}; its classes are: {', '.join(classes)}")


def one_spelling(raw: RawDataset) -> RawDataset:
    """Join classes whose names differ in capitals and blanks only ('Angry', 'angry '), or are one number (4, '04').

    The more frequent name stays.
    """
    alike = _alike(raw.classes, lambda name: as_number(name) or same_letters(name))
    if not alike:
        return raw
    counts = raw.counts()
    new_names = list(raw.classes)
    notes = []
    for names in alike:
        kept = max(names, key=lambda name: (counts[name], name == same_letters(name)))
        others = ", ".join(repr(name) for name in names if name != kept)
        notes.append(f"{others} and {kept!r} are one class spelt in several ways; it is called {kept!r}")
        new_names = [kept if name in names else name for name in new_names]
    return _relabelled(raw, tuple(dict.fromkeys(new_names)), new_names).noting(*notes)


def plain_classes(raw: RawDataset, config: DataConfig) -> RawDataset:
    """Leave out what all names of classes have around an expression: 0_angry, happy_faces. See words.plain_expressions.

    Of a whole data set, as one of its tables may have a single class. What the user speaks of stays; --labels may speak
    of either name.
    """
    names = config.label_names
    plain = plain_expressions(set(raw.classes) - config.named - set(names.values()))
    if not plain:
        return raw
    new_names = [renamed(names, plain[name]) if name in plain else name for name in raw.classes]
    order = tuple(sorted(set(new_names), key=natural))
    return _relabelled(raw, order, new_names).noting(plain_note(plain))


def check_spellings(raw: RawDataset, chosen: Sequence[str]) -> RawDataset:
    """Refuse two forms of one word ('anger', 'angry') unless both were asked for; note synonyms ('joy', 'happy')."""
    forms = _alike(raw.classes, lambda name: word_form(_COPY.sub("", name)))
    if torn := [names for names in forms if not set(names) <= set(chosen)]:
        first, *rest = [", ".join(map(repr, names)) for names in torn]
        also = f", and so are {'; '.join(rest)}" if rest else ""
        raise DataError(
            f"the classes {first} are one expression spelt in several ways{also}; join them: --merge "
            f"{shlex.quote(','.join(map(_join, torn)))}; or, if they are different ones, say so: "
            f"{classes_option(raw.classes)}"
        )
    notes = [
        f"{' and '.join(names)} stay different classes; if they mean one expression: --merge "
        f"{shlex.quote(_join(names))}"
        for names in _alike(raw.classes, canonical)
    ]
    return raw.noting(*notes)


def _join(names: Sequence[str]) -> str:
    return f"{names[0]}={'+'.join(names)}"


def _alike(names: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def combine(raws: Sequence[RawDataset], *, several: bool = True) -> RawDataset:
    """Put data sets behind each other. Classes meet by name, in any spelling; names and groups stay apart.

    several: whether the parts are data sets of their own, whose pictures are then named `SET/picture`; else they are
    tables of one.
    """
    if len(raws) == 1:
        return raws[0]
    classes: list[str] = []
    notes: list[str] = []
    renamed = []
    for raw in raws:
        names = [_name_among(name, classes) for name in raw.classes]
        for old, new in zip(raw.classes, names, strict=True):
            if old != new and several:
                notes.append(f"{old!r} of {raw.name} is taken for {new!r}")
        classes += [name for name in names if name not in classes]
        renamed.append(names)
    order = tuple(sorted(classes, key=natural))
    parts = [_relabelled(raw, order, names) for raw, names in zip(raws, renamed, strict=True)]
    keys = _distinct([raw.name for raw in raws]) if several else [""] * len(raws)
    splits = {}
    for name in SPLITS:
        found = [
            (key, part.splits[name]) for key, part in zip(keys, parts, strict=True) if name in part.splits
        ]
        if found:
            splits[name] = join_splits(found, len(order))
    has = ["validation" in raw.splits for raw in raws]
    if several and any(has) and not all(has):
        without = ", ".join(key for key, there in zip(keys, has, strict=True) if not there)
        notes.append(
            f"validation is that of the data sets that have one; all of {without} is for training or test"
        )
    of_set = [
        {group for split in raw.splits.values() for group in split.groups or () if group} for raw in raws
    ]
    shared = set.union(*(one & other for one, other in combinations(of_set, 2)))
    if several and len(shared) > 1:
        notes.append(
            f"{len(shared)} groups, such as {min(shared)!r}, are called alike in several data sets and taken for "
            "different ones; if they are the same persons or films, name what tells them: --group 'PATTERN'"
        )
    about = [
        f"{key}: {note}" if key else note for key, raw in zip(keys, raws, strict=True) for note in raw.notes
    ]
    unreadable = [
        Unreadable(f"{key}/{bad.name}" if key else bad.name, bad.reason)
        for key, raw in zip(keys, raws, strict=True)
        for bad in raw.unreadable
    ]
    refused = {label: reason for raw in raws for label, reason in raw.refused.items()}
    return RawDataset(
        "+".join(keys) if several else raws[0].name,
        order,
        splits,
        tuple(unreadable),
        (*about, *notes),
        refused,
        any(raw.grouped for raw in raws),
    )


def _name_among(name: str, classes: Sequence[str]) -> str:
    if name in classes:
        return name
    alike = [known for known in classes if word_form(known) == word_form(name)]
    return alike[0] if len(alike) == 1 else name


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the names that occur twice, so that pictures of two folders called `faces` can be told apart.

    >>> _distinct(["faces", "lab", "faces", "faces-1"])
    ['faces-2', 'lab', 'faces-3', 'faces-1']
    """
    total = Counter(names)
    taken = {name for name in names if total[name] == 1}
    found = []
    for name in names:
        if total[name] > 1:
            name = next(one for number in count(1) if (one := f"{name}-{number}") not in taken)  # noqa: PLW2901
            taken.add(name)
        found.append(name)
    return found


def join_splits(parts: Sequence[tuple[str, Split]], classes: int) -> Split:
    """Put splits behind each other; names and groups of a part with a name begin with it."""
    if len(parts) == 1 and not parts[0][0]:
        return parts[0][1]
    splits = [split for _, split in parts]
    pictures = (
        splits[0].pictures if len(splits) == 1 else JoinedPictures.of([split.pictures for split in splits])
    )
    votes = [
        np.zeros((len(split), len(FERPLUS)), np.float32) if split.votes is None else split.votes
        for split in splits
    ]
    hard = np.eye(classes, dtype=np.float32)
    shares = [hard[split.labels] if split.shares is None else split.shares for split in splits]
    groups = [
        f"{key}/{group}" if group and key else group
        for key, split in parts
        for group in (split.groups or [""] * len(split))
    ]
    return Split(
        pictures,
        np.concatenate([split.labels for split in splits]),
        [f"{key}/{row}" if key else row for key, split in parts for row in split.names],
        np.concatenate(votes) if any(split.votes is not None for split in splits) else None,
        groups if any(groups) else None,
        np.concatenate(shares) if any(split.shares is not None for split in splits) else None,
    )


def _relabelled(raw: RawDataset, classes: tuple[str, ...], new_names: Sequence[str | None]) -> RawDataset:
    """Give every old class its new name; rows whose class has None are dropped.

    Soft labels follow: what a merged class had is added, what a dropped one had is taken out and the rest scaled.
    """
    table = np.array([-1 if name is None else classes.index(name) for name in new_names], np.int64)
    splits = {}
    for name, split in raw.splits.items():
        labels = table[split.labels]
        rows = np.flatnonzero(labels >= 0)
        kept, labels = split.take(rows), labels[rows]
        if kept.shares is not None:
            shares = np.zeros((len(rows), len(classes)), np.float32)
            for old, new in enumerate(table.tolist()):
                if new >= 0:
                    shares[:, new] += kept.shares[:, old]
            shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
            # Of equal shares the label keeps its own: happy|surprise stays happy, whatever stands first now.
            still = shares[np.arange(len(rows)), labels] >= shares.max(axis=1, initial=0)
            labels = np.where(still, labels, shares.argmax(axis=1)).astype(np.int64)
            kept = replace(kept, shares=shares)
        splits[name] = replace(kept, labels=labels)
    return replace(raw, classes=classes, splits=in_order(splits))
