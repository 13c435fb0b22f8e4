"""A table (CSV, Parquet or JSON Lines) of picture paths and labels, whatever its columns are called."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

from mien.data.dataset import DataConfig
from mien.data.index import Box, Found, LabelledFile
from mien.data.readers import words
from mien.data.readers.csv_text import is_csv, lines_of, rows_of
from mien.data.readers.public import AFFECTNET, NO_EXPRESSION, RAFDB, RAFDB_NOTE, is_rafdb
from mien.data.readers.unpack import parquet_rows
from mien.errors import DataError
from mien.files import clipped, plain_text
from mien.images.listing import folder_entries, ignored_folder, is_folder, list_pictures
from mien.labels import is_expression, same_letters

_AFFECTNET_PATH = "subdirectory_filepath"
_SUFFIXES = (".jpg", ".png", ".jpeg")  # tried where a table's names have none
_TRIED = 50  # paths looked at to find out where they start
_SHARE_PREFIXES = ("p_", "prob_", "share_")
_BETWEEN_LABELS = re.compile(r"\s*[|;,]\s*")  # of a picture with several: happy|surprised


@dataclass
class _Columns:
    """The places of the columns that are used; None where there is none. notes: what is said of them.

    several: what cells with several labels mean.
    """

    path: int
    label: int | None
    shares: dict[str, int] = field(default_factory=dict)
    several: dict[str, tuple[str, ...]] = field(default_factory=dict)
    split: int | None = None
    flags: dict[int, str] = field(default_factory=dict)  # place to what 'yes' means
    group: int | None = None
    box: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)


def is_table(path: Path) -> bool:
    return is_csv(path) or path.suffix.lower() in (".parquet", ".jsonl")


def header_of(path: Path) -> list[str]:
    """Return a table's first line; nothing where it cannot be read as a table."""
    try:
        return next(_rows(path), [])
    except DataError:
        return []


def has_labels(path: Path) -> bool:
    """Say whether a table names pictures and their labels, as far as its first line tells."""
    header = header_of(path)
    labelled = (
        words.pick_column(header, words.LABEL_COLUMNS) is not None or len(_share_columns(header, None)) > 1
    )
    return labelled and words.pick_column(header, words.PATH_COLUMNS) is not None


def find_in_table(path: Path, config: DataConfig, split: str | None = None) -> Found:
    """Read a table. Its paths start from --root, else from its own folder, else from where its pictures are found.

    split: the split of rows where the table itself does not say (`train.csv`); None: train. A missing file is listed as
    unreadable; DataError where all are missing.
    """
    rows = _rows(path)
    header = next(rows, [])
    table = [(number, row) for number, row in enumerate(rows, start=1) if row]
    for number, row in table:
        if len(row) < len(header) or any(row[len(header) :]):  # Excel leaves empty cells at the end
            raise DataError(
                f"{path.name} row {number} has {len(row)} columns, the header has {len(header)}; mend or delete it "
                f"(names with a comma stand in double quotes)"
            )
    columns = _columns(path, header, [row for _, row in table], config)
    if not table:
        raise DataError(f"{path} has no rows below its header; nothing to read")
    found = _Rows(path, header, columns, config, split or "train")
    for number, row in table:
        found.add(number, row)
    return found.finished()


def _rows(path: Path) -> Iterator[list[str]]:
    suffix = path.suffix.lower()
    return (
        parquet_rows(path)
        if suffix == ".parquet"
        else _jsonl_rows(path)
        if suffix == ".jsonl"
        else rows_of(path)
    )


def _jsonl_rows(path: Path) -> Iterator[list[str]]:
    names: list[str] = []
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path.name} line {number} is no JSON ({clipped(str(error))}); mend or delete it"
            ) from error
        if not isinstance(values, dict):
            raise DataError(
                f"{path.name} line {number} is no object with names and values; mend or delete it"
            )
        if not names:
            names = list(map(str, values))
            yield names
        yield [_json_cell(values.get(name)) for name in names]


