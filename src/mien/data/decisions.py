"""What people decided about doubtful labels and about copies: remembered by content, applied whenever data is opened.

    decision = about_label(dataset, "train", 17, CHANGE, to="sad")
    remember(Path("photos"), [decision])         # photos/mien-decisions.csv
    open_dataset("photos")                       # picture 17 is sad, and no list of label errors asks again

A picture is known by the digest of its pixels, so that renaming, moving or converting it forgets nothing. A decision on
a label holds as long as the data still gives that label; after another change it is asked again.

Of a face set the home of decisions is `labels.sqlite`, with all that people answered (`mien.label.store`): what was
decided on the page of `mien label` is not asked again here, and what is decided here not there.

Pairs of copies are listed for people to decide on (`copy_pairs`, `write_copies`): `mien data DATA --copies DIR`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from mien.data.crops import StoredFaces
from mien.data.dataset import DECISIONS_FILE, SPLITS, DataConfig, Dataset, RawDataset, Split
from mien.data.duplicates import Duplicates
from mien.data.pictures import fingerprints_of
from mien.data.readers.csv_text import rows_of
from mien.data.readers.face_sets import is_face_set, read_face_set
from mien.data.summary import sheet_of
from mien.errors import ConfigError, DataError
from mien.faceset.row import FaceRow
from mien.faceset.table import FaceSet
from mien.files import expanded, write_table
from mien.images.canvas import write_picture
from mien.label import history
from mien.label.agreement import CANNOT_TELL
from mien.label.history import DISTINCT, SAME, SETTLE
from mien.label.store import Store
from mien.locks import locked
from mien.terminal import counted

KEEP, CHANGE, DROP = "keep", "change", "drop"
LABEL, COPY = "label", "copy"
_WHO = "mien data"  # who answers in a face set
_WAIT_S = 30.0  # for another process that remembers something
DROP_OTHER = "drop other"
COPY_COLUMNS = ("split", "name", "label", "other_split", "other_name", "other_label", "kind", "decision")
PIXEL_COPY = "pixel copy"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision. about: 'label' or 'copy'.

    On a label: the picture with this digest that the data calls `label` is kept as it is, changed to the class `to`, or
    dropped. On a copy: of the pair of digests both are kept, or the first is dropped; where both digests are equal, all
    but one. name, other_name, when: for people. Raises ConfigError for words or fields that do not fit together.
    """

    about: str
    action: str
    digest: str  # 32 hexadecimal digits
    label: str = ""
    to: str = ""
    other: str = ""
    name: str = ""
    other_name: str = ""
    when: str = ""  # ISO 8601, UTC

    def __post_init__(self) -> None:
        allowed = {LABEL: (KEEP, CHANGE, DROP), COPY: (KEEP, DROP)}
        if self.action not in allowed.get(self.about, ()):
            raise ConfigError(
                f"a decision must keep, change or drop, got {self.action!r} about {self.about!r}"
            )
        if (self.action == CHANGE) != bool(self.to) or (self.about == COPY) != bool(self.other):
            raise ConfigError("only a changed label has a new class, and only a copy another picture")

    @property
    def key(self) -> tuple[str, ...]:
        """What it is about: a later decision with the same key replaces an earlier one."""
        if self.about == LABEL:
            return LABEL, self.digest, self.label
        return COPY, *sorted((self.digest, self.other))


@dataclass(frozen=True, eq=False)
class Decisions:
    """All decisions on some data, by what they are about."""

    by_key: Mapping[tuple[str, ...], Decision]

    def __len__(self) -> int:
        return len(self.by_key)

    @classmethod
    def of(cls, found: Iterable[Decision]) -> Decisions:
        """Gather decisions; of two about the same the later one counts."""
        return cls({one.key: one for one in found})

    def on_label(self, digest: str, label: str) -> Decision | None:
        """Return what was decided about this label of this picture."""
        return self.by_key.get((LABEL, digest, label))

    def on_copy(self, digest: str, other: str) -> Decision | None:
        """Return what was decided about this pair, in either order."""
        return self.by_key.get((COPY, *sorted((digest, other))))


def decisions_file(data: Path) -> Path:
    """Return where the decisions on DATA lie: in the folder itself, or in the folder of the file."""
    return (data if data.is_dir() else data.parent) / DECISIONS_FILE


