"""A face set (`mien.faceset`) as labelled data: which faces count, with which label, and what belongs together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mien.data.crops import StoredFaces
from mien.data.dataset import DataConfig, Progress, RawDataset, Unreadable
from mien.data.index import Found, LabelledFile, index_files
from mien.data.near_copies import components
from mien.data.readers.csv_text import rows_of
from mien.data.readers.words import plain_column, renamed
from mien.errors import DataError
from mien.faceset.row import DUPLICATE, FaceRow
from mien.faceset.table import TABLE_FILE, FaceSet, label_next
from mien.files import plain_text
from mien.terminal import counted

# No other table has one of these and an id.
_ITS_OWN = {"status", "margin", "duplicate_of", "sharpness", "votes"}


def is_face_set(path: Path) -> bool:
    """Say whether a folder, or a table itself, is a face set."""
    table = path / TABLE_FILE if path.is_dir() else path
    if table.name != TABLE_FILE or not table.is_file():
        return False
    try:
        header = {plain_column(name) for name in next(rows_of(table), [])}
    except DataError:
        return False
    return {"id", "file"} <= header and bool(header & _ITS_OWN)


def read_face_set(path: Path, config: DataConfig, progress: Progress | None = None) -> RawDataset:
    """Read the faces that have a label; all others are counted in a note.

    Votes of several persons become soft labels. Groups are the table's own (film, track, file) together with what
    --group names: a column of the table, or a regular expression for the sources' names. DataError where nobody has
    labelled a face yet, and where --group names nothing.
    """
    opened = FaceSet.open(path)
    faces, left_out = _chosen(opened)
    if not faces:
        raise DataError(
            f"{opened.folder} holds no labelled face yet (faces: {len(opened):,}); next: {label_next(opened.folder)}"
        )
    groups, said = _groups(faces, config)
    voted = sorted(
        {name for face in faces for name in face.votes} | {face.label for face in faces if face.label}
    )
    soft = any(len(face.votes) > 1 for face in faces)
    names = list(dict.fromkeys(renamed(config.label_names, name) for name in voted))
    files = [
        LabelledFile(
            path=opened.crop_path(face),
            name=plain_text(face.file),
            label=renamed(config.label_names, _label(face)),
            split="train",
            group=group,
            shares=_shares(face, names, config) if soft else None,
        )
        for face, group in zip(faces, groups, strict=True)
    ]
    notes = [
        f"a face set: {len(faces):,} of {counted(len(opened), 'face')} with a label that is used{left_out}",
        said,
    ]
    if soft:
        count = sum(len(face.votes) > 1 for face in faces)
        notes.append(
            f"{counted(count, 'face has', 'faces have')} votes for several classes, which are learnt as shares"
        )
    found = Found(
        plain_text(opened.folder.resolve().name),
        files,
        tuple(filter(None, notes)),
        share_classes=tuple(names) if soft else (),
        grouped=True,
    )
    raw = index_files(opened.folder / TABLE_FILE, found, progress)
    by_name = {plain_text(face.file): face for face in faces}
    splits = {
        name: replace(split, pictures=StoredFaces(split.pictures, tuple(by_name[row] for row in split.names)))
        for name, split in raw.splits.items()
    }
    wrong = tuple(Unreadable(*_parted(problem)) for problem in opened.problems)
    return replace(raw, splits=splits, unreadable=(*raw.unreadable, *wrong))


def _chosen(opened: FaceSet) -> tuple[list[FaceRow], str]:
    """Return the faces to learn from, and why the others are none, in words.

    A duplicate stands for its original where that has no label. What was set aside as blurred, tiny or doubtful is used
    where a person gave it a label all the same.
    """
    kept: dict[str, FaceRow] = {}
    why: Counter[str] = Counter()
    used: set[str] = set()
    for face in sorted(opened.faces, key=lambda face: face.status == DUPLICATE):
        original = face.duplicate_of or face.id
        if not face.is_labelled:
            why[face.status or "without a label"] += 1
        elif face.status == DUPLICATE and original in used:
            why[DUPLICATE] += 1
        elif face.file in kept:
            why["of a crop that another row names"] += 1
        else:
            kept[face.file] = face
            used.add(original)
    listed = ", ".join(f"{count:,} {kind}" for kind, count in why.most_common())
    return list(kept.values()), f"; left out: {listed}" if listed else ""


def _label(face: FaceRow) -> str:
    """Return the class that counts where one is asked for: the agreed one, else that with most votes."""
    return face.label or max(sorted(face.votes), key=face.votes.__getitem__)


def _shares(face: FaceRow, names: Sequence[str], config: DataConfig) -> tuple[float, ...] | None:
    if len(face.votes) < 2:
        return None
    votes: Counter[str] = Counter()
    for name, count in face.votes.items():
        votes[renamed(config.label_names, name)] += count
    total = sum(votes.values())
    return tuple(votes[name] / total for name in names)


def _groups(faces: Sequence[FaceRow], config: DataConfig) -> tuple[list[str], str]:
    """Return each face's group, '' where it stands alone, and what was done, in words.

    Where --group names something else than the table's own groups, both hold: whatever shares either is one group,
    called by the first of its members' names.
    """
    if config.group == "none":
        return [""] * len(faces), ""
    own = [face.group.strip() for face in faces]
    if config.group is None or plain_column(config.group) == "group":
        named, what = own, "the column 'group'"
    else:
        asked, what = _asked(faces, config.group)
        named = _joined(own, asked)
        if any(own):
            what += " and 'group'"
    count = len({name for name in named if name})
    if not count:
        return [""] * len(faces), ""
    alone = sum(not name for name in named)
    return named, f"grouped by {what}: {counted(count, 'group')}" + (
        f"; alone: {counted(alone, 'face')}" if alone else ""
    )


def _asked(faces: Sequence[FaceRow], group: str) -> tuple[list[str], str]:
    wanted = plain_column(group)
    if wanted in ("source", "file", "who", "label", "track"):
        cells = ["" if (value := getattr(face, wanted)) is None else str(value) for face in faces]
        if wanted == "track":  # numbers begin anew in every film
            cells = [f"{face.source} {cell}" if cell else "" for face, cell in zip(faces, cells, strict=True)]
        return cells, f"the column {wanted!r}"
    extra = (name for face in faces for name in face.extra)
    if column := next((name for name in extra if plain_column(name) == wanted), None):
        return [face.extra.get(column, "").strip() for face in faces], f"the column {column!r}"
    pattern = re.compile(group)
    found = [pattern.search(face.source or face.file) for face in faces]
    if not any(found):
        raise DataError(
            f"--group {group!r} is neither a column of {TABLE_FILE} nor found in any source's name, such as "
            f"{(faces[0].source or faces[0].file)!r}"
        )
    return [
        ((match[1] if pattern.groups else match[0]) or "") if match else "" for match in found
    ], f"the column 'source' as far as {group!r} matches it"


def _joined(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Return a name for each member of two groupings that share members; the smallest name stands for all."""
    found = components(len(one), (), one, other).tolist()
    names: dict[int, str] = {}
    for number, *named in zip(found, one, other, strict=True):
        for key in (f"{place}{name}" for place, name in enumerate(named) if name):
            names[number] = min(key, names.get(number, key))
    return [names.get(number, "") for number in found]


def _parted(problem: str) -> tuple[str, str]:
    name, _, reason = problem.partition(": ")
    return name, reason