def _json_cell(value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        return "|".join(map(str, value))  # several labels
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _columns(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], config: DataConfig
) -> _Columns:
    """Decide which columns are used, by the user's word, then by their names."""
    source = path.name
    if config.path_column:
        place = words.named_column(header, config.path_column, source)
    else:
        place = words.need_column(header, words.PATH_COLUMNS, source, "--path-column")
    label = words.named_column(header, config.label_column, source) if config.label_column else None
    if label is None:
        label = words.pick_column(header, words.LABEL_COLUMNS)
    shares = {} if config.label_column else _share_columns(header, label)
    if label is None and not shares:
        label = words.need_column(header, words.LABEL_COLUMNS, source, "--label-column")
    columns = _Columns(place, None if shares else label, shares)
    if shares and label is not None:
        columns.notes.append(f"the column {header[label]!r} is not used: the soft labels beside it say more")
    rest = [
        other
        for name in words.LABEL_COLUMNS
        if (other := words.pick_column(header, [name])) not in (None, label, place)
    ]
    if label is not None and rest and not config.label_column:
        others = ", ".join(repr(header[other]) for other in rest if other is not None)
        columns.notes.append(
            f"labels are those of the column {header[label]!r}, not of {others} (--label-column chooses)"
        )
    if columns.label is not None:
        columns.several = _several_labels([row[columns.label] for row in rows], config)
    _find_split(columns, header, rows, config, source)
    _find_group(columns, header, rows, config)
    boxes = [words.pick_column(header, [name]) for name in words.BOX_COLUMNS]
    if None not in boxes:
        columns.box = tuple(box for box in boxes if box is not None)
        columns.notes.append("faces are cut out by the table's boxes")
    return columns


def _several_labels(cells: Sequence[str], config: DataConfig) -> dict[str, tuple[str, ...]]:
    """Return the cells that hold several labels, and which: happy|surprised.

    A cell is taken apart only where each part is a label elsewhere, a number or an expression; else it is the name of a
    class, and so it is where `--classes`, `--merge` or `--labels` call it one.
    """
    asked = " ".join([*config.classes, *config.merge, *config.labels])
    kinds = {cell: _BETWEEN_LABELS.split(plain_text(cell).strip()) for cell in dict.fromkeys(cells)}
    alone = {same_letters(parts[0]) for parts in kinds.values() if len(parts) == 1}
    found = {}
    for cell, parts in kinds.items():
        numbers = "," not in cell and all(map(words.as_number, parts))  # 0,5 is half
        known = all(part and (is_expression(part) or same_letters(part) in alone) for part in parts)
        if len(parts) > 1 and cell.strip() not in asked and (numbers or known):
            found[cell] = tuple(dict.fromkeys(parts))
    return found


def _share_columns(header: Sequence[str], label: int | None) -> dict[str, int]:
    """Return the columns with a share for each class: p_angry, p_happy, …; or, without a label, angry, happy, …"""
    named = [(place, words.plain_column(name)) for place, name in enumerate(header)]
    for prefix in _SHARE_PREFIXES:
        shares = {
            name.removeprefix(prefix): place
            for place, name in named
            if name.startswith(prefix) and name != prefix
        }
        if len(shares) > 1:
            return shares
    shares = {name: place for place, name in named if is_expression(name)}
    return shares if label is None and len(shares) > 1 else {}


def _find_split(
    columns: _Columns, header: Sequence[str], rows: Sequence[Sequence[str]], config: DataConfig, source: str
) -> None:
    taken = {columns.path, columns.label, *columns.shares.values()}
    if config.split_column:
        if config.split_column != "none":
            columns.split = words.named_column(header, config.split_column, source)
        return
    for name in words.SPLIT_COLUMNS:
        place = words.pick_column(header, [name])
        if place is None or place in taken or columns.split is not None:
            continue
        if any(_split_word(name, row[place]) for row in rows):
            columns.split = place
        else:
            columns.notes.append(_unused(header[place], rows, place, "its words name no splits"))
    if columns.split is None and not any(
        words.pick_column(header, [name]) is not None for name in words.FLAG_COLUMNS
    ):
        columns.split = _split_by_content(rows, taken, len(header))
    if columns.split is None:
        for name, meaning in words.FLAG_COLUMNS.items():
            place = words.pick_column(header, [name])
            if place is None or place in taken:
                continue
            if all(words.yes_or_no(row[place]) is not None for row in rows):
                columns.flags[place] = meaning
            else:
                columns.notes.append(_unused(header[place], rows, place, "its cells are not yes and no"))
    for name in words.FOLD_COLUMNS:
        place = words.pick_column(header, [name])
        if place is None or place in taken or place == columns.split:
            continue
        if columns.split is None and not columns.flags and any(words.split_of(row[place]) for row in rows):
            columns.split = place
        else:
            columns.notes.append(_unused(header[place], rows, place, "folds of a cross-validation"))