def read_decisions(file: Path) -> Decisions:
    """Read a file of decisions; none where it does not exist. Raises DataError, with the row, for one that is wrong."""
    if not file.exists():
        return Decisions({})
    rows = rows_of(file)
    names = [field.name for field in fields(Decision)]
    header = [cell.strip() for cell in next(rows, [])]
    if not {"about", "action", "digest"} <= set(header):
        raise DataError(f"{file} is no file of decisions: it needs the columns about, action, digest")
    found = []
    for number, row in enumerate(rows, start=2):
        if not any(map(str.strip, row)):  # as a spreadsheet or an editor leaves them
            continue
        cells = dict(zip(header, row, strict=False))
        try:
            found.append(Decision(**{name: cells.get(name, "") for name in names}))
        except ConfigError as error:
            raise DataError(f"{file} row {number}: {error}; mend the row or take it out") from error
    return Decisions.of(found)


def decisions_for(paths: Sequence[Path], config: DataConfig) -> Decisions:
    """Return what was decided about the data: in the file that is named, or in those beside all paths."""
    if config.decisions == "none":
        return Decisions({})
    if config.decisions:
        file = Path(config.decisions)
        if not file.is_file():
            raise DataError(f"there is no file of decisions {file}; leave --decisions out, or name one")
        return read_decisions(file)
    places = [expanded(path).absolute() for path in paths]
    files = dict.fromkeys(map(decisions_file, places))
    found = [one for file in files for one in read_decisions(file).by_key.values()]
    return Decisions.of([*found, *(one for path in places if is_face_set(path) for one in _answered(path))])


def write_decisions(file: Path, decisions: Decisions) -> None:
    """Write a file of decisions, whole."""
    names = [field.name for field in fields(Decision)]
    write_table(file, [names, *([getattr(one, name) for name in names] for one in decisions.by_key.values())])


def remember(data: Path, decisions: Iterable[Decision], file: Path | None = None) -> Path:
    """Add decisions to those that lie beside DATA (or in `file`); returns the file. OutputError where it cannot be.

    Of a face set they become answers in its `labels.sqlite`. Several processes may do it at once.
    """
    if file is None and is_face_set(data):
        return _answer(data, list(decisions))
    file = file or decisions_file(data)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    fresh = [one if one.when else replace(one, when=now) for one in decisions]
    with locked(file.parent, "being given decisions", wait_s=_WAIT_S):
        write_decisions(file, Decisions.of([*read_decisions(file).by_key.values(), *fresh]))
    return file


def _answered(data: Path) -> list[Decision]:
    """Return what was decided in a face set about labels and copies that its data still has."""
    store = Store.read(_folder(data))
    if store is None:
        return []
    with store:
        kept = {face: agreed.kept for face, agreed in store.agreed.items() if agreed.kept}
        pairs = store.distinct()
    if not kept and not pairs:
        return []
    by_id = {face.id: (face, digest) for digest, faces in _faces(data).items() for face in faces}
    found = [
        Decision(about=LABEL, action=KEEP, digest=digest, label=face.label, name=face.file)
        for face, digest in by_id.values()
        if face.label and kept.get(face.id) == face.label
    ]
    for pair in pairs:
        if all(face in by_id for face in pair):
            (one, mine), (other, theirs) = (by_id[face] for face in sorted(pair))
            found.append(
                Decision(
                    about=COPY, action=KEEP, digest=mine, other=theirs, name=one.file, other_name=other.file
                )
            )
    return found


def _answer(data: Path, decisions: Sequence[Decision]) -> Path:
    """Store decisions as answers about the faces of a face set. DataError for pictures that it does not have."""
    faces = _faces(data)
    unknown = [one for one in decisions if one.digest not in faces or (one.other and one.other not in faces)]
    if unknown:
        raise DataError(
            f"about pictures that {data} does not have: {len(unknown)} of "
            f"{counted(len(decisions), 'decision')}, such as "
            f"{unknown[0].name or unknown[0].digest}; give --remember the data that the list is about, alone"
        )
    folder = _folder(data)
    # The store is there from here on, so labels that were typed into the table become answers, older than these.
    with Store.open(folder):
        FaceSet.open(folder).write()
    with Store.open(folder) as store:
        for one in decisions:
            if one.action == CHANGE and one.to not in store.classes:
                raise DataError(
                    f"{data} has no class {one.to!r}; add it on the page of mien label, or give --remember without "
                    "--labels and --merge"
                )
        for one in decisions:
            mine = [face.id for face in faces[one.digest]]
            if one.about == COPY:
                rest = [face.id for face in faces[one.other] if face.id != mine[0]]
                same = one.digest == one.other
                copies, original = (mine[1:], mine[0]) if same else (mine, rest[0])
                if copies:
                    store.answer(copies, _WHO, SAME if one.action == DROP else DISTINCT, target=original)
            elif one.action == KEEP:
                store.answer(mine, _WHO, history.KEEP, one.label)
            else:
                store.answer(mine, _WHO, SETTLE, one.to if one.action == CHANGE else CANNOT_TELL)
    FaceSet.open(folder).write()
    return store.path