def _split_by_content(rows: Sequence[Sequence[str]], taken: set[int | None], width: int) -> int | None:
    """Return the first column, whatever it is called, of which every cell names a split, and not all the same one."""
    for place in range(width):
        if place not in taken:
            found = {words.split_of(row[place]) for row in rows}
            if len(found) > 1 and None not in found:
                return place
    return None


def _unused(name: str, rows: Sequence[Sequence[str]], place: int, why: str) -> str:
    seen = list(dict.fromkeys(row[place] for row in rows))
    more = ", …" if len(seen) > 4 else ""
    return f"the column {clipped(name)!r} is not used ({why}: {clipped(', '.join(seen[:4]))}{more})"


def _split_word(column: str, cell: str) -> str | None:
    """Return the split that a cell means. CelebA's partitions are numbers: 0 train, 1 validation, 2 test."""
    number = words.as_number(cell)
    if column == "partition" and number in ("0", "1", "2"):
        return ("train", "validation", "test")[int(number)]
    return words.split_of(cell)


def _find_group(
    columns: _Columns, header: Sequence[str], rows: Sequence[Sequence[str]], config: DataConfig
) -> None:
    """Choose the column of the persons or films: the one that --group names, else one that is called so."""
    if config.group == "none":
        return
    if config.group:
        columns.group = words.pick_column(header, [words.plain_column(config.group)])
        return
    for name in words.GROUP_COLUMNS:
        place = words.pick_column(header, [name])
        if place is None or place in (columns.path, columns.label, columns.split) or place in columns.flags:
            continue
        count = len({row[place] for row in rows})
        if 1 < count < len(rows):
            columns.group = place
            return


class _Rows:
    """The rows of a table on their way to labelled files."""

    def __init__(
        self, path: Path, header: Sequence[str], columns: _Columns, config: DataConfig, split: str
    ) -> None:
        self._path, self._header, self._columns, self._split_otherwise = path, header, columns, split
        self._names = config.label_names
        self._affectnet = words.plain_column(header[columns.path]) == _AFFECTNET_PATH
        self._base = Path(config.root).expanduser() if config.root else path.parent
        self._root_given = bool(config.root)
        self._cells: list[str] = []
        self._files: list[LabelledFile] = []
        self._refused: dict[str, str] = {}
        self._left_out: Counter[str] = Counter()
        self._multiple: dict[
            int, tuple[str, ...]
        ] = {}  # place among the files to its labels, where they are several
        self._tied = 0  # rows of soft labels in which several classes have the largest share

    def add(self, number: int, row: Sequence[str]) -> None:
        columns, where = self._columns, f"{self._path.name} row {number}"
        cell = row[columns.path]
        if not cell.strip():
            raise DataError(f"{where} has no {clipped(self._header[columns.path])}; mend or delete it")
        shares = self._shares(row, where) if columns.shares else None
        if columns.shares and shares is None:
            self._left_out["all zeros"] += 1
            return
        self._tied += shares is not None and shares.count(max(shares)) > 1
        label = self._label(row, shares, where)
        if self._affectnet and label in NO_EXPRESSION:
            self._left_out[label] += 1
            return
        group = plain_text(row[columns.group]).strip() if columns.group is not None else ""
        if columns.label is not None and (several := columns.several.get(row[columns.label])):
            self._multiple[len(self._files)] = tuple(dict.fromkeys(map(self._named, several)))
        self._cells.append(cell)
        inside = self._path.suffix.lower() == ".parquet" and Path(cell).is_absolute()  # unpacked: NUMBER-NAME
        name = f"{where} {Path(cell).name.partition('-')[2]}".strip() if inside else plain_text(cell)
        split = self._split(row, where)
        self._files.append(LabelledFile(Path(cell), name, label, split, group, self._box(row, where), shares))

    def _label(self, row: Sequence[str], shares: tuple[float, ...] | None, where: str) -> str:
        if shares is not None:
            return list(self._columns.shares)[max(range(len(shares)), key=shares.__getitem__)]
        assert self._columns.label is not None
        cell = row[self._columns.label]
        label = plain_text(self._columns.several.get(cell, (cell,))[0]).strip()
        if not label:
            column = clipped(self._header[self._columns.label])
            self._refused.setdefault(
                "", f"{where} has no {column}; mend or delete it, or choose with --classes"
            )
        return self._named(label)

    def _named(self, label: str) -> str:
        number = words.as_number(label)
        if self._affectnet and not self._names and number and int(number) < len(AFFECTNET):
            return AFFECTNET[int(number)]
        return words.renamed(self._names, label)

    def _shares(self, row: Sequence[str], where: str) -> tuple[float, ...] | None:
        values = []
        for name, place in self._columns.shares.items():
            try:
                value = float(row[place] or 0)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value >= 0):
                raise DataError(
                    f"{where} has {clipped(row[place])!r} as the share of {name}; mend or delete it"
                )
            values.append(value)
        total = sum(values)
        return tuple(value / total for value in values) if total > 0 else None

    def _split(self, row: Sequence[str], where: str) -> str:
        columns = self._columns
        if columns.split is not None:
            name = words.plain_column(self._header[columns.split])
            if (split := _split_word(name, row[columns.split])) is None:
                raise DataError(
                    f"{where} has the split {clipped(row[columns.split])!r}; allowed are train, validation and test; "
                    "mend that row, or leave the column out with --split-column none"
                )
            return split
        for place, meaning in columns.flags.items():
            if words.yes_or_no(row[place]) == (meaning != "train"):
                return "test" if meaning == "train" else meaning
        return self._split_otherwise

    def _box(self, row: Sequence[str], where: str) -> Box | None:
        if not self._columns.box:
            return None
        try:
            left, top, width, height = (round(float(row[place])) for place in self._columns.box)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{where} has a face's box that is no four numbers; mend or delete it") from error
        return left, top, left + width, top + height

    def finished(self) -> Found:
        """Find out where the paths start, and say what was decided."""
        base, notes = self._places()
        files = [
            LabelledFile(base(cell), file.name, file.label, file.split, file.group, file.box, file.shares)
            for cell, file in zip(self._cells, self._files, strict=True)
        ]
        if not files:
            raise DataError(f"{self._path} has no row with a label that can be used")
        names = [file.path.name for file in files]
        classes = tuple(self._columns.shares)
        if self._multiple:
            classes = tuple(
                dict.fromkeys(
                    [file.label for file in files]
                    + [label for all in self._multiple.values() for label in all]
                )
            )
            files = [
                replace(file, shares=_equal_shares(self._multiple[place], classes))
                if place in self._multiple
                else file
                for place, file in enumerate(files)
            ]
        elif not self._names and is_rafdb(names, list({file.label for file in files})):
            files = [replace(file, label=RAFDB[file.label]) for file in files]
            notes.append(RAFDB_NOTE)
        stem = self._path.name.partition(".")[0]
        name = self._path.parent.name if stem.lower() in ("labels", "metadata", "train") else stem
        return Found(
            plain_text(name), files, (*self._columns.notes, *self._decided(files), *notes), self._refused,
            classes,
        )  # fmt: skip

    def _decided(self, files: Sequence[LabelledFile]) -> Iterator[str]:
        columns = self._columns
        by = [columns.split] if columns.split is not None else list(columns.flags)
        if by:
            counts = Counter(file.split for file in files)
            listed = ", ".join(
                f"{name} {counts[name]}" for name in ("train", "validation", "test") if counts[name]
            )
            yield f"split by the column {', '.join(repr(clipped(self._header[place])) for place in by)}: {listed}"
        if columns.shares:
            tied = (
                f"; in {self._tied:,} rows several are the largest, and the first counts"
                if self._tied
                else ""
            )
            yield (
                f"soft labels from the columns of {', '.join(columns.shares)}; the largest share is the label{tied}"
            )
        if self._multiple:
            first = clipped(next(iter(columns.several)))
            yield (
                f"{len(self._multiple):,} rows have several labels, such as {first!r}: read as soft labels in equal "
                "shares; the first counts as the label"
            )
        if columns.group is not None:
            count = len({file.group for file in files})
            yield f"grouped by the column {clipped(self._header[columns.group])!r}: {count} groups"
        if self._left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self._left_out.most_common())
            yield f"rows without an expression are left out: {kinds}"

    def _places(self) -> tuple[_Base | _ByName, list[str]]:
        first = list(dict.fromkeys(self._cells))[:_TRIED]
        start = _Base(self._base)
        if any(exists(start(cell)) for cell in first):
            return start, []
        tries = [_Base(self._base, suffix=suffix) for suffix in _SUFFIXES]
        tries += [_Base(self._base, slashes=True)]
        if not self._root_given:
            tries += [
                _Base(folder, slashes=slashes) for folder in _below(self._base) for slashes in (False, True)
            ]
            tries += [_Base(folder, suffix=suffix) for folder in _below(self._base) for suffix in _SUFFIXES]
        found = [place for place in tries if any(exists(place(cell)) for cell in first)]
        if found and len({place.folder for place in found}) == 1:
            where = (
                ""
                if found[0].folder == self._base
                else f"pictures found in {_shown_below(found[0].folder, self._base)}/"
            )
            return found[0], [where] if where else []
        if found:
            places = ", ".join(dict.fromkeys(_shown_below(place.folder, self._base) for place in found))
            raise DataError(
                f"the pictures of {self._path.name} lie in several folders ({places}); name one with --root"
            )
        if not any(exists(start(cell)) for cell in self._cells):
            if not self._root_given and (named := _ByName.below(self._base, self._cells)):
                return named, [f"pictures found by their names below {plain_text(self._base.name)}/"]
            raise DataError(
                f"none of the {len(self._cells)} pictures that {self._path} names is there; looked for "
                f"{clipped(str(start(first[0])), 300)}; name the folder from which its paths start: --root DIR"
            )
        return start, []