def _faces(data: Path) -> dict[str, list[FaceRow]]:
    """Return the labelled faces of a face set by the digest of their crops."""
    found: dict[str, list[FaceRow]] = {}
    for split in read_face_set(data, DataConfig(group="none")).splits.values():
        assert isinstance(split.pictures, StoredFaces)
        for face, digest in zip(split.pictures.faces, digests_of(split), strict=True):
            found.setdefault(digest, []).append(face)
    return found


def _folder(data: Path) -> Path:
    return data if data.is_dir() else data.parent


def about_label(dataset: Dataset, split: str, row: int, action: str, to: str = "") -> Decision:
    """Return a decision on the label of one picture. Raises DataError for a class that the data does not have."""
    if to and to not in dataset.classes:
        raise DataError(f"there is no class {to!r}; the data has: {', '.join(dataset.classes)}")
    part = dataset.split(split)
    label = dataset.classes[int(part.labels[row])]
    return Decision(
        about=LABEL, action=action, to=to, digest=_digest(part, row), label=label, name=part.names[row]
    )


def about_copy(dataset: Dataset, first: tuple[str, int], second: tuple[str, int], action: str) -> Decision:
    """Return a decision on two pictures, each (split, row): both are kept, or the first is dropped."""
    (one, row), (other, other_row) = first, second
    mine, theirs = dataset.split(one), dataset.split(other)
    return Decision(
        about=COPY, action=action, digest=_digest(mine, row), other=_digest(theirs, other_row),
        name=mine.names[row], other_name=theirs.names[other_row],
    )  # fmt: skip


def digests_of(split: Split) -> list[str]:
    """Return the digest of every picture of a split, 32 hexadecimal digits each."""
    return [key.hex() for key in fingerprints_of(split.pictures).keys]


def _digest(split: Split, row: int) -> str:
    return digests_of(split.take(np.array([row], np.intp)))[0]


def applied(raw: RawDataset, decisions: Decisions) -> RawDataset:
    """Return the data as it was decided to be, with a note that counts what changed."""
    if not len(decisions):
        return raw
    counts = {DROP: 0, CHANGE: 0, "unknown": 0}
    dropped = {
        one.digest for one in decisions.by_key.values() if _drops_copy(one) and one.digest != one.other
    }
    once = {one.digest for one in decisions.by_key.values() if _drops_copy(one) and one.digest == one.other}
    seen: set[str] = set()
    splits = {}
    # Of two pixel copies the one in the later split stays, so that training gives way.
    for name in sorted(raw.splits, key=SPLITS.index, reverse=True):
        split = raw.splits[name]
        labels, kept, changed = split.labels.copy(), np.ones(len(split), bool), []
        for row, digest in enumerate(digests_of(split)):
            found = decisions.on_label(digest, raw.classes[int(labels[row])])
            again = digest in once and digest in seen
            seen.add(digest)
            if digest in dropped or again or (found and found.action == DROP):
                kept[row] = False
                counts[DROP] += 1
            elif found and found.action == CHANGE and found.to in raw.classes:
                labels[row] = raw.classes.index(found.to)
                changed.append(row)
                counts[CHANGE] += 1
            elif found and found.action == CHANGE:
                counts["unknown"] += 1
        splits[name] = relabelled(split, labels, changed, len(raw.classes)).take(np.flatnonzero(kept))
    splits = {name: splits[name] for name in raw.splits if len(splits[name])}
    said = [
        f"{counted(counts[DROP], 'picture')} left out" if counts[DROP] else "",
        f"{counts[CHANGE]} given another label" if counts[CHANGE] else "",
        f"{counts['unknown']} not changed, because their new class is not in use"
        if counts["unknown"]
        else "",
    ]
    if not any(said):
        return replace(raw, splits=splits)
    return replace(raw, splits=splits).noting(
        f"as decided in {DECISIONS_FILE}: {', '.join(filter(None, said))} (--decisions none undoes it)"
    )


def _drops_copy(one: Decision) -> bool:
    return one.about == COPY and one.action == DROP


def relabelled(split: Split, labels: np.ndarray, changed: Sequence[int], kinds: int) -> Split:
    """Return the split with other labels; in rows that changed, soft labels follow and raters' votes count no more."""
    shares, votes = split.shares, split.votes
    if shares is not None and changed:
        shares = shares.copy()
        shares[changed] = np.eye(kinds, dtype=np.float32)[labels[changed]]
    if votes is not None and changed:
        votes = votes.copy()
        votes[changed] = 0
    return replace(split, labels=labels, shares=shares, votes=votes)


@dataclass(frozen=True, kw_only=True)
class CopyPair:
    """Two pictures that are copies of each other. first, second: (split, row). kind: 'pixel copy', or what was done to
    one of them, 'mirrored, cropped to 80%'. across: they are in different splits, a leak; then the first is the one in
    the earlier split, which is training's where that is one of them.
    """

    first: tuple[str, int]
    second: tuple[str, int]
    kind: str
    across: bool


def copy_pairs(dataset: Dataset, found: Duplicates, decided: Decisions | None = None) -> tuple[CopyPair, ...]:
    """Return the pairs of copies, leaks first; of many pixel copies each is paired with the first of them.

    decided: pairs about which somebody has decided are left out.
    """
    digests = [digest for split in dataset.splits.values() for digest in digests_of(split)]
    order = np.argsort(found.exact, kind="stable")
    starts = order[np.flatnonzero(np.diff(found.exact[order], prepend=-1))]
    first = dict(zip(found.exact[starts].tolist(), starts.tolist(), strict=True))
    pairs = [
        (first[kind], picture, PIXEL_COPY)
        for picture, kind in enumerate(found.exact.tolist())
        if first[kind] != picture
    ]
    pairs += [(*pair, found.near.kind(place)) for place, pair in enumerate(found.near.pairs)]
    listed = [
        CopyPair(
            first=found.place(one),
            second=found.place(other),
            kind=kind,
            across=bool(found.splits[one] != found.splits[other]),
        )
        for one, other, kind in pairs
        if not (decided and decided.on_copy(digests[one], digests[other]))
    ]
    return tuple(sorted(listed, key=lambda pair: not pair.across))


def write_copies(path: Path, dataset: Dataset, pairs: Sequence[CopyPair]) -> None:
    """Write pairs of copies as CSV, safe in a spreadsheet. decision: `drop` leaves the first picture out, `drop other`
    the second, `keep` keeps both and asks no more, nothing decides nothing. `drop` is filled in for training pictures
    that are copies of others, and for pixel copies within a split that have one label.
    """
    rows: list[Sequence[str]] = [COPY_COLUMNS]
    for pair in pairs:
        one, other = (_cells(dataset, *place) for place in (pair.first, pair.second))
        clear = pair.across or (pair.kind == PIXEL_COPY and one[2] == other[2])
        rows.append((*one, *other, pair.kind, DROP if clear else ""))
    write_table(path, rows)


def write_copies_sheet(
    path: Path, dataset: Dataset, pairs: Sequence[CopyPair], *, most: int = 32, mark: str = ""
) -> None:
    """Write a picture of the first pairs, side by side, with their splits, labels and kind. mark: of its file."""
    shown = [(place, pair.kind) for pair in pairs[:most] for place in (pair.first, pair.second)]
    pictures = [dataset.splits[split].pictures.read(row) for (split, row), _ in shown]
    captions = [
        f"{split}: {_cells(dataset, split, row)[2]}\n{kind if number % 2 == 0 else ''}"
        for number, ((split, row), kind) in enumerate(shown)
    ]
    write_picture(path, sheet_of(pictures, captions), mark)


def decisions_in_copies(dataset: Dataset, path: Path) -> list[Decision]:
    """Return what a list of copies decides, to be remembered (`mien.data.decisions.remember`).

    Raises DataError for a list without the columns, an unknown word, or a list of other data.
    """
    rows = rows_of(path)
    header = [cell.strip() for cell in next(rows, [])]
    needed = [name for name in COPY_COLUMNS if name.removeprefix("other_") in ("split", "name", "decision")]
    if lacking := [name for name in needed if name not in header]:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}; write the list with: mien data DATA --copies DIR"
        )
    rows_by_name = {
        (split, name): row
        for split, part in dataset.splits.items()
        for row, name in reversed(list(enumerate(part.names)))
    }
    found = []
    for number, cells in enumerate(rows, start=2):
        told = dict(zip(header, cells, strict=False))
        word = told.get("decision", "").strip()
        if not word:
            continue
        if word not in (KEEP, DROP, DROP_OTHER):
            raise DataError(
                f"{path} row {number} decides {word!r}; allowed are {KEEP}, {DROP}, {DROP_OTHER} or nothing"
            )
        places = []
        for prefix in ("", "other_"):
            place = (told.get(f"{prefix}split", ""), told.get(f"{prefix}name", ""))
            if place not in rows_by_name:
                raise DataError(
                    f"{path} is of other data: there is no {place[1]} in {place[0]} here (row {number})"
                )
            places.append((place[0], rows_by_name[place]))
        if word == DROP_OTHER:
            places.reverse()
        found.append(about_copy(dataset, places[0], places[1], KEEP if word == KEEP else DROP))
    return found


def _cells(dataset: Dataset, split: str, row: int) -> tuple[str, str, str]:
    part = dataset.splits[split]
    return split, part.names[row], dataset.classes[int(part.labels[row])]