def _equal_shares(labels: Sequence[str], classes: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(name in labels) / len(labels) for name in classes)


@dataclass(frozen=True)
class _Base:
    """How a table's cell becomes a path: from a folder, with a suffix put on, with Windows' slashes turned."""

    folder: Path
    suffix: str = ""
    slashes: bool = False

    def __call__(self, cell: str) -> Path:
        return self.folder / ((cell.replace("\\", "/") if self.slashes else cell) + self.suffix)


@dataclass(frozen=True)
class _ByName:
    """Pictures by their file names, each of which lies in one place only: where classes or parts have folders."""

    folder: Path
    places: dict[str, Path]

    def __call__(self, cell: str) -> Path:
        return self.places.get(cell, self.folder / cell)

    @classmethod
    def below(cls, folder: Path, cells: Sequence[str]) -> _ByName | None:
        """Look for bare names below a folder; None where less than half are there, or one lies in several places."""
        wanted = {PureWindowsPath(cell).name for cell in cells}
        if wanted != set(cells):
            return None
        places: dict[str, Path] = {}
        for path in list_pictures(folder).pictures:
            if path.name in wanted:
                if path.name in places:
                    return None
                places[path.name] = path
        return cls(folder, places) if 2 * len(places) >= len(wanted) else None


def exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _below(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Yield the folders below one, two levels deep."""
    for entry in folder_entries(folder) or []:
        if is_folder(entry) and not ignored_folder(entry.name):
            yield Path(entry.path)
            if depth > 1:
                yield from _below(Path(entry.path), depth - 1)


def _shown_below(folder: Path, base: Path) -> str:
    return plain_text(folder.relative_to(base).as_posix()) if folder != base else "its own folder"
